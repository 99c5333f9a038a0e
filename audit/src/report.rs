//! What the log says happened: counts by kind and corridor, what is still undelivered.

use std::collections::BTreeMap;

use liaison_casework::catalogue::kind_name;
use liaison_log::leaf::Event;
use serde::Serialize;

use crate::verify::Replay;

/// A summary of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Entries of the directory log.
    pub directory_entries: u64,
    /// Entries of the exchange log.
    pub exchange_entries: u64,
    /// Broker times of the first and the last entry.
    pub period: Option<(String, String)>,
    /// Messages by kind and corridor, drills apart.
    pub messages: BTreeMap<String, u64>,
    /// Drills.
    pub exercises: u64,
    /// Deliveries stated and still to be stated.
    pub delivered: u64,
    /// Withdrawn or expired before delivery.
    pub given_up: u64,
    /// Message, recipient, number of what is undelivered.
    pub undelivered: Vec<(String, String, u64)>,
}

/// Summarizes a replay.
#[must_use]
pub fn summarize(replay: &Replay) -> Report {
    let mut messages = BTreeMap::new();
    let mut exercises = 0;
    let mut times = replay.entries.iter().flatten().map(|entry| entry.time);
    let first = times.next();
    let period = first.map(|first| (first.to_string(), times.next_back().unwrap_or(first).to_string()));
    for entry in replay.entries.iter().flatten() {
        if let Event::Accepted { header, .. } = &entry.event {
            let core = header.core();
            if core.exercise {
                exercises += 1;
            } else {
                *messages.entry(format!("{} {}", kind_name(core.kind), core.corridor)).or_insert(0) += 1;
            }
        }
    }
    let mut delivered = 0;
    let mut undelivered = Vec::new();
    let mut given_up = 0;
    // In memory, and so always read.
    let _ = replay.state.each_message(&mut |id, message| {
        for recipient in &message.recipients {
            if recipient.delivered.is_some() {
                delivered += 1;
            } else if recipient.non_delivery.is_some() {
                given_up += 1;
            } else {
                undelivered.push((id.to_string(), recipient.office.to_string(), recipient.number));
            }
        }
    });
    undelivered.sort();
    Report {
        directory_entries: replay.directory_size,
        exchange_entries: replay.leaves.len() as u64,
        period,
        messages,
        exercises,
        delivered,
        given_up,
        undelivered,
    }
}

/// The summary as text.
#[must_use]
pub fn to_text(report: &Report) -> String {
    let mut text = format!(
        "directory log: {} entries\nexchange log:  {} entries\n",
        report.directory_entries, report.exchange_entries
    );
    if let Some((first, last)) = &report.period {
        text.push_str(&format!("from {first} to {last} (the broker's clock)\n"));
    }
    for (what, count) in &report.messages {
        text.push_str(&format!("{count:>6}  {what}\n"));
    }
    if report.exercises > 0 {
        text.push_str(&format!("{:>6}  drills\n", report.exercises));
    }
    text.push_str(&format!("{:>6}  delivered\n", report.delivered));
    if report.given_up > 0 {
        text.push_str(&format!("{:>6}  withdrawn or expired before delivery\n", report.given_up));
    }
    for (message, office, number) in &report.undelivered {
        text.push_str(&format!("undelivered: {message} to {office}, no. {number}\n"));
    }
    text
}
