//! The exchange log's decisions, made one by one inside the commit: dedup, numbers, state rules.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use liaison_log::{
    checkpoint::claimed,
    commit::{ApplyError, BrokenRule, Logged, Moment, Sequenced, Sequencer},
    exchange::{ExchangeState, Violation, is_late, withdraws},
    index::IndexError,
    leaf::{Event as LeafEvent, ExchangeLeaf, NonDelivery},
    succession::Succession,
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::UnixMillis,
    directory::Directory,
    ids::LogIndex,
    refusal::{Refusal, RefusalCode},
    sha256,
    wire::{self, Mark, StatementKind},
};

use crate::{
    admit::{Admitted, AdmittedRewrap, AdmittedStatement},
    attachments::AttachmentStore,
    entry::{Restored, rewrap_body, stored_body},
    gate::{Gate, Reason, repairing},
    queue::Queue,
};

/// What may be entered into the exchange log.
#[derive(Debug)]
pub enum Event {
    /// A message for all its recipients.
    Submit(Box<Admitted>),
    /// A recipient's statement.
    Attest(Box<AdmittedStatement>),
    /// A new wrap for one recipient.
    Rewrap(Box<AdmittedRewrap>),
    /// A message is given up for one recipient.
    GiveUp(NonDelivery),
    /// The beginning of a successor of a closed log.
    Succeed(Succession),
    /// A message that was held while the log was under repair.
    Held(Box<Admitted>),
    /// An entry that was lost and handed back.
    Restore(Restored),
}

/// The state of the exchange log, and where its entries go once they are durable.
pub struct ExchangeSequencer {
    state: Arc<RwLock<ExchangeState>>,
    directory: Arc<RwLock<Directory>>,
    queue: Arc<Queue>,
    attachments: Arc<AttachmentStore>,
    /// Set when recovery cut a tail: nobody outside has confirmed the log's size since.
    unwitnessed: Arc<AtomicBool>,
    /// Set when the index turns out to be of another log: recovery rebuilds it.
    stale: Arc<AtomicBool>,
    /// Closed while entries are missing: only those are entered then.
    gate: Arc<Gate>,
    /// Entries that the index had when it was opened: queues were filled from its rows.
    known: u64,
    /// Entries that were applied and are not durable yet, so that they are parsed once.
    applied: VecDeque<(LogIndex, Bytes, ExchangeLeaf)>,
}

/// Parsed entries that are kept at most: a batch of the log, and more while it recovers, when nobody needs them.
const PARSED: usize = 512;

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "nothing can be decided");
    Refusal::new(RefusalCode::Unavailable, "the broker's index cannot be read")
}

impl From<IndexFailed> for Sequenced {
    fn from(failed: IndexFailed) -> Self {
        Self::Refused(unreadable(failed.0))
    }
}

struct IndexFailed(IndexError);

impl From<IndexError> for IndexFailed {
    fn from(error: IndexError) -> Self {
        Self(error)
    }
}

fn refused(code: RefusalCode, detail: impl Into<String>) -> Sequenced {
    Sequenced::Refused(Refusal::new(code, detail))
}

impl ExchangeSequencer {
    /// A sequencer whose state is as far as its index; recovery brings it up to the log.
    #[must_use]
    pub fn new(
        state: ExchangeState,
        directory: Arc<RwLock<Directory>>,
        queue: Arc<Queue>,
        attachments: Arc<AttachmentStore>,
        gate: Arc<Gate>,
    ) -> Self {
        let (unwitnessed, stale, known) = (Arc::default(), Arc::default(), state.applied().size);
        let (state, applied) = (Arc::new(RwLock::new(state)), VecDeque::new());
        Self { state, directory, queue, attachments, unwitnessed, stale, gate, known, applied }
    }

    /// The log's state, for those who look before they ask; it may be ahead of what is durable.
    #[must_use]
    pub fn state(&self) -> Arc<RwLock<ExchangeState>> {
        Arc::clone(&self.state)
    }

