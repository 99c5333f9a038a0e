//! What waits for whom. Takes nothing but a [`Logged`]; rebuilt from the log at every start.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use liaison_log::{
    commit::Logged,
    exchange::ExchangeState,
    leaf::{Event, ExchangeLeaf},
};
use liaison_proto::{
    ids::{Lane, LogIndex, OfficeId},
    wire::StatementKind,
};
use tokio::sync::watch;

#[derive(Debug)]
struct OfficeQueue {
    /// Accepted for the office and not yet DELIVERED; FLASH sorts first.
    waiting: BTreeSet<(Lane, LogIndex)>,
    /// Entries other than ACCEPTED about messages that the office sent, in order.
    evidence: Vec<LogIndex>,
    changed: watch::Sender<u64>,
    /// Number of the newest stream of each kind: an office has one, and a newer one ends the older.
    newest: [watch::Sender<u64>; 2],
}

/// The streams an office may hold, one of each.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// Deliveries.
    Receive,
    /// Evidence.
    Evidence,
}

/// A stream's turn, until a newer stream of the same office and kind begins.
#[derive(Debug)]
pub struct Turn {
    number: u64,
    newest: watch::Receiver<u64>,
}

impl Turn {
    /// Completes when a newer stream has begun.
    pub async fn over(&mut self) {
        let number = self.number;
        // An error means that the queue is gone, and so is the turn.
        let _ = self.newest.wait_for(|newest| *newest != number).await;
    }
}

impl Default for OfficeQueue {
    fn default() -> Self {
        Self {
            waiting: BTreeSet::new(),
            evidence: Vec::new(),
            changed: watch::Sender::new(0),
            newest: [watch::Sender::new(0), watch::Sender::new(0)],
        }
    }
}

/// The queues of all offices.
#[derive(Debug, Default)]
pub struct Queue {
    offices: Mutex<HashMap<OfficeId, OfficeQueue>>,
}

impl Queue {
    fn offices(&self) -> MutexGuard<'_, HashMap<OfficeId, OfficeQueue>> {
        self.offices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a durable entry. `leaf` is its parsed form, `state` the log's state with it.
    pub fn take(&self, logged: &Logged, leaf: &ExchangeLeaf, state: &ExchangeState) {
        let index = logged.index();
        let mut offices = self.offices();
        match &leaf.event {
            Event::Accepted { header, .. } => {
                let core = header.core();
                for &to in &core.to {
                    let queue = offices.entry(to).or_default();
                    // In one batch the statement may have been applied already; then nothing waits.
                    let delivered = state
                        .message(core.message_id)
                        .and_then(|message| message.recipient(to))
                        .is_some_and(|recipient| recipient.delivered.is_some());
                    if !delivered {
                        queue.waiting.insert((core.lane, index));
                    }
                    queue.changed.send_modify(|n| *n += 1);
                }
            }
            Event::Attested { kind, statement, .. } => {
                let Some(message) = state.message(statement.message_id) else { return };
                if *kind == StatementKind::Delivered
                    && let Some(queue) = offices.get_mut(&statement.office)
                {
                    queue.waiting.remove(&(message.lane, message.accepted));
                }
                let queue = offices.entry(message.from).or_default();
                queue.evidence.push(index);
                queue.changed.send_modify(|n| *n += 1);
            }
        }
    }

    /// The next entry that waits for an office in a lane, behind `after`.
    #[must_use]
    pub fn next_waiting(&self, office: OfficeId, lane: Lane, after: Option<LogIndex>) -> Option<LogIndex> {
        let offices = self.offices();
        let waiting = &offices.get(&office)?.waiting;
        let from = (lane, after.map_or(LogIndex(0), |after| LogIndex(after.0 + 1)));
        waiting.range(from..).next().filter(|(found, _)| *found == lane).map(|(_, index)| *index)
    }

    /// The next entry of evidence for an originator, at `from` or later.
    #[must_use]
    pub fn next_evidence(&self, office: OfficeId, from: LogIndex) -> Option<LogIndex> {
        let offices = self.offices();
        let evidence = &offices.get(&office)?.evidence;
        evidence.get(evidence.partition_point(|index| *index < from)).copied()
    }

    /// Tells when something changes for an office.
    #[must_use]
    pub fn changes(&self, office: OfficeId) -> watch::Receiver<u64> {
        self.offices().entry(office).or_default().changed.subscribe()
    }

    /// Begins a stream's turn, which ends the turn of the one before.
    #[must_use]
    pub fn turn(&self, office: OfficeId, stream: Stream) -> Turn {
        let mut offices = self.offices();
        let newest = &offices.entry(office).or_default().newest[stream as usize];
        newest.send_modify(|number| *number += 1);
        let newest = newest.subscribe();
        let number = *newest.borrow();
        Turn { number, newest }
    }

    /// How many entries wait for each office, where any do.
    #[must_use]
    pub fn waiting(&self) -> Vec<(OfficeId, usize)> {
        let offices = self.offices();
        let mut counts: Vec<_> = offices
            .iter()
            .map(|(office, queue)| (*office, queue.waiting.len()))
            .filter(|(_, count)| *count > 0)
            .collect();
        counts.sort_unstable();
        counts
    }
}
