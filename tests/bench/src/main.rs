//! `cargo run --release --bin bench`: the broker, whole journeys and the auditor beside their floors and their peers, all
//! in one run. What is reported are medians of rounds; nothing is decided by a time.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

mod auditor;
mod bed;
mod floors;
mod journey;
mod ledger;
mod many;
mod measure;
mod noop;
mod peers;
mod plot;
mod submit;
mod table;

use liaison_proto::clock::{Clock as _, SystemClock};

use bed::Bed;
use ledger::{Ledger, Sample};

/// Measures, and writes what was measured.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// Rounds of each subject; the medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Fewer operations a round: to see that everything runs.
    #[arg(long)]
    quick: bool,
    /// The repository, whose docs/benchmarks.md is written anew.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', default_value = "floors,submit,auditor,peers,journey,many")]
    only: Vec<String>,
}

fn floors(bed: &Bed, ledger: &mut Ledger, scale: usize) -> io::Result<()> {
    ledger.add("floor: strict verification, one core", Sample::from(&floors::strict_verification(5000 * scale)));
    ledger.add("floor: signing, one core", Sample::from(&floors::signing(5000 * scale)));
    let (sealing, opening) = floors::sealing_and_opening(1000 * scale);
    ledger.add("floor: sealing 2 KiB, one core", Sample::from(&sealing));
    ledger.add("floor: opening 2 KiB, one core", Sample::from(&opening));
    ledger.add("floor: two parallel syncs of 4 KiB", Sample::from(&floors::two_syncs(bed.directory(), 1000 * scale)?));
    Ok(())
}

async fn measure(arguments: &Arguments) -> io::Result<Ledger> {
    let mut ledger = Ledger::default();
    let scale = if arguments.quick { 1 } else { 2 };
    let asked = |part: &str| arguments.only.iter().any(|only| only == part);
    // Beside what was built: fetched once.
    let place = std::env::current_exe()?.with_file_name("bench-peers");
    if asked("peers") {
        peers::install(&place)?;
    }
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        let bed = Bed::new()?;
        if asked("floors") {
            floors(&bed, &mut ledger, scale)?;
        }
        if asked("submit") {
            submit::round(&bed, &mut ledger, scale).await?;
        }
        if asked("auditor") {
            auditor::round(&bed, &mut ledger).await?;
        }
        drop(bed);
        if asked("peers") {
            peers::round(&place, &mut ledger, scale).await?;
        }
        if asked("journey") {
            journey::round(&mut ledger, scale)?;
        }
    }
    if asked("many") {
        let part = if arguments.quick { 10 } else { 1 };
        many::run(&mut ledger, many::Size { entries: 1_000_000 / part, undelivered: 100_000 / part }).await?;
    }
    Ok(ledger)
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ledger = runtime.block_on(measure(arguments))?;
    let today = SystemClock.now().to_string();
    table::write(&arguments.out, &ledger, arguments.rounds, today.split('T').next().unwrap_or(&today))?;
    plot::write(&arguments.out, &ledger)?;
    println!("{}", arguments.out.join(table::PAGE).display());
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let [_, first, role, charter, address] = arguments.as_slice()
        && first == liaison_tests::roles::ROLE
        && role == "noop"
    {
        let served = noop::serve(Path::new(charter), Path::new(address));
        return if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Some(code) = liaison_tests::roles::dispatch(&arguments) {
        return code;
    }
    match run(&Arguments::parse_from(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
