//! What the node answers, as text for a terminal.

use liaison_casework::print::plain;
use serde_json::Value;

/// A text that cannot move the cursor or colour the terminal, whoever wrote it.
pub(super) fn text(value: &Value) -> String {
    plain(value.as_str().unwrap_or("-"))
}

pub(super) fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}

/// A time without its date's clutter: `2026-11-20 08:30:12Z`.
pub(super) fn time(value: &Value) -> String {
    let text = text(value);
    match text.split_once('T') {
        Some((day, clock)) => format!("{day} {}Z", clock.get(..8).unwrap_or(clock)),
        None => text,
    }
}

/// Says how many are not shown.
fn earlier(answer: &Value) -> String {
    match answer["earlier"].as_u64() {
        Some(count) if count > 0 => format!("({count} earlier ones; --limit shows more)\n"),
        _ => String::new(),
    }
}

/// The inbox, a line a message.
#[must_use]
pub fn inbox(answer: &Value) -> String {
    let mut lines = earlier(answer);
    for message in answer["messages"].as_array().into_iter().flatten() {
        lines.push_str(&format!(
            "{}  {:<11}  {:<10}  {:<8}  {:<11}  no. {}  {}\n",
            text(&message["message"]),
            text(&message["kind"]),
            text(&message["from"]),
            text(&message["priority"]),
            text(&message["state"]),
            message["number"].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string()),
            time(if message["accepted_at"].is_null() { &message["arrived_at"] } else { &message["accepted_at"] }),
        ));
    }
    if lines.is_empty() { "the inbox is empty\n".to_owned() } else { lines }
}

/// The outbox, a line a message and recipient.
#[must_use]
pub fn outbox(answer: &Value) -> String {
    let mut lines = earlier(answer);
    for message in answer["messages"].as_array().into_iter().flatten() {
        for recipient in message["recipients"].as_array().into_iter().flatten() {
            lines.push_str(&format!(
                "{}  {:<11}  {:<10}  {:<8}  {:<11}  {}\n",
                text(&message["message"]),
                text(&message["kind"]),
                text(&recipient["office"]),
                text(&message["priority"]),
                text(&recipient["state"]),
                time(&message["created_at"]),
            ));
        }
        if let Some(code) = message["refusal"]["code"].as_str() {
            let by = if message["refusal"]["signed"] == Value::Bool(true) { "refused, signed" } else { "refused" };
            lines.push_str(&format!("    {by}: {code}: {}\n", text(&message["refusal"]["detail"])));
        }
    }
    if lines.is_empty() { "the outbox is empty\n".to_owned() } else { lines }
}

/// One message with its history.
#[must_use]
pub fn message(answer: &Value) -> String {
    let mut out = format!(
        "{} {}\nfrom {} to {}, corridor {}\n{} · {} · TLP {} · {} · {}\n",
        text(&answer["kind"]),
        text(&answer["message"]),
        text(&answer["from"]),
        list(&answer["to"]),
        text(&answer["corridor"]),
        text(&answer["priority"]),
        text(&answer["handling"]),
        text(&answer["tlp"]).replace('_', "+"),
        list(&answer["legal_basis"]),
        text(&answer["purpose"]),
    );
    for mark in answer["marks"].as_array().into_iter().flatten() {
        out.push_str(match mark.as_str().unwrap_or_default() {
            "CLOCK_SKEW" => "MARKED: the sender's clock was more than five minutes off\n",
            "STALE_KEY" => "MARKED: sealed to an encryption key past its validity\n",
            "UNWITNESSED" => "MARKED: the log had restarted, and not everybody outside had confirmed its size\n",
            "LATE" => "MARKED: delivered after its time-out, withdrawal or expiry\n",
            "STALE_REVOCATION" => "MARKED: the sender's revocation list was late or missing\n",
            "UNPROVEN" => {
                "MARKED: it came while the broker's log was under repair, before anything proved its place there\n"
            }
            _ => "MARKED: something that the broker could not settle\n",
        });
    }
    if answer["in_reply_to"].is_string() {
        out.push_str(&format!("answers {}\n", text(&answer["in_reply_to"])));
    }
    if answer["exercise"] == Value::Bool(true) {
        out.push_str("EXERCISE: a drill\n");
    }
    if let Some(content) = answer["text"].as_str() {
        out.push_str(&format!("\nwritten and signed by {}\n", text(&answer["officer"]["name"])));
        for line in content.lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    for file in answer["attachments"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "  attachment {}: {} ({}, {} bytes) {}\n",
            file["number"],
            text(&file["name"]),
            text(&file["media_type"]),
            file["size"],
            text(&file["state"])
        ));
    }
    if let Some(missing) = answer["content_missing"].as_str() {
        out.push_str(&format!("\ncontent not shown: {missing}\n"));
    }
    for reply in answer["answers"].as_array().into_iter().flatten() {
        let by = reply["officer"].as_str().map(|officer| format!(", signed by {}", plain(officer))).unwrap_or_default();
        out.push_str(&format!(
            "\n{} from {}{by} ({})\n",
            text(&reply["kind"]),
            text(&reply["from"]),
            text(&reply["message"])
        ));
        for line in reply["text"].as_str().unwrap_or_default().lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out.push_str("\nhistory\n");
    for event in answer["history"].as_array().into_iter().flatten() {
        let by = event["by"].as_str().map(|by| format!(" by {by}")).unwrap_or_default();
        let entry = event["entry"].as_u64().map(|entry| format!(" (entry {entry})")).unwrap_or_default();
        let late = if event["late"] == Value::Bool(true) { ", late" } else { "" };
        out.push_str(&format!("  {}  {}{late}{by}{entry}\n", time(&event["at"]), text(&event["what"])));
    }
    if let Some(proof) = answer["proof"].as_str() {
        let checkpoint = proof.split_once("\n\n").map_or("", |(_, checkpoint)| checkpoint);
        let size = checkpoint.lines().nth(1).unwrap_or("-");
        out.push_str(&format!(
            "  proven in a log of {size} entries; liaison receipt {} writes the proof\n",
            text(&answer["message"])
        ));
    }
    out
}

