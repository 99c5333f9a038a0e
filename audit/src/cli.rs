//! The command line of `audit`.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use liaison_link::{
    charter_files::Charters,
    net::tcp,
    process::{EXIT_HELP, exit, fail},
};
use liaison_proto::{charter::Charter, ids::MessageId, refusal::Refusal};
use serde_json::json;

use crate::{
    finding::{Finding, FindingCode},
    life,
    mirror::{self, MirrorFailed, Source},
    receipt, report,
    verify::{self, Replay},
};

/// Copies both logs, verifies them offline, and replays what happened.
#[derive(Debug, Parser)]
#[command(name = "audit", version, after_help = EXIT_HELP)]
struct Arguments {
    /// The charter, with charter.sig beside it.
    #[arg(long, global = true, default_value = "charter.toml")]
    charter: PathBuf,
    /// The charter's SHA-256 in hexadecimal, as it was delivered by hand.
    #[arg(long, global = true)]
    charter_sha256: Option<String>,
    /// For machines.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copies what is new in both logs into a C2SP tile directory each.
    Mirror {
        /// The broker's address.
        #[arg(long, default_value = "127.0.0.1:7443")]
        broker: SocketAddr,
        /// The auditor's certificate.
        #[arg(long)]
        certificate: PathBuf,
        /// The auditor's key.
        #[arg(long)]
        key: PathBuf,
        /// Where the copies are.
        #[arg(long, default_value = "audit-copy")]
        copy: PathBuf,
    },
    /// Verifies the copies: checkpoints, trees, every signature, every rule.
    Verify {
        /// Where the copies are.
        #[arg(long, default_value = "audit-copy")]
        copy: PathBuf,
    },
    /// Shows one message's life in the log.
    Inspect {
        /// Where the copies are.
        #[arg(long, default_value = "audit-copy")]
        copy: PathBuf,
        /// Message id.
        message: MessageId,
    },
    /// Checks a receipt file offline.
    Receipt {
        /// Where the copies are, to hold the receipt against them.
        #[arg(long)]
        copy: Option<PathBuf>,
        /// The receipt, a tlog-proof.
        file: PathBuf,
    },
    /// Prints what an audit can find.
    Findings,
}

impl Command {
    /// The copy that it reads or writes.
    fn copy(&self) -> Option<&Path> {
        match self {
            Self::Mirror { copy, .. } | Self::Verify { copy } | Self::Inspect { copy, .. } => Some(copy),
            Self::Receipt { copy, .. } => copy.as_deref(),
            Self::Findings => None,
        }
    }
}

/// Runs the command line.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(e) => e.exit(),
    };
    if matches!(arguments.command, Command::Findings) {
        if arguments.json {
            let all = FindingCode::ALL.iter().map(|code| json!({"code": code, "meaning": code.meaning()}));
            println!("{:#}", all.collect::<serde_json::Value>());
        } else {
            FindingCode::ALL.iter().for_each(|code| println!("{code:<20}  {}", code.meaning()));
        }
        return ExitCode::SUCCESS;
    }
    // What was learnt with a copy lies in the copy.
    let kept = arguments.command.copy().map(|copy| copy.join("charters")).unwrap_or_default();
    let charters = match Charters::open(&arguments.charter, arguments.charter_sha256.as_deref(), kept) {
        Ok(charters) => charters,
        Err(error) => return fail("audit", &error, exit::FAILED),
    };
    let charter = charters.get();
    let json = arguments.json;
    if arguments.charter_sha256.is_none() {
        let first = charter.chain().last().map_or_else(String::new, Charter::fingerprint);
        eprintln!("audit: --charter-sha256 was not given; compare by hand, charter no. 1: {first}");
    }
    match arguments.command {
        Command::Mirror { broker, certificate, key, copy } => {
            run_mirror(&charters, &Source { broker, certificate, key, dialer: tcp() }, &copy, json)
        }
        Command::Verify { copy } => with_replay(&copy, &charter, |replay| print_verdict(replay, json)),
        Command::Inspect { copy, message } => with_replay(&copy, &charter, |replay| print_life(replay, message, json)),
        Command::Receipt { copy, file } => match copy {
            Some(copy) => with_replay(&copy, &charter, |replay| {
                // A message that was lost says nothing against the copy.
                if replay.findings.iter().all(|finding| finding.code == FindingCode::MessageLost) {
                    check_receipt(&file, &charter, Some(replay), json)
                } else {
                    // A copy that is not sound proves nothing about a receipt.
                    print_verdict(replay, json)
                }
            }),
            None => check_receipt(&file, &charter, None, json),
        },
        Command::Findings => ExitCode::SUCCESS,
    }
}

