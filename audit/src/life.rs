//! One message's life in the log.

use liaison_log::leaf::Event;
use liaison_proto::ids::{LogIndex, MessageId};
use serde::Serialize;

use crate::verify::Replay;

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct LifeEvent {
    /// Entry of the exchange log.
    pub entry: u64,
    /// Broker time.
    pub time: String,
    /// Name of the event.
    pub what: &'static str,
    /// Originator, or who states.
    pub by: String,
    /// Kind of the message, recipients and numbers, or the statement's own time.
    pub detail: String,
}

/// Every entry about a message, and the messages that answer it.
#[must_use]
pub fn of_message(replay: &Replay, id: MessageId) -> Vec<LifeEvent> {
    let mut events = Vec::new();
    for (index, entry) in replay.entries.iter().enumerate() {
        let Some(entry) = entry else { continue };
        let index = LogIndex(index as u64);
        let (what, by, detail) = match &entry.event {
            Event::Accepted { header, numbers, .. } => {
                let core = header.core();
                let kind = liaison_casework::catalogue::kind_name(core.kind);
                let to: Vec<String> = core.to.iter().zip(numbers).map(|(to, n)| format!("{to} no. {n}")).collect();
                if core.message_id == id {
                    ("ACCEPTED", core.from, format!("{kind} to {}", to.join(", ")))
                } else if core.in_reply_to == Some(id) {
                    ("ANSWERED", core.from, format!("{kind} {} to {}", core.message_id, to.join(", ")))
                } else {
                    continue;
                }
            }
            Event::Attested { statement, .. } if statement.message_id == id => {
                (entry.name(), statement.office, format!("at {} by the office's clock", statement.at))
            }
            Event::NonDelivery(given_up) if given_up.message_id == id => {
                ("NON_DELIVERY", given_up.recipient, given_up.reason.as_str_name().to_owned())
            }
            Event::Rewrapped { statement, .. } if statement.message_id == id => {
                ("REWRAPPED", statement.office, format!("for {}", statement.recipient))
            }
            Event::Attested { .. } | Event::NonDelivery(_) | Event::Rewrapped { .. } | Event::Succeeded(_) => continue,
        };
        let marks: Vec<&str> = entry.marks.iter().map(|mark| mark.as_str_name()).collect();
        let detail = if marks.is_empty() { detail } else { format!("{detail}; {}", marks.join(", ")) };
        events.push(LifeEvent { entry: index.0, time: entry.time.to_string(), what, by: by.to_string(), detail });
    }
    events
}
