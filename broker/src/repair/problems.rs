//! What a human should know of a repair.

use std::sync::atomic::Ordering;

use liaison_proto::wire::LogName;

use super::{Repair, log_text};
use crate::gate::Reason;

impl Repair {
    /// What a human should know, a line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.gate.is_closed_for(Reason::Forked) {
            problems.push("a log's key has signed two different logs: nothing new is entered".to_owned());
        }
        let unseen = self.unseen();
        let offices: Vec<String> = unseen.iter().map(ToString::to_string).collect();
        if !unseen.is_empty() && !self.gate.is_closed_for(Reason::Unconfirmed) {
            problems.push(format!(
                "the data directory was restored from a copy, and these offices have not shown what they know of the \
                 logs; what is entered is marked UNWITNESSED until they have: {}",
                offices.join(", ")
            ));
        } else if !unseen.is_empty() {
            problems.push(format!(
                "the data directory is a copy: nothing new is entered until these offices have shown what they know, \
                 or the grace has passed: {}",
                offices.join(", ")
            ));
        }
        let ended = self.side(LogName::Exchange).filter(|side| self.is_ended(side));
        if let Some(side) = ended {
            problems.push(format!(
                "the exchange log was closed at {} entries (close-log) and waits for the charter that names its successor; to take \
                 that back, as long as no charter says so: remove <data>/end and start again",
                side.reader.checkpoint().size()
            ));
        }
        if self.gate.is_closed_for(Reason::Succession) {
            problems.push(
                "the charter closed the exchange log, and its successor has not begun: it needs the log whole up to its end, and \
                 the two checkpoints that close-log kept in <data>/end"
                    .to_owned(),
            );
        }
        let (needed, own) = (self.directory_needed.load(Ordering::SeqCst), self.side(LogName::Directory));
        let own = own.map_or(0, |side| side.reader.checkpoint().size());
        if needed > own {
            problems.push(format!(
                "entries of the exchange log were judged by a directory of {needed} entries, and this one has {own}: whoever \
                 published the others has to show them"
            ));
        }
        for lost in self.lost() {
            let gaps: u64 = lost.missing.iter().map(|gap| gap.to - gap.from).sum();
            let first =
                lost.missing.first().map_or_else(String::new, |gap| format!(", the first is entry {}", gap.from));
            problems.push(format!(
                "the {} log has {} entries and once had {}: nothing new is entered before the offices have handed them \
                 back; {gaps} are missing{first}; what no office has any more: broker close-log",
                log_text(lost.log()),
                lost.size,
                lost.signed_size
            ));
        }
        problems
    }
}
