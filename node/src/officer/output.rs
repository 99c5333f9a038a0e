//! What the node answers, as text for a terminal.

use std::fmt::Write as _;

use liaison_casework::{
    advice,
    labels::{self, Language},
    print::plain,
};
use serde_json::Value;

use super::words::Words;

/// A text that cannot move the cursor or colour the terminal, whoever wrote it.
pub(super) fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-"))
}

pub(super) fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}

/// Says how many are not shown.
fn earlier(answer: &Value, words: Words) -> String {
    match answer["earlier"].as_u64() {
        Some(count) if count > 0 => format!("({})\n", words.of("earlier-ones", count)),
        _ => String::new(),
    }
}

/// What a state means, in the officer's language; the codes are English already.
fn meaning(state: &Value, words: Words) -> String {
    match words.language() {
        Language::English => String::new(),
        _ => format!("  {}", words.label("delivery", state.as_str().unwrap_or_default())),
    }
}

/// The same of something that happened to a message, which can be a message itself.
fn happened(what: &Value, words: Words) -> String {
    let kind = words.label("kind", what.as_str().unwrap_or_default());
    match words.language() {
        Language::English => String::new(),
        _ if kind.is_empty() => meaning(what, words),
        _ => format!("  {kind}"),
    }
}

/// The inbox, a line a message.
#[must_use]
pub fn inbox(answer: &Value, words: Words) -> String {
    let mut lines = earlier(answer, words);
    for message in answer["messages"].as_array().into_iter().flatten() {
        lines.push_str(&format!(
            "{}  {:<11}  {:<10}  {:<8}  {:<11}  #{}  {}{}\n",
            text(&message["message"]),
            text(&message["kind"]),
            text(&message["from"]),
            text(&message["priority"]),
            text(&message["state"]),
            message["number"].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string()),
            words.time(if message["accepted_at"].is_null() { &message["arrived_at"] } else { &message["accepted_at"] }),
            meaning(&message["state"], words),
        ));
    }
    if lines.is_empty() { format!("{}\n", words.word("inbox-empty")) } else { lines }
}

/// The outbox, a line a message and recipient.
#[must_use]
pub fn outbox(answer: &Value, words: Words) -> String {
    let mut lines = earlier(answer, words);
    for message in answer["messages"].as_array().into_iter().flatten() {
        for recipient in message["recipients"].as_array().into_iter().flatten() {
            lines.push_str(&format!(
                "{}  {:<11}  {:<10}  {:<8}  {:<11}  {}{}\n",
                text(&message["message"]),
                text(&message["kind"]),
                text(&recipient["office"]),
                text(&message["priority"]),
                text(&recipient["state"]),
                words.time(&message["created_at"]),
                meaning(&recipient["state"], words),
            ));
        }
        if let Some(code) = message["refusal"]["code"].as_str() {
            let signed = message["refusal"]["signed"] == Value::Bool(true);
            let by = words.word(if signed { "refused-signed" } else { "refused" });
            lines.push_str(&format!("    {by}: {code}: {}\n", text(&message["refusal"]["detail"])));
            if words.language() != Language::English {
                lines.push_str(&format!("    {}\n", words.label("refusal", code)));
            }
        }
    }
    if lines.is_empty() { format!("{}\n", words.word("outbox-empty")) } else { lines }
}