/// The node's status.
#[must_use]
pub fn status(answer: &Value) -> String {
    let mut out = format!("{}: {} received, {} sent\n", text(&answer["office"]), answer["received"], answer["sent"]);
    let since = time(&answer["broker"]["since"]);
    if answer["broker"]["connected"] == Value::Bool(true) {
        out.push_str(&format!("broker: connected since {since}\n"));
    } else {
        out.push_str(&format!("broker: NOT REACHED since {since}; nothing comes in or goes out\n"));
    }
    match answer["officer"].as_str() {
        Some(officer) => out.push_str(&format!("unlocked by {officer}\n")),
        None if answer["office_unlocked"] == Value::Bool(true) => {
            out.push_str("the office is unlocked; you are not: liaison unlock OFFICER\n");
        }
        None => out.push_str("locked: messages arrive and are confirmed, but nothing is opened\n"),
    }
    for (field, what) in [
        ("to_submit", "waiting for the broker's receipt"),
        ("to_confirm", "confirmations waiting for the broker"),
        ("to_open", "arrived and not opened"),
        (
            "unproven",
            "FLASH or URGENT came WITHOUT A RECEIPT while the broker's log is under repair; see: liaison inbox",
        ),
        ("to_download", "attachments on their way here"),
        ("alarms", "ALARMS; see: liaison alarms"),
    ] {
        if answer[field].as_u64().is_some_and(|count| count > 0) {
            out.push_str(&format!("{} {what}\n", answer[field]));
        }
    }
    for gap in answer["missing_numbers"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "MISSING from {} {}: numbers {}\n",
            text(&gap["from"]),
            text(&gap["lane"]),
            gap["numbers"]
        ));
    }
    for problem in answer["problems"].as_array().into_iter().flatten() {
        out.push_str(&format!("PROBLEM: {}\n", text(problem)));
    }
    if let Some(charter) = answer["charter"].as_u64().filter(|number| *number > 1) {
        out.push_str(&format!("charter no. {charter}\n"));
    }
    if answer["directory_entries"] == 0 {
        out.push_str("the directory has not been fetched yet: is the broker reachable?\n");
    }
    out
}

/// Alarms, a line each.
#[must_use]
pub fn alarms(answer: &Value) -> String {
    let alarms = answer["alarms"].as_array().into_iter().flatten();
    let line = |alarm: &Value| {
        let seen =
            alarm["seen_by"].as_str().map(|officer| format!(" (seen by {})", plain(officer))).unwrap_or_default();
        format!("{}  {}{seen}\n", time(&alarm["at"]), text(&alarm["what"]))
    };
    let lines: String = alarms.map(line).collect();
    if lines.is_empty() { "no alarms\n".to_owned() } else { lines }
}

/// An officer with a new credential.
#[must_use]
pub fn renewed(answer: &Value) -> String {
    format!("{} has a new credential, good until {}\n", text(&answer["officer"]), time(&answer["until"]))
}

/// New keys at rest.
#[must_use]
pub fn storage_keys(answer: &Value) -> String {
    let behind: Vec<String> = answer["behind"].as_array().into_iter().flatten().map(text).collect();
    format!("new keys at rest; these officers get theirs when they unlock next: {}\n", behind.join(", "))
}

/// Why the node did not do what was asked.
#[must_use]
pub fn failure(answer: &Value) -> String {
    let mut out = format!("{}\n", text(&answer["message"]));
    for problem in answer["problems"].as_array().into_iter().flatten() {
        let (field, rule, advice) = (text(&problem["field"]), text(&problem["rule"]), text(&problem["advice"]));
        out.push_str(&format!("  {field}: {rule} ({advice})\n"));
    }
    if let Some(advice) = answer["advice"].as_str() {
        out.push_str(&format!("  what to do: {advice}\n"));
    }
    out
}