    /// Marks what is entered from now on as entered into a log whose size no witness has confirmed after a restart that
    /// cut a tail. Witnesses cannot be asked yet, so the mark stays until the next restart.
    #[must_use]
    pub fn unwitnessed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unwitnessed)
    }

    /// Whether the index was found to be of another log.
    #[must_use]
    pub fn stale(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stale)
    }

    fn marks(&self, own: &[Mark]) -> Vec<Mark> {
        let unwitnessed = self.unwitnessed.load(Ordering::SeqCst).then_some(Mark::Unwitnessed);
        own.iter().copied().chain(unwitnessed).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, ExchangeState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, admitted: &Admitted, at: Moment) -> Result<Sequenced, IndexFailed> {
        let (header, state) = (admitted.envelope().header(), self.read());
        let core = header.core();
        if let Some(known) = state.message(core.message_id)? {
            // A retry gets the same leaf; the same id with another header is another message.
            return Ok(if known.header_sha256 == header.sha256() {
                Sequenced::Existing(known.accepted)
            } else {
                refused(RefusalCode::DuplicateId, "a message with this id and another header was accepted before")
            });
        }
        let judgement = match admitted.judged_by(&self.directory(), at.time) {
            Ok(judgement) => judgement,
            Err(refusal) => return Ok(Sequenced::Refused(refusal)),
        };
        match state.withdrawn_by(core) {
            Ok(None) if withdraws(core).is_some() => {
                return Ok(refused(RefusalCode::UnknownMessage, "the message to be taken back is not known"));
            }
            Ok(_) => {}
            Err(violation) => return Ok(refused(RefusalCode::NotYourOffice, violation.to_string())),
        }
        if let Some(missing) = self.attachments.missing(core.from, &header.commitments().attachments) {
            return Ok(refused(
                RefusalCode::AttachmentMissing,
                format!("attachment {missing} is not here, or not whole"),
            ));
        }
        let numbers = core.channels().map(|channel| state.next_number(channel)).collect::<Result<_, _>>()?;
        let envelope = admitted.envelope().wire();
        let leaf = ExchangeLeaf {
            time: at.time,
            directory_size: judgement.directory_size,
            marks: self.marks(&judgement.marks),
            event: LeafEvent::Accepted {
                header: Box::new(header.clone()),
                signature: envelope.office_signature.clone(),
                numbers,
            },
        };
        Ok(Sequenced::Append { leaf: leaf.encode(), body: Some(stored_body(envelope)) })
    }

    fn attest(&self, admitted: &AdmittedStatement, time: UnixMillis) -> Sequenced {
        let AdmittedStatement { kind, statement, attested, marks, .. } = admitted;
        let message = match self.read().check_statement(*kind, statement) {
            Ok((_, Some(index))) => return Sequenced::Existing(index),
            Ok((message, None)) => message,
            Err(violation) => return broken(violation),
        };
        let directory = self.directory();
        if let Err(refusal) = admitted.check_again(&directory, time) {
            return Sequenced::Refused(refusal);
        }
        let mut marks = self.marks(marks);
        if *kind == StatementKind::Delivered && is_late(&message, statement.office) {
            marks.push(Mark::Late);
        }
        let event = LeafEvent::Attested {
            kind: *kind,
            statement: statement.clone(),
            bytes: attested.statement.clone(),
            signature: attested.signature.clone(),
        };
        let leaf = ExchangeLeaf { time, directory_size: directory.size(), marks, event };
        Sequenced::Append { leaf: leaf.encode(), body: None }
    }

    fn rewrap(&self, admitted: &AdmittedRewrap, time: UnixMillis) -> Sequenced {
        match self.read().check_rewrap(&admitted.statement) {
            Ok((_, Some(index))) => return Sequenced::Existing(index),
            Ok((_, None)) => {}
            Err(violation) => return broken(violation),
        }
        let directory = self.directory();
        if let Err(refusal) = admitted.check(&directory, time) {
            return Sequenced::Refused(refusal);
        }
        let event = LeafEvent::Rewrapped {
            statement: admitted.statement.clone(),
            bytes: admitted.rewrapped.statement.clone(),
            signature: admitted.rewrapped.signature.clone(),
        };
        let marks = self.marks(&admitted.marks);
        let leaf = ExchangeLeaf { time, directory_size: directory.size(), marks, event };
        Sequenced::Append { leaf: leaf.encode(), body: Some(rewrap_body(admitted.wrap.clone())) }
    }

    fn succeed(&self, begun: Succession, Moment { time, index }: Moment) -> Sequenced {
        if claimed(&begun.last).map(|(_, size)| size) != Some(index.0) {
            return Sequenced::Refused(repairing());
        }
        let event = LeafEvent::Succeeded(begun);
        let leaf = ExchangeLeaf { time, directory_size: self.directory().size(), marks: self.marks(&[]), event };
        Sequenced::Append { leaf: leaf.encode(), body: None }
    }

    fn give_up(&self, given_up: NonDelivery, time: UnixMillis) -> Sequenced {
        if let Err(violation) = self.read().check_non_delivery(&given_up, time) {
            // Delivered in the meantime.
            return broken(violation);
        }
        let event = LeafEvent::NonDelivery(given_up);
        let leaf = ExchangeLeaf { time, directory_size: self.directory().size(), marks: self.marks(&[]), event };
        Sequenced::Append { leaf: leaf.encode(), body: None }
    }
}