/// One message with its history.
#[must_use]
pub fn message(answer: &Value, words: Words) -> String {
    let mut out = format!(
        "{} {}\n{} -> {}{}\n{} · {} · TLP {} · {} · {}\n",
        text(&answer["kind"]),
        text(&answer["message"]),
        text(&answer["from"]),
        list(&answer["to"]),
        happened(&answer["kind"], words),
        text(&answer["priority"]),
        text(&answer["handling"]),
        text(&answer["tlp"]).replace('_', "+"),
        list(&answer["legal_basis"]),
        text(&answer["purpose"]),
    );
    for mark in answer["marks"].as_array().into_iter().flatten() {
        let label = words.label("mark", mark.as_str().unwrap_or_default());
        let label = if label.is_empty() { text(mark) } else { label.to_owned() };
        let _ = writeln!(out, "{}: {label}", words.loud(words.word("marked")));
    }
    if answer["state"] == "WAITS" {
        let _ = writeln!(out, "{}", words.loud(words.word("waits-for-countersignature")));
    }
    for (field, word) in [("in_reply_to", "answers"), ("supersedes", "replaces"), ("superseded_by", "replaced-by")] {
        if answer[field].is_string() {
            let _ = writeln!(out, "{} {}", words.word(word), text(&answer[field]));
        }
    }
    if answer["exercise"] == Value::Bool(true) {
        let _ = writeln!(out, "{}", words.loud(words.word("exercise")));
    }
    content(answer, words, &mut out);
    for reply in answer["answers"].as_array().into_iter().flatten() {
        let signed = |officer: &str| format!(", {} {}", words.word("written-by"), plain(officer));
        let by = reply["officer"].as_str().map(signed).unwrap_or_default();
        let kind = words.label("kind", reply["kind"].as_str().unwrap_or_default());
        let _ = writeln!(out, "\n{kind}: {}{by} ({})", text(&reply["from"]), text(&reply["message"]));
        for line in reply["text"].as_str().unwrap_or_default().lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    if answer["history"].as_array().is_some_and(|events| !events.is_empty()) {
        let _ = writeln!(out, "\n{}", words.word("history"));
    }
    for event in answer["history"].as_array().into_iter().flatten() {
        let by = event["by"].as_str().map(|by| format!(" {}", words.of("done-by", plain(by)))).unwrap_or_default();
        let entry = event["entry"].as_u64().map(|entry| format!(" ({})", words.of("log-entry", entry)));
        let late = if event["late"] == Value::Bool(true) { format!(", {}", words.word("late")) } else { String::new() };
        let why = event["why"].as_str().map(|why| format!(" ({})", plain(why))).unwrap_or_default();
        let (at, what, entry) = (words.time(&event["at"]), text(&event["what"]), entry.unwrap_or_default());
        let meaning = happened(if event["why"].is_null() { &event["what"] } else { &event["why"] }, words);
        out.push_str(&format!("  {at}  {what}{why}{late}{by}{entry}{meaning}\n"));
    }
    if let Some(proof) = answer["proof"].as_str() {
        let checkpoint = proof.split_once("\n\n").map_or("", |(_, checkpoint)| checkpoint);
        let size = checkpoint.lines().nth(1).unwrap_or("-");
        let command = format!("liaison receipt {}", text(&answer["message"]));
        let (proven, written) = (words.of("proven-in-log", plain(size)), words.of("proof-written-by", command));
        let _ = writeln!(out, "  {proven}; {written}");
    }
    out
}

/// What was written, who signed it, and what was said since to be wrong in it.
fn content(answer: &Value, words: Words, out: &mut String) {
    if let Some(content) = answer["text"].as_str() {
        let _ = writeln!(out, "\n{} {}", words.word("written-by"), text(&answer["officer"]["name"]));
        if answer["countersigned_by"].as_array().is_some_and(|names| !names.is_empty()) {
            let _ = writeln!(out, "{} {}", words.word("countersigned-by"), list(&answer["countersigned_by"]));
        }
        // Before what it corrects: nobody acts on a wrong name first.
        for correction in answer["corrections"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "{} {}", words.loud(words.word("corrected-by")), text(&correction["message"]));
            for field in correction["fields"].as_array().into_iter().flatten() {
                let was = if field["was"].is_null() { "-".to_owned() } else { text(&field["was"]) };
                let wrong = words.word("was-wrong");
                let _ = writeln!(out, "  {}: {was} {wrong}: {}", text(&field["label"]), text(&field["value"]));
            }
        }
        for line in content.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    for file in answer["attachments"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "  {} {}: {} ({}, {} bytes) {}",
            words.word("attachment"),
            file["number"],
            text(&file["name"]),
            text(&file["media_type"]),
            file["size"],
            text(&file["state"])
        );
    }
    if let Some(missing) = answer["content_missing"].as_str() {
        let _ = writeln!(out, "\n{}: {missing}", words.word("content-not-shown"));
    }
}

