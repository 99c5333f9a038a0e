//! The command line of `certs-dev`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use liaison_proto::{
    clock::{Clock as _, SystemClock},
    entropy::OsEntropy,
};

use crate::{CertsError, members::Members, renewal::sign_office, roles};

/// Makes a development charter: authorities, certificates and keys of five countries. DEVELOPMENT ONLY.
#[derive(Debug, Parser)]
#[command(name = "certs-dev", version)]
struct Arguments {
    /// Directory to make; it must not exist.
    #[arg(long, default_value = "dev")]
    out: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Signs an office's next record, as `liaison renew-office-keys` wrote it, with a country's authority key.
    SignOffice {
        /// The country's authority key.
        #[arg(long)]
        authority: PathBuf,
        /// The record to sign.
        #[arg(long)]
        request: PathBuf,
        /// File to write, for `liaison publish`.
        #[arg(long)]
        output: PathBuf,
    },
}

/// Runs the command line. Exit codes: 0 done, 1 failed, 2 wrong usage.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(e) => e.exit(),
    };
    if let Some(Command::SignOffice { authority, request, output }) = arguments.command {
        return match sign_office(&authority, &request, &output) {
            Ok(office) => {
                println!("signed the next record of {office}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        };
    }
    let made =
        Members::built_in().and_then(|members| roles::make(&arguments.out, &members, SystemClock.now(), &OsEntropy));
    match made {
        Ok(made) => {
            println!("DEVELOPMENT ONLY: {} holds the private keys of every country.", arguments.out.display());
            println!("{} offices; charter no. 1, SHA-256 {}", made.offices.len(), made.fingerprint);
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &CertsError) -> ExitCode {
    eprintln!("certs-dev: {}", liaison_proto::failure::chain(error));
    ExitCode::FAILURE
}
