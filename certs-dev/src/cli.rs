//! The command line of `certs-dev`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use liaison_proto::{
    clock::{Clock as _, SystemClock},
    entropy::OsEntropy,
    ids::Country,
};

use crate::{
    CertsError, agreements,
    members::Members,
    renewal::sign_office,
    roles,
    succession::{self, Order, Part},
};

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
    /// Makes and signs the charter after the newest one in `--out`; what is new lies in `charter-<number>` there.
    NextCharter {
        /// What it replaces.
        #[arg(long, value_delimiter = ',', default_value = "authorities,cas,evidence,logs")]
        replace: Vec<Part>,
        /// Days during which the charter before holds beside it.
        #[arg(long, default_value_t = 30)]
        overlap_days: u32,
        /// The end of the exchange log, as `broker close-log` wrote it: the new charter names a successor.
        #[arg(long)]
        closed: Option<PathBuf>,
        /// Countries whose authorities do not sign.
        #[arg(long, value_delimiter = ',')]
        absent: Vec<Country>,
    },
    /// Signs every agreement of a directory (*.cedar) with the authorities that it names, for a broker that is to be created.
    SignAgreements {
        /// The directory.
        #[arg(long)]
        policies: PathBuf,
    },
    /// Signs one agreement with the authorities that it names.
    SignAgreement {
        /// The agreement.
        #[arg(long)]
        policy: PathBuf,
        /// File to write, for `liaison publish`.
        #[arg(long)]
        output: PathBuf,
    },
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
    match arguments.command {
        None => make(&arguments.out),
        Some(Command::SignAgreements { policies }) => match agreements::sign_all(&arguments.out, &policies) {
            Ok(count) => {
                println!("signed {count} agreements");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Some(Command::SignAgreement { policy, output }) => {
            match agreements::sign_one(&arguments.out, &policy, &output) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error),
            }
        }
        Some(Command::SignOffice { authority, request, output }) => match sign_office(&authority, &request, &output) {
            Ok(office) => {
                println!("signed the next record of {office}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Some(Command::NextCharter { replace, overlap_days, closed, absent }) => {
            let order = succession::read_end(closed.as_deref()).map(|closed| Order {
                replace: replace.into_iter().collect(),
                overlap_days,
                closed,
                absent: absent.into_iter().collect(),
            });
            match order.and_then(|order| succession::next(&arguments.out, &order, SystemClock.now(), &OsEntropy)) {
                Ok(charter) => {
                    let number = charter.number();
                    println!("charter no. {number}, SHA-256 {}", charter.fingerprint());
                    println!(
                        "the broker takes it at its next start: put the keys of charter-{number}/broker in place first"
                    );
                    ExitCode::SUCCESS
                }
                Err(error) => failed(&error),
            }
        }
    }
}

fn make(out: &Path) -> ExitCode {
    let made = Members::built_in().and_then(|members| roles::make(out, &members, SystemClock.now(), &OsEntropy));
    match made {
        Ok(made) => {
            println!("DEVELOPMENT ONLY: {} holds the private keys of every country.", out.display());
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
