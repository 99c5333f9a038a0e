//! The command line of `node`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{Parser, Subcommand};
use liaison_casework::labels::Language;
use liaison_link::{
    local, net,
    process::{EXIT_HELP, exit, fail, init_logs, print_check, with_config},
};
use liaison_proto::{
    clock::{Clock, SystemClock},
    entropy::OsEntropy,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    check,
    config::{Config, DEFAULT},
    daemon,
    init::{self, NodeError},
    officer::{output, passphrase, words::Words},
};

/// The node of an office.
#[derive(Debug, Parser)]
#[command(name = "node", version, after_help = EXIT_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates a node: imports the office's keys and seals them under a first passphrase.
    Init {
        /// Configuration file.
        #[arg(long, default_value = "node.toml")]
        config: PathBuf,
        /// Directory with the office's keys, certificate and officers.
        #[arg(long)]
        material: PathBuf,
        /// File with the first passphrase of every officer; asked for when missing.
        #[arg(long)]
        passphrase_file: Option<PathBuf>,
    },
    /// Runs the node until SIGTERM; with several configurations, the nodes of several offices.
    Run {
        /// Configuration file; given again for each further office.
        #[arg(long, default_value = "node.toml")]
        config: Vec<PathBuf>,
    },
    /// Gives an officer another passphrase.
    Passphrase {
        /// Configuration file.
        #[arg(long, default_value = "node.toml")]
        config: PathBuf,
        /// The officer.
        officer: String,
        /// File with the present passphrase; asked for when missing.
        #[arg(long)]
        passphrase_file: Option<PathBuf>,
        /// File with the new passphrase; asked for when missing.
        #[arg(long)]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Says how the running node is.
    Status {
        /// Configuration file.
        #[arg(long, default_value = "node.toml")]
        config: PathBuf,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Checks store, keys and attachments of a stopped node, and changes nothing. Exit code 5 when something is wrong.
    Check {
        /// Configuration file.
        #[arg(long, default_value = "node.toml")]
        config: PathBuf,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Prints the commented default configuration.
    Config,
}

/// Runs the command line.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_by(arguments, &(Arc::new(SystemClock) as Arc<dyn Clock>))
}

/// Runs the command line by a clock.
#[must_use]
pub fn run_by(arguments: impl IntoIterator<Item = OsString>, clock: &Arc<dyn Clock>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(e) => e.exit(),
    };
    match arguments.command {
        Command::Config => {
            print!("{DEFAULT}");
            ExitCode::SUCCESS
        }
        Command::Init { config, material, passphrase_file } => with_config("node", Config::read(&config), |config| {
            let first = match passphrase::read_new(passphrase_file.as_deref(), "First passphrase of every officer: ") {
                Ok(first) => first,
                Err(error) => return fail("node", &error, exit::FAILED),
            };
            match init::init(&config, &material, first.as_bytes(), clock.as_ref(), &OsEntropy) {
                Ok(officers) => {
                    println!(
                        "created {} for {}; officers: {}\neach should now take a passphrase of their own: node passphrase OFFICER\n\
                         then destroy the private keys in {}: the node has its own sealed copies",
                        config.data.display(),
                        config.office,
                        officers.join(", "),
                        material.display()
                    );
                    ExitCode::SUCCESS
                }
                Err(error) => fail("node", &error, exit::FAILED),
            }
        }),
        Command::Run { config } => {
            let configs: Result<Vec<Config>, _> = config.iter().map(|path| Config::read(path)).collect();
            with_config("node", configs, |configs| run_daemons(configs, clock))
        }
        Command::Passphrase { config, officer, passphrase_file, new_passphrase_file } => {
            with_config("node", Config::read(&config), |config| {
                let read = |file: Option<&Path>, prompt: &str| passphrase::read(file, prompt);
                let old = read(passphrase_file.as_deref(), "Present passphrase: ");
                let new = old.and_then(|old| {
                    Ok((old, passphrase::read_new(new_passphrase_file.as_deref(), "New passphrase: ")?))
                });
                let (old, new): (Zeroizing<String>, Zeroizing<String>) = match new {
                    Ok(both) => both,
                    Err(error) => return fail("node", &error, exit::FAILED),
                };
                let keystore = init::keystore(&config);
                match keystore.change_passphrase(&officer, old.as_bytes(), new.as_bytes(), &OsEntropy) {
                    Ok(()) => {
                        println!("{officer} has a new passphrase");
                        ExitCode::SUCCESS
                    }
                    Err(error) => fail("node", &error, exit::LOCKED),
                }
            })
        }
        Command::Check { config, json } => {
            with_config("node", Config::read(&config), |config| match check::run(&config) {
                Ok(report) => print_check(&report, json),
                Err(error) => fail("node", &error, exit::FAILED),
            })
        }
        Command::Status { config, json } => with_config("node", Config::read(&config), |config| {
            match local::call(&config.socket(), &json!({"op": "status"})) {
                Ok(status) if json => {
                    println!("{status:#}");
                    ExitCode::SUCCESS
                }
                Ok(status) => {
                    print!("{}", output::status(&status, Words::new(Language::English).by_the_clock_of(&status)));
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("node: no node runs on {}: {error}", config.data.display());
                    ExitCode::from(exit::UNREACHABLE)
                }
            }
        }),
    }
}

/// Runs the nodes of all configured offices; when one of them stops, all do, and a restart recovers them.
fn run_daemons(configs: Vec<Config>, clock: &Arc<dyn Clock>) -> ExitCode {
    if let Some(first) = configs.first() {
        init_logs(&first.log, first.log_format);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail("node", &error, exit::FAILED),
    };
    let ran = runtime.block_on(async {
        let mut offices = tokio::task::JoinSet::new();
        for config in configs {
            offices.spawn(daemon::run(config, Arc::clone(clock), Arc::new(OsEntropy), net::tcp()));
        }
        let mut first = Ok(());
        while let Some(ended) = offices.join_next().await {
            let failed = match ended {
                Ok(ran) => ran,
                Err(error) => Err(NodeError::Io { what: "a node ended".into(), source: std::io::Error::other(error) }),
            };
            if first.is_ok() {
                first = failed;
            }
            if first.is_err() {
                break;
            }
        }
        first
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("node", &error, exit::FAILED),
    }
}
