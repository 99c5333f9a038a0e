//! The command line: many seeds, each in a process of its own, or one with all that happened.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::template::Template;

const LIBRARY: &str = "seeded.so";
const SEED: &str = "SIMULATION_SEED";
const SOURCE: &str = include_str!("../../faults/seeded.c");

/// Whole worlds from seeds: broker, nodes, officers and trouble in simulated time.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Runs each seed twice, the second time from a charter that was made anew: the two must be the same, event for event.
    #[arg(long)]
    twice: bool,
    /// Worlds at the same time; as many as there are cores when missing.
    #[arg(long)]
    jobs: Option<usize>,
    /// Tells everything that happens, with the log lines of all machines, to standard error.
    #[arg(long)]
    tell: bool,
    /// Disks that say that things are synced that are not: the oracle must find what is lost by it.
    #[arg(long)]
    lying_disks: bool,
    /// Where worlds begin, as another process made it.
    #[arg(long, hide = true)]
    template: Option<PathBuf>,
}

/// Runs the command line. Exit codes: 0 every promise held, 1 one did not, 2 wrong usage.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(e) => e.exit(),
    };
    let done = match &arguments.template {
        Some(template) => one(template, &arguments),
        None => many(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The world of one seed, in this process: a line of JSON.
fn one(template: &Path, arguments: &Arguments) -> io::Result<bool> {
    if arguments.tell {
        let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_writer(io::stderr)
            .with_ansi(false)
            .init();
    }
    static PANICKED: Mutex<Option<String>> = Mutex::new(None);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| panic.to_string());
        usual(panic);
    }));
    // A thread of its own has its own hash seeds, whatever was hashed before: telling changes nothing.
    let (seed, lying, template) = (arguments.from, arguments.lying_disks, template.to_path_buf());
    let world = thread::spawn(move || super::run(&template, seed, lying));
    let mut run = world.join().map_err(|_| io::Error::other("the world panicked"))??;
    // A task that panicked alone ends nothing, and may have been missed by nobody.
    let panicked = PANICKED.lock().unwrap_or_else(PoisonError::into_inner).take();
    run.wrong = run.wrong.or_else(|| panicked.map(|panic| format!("something panicked: {panic}")));
    let answer = json!({
        "wrong": run.wrong, "fingerprint": run.fingerprint, "figures": run.figures, "trace": run.trace,
    });
    println!("{answer}");
    Ok(run.wrong.is_none())
}

/// What worlds are made of, and how they are run.
struct Simulator {
    directory: TempDir,
    templates: Vec<PathBuf>,
    program: PathBuf,
    flags: Vec<&'static str>,
}

impl Simulator {
    fn new(arguments: &Arguments) -> io::Result<Self> {
        let flags = [(arguments.tell, "--tell"), (arguments.lying_disks, "--lying-disks")];
        let flags = flags.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect();
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("seeded.c"), SOURCE)?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", LIBRARY, "seeded.c"])
            .current_dir(directory.path())
            .status()?;
        if !built.success() {
            return Err(io::Error::other("the seeded generator could not be built"));
        }
        let mut templates = Vec::new();
        for name in ["template", "again"].into_iter().take(if arguments.twice { 2 } else { 1 }) {
            let template = directory.path().join(name);
            fs::create_dir(&template)?;
            Template::make(&template)?;
            templates.push(template);
        }
        Ok(Self { directory, templates, program: std::env::current_exe()?, flags })
    }

    /// A process of its own for each world, whose randomness is the seed's.
    fn world(&self, seed: u64, template: &Path) -> io::Result<Value> {
        let mut command = Command::new(&self.program);
        command
            .args(["--from", &seed.to_string(), "--template"])
            .arg(template)
            .args(&self.flags)
            .env("LD_PRELOAD", self.directory.path().join(LIBRARY))
            .env(SEED, seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(if self.flags.contains(&"--tell") { Stdio::inherit() } else { Stdio::piped() });
        let output = command.spawn()?.wait_with_output()?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            io::Error::other(format!("the world of seed {seed} ended ({}): {said}", output.status))
        })
    }

    /// Says what was wrong with the world of a seed, if anything was.
    fn judge(&self, seed: u64) -> io::Result<(Value, Option<String>)> {
        let runs = self.templates.iter().map(|template| self.world(seed, template)).collect::<io::Result<Vec<_>>>()?;
        let first = runs.first().cloned().unwrap_or_default();
        let mut wrong = runs.iter().find_map(|run| run["wrong"].as_str()).map(str::to_owned);
        if let [first, again] = &runs[..] {
            let lines = |run: &Value| run["trace"].as_array().cloned().unwrap_or_default();
            let parted = lines(first).into_iter().zip(lines(again)).find(|(one, other)| one != other);
            let same = ["fingerprint", "figures"].iter().all(|what| first[what] == again[what]);
            wrong =
                wrong.or_else(|| (!same).then(|| format!("the same seed gave another world; they part at {parted:?}")));
        }
        Ok((first, wrong))
    }
}

/// What all worlds were.
#[derive(Default)]
struct Found {
    worlds: u64,
    messages: u64,
    refused: u64,
    lost: u64,
    wrong: BTreeMap<u64, String>,
}

fn many(arguments: &Arguments) -> io::Result<bool> {
    let simulator = Simulator::new(arguments)?;
    let jobs = arguments.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1).max(1);
    let (next, end) = (AtomicU64::new(arguments.from), arguments.from.saturating_add(arguments.seeds));
    let found: Mutex<Found> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let judged = simulator.judge(seed);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.worlds += 1;
                    if found.worlds.is_multiple_of(1000) {
                        println!("{} worlds, {} wrong", found.worlds, found.wrong.len());
                    }
                    match judged {
                        Ok((run, wrong)) => {
                            found.messages += run["figures"]["messages"].as_u64().unwrap_or_default();
                            found.refused += run["figures"]["refused"].as_u64().unwrap_or_default();
                            found.lost += run["figures"]["lost"].as_u64().unwrap_or_default();
                            if let Some(wrong) = wrong {
                                println!("seed {seed}: {wrong}");
                                let trace = run["trace"].as_array().into_iter().flatten().filter_map(Value::as_str);
                                trace.for_each(|line| println!("    {line}"));
                                found.wrong.insert(seed, wrong);
                            }
                        }
                        Err(error) => {
                            println!("seed {seed}: {error}");
                            found.wrong.insert(seed, error.to_string());
                        }
                    }
                }
            });
        }
    });
    let Found { messages, refused, lost, wrong, .. } = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} worlds from seed {}, {messages} messages: {} wrong", arguments.seeds, arguments.from, wrong.len());
    println!("{refused} hostile tries were refused with a code");
    println!("{lost} ended with a log that is closed, for entries that its backup lacked and that nobody else has");
    if let Some(seed) = wrong.keys().next() {
        let lying = if arguments.lying_disks { " --lying-disks" } else { "" };
        println!("again: cargo run --release --bin simulate -- --from {seed} --seeds 1 --tell{lying}");
    }
    Ok(wrong.is_empty())
}