/// The refusal of what would break a rule.
fn broken(violation: Violation) -> Sequenced {
    match violation {
        Violation::NotAccepted(_) => refused(RefusalCode::UnknownMessage, violation.to_string()),
        Violation::Index(_) => Sequenced::Refused(unreadable(violation)),
        _ => refused(RefusalCode::BadStatement, violation.to_string()),
    }
}

impl Sequencer for ExchangeSequencer {
    type Event = Event;

    fn sequence(&mut self, event: Event, at: Moment) -> Sequenced {
        match event {
            Event::Restore(restored) => restored.at(at),
            // What is entered next would be judged by less than the entry before it: the directory comes first.
            _ if self.directory().size() < self.read().directory_size() => Sequenced::Refused(repairing()),
            Event::Succeed(begun) if self.gate.has_only(&[Reason::Succession, Reason::Held]) => self.succeed(begun, at),
            Event::Succeed(_) => Sequenced::Refused(repairing()),
            Event::Held(admitted) if self.gate.is_only_for(Reason::Held) => {
                self.submit(&admitted, at).unwrap_or_else(Into::into)
            }
            _ if !self.gate.is_open() => Sequenced::Refused(repairing()),
            Event::Submit(admitted) | Event::Held(admitted) => self.submit(&admitted, at).unwrap_or_else(Into::into),
            Event::Attest(admitted) => self.attest(&admitted, at.time),
            Event::Rewrap(admitted) => self.rewrap(&admitted, at.time),
            Event::GiveUp(given_up) => self.give_up(given_up, at.time),
        }
    }

    fn apply(&mut self, index: LogIndex, bytes: &Bytes) -> Result<(), ApplyError> {
        let leaf_sha256 = sha256(&[bytes]);
        let applied = *self.read().applied();
        if index.0 < applied.size {
            // Recovery walks over what the index has already; the last entry must be the one that it knows.
            if index.0 + 1 == applied.size && leaf_sha256 != applied.leaf_sha256 {
                // Nothing may be judged by it, let alone be cut: recovery begins again without it.
                self.stale.store(true, Ordering::SeqCst);
                return Err(io::Error::other("the index is of another log").into());
            }
            return Ok(());
        }
        let broken = |problem: String| BrokenRule { index, problem };
        let leaf = ExchangeLeaf::parse(bytes).map_err(|e| broken(e.to_string()))?;
        let applied = self.state.write().unwrap_or_else(PoisonError::into_inner).apply(index, &leaf, leaf_sha256);
        applied.map_err(|violation| match violation {
            Violation::Index(problem) => ApplyError::State(io::Error::other(problem)),
            violation => broken(violation.to_string()).into(),
        })?;
        if self.applied.len() >= PARSED {
            self.applied.clear();
        }
        self.applied.push_back((index, bytes.clone(), leaf));
        Ok(())
    }

    fn last_time(&self) -> UnixMillis {
        self.read().time()
    }

    fn body_matches(&self, leaf: &Bytes, body: Option<&Bytes>) -> bool {
        let Ok(leaf) = ExchangeLeaf::parse(leaf) else { return false };
        let stored = || body.and_then(|body| wire::Envelope::decode(body.clone()).ok());
        match &leaf.event {
            LeafEvent::Accepted { header, .. } => {
                stored().is_some_and(|stored| sha256(&[&stored.body])[..] == header.commitments().body_sha256[..])
            }
            LeafEvent::Rewrapped { statement, .. } => stored()
                .and_then(|stored| stored.erasable?.wraps.first().cloned())
                .is_some_and(|wrap| sha256(&[&wrap]) == statement.wrap_sha256),
            LeafEvent::Attested { .. } | LeafEvent::NonDelivery(_) | LeafEvent::Succeeded(_) => body.is_none(),
        }
    }

    fn logged(&mut self, logged: &Logged) {
        if logged.index().0 < self.known {
            return;
        }
        // Another one is of a tail that recovery has cut, and will not be asked for.
        let mut parsed = None;
        while let Some((index, bytes, leaf)) = self.applied.pop_front() {
            if index == logged.index() && bytes == *logged.leaf() {
                parsed = Some(leaf);
                break;
            }
        }
        match parsed.map_or_else(|| ExchangeLeaf::parse(logged.leaf()), Ok) {
            Ok(leaf) => {
                if let LeafEvent::Accepted { header, .. } = &leaf.event {
                    self.attachments.refer(header);
                }
                self.queue.take(logged, &leaf, &self.read());
            }
            // It was parsed when it was applied.
            Err(error) => tracing::error!(%error, index = %logged.index(), "a logged entry does not parse"),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        self.read().index().close().map_err(io::Error::other)
    }
}