/// The node's status.
#[must_use]
pub fn status(answer: &Value, words: Words) -> String {
    let (received, sent) = (words.of("received", &answer["received"]), words.of("sent", &answer["sent"]));
    let mut out = format!("{}: {received}, {sent}\n", text(&answer["office"]));
    let mut line = |text: String| out.extend([text.as_str(), "\n"]);
    let connected = answer["broker"]["connected"] == Value::Bool(true);
    let broker = if connected { "broker-connected" } else { "broker-not-reached" };
    line(words.of(broker, words.time(&answer["broker"]["since"])));
    line(match answer["officer"].as_str() {
        Some(officer) => words.of("unlocked-by", plain(officer)),
        None if answer["office_unlocked"] == Value::Bool(true) => words.word("office-unlocked").to_owned(),
        None => words.word("office-locked").to_owned(),
    });
    for (field, word) in [
        ("to_submit", "to-submit"),
        ("to_countersign", "to-countersign"),
        ("to_confirm", "to-confirm"),
        ("to_open", "to-open"),
        ("unproven", "unproven"),
        ("to_download", "to-download"),
        ("alarms", "alarms-to-see"),
    ] {
        if let Some(count) = answer[field].as_u64().filter(|count| *count > 0) {
            line(words.of(word, count));
        }
    }
    for gap in answer["missing_numbers"].as_array().into_iter().flatten() {
        let channel = format!("{} {}: {}", text(&gap["from"]), text(&gap["lane"]), gap["numbers"]);
        line(format!("{} {channel}", words.loud(words.word("missing-from"))));
    }
    for problem in answer["problems"].as_array().into_iter().flatten() {
        line(format!("{}: {}", words.loud(words.word("problem")), text(problem)));
    }
    if let Some(charter) = answer["charter"].as_u64().filter(|number| *number > 1) {
        line(words.of("charter-number", charter));
    }
    if answer["directory_entries"] == 0 {
        line(words.word("no-directory").to_owned());
    }
    out
}

/// Alarms, a line each.
#[must_use]
pub fn alarms(answer: &Value, words: Words) -> String {
    let alarms = answer["alarms"].as_array().into_iter().flatten();
    let line = |alarm: &Value| {
        let seen = alarm["seen_by"].as_str().map(|officer| format!(" ({})", words.of("seen-by", plain(officer))));
        format!("{}  {}{}\n", words.time(&alarm["at"]), text(&alarm["what"]), seen.unwrap_or_default())
    };
    let lines: String = alarms.map(line).collect();
    if lines.is_empty() { format!("{}\n", words.word("no-alarms")) } else { lines }
}

/// An officer who has unlocked.
#[must_use]
pub fn unlocked(answer: &Value, words: Words) -> String {
    format!("{}: {}\n", text(&answer["officer"]), words.of("unlocked-until", words.time(&answer["until"])))
}

/// An officer with a new credential.
#[must_use]
pub fn renewed(answer: &Value, words: Words) -> String {
    format!("{}: {}\n", text(&answer["officer"]), words.of("new-credential-until", words.time(&answer["until"])))
}

/// New keys at rest.
#[must_use]
pub fn storage_keys(answer: &Value, words: Words) -> String {
    format!("{}\n", words.of("new-storage-keys", list(&answer["behind"])))
}

/// Why the node did not do what was asked: in the officer's words, and in those that were logged.
#[must_use]
pub fn failure(answer: &Value, words: Words) -> String {
    let english = words.language() == Language::English;
    let code = answer["code"].as_str().unwrap_or_default();
    let problems = answer["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut out = match words.label("refusal", code) {
        "" if problems.is_empty() || english => format!("{}\n", text(&answer["message"])),
        "" => format!("{}\n", words.word("problems")),
        _ if english => format!("{}\n", text(&answer["message"])),
        label => format!("{label}\n  {}\n", text(&answer["message"])),
    };
    if let Some(reason) = answer["reason"].as_str().filter(|_| !english) {
        let _ = writeln!(out, "  {}", words.label("reason", reason));
    }
    for problem in problems {
        let (field, sentence) = (text(&problem["field"]), text(&problem["advice_sentence"]));
        let rule = labels::rule(words.language(), problem["rule"].as_str().unwrap_or_default());
        let detail = problem["advice_detail"].as_str().map(plain);
        let advice = advice::told(words.language(), &sentence, detail.as_deref());
        let _ = writeln!(out, "  {field}: {rule} ({advice})");
    }
    let advice = if english { "" } else { words.label("advice", code) };
    if let Some(advice) = Some(advice).filter(|advice| !advice.is_empty()).or(answer["advice"].as_str()) {
        let _ = writeln!(out, "  {}: {advice}", words.word("what-to-do"));
    }
    out
}
