//! What the agreements say: of a case file, asked of the node; of a table of decisions, for whoever writes agreements.

use std::{fmt::Write as _, fs, path::Path, process::ExitCode};

use clap::Subcommand;
use liaison_casework::{catalogue, print};
use liaison_link::process::{exit, fail};
use liaison_policy::{Agreement, Agreements, Question};
use liaison_proto::wire::{DataClass, Handling, LegalBasis, Priority, Purpose, Tlp};
use serde_json::{Value, json};

use super::{answer, answer::Terminal, output, words::Words};

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Says whether the agreements in force allow a case file to go to each recipient, why, and what would be allowed.
    Explain {
        /// Case file, YAML or JSON; - for standard input.
        file: std::path::PathBuf,
    },
    /// Prints the tables that the countries have agreed on: deadlines, gates, holidays.
    Tables,
    /// Tests agreements and tables that are not in force yet: *.cedar with decisions.tsv, and *.toml, of a directory. Needs no
    /// node.
    Test {
        /// The directory.
        directory: std::path::PathBuf,
    },
}

/// Runs it.
pub(super) fn run(at: &Terminal, policy: &Policy) -> ExitCode {
    match policy {
        Policy::Explain { file } => match answer::read_file(file) {
            Ok(text) => at.ask(&json!({"op": "explain", "file": text}), explained),
            Err(error) => fail("liaison", &error, exit::FAILED),
        },
        Policy::Tables => at.ask(&json!({"op": "tables"}), tables),
        Policy::Test { directory } => match test(directory) {
            Ok(report) => {
                if at.json {
                    println!("{:#}", json!({"decisions": report.decisions, "wrong": report.wrong}));
                } else {
                    report.wrong.iter().for_each(|line| println!("{line}"));
                    println!("{} decisions, {} wrong", report.decisions, report.wrong.len());
                }
                if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::REFUSED) }
            }
            Err(error) => fail("liaison", &error, exit::FAILED),
        },
    }
}

fn tables(answer: &Value, words: Words) -> String {
    let mut out = String::new();
    for table in answer["tables"].as_array().into_iter().flatten() {
        for line in table["text"].as_str().unwrap_or_default().lines() {
            let _ = writeln!(out, "{}", print::plain(line));
        }
        out.push('\n');
    }
    for table in answer["unreadable"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "{}: {}", words.loud(words.word("table-not-read")), output::text(table));
    }
    if out.is_empty() { format!("{}\n", words.word("no-tables")) } else { out }
}

fn explained(answer: &Value, words: Words) -> String {
    let mut out = String::new();
    for decision in answer["decisions"].as_array().into_iter().flatten() {
        let word = match decision["verdict"].as_str().unwrap_or_default() {
            "PERMITTED" => "permitted",
            "FORBIDDEN" => "forbidden",
            "NOT_PERMITTED" => "not-permitted",
            _ => "not-judged",
        };
        let why = words.word(word);
        let why = if decision["allowed"] == Value::Bool(true) { why.to_owned() } else { words.loud(why) };
        let by = output::list(&decision["by"]);
        let by = if by.is_empty() { by } else { format!(" ({by})") };
        let _ = writeln!(out, "{}: {why}{by}", output::text(&decision["to"]));
        for remedy in decision["would_allow"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  {}", words.of("would-be-allowed", output::text(remedy)));
        }
    }
    let _ = writeln!(out, "{}", words.of("agreements-in-force", output::list(&answer["agreements"])));
    out
}

/// How a table of decisions came out.
struct Report {
    decisions: usize,
    wrong: Vec<String>,
}

fn test(directory: &Path) -> Result<Report, std::io::Error> {
    let bad = |path: &Path, what: String| std::io::Error::other(format!("{}: {what}", path.display()));
    let listed: Vec<_> = fs::read_dir(directory)?.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    let of = |wanted: &str| {
        let mut files: Vec<_> = listed.iter().filter(|path| path.extension().is_some_and(|e| e == wanted)).collect();
        files.sort();
        files
    };
    let files = of("cedar");
    let read =
        |path: &&std::path::PathBuf| Agreement::parse(&fs::read_to_string(path)?).map_err(|e| bad(path, e.to_string()));
    let agreements = Agreements::new(files.iter().map(read).collect::<Result<Vec<_>, _>>()?);
    let table = directory.join("decisions.tsv");
    let mut report = Report { decisions: 0, wrong: Vec::new() };
    for path in of("toml") {
        liaison_policy::check(&fs::read(path)?).map_err(|e| bad(path, e.to_string()))?;
    }
    for (number, line) in (1..).zip(fs::read_to_string(&table)?.lines()) {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let asked = question(line).ok_or_else(|| bad(&table, format!("line {number} is not a decision")))?;
        let (question, expected) = asked;
        let decision = agreements.decide(&question);
        report.decisions += 1;
        if decision.is_allowed() != expected {
            report.wrong.push(format!("line {number}: {decision}"));
        }
    }
    Ok(report)
}

/// A line: from, to, kind, bases, purpose, handling, TLP, class, allow or deny.
fn question(line: &str) -> Option<(Question, bool)> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [from, to, kind, bases, purpose, handling, tlp, class, expected] = columns.as_slice() else { return None };
    let basis = |code: &str| LegalBasis::from_str_name(&format!("LEGAL_BASIS_{code}"));
    let question = Question {
        from: from.parse().ok()?,
        to: to.parse().ok()?,
        kind: catalogue::kind_by_name(kind)?,
        basis: bases.split(' ').map(basis).collect::<Option<_>>()?,
        purpose: Purpose::from_str_name(&format!("PURPOSE_{purpose}"))?,
        priority: Priority::Urgent,
        handling: Handling::from_str_name(&format!("HANDLING_{handling}"))?,
        tlp: Tlp::from_str_name(&format!("TLP_{}", tlp.replace('+', "_")))?,
        data_class: DataClass::from_str_name(&format!("DATA_CLASS_{class}"))?,
        retain_days: 0,
        exercise: false,
    };
    match *expected {
        "allow" => Some((question, true)),
        "deny" => Some((question, false)),
        _ => None,
    }
}
