//! What waits for whom. Takes nothing but a [`Logged`]; rebuilt from the log at every start.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use liaison_log::{
    commit::Logged,
    exchange::{ExchangeState, withdraws},
    index::{IndexError, MessageState},
    leaf::{Event, ExchangeLeaf},
};
use liaison_proto::{
    ids::{Lane, LogIndex, MessageId, OfficeId},
    wire::StatementKind,
};
use tokio::sync::watch;

#[derive(Debug)]
struct OfficeQueue {
    /// Accepted for the office and not yet DELIVERED; FLASH sorts first.
    waiting: BTreeSet<(Lane, LogIndex)>,
    /// Entries other than ACCEPTED that concern the office.
    evidence: BTreeSet<LogIndex>,
    changed: watch::Sender<u64>,
    /// Number of the newest stream of each kind: an office has one, and a newer one ends the older.
    newest: [watch::Sender<u64>; 4],
}

/// The streams an office may hold, one of each.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// Deliveries of a lane.
    Receive(Lane),
    /// Evidence.
    Evidence,
}

impl Stream {
    const fn position(self) -> usize {
        match self {
            Self::Receive(lane) => lane as usize,
            Self::Evidence => 3,
        }
    }
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
            evidence: BTreeSet::new(),
            changed: watch::Sender::new(0),
            newest: std::array::from_fn(|_| watch::Sender::new(0)),
        }
    }
}

impl OfficeQueue {
    fn evidence(&mut self, index: LogIndex) {
        self.evidence.insert(index);
        self.changed.send_modify(|n| *n += 1);
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

    /// Fills the queues from the rows of durable entries, at a start.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn load(&self, state: &ExchangeState) -> Result<(), IndexError> {
        let mut offices = self.offices();
        state.each_message(&mut |_: MessageId, message: MessageState| {
            for recipient in &message.recipients {
                let stated = [recipient.delivered, recipient.retrieved, recipient.cannot_open];
                let both = [recipient.non_delivery, recipient.rewrapped];
                let originator = &mut offices.entry(message.from).or_default().evidence;
                originator.extend(stated.iter().chain(&both).flatten());
                let queue = offices.entry(recipient.office).or_default();
                queue.evidence.extend(both.iter().flatten());
                if recipient.is_waiting() && !recipient.withdrawn {
                    queue.waiting.insert((message.lane, message.accepted));
                }
            }
        })
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
                    let known = state.message(core.message_id).ok().flatten();
                    let waiting = known
                        .as_ref()
                        .and_then(|message| message.recipient(to))
                        .is_none_or(|r| r.is_waiting() && !r.withdrawn);
                    if waiting {
                        queue.waiting.insert((core.lane, index));
                    }
                    queue.changed.send_modify(|n| *n += 1);
                }
                // What is taken back is not delivered any more from now on; its NON_DELIVERY follows.
                let target = withdraws(core).and_then(|id| state.message(id).ok().flatten());
                for recipient in target.iter().flat_map(|message| &message.recipients) {
                    if let Some((message, queue)) = target.as_ref().zip(offices.get_mut(&recipient.office))
                        && recipient.withdrawn
                    {
                        queue.waiting.remove(&(message.lane, message.accepted));
                    }
                }
            }
            // For the auditors; every node asks for it by itself.
            Event::Succeeded(_) => {}
            event => {
                let known = event.message_id().and_then(|id| state.message(id).ok().flatten());
                let Some(message) = known else { return };
                let (done, also) = match event {
                    Event::Attested { kind: StatementKind::Delivered, statement, .. } => (Some(statement.office), None),
                    Event::NonDelivery(given_up) => (Some(given_up.recipient), Some(given_up.recipient)),
                    Event::Rewrapped { statement, .. } => (None, Some(statement.recipient)),
                    Event::Attested { .. } | Event::Accepted { .. } | Event::Succeeded(_) => (None, None),
                };
                if let Some(queue) = done.and_then(|office| offices.get_mut(&office)) {
                    queue.waiting.remove(&(message.lane, message.accepted));
                }
                for office in [Some(message.from), also].into_iter().flatten() {
                    offices.entry(office).or_default().evidence(index);
                }
            }
        }
    }

    /// Whether an entry waits for an office.
    #[must_use]
    pub fn is_waiting(&self, office: OfficeId, lane: Lane, index: LogIndex) -> bool {
        self.offices().get(&office).is_some_and(|queue| queue.waiting.contains(&(lane, index)))
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
        offices.get(&office)?.evidence.range(from..).next().copied()
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
        let newest = &offices.entry(office).or_default().newest[stream.position()];
        newest.send_modify(|number| *number += 1);
        let newest = newest.subscribe();
        let number = *newest.borrow();
        Turn { number, newest }
    }

    /// How many entries wait for each office in each lane, where any do.
    #[must_use]
    pub fn waiting(&self) -> Vec<(OfficeId, Lane, usize)> {
        let offices = self.offices();
        let mut counts: Vec<_> = offices
            .iter()
            .flat_map(|(office, queue)| {
                let count = |lane: Lane| queue.waiting.iter().filter(|(of, _)| *of == lane).count();
                Lane::ALL.map(|lane| (*office, lane, count(lane)))
            })
            .filter(|(.., count)| *count > 0)
            .collect();
        counts.sort_unstable();
        counts
    }
}
