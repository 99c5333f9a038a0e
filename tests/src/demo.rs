//! The demo: five countries, a broker and a node per office as separate processes, and the main job on sample files.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, builder::PossibleValuesParser};
use serde_json::{Value, json};

use crate::{scenarios, world::World};

mod region;
mod story;
mod telling;

pub use telling::Teller;

/// Shows the main job: a signed notice from Lao Cai reaches Hekou, is acknowledged, and the log replays it.
#[derive(Debug, Parser)]
#[command(name = "demo", version, after_help = "Exit codes: 0 every step held, 1 one did not, 2 wrong usage.")]
struct Arguments {
    /// Ends after the story (a case always does), with exit code 0 only if every step held.
    #[arg(long)]
    once: bool,
    /// Tells a case instead: child-return, alert, onward, resubmission, policy, translation,
    /// reconciliation, recall.
    #[arg(long, value_parser = PossibleValuesParser::new(scenarios::ALL.map(|(name, ..)| name)))]
    scenario: Option<String>,
    /// For machines: one JSON object at the end; implies --once.
    #[arg(long)]
    json: bool,
    /// Keeps everything it made in this directory, which must be empty or missing.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs the demo.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(e) => e.exit(),
    };
    match tell(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if arguments.json {
                println!("{:#}", json!({"held": false, "error": error.to_string()}));
            }
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell(arguments: &Arguments) -> io::Result<bool> {
    let temporary = tempfile::tempdir()?;
    let directory = arguments.dir.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    let directory = std::path::absolute(directory)?;
    if directory.join("charter").exists() {
        return Err(io::Error::other(format!("{} is not empty", directory.display())));
    }
    let mut teller = Teller::new(arguments.json, io::stdout().is_terminal());
    let mut world = World::create_under(&directory, &std::env::current_exe()?, Some(&scenarios::agreements()))?;
    let scenario = arguments.scenario.as_deref().and_then(scenarios::find);
    let told = match scenario {
        Some((offices, tell)) => scenarios::run(offices, tell, &mut world, &mut teller),
        None => story::tell(&mut world, &mut teller),
    };
    let held = told.is_ok() && teller.held();
    if arguments.json {
        let error = told.err().map_or(Value::Null, |e| json!(e.to_string()));
        println!("{:#}", teller.to_json(held, &error));
        return Ok(held);
    }
    told?;
    teller.print_end(held);
    if arguments.once || scenario.is_some() {
        teller.print_after(&world, arguments.dir.is_some());
        return Ok(held);
    }
    teller.print_next(&world);
    wait_for_interrupt()?;
    Ok(held)
}

fn wait_for_interrupt() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        liaison_link::process::stop_signal()?.await;
        Ok(())
    })
}
