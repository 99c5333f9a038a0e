//! Threads as text for a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    output::{list, text},
    words::Words,
};

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What is expected, a line each; what this office owes first.
fn expected(thread: &Value, words: Words, out: &mut String) {
    let mut lines: Vec<&Value> = items(&thread["expected"]).collect();
    lines.sort_by_key(|line| line["own"] != Value::Bool(true));
    for line in lines {
        let own = words.word(if line["own"] == Value::Bool(true) { "expected-of-you" } else { "expected" });
        let late = match line["overdue"] == Value::Bool(true) {
            true => format!(" {}", words.loud(words.label("state", "OVERDUE"))),
            false => String::new(),
        };
        let due = match line["due"].is_null() {
            true => String::new(),
            false => format!(", {} {}", words.word("until"), words.time(&line["due"])),
        };
        let _ = writeln!(out, "  {own}: {} ({}){due}{late}", text(&line["label"]), list(&line["from"]));
    }
}

/// Whom one can call, whoever is on duty first.
fn contacts(thread: &Value, words: Words, out: &mut String) {
    for office in items(&thread["contacts"]) {
        for officer in items(&office["officers"]) {
            let on_duty = officer["on_duty"] == Value::Bool(true);
            let _ = writeln!(
                out,
                "  {} {}: {} {} ({}; {})",
                words.word(if on_duty { "on-duty" } else { "contact" }),
                text(&office["office"]),
                text(&officer["name"]),
                text(&officer["number"]),
                list(&officer["languages"]),
                text(&officer["hours"]),
            );
        }
    }
}

fn head(thread: &Value, words: Words) -> String {
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
        let _ = writeln!(out, "  {}: {hold}", words.loud(words.label("state", "HELD")));
    }
    if !thread["incomplete"].is_null() {
        let _ = writeln!(out, "  {}", words.word("incomplete"));
    }
    out
}

/// One thread, message by message.
#[must_use]
pub(super) fn thread(answer: &Value, words: Words) -> String {
    let mut out = head(answer, words);
    for office in items(&answer["offices"]) {
        let state = text(&office["state"]);
        let label = words.label("step", &state);
        let label = if label.is_empty() { words.label("state", &state) } else { label };
        let _ = writeln!(out, "  {}: {label} ({state})", text(&office["office"]));
    }
    if let Some(earlier) = answer["earlier"].as_u64().filter(|earlier| *earlier > 0) {
        let _ = writeln!(out, "    ({})", words.of("earlier-in-thread", earlier));
    }
    for message in items(&answer["messages"]) {
        let _ = writeln!(
            out,
            "    {}  {}  {:<10}  {} ({})",
            words.time(&message["at"]),
            text(&message["message"]),
            text(&message["from"]),
            text(&message["kind_label"]),
            text(&message["step"]),
        );
        match message["mark"].as_str() {
            Some("OUT_OF_STEP") => {
                let out_of_step = words.loud(words.label("state", "OUT_OF_STEP"));
                let _ = writeln!(out, "        {out_of_step}: {}", text(&message["advice"]));
            }
            Some("TAKEN_BACK") => {
                let _ = writeln!(out, "        {}", words.word("taken-back"));
            }
            Some("UNREADABLE") => {
                let _ = writeln!(out, "        {}", words.label("state", "UNREADABLE"));
            }
            _ => {}
        }
        if let Some(other) = message["concurrent_with"].as_str() {
            let _ = writeln!(out, "        {}: {other}", words.loud(words.label("state", "CONCURRENT")));
        }
        if let Some(newer) = message["replaced_by"].as_str() {
            let _ = writeln!(out, "        {} {newer}", words.word("replaced-by"));
        }
        if let Some(hash) = message["record_sha256"].as_str() {
            let _ = writeln!(out, "        {} {hash}", words.word("record"));
        }
    }
    expected(answer, words, &mut out);
    contacts(answer, words, &mut out);
    out
}

/// Threads, oldest first.
#[must_use]
pub(super) fn list_of(answer: &Value, words: Words) -> String {
    let mut out = String::new();
    for thread in items(&answer["threads"]) {
        out.push_str(&head(thread, words));
        expected(thread, words, &mut out);
    }
    if out.is_empty() { format!("{}\n", words.word("no-threads")) } else { out }
}

/// A reconciliation that was signed.
#[must_use]
pub(super) fn reconciled(answer: &Value, words: Words) -> String {
    let mut out = format!("{}\n{}\n", text(&answer["message"]), words.of("numbers-signed", &answer["numbers"]));
    match answer["differing"].as_array().map(Vec::as_slice) {
        None => {}
        Some([]) => {
            let _ = writeln!(out, "{}", words.word("both-hold-the-same"));
        }
        Some(numbers) => {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let _ = writeln!(out, "{} {}", words.loud(words.word("the-two-differ")), numbers.join(", "));
        }
    }
    out
}
