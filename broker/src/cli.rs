//! The command line of `broker`.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{Parser, Subcommand};
use liaison_link::{
    local,
    process::{EXIT_HELP, exit, fail, init_logs, print_check, with_config},
};
use liaison_proto::{
    charter::ClosedEntry,
    clock::{Clock, SystemClock},
    entropy::OsEntropy,
};
use serde_json::json;

use crate::{
    check,
    config::{Config, DEFAULT},
    init, run, status,
};

/// The store-and-forward broker of Liaison.
#[derive(Debug, Parser)]
#[command(name = "broker", version, after_help = EXIT_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates both logs and enters signed directory records, the charter first.
    Init {
        /// Configuration file.
        #[arg(long, default_value = "broker.toml")]
        config: PathBuf,
        /// Directory of *.record files, entered in the order of their names.
        #[arg(long)]
        records: PathBuf,
    },
    /// Runs the broker until SIGTERM.
    Run {
        /// Configuration file.
        #[arg(long, default_value = "broker.toml")]
        config: PathBuf,
    },
    /// Says how the running broker is.
    Status {
        /// Configuration file.
        #[arg(long, default_value = "broker.toml")]
        config: PathBuf,
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Tells the running broker to enter what is provable of a log whose other entries nobody holds, and writes where it ends:
    /// for the charter in which the countries name its successor.
    CloseLog {
        /// Configuration file.
        #[arg(long, default_value = "broker.toml")]
        config: PathBuf,
        /// File to write; standard output when missing.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Checks logs, index and attachments of a stopped broker, and changes nothing. Exit code 5 when something is wrong.
    Check {
        /// Configuration file.
        #[arg(long, default_value = "broker.toml")]
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
        Command::Init { config, records } => with_config("broker", Config::read(&config), |config| {
            match init::init(&config, &records, clock.as_ref(), &OsEntropy) {
                Ok(entered) => {
                    println!("created {}: {entered} records entered into the directory log", config.data.display());
                    ExitCode::SUCCESS
                }
                Err(error) => fail("broker", &error, exit::FAILED),
            }
        }),
        Command::Run { config } => with_config("broker", Config::read(&config), |config| {
            init_logs(&config.log, config.log_format);
            let runtime = match tokio::runtime::Runtime::new() {
                Ok(runtime) => runtime,
                Err(error) => return fail("broker", &error, exit::FAILED),
            };
            let ran = runtime.block_on(run::run(config, Arc::clone(clock)));
            // Streams of clients that went silent must not keep the process.
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
            match ran {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail("broker", &error, exit::FAILED),
            }
        }),
        Command::Check { config, json } => {
            with_config("broker", Config::read(&config), |config| match check::run(&config) {
                Ok(report) => print_check(&report.to_json(), json),
                Err(error) => fail("broker", &error, exit::FAILED),
            })
        }
        Command::CloseLog { config, output } => {
            with_config("broker", Config::read(&config), |config| close_log(&config, output.as_deref()))
        }
        Command::Status { config, json } => {
            with_config("broker", Config::read(&config), |config| print_status(&config, json))
        }
    }
}

fn close_log(config: &Config, output: Option<&Path>) -> ExitCode {
    let answer = match local::call(&config.status_socket(), &json!({"op": "close-log"})) {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("broker: no broker runs on {}: {error}", config.data.display());
            return ExitCode::from(exit::UNREACHABLE);
        }
    };
    if let Some(error) = answer["error"].as_str() {
        eprintln!("broker: {error}");
        return ExitCode::from(exit::REFUSED);
    }
    let unheard = answer["unheard"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
    let unheard: Vec<&str> = unheard.collect();
    if !unheard.is_empty() {
        eprintln!(
            "broker: these offices were not heard since the loss, and may hold what is missing: {}",
            unheard.join(", ")
        );
    }
    let closed = serde_json::from_value::<ClosedEntry>(answer["closed"].clone()).map_err(io::Error::other);
    let written = closed.and_then(|closed| {
        let text = toml::to_string(&closed).map_err(io::Error::other)?;
        match output {
            Some(path) => fs::write(path, text),
            None => io::stdout().write_all(text.as_bytes()),
        }
    });
    match written {
        Ok(()) => {
            eprintln!("closed; the authorities' next charter names the successor with this end; keep <data>/end");
            ExitCode::SUCCESS
        }
        Err(error) => fail("broker", &error, exit::FAILED),
    }
}

fn print_status(config: &Config, json: bool) -> ExitCode {
    match local::call(&config.status_socket(), &json!({})) {
        Ok(status) if json => {
            println!("{status:#}");
            ExitCode::SUCCESS
        }
        Ok(status) => {
            print!("{}", status::to_text(&status));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("broker: no broker runs on {}: {error}", config.data.display());
            ExitCode::from(exit::UNREACHABLE)
        }
    }
}