fn with_replay(copy: &Path, charter: &Charter, then: impl FnOnce(&Replay) -> ExitCode) -> ExitCode {
    match verify::verify(copy, charter) {
        Ok(replay) => then(&replay),
        Err(error) => fail("audit", &error, exit::FAILED),
    }
}

fn verdict(findings: &[Finding]) -> ExitCode {
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FINDINGS) }
}

fn print_findings(findings: &[Finding]) {
    match findings.len() {
        0 => println!("verdict: nothing found"),
        n => {
            findings.iter().for_each(|finding| println!("{finding}"));
            println!("verdict: {n} finding(s)");
        }
    }
}

fn run_mirror(charters: &Charters, source: &Source, copy: &Path, json: bool) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail("audit", &error, exit::FAILED),
    };
    match runtime.block_on(mirror::mirror(charters, source, copy)) {
        Ok((done, findings)) => {
            if json {
                println!("{:#}", json!({"logs": done, "findings": findings}));
            } else {
                for log in &done {
                    println!("{} log: {} entries, {} new", log.log, log.size, log.added);
                    if let Some(closed) = &log.closed {
                        println!(
                            "  a copy that went on beyond the end of a closed log is kept in {}",
                            closed.display()
                        );
                    }
                }
                if !findings.is_empty() {
                    print_findings(&findings);
                }
            }
            verdict(&findings)
        }
        Err(error) => {
            let (code, hint) = match &error {
                MirrorFailed::Source(_, status) => match Refusal::from_status(status) {
                    Some(refusal) if refusal.retry_after.is_none() => (exit::REFUSED, None),
                    Some(_) => (exit::UNREACHABLE, Some("the broker shows nothing for now; try again later")),
                    None => (
                        exit::UNREACHABLE,
                        Some("is the broker running there, and the certificate an auditor's and in force?"),
                    ),
                },
                _ => (exit::FAILED, None),
            };
            let failed = fail("audit", &error, code);
            if let Some(hint) = hint {
                eprintln!("  {hint}");
            }
            failed
        }
    }
}

fn print_verdict(replay: &Replay, json: bool) -> ExitCode {
    let report = report::summarize(replay);
    if json {
        println!("{:#}", json!({"report": report, "findings": replay.findings}));
    } else {
        if replay.is_readable() {
            print!("{}", report::to_text(&report));
            println!("every signature checked, by the directory as it was at each entry");
        }
        print_findings(&replay.findings);
    }
    verdict(&replay.findings)
}

fn print_life(replay: &Replay, message: MessageId, json: bool) -> ExitCode {
    let events = life::of_message(replay, message);
    if events.is_empty() {
        eprintln!("audit: the copy has no message {message}");
        return ExitCode::from(exit::REFUSED);
    }
    if json {
        println!("{:#}", json!({"message": message, "events": events, "findings": replay.findings}));
    } else {
        for event in &events {
            let (entry, what) = (event.entry, event.what);
            println!("{}  entry {entry:<6}  {what:<11}  {:<10}  {}", event.time, event.by, event.detail);
        }
        if !replay.findings.is_empty() {
            print_findings(&replay.findings);
        }
    }
    verdict(&replay.findings)
}

fn check_receipt(file: &Path, charter: &Charter, copy: Option<&Replay>, json: bool) -> ExitCode {
    match receipt::check(file, charter, copy) {
        Ok(Ok(proven)) => {
            if json {
                println!("{proven:#}");
            } else {
                println!(
                    "good: entry {} of a log of {} entries, {} at {}",
                    proven["entry"],
                    proven["log_size"],
                    proven["event"].as_str().unwrap_or("-"),
                    proven["time"].as_str().unwrap_or("-")
                );
                let about = &proven["about"];
                let text = |key: &str| about[key].as_str().unwrap_or("-").to_owned();
                println!("message {} {} from {}", text("kind"), text("message"), text("from"));
                if let Some(compared) = proven["compared"].as_str() {
                    println!("{compared}");
                }
            }
            if proven["in_copy"] == false { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS }
        }
        Ok(Err(finding)) => {
            if json {
                println!("{:#}", json!({"findings": [&finding]}));
            } else {
                print_findings(std::slice::from_ref(&finding));
            }
            ExitCode::from(exit::FINDINGS)
        }
        Err(error) => fail("audit", &error, exit::FAILED),
    }
}
