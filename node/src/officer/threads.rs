//! Threads as text for a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::output::{list, text, time};

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What is expected, a line each; what this office owes first.
fn expected(thread: &Value, out: &mut String) {
    let mut lines: Vec<&Value> = items(&thread["expected"]).collect();
    lines.sort_by_key(|line| line["own"] != Value::Bool(true));
    for line in lines {
        let own = if line["own"] == Value::Bool(true) { "expected of you" } else { "expected" };
        let late = if line["overdue"] == Value::Bool(true) { " OVERDUE" } else { "" };
        let due = if line["due"].is_null() { String::new() } else { format!(", by {}", time(&line["due"])) };
        let _ = writeln!(out, "  {own}: {} ({}){due}{late}", text(&line["label"]), list(&line["from"]));
    }
}

fn head(thread: &Value) -> String {
    let mut out = format!(
        "{}  {}\n  {} -> {}\n  {} ({})\n",
        text(&thread["thread"]),
        text(&thread["kind_label"]),
        text(&thread["from"]),
        list(&thread["to"]),
        text(&thread["label"]),
        text(&thread["state"]),
    );
    if let Some(hold) = thread["hold_label"].as_str() {
        let _ = writeln!(out, "  HELD: {hold}");
    }
    if let Some(why) = thread["incomplete"].as_str() {
        let _ = writeln!(out, "  INCOMPLETE: {why}");
    }
    out
}

/// One thread, message by message.
#[must_use]
pub(super) fn thread(answer: &Value) -> String {
    let mut out = head(answer);
    for office in items(&answer["offices"]) {
        let _ = writeln!(out, "  {}: {}", text(&office["office"]), text(&office["state"]));
    }
    for message in items(&answer["messages"]) {
        let _ = writeln!(
            out,
            "    {}  {}  {:<10}  {} ({})",
            time(&message["at"]),
            text(&message["message"]),
            text(&message["from"]),
            text(&message["kind_label"]),
            text(&message["step"]),
        );
        match message["mark"].as_str() {
            Some("OUT_OF_STEP") => {
                let _ = writeln!(out, "        OUT OF STEP: {}", text(&message["advice"]));
            }
            Some("TAKEN_BACK") => out.push_str("        taken back\n"),
            Some("UNREADABLE") => out.push_str("        cannot be read here\n"),
            _ => {}
        }
        if let Some(other) = message["concurrent_with"].as_str() {
            let _ = writeln!(out, "        SENT AT THE SAME TIME as {other}: whoever wrote it had not seen that one");
        }
        if let Some(hash) = message["record_sha256"].as_str() {
            let _ = writeln!(out, "        record {hash}");
        }
    }
    expected(answer, &mut out);
    out
}

/// Threads, oldest first.
#[must_use]
pub(super) fn list_of(answer: &Value) -> String {
    let mut out = String::new();
    for thread in items(&answer["threads"]) {
        out.push_str(&head(thread));
        expected(thread, &mut out);
    }
    if out.is_empty() { "no threads\n".to_owned() } else { out }
}

/// A reconciliation that was signed.
#[must_use]
pub(super) fn reconciled(answer: &Value) -> String {
    let mut out = format!("{}\n{} numbers signed\n", text(&answer["message"]), answer["numbers"]);
    match answer["differing"].as_array().map(Vec::as_slice) {
        None => {}
        Some([]) => out.push_str("both hold the same\n"),
        Some(numbers) => {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let _ = writeln!(out, "THE TWO DIFFER on numbers {}", numbers.join(", "));
        }
    }
    out
}
