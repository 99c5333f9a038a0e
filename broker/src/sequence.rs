//! The exchange log's decisions, made one by one inside the commit: dedup, numbers, state rules.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
};

use liaison_log::{
    commit::{BrokenRule, Logged, Moment, Sequenced, Sequencer},
    exchange::{ExchangeState, Violation},
    leaf::{Event as LeafEvent, ExchangeLeaf},
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::UnixMillis,
    directory::Directory,
    ids::LogIndex,
    refusal::{Refusal, RefusalCode},
    sha256, wire,
};

use crate::{
    admit::{Admitted, AdmittedStatement},
    queue::Queue,
};

/// What may be entered into the exchange log.
#[derive(Debug)]
pub enum Event {
    /// A message for all its recipients.
    Submit(Box<Admitted>),
    /// A recipient's statement.
    Attest(Box<AdmittedStatement>),
}

/// The state of the exchange log, and where its entries go once they are durable.
pub struct ExchangeSequencer {
    state: Arc<RwLock<ExchangeState>>,
    directory: Arc<RwLock<Directory>>,
    queue: Arc<Queue>,
    /// Set when recovery cut a tail: nobody outside has confirmed the log's size since.
    unwitnessed: Arc<AtomicBool>,
}

impl ExchangeSequencer {
    /// A sequencer of an empty log; recovery fills it.
    #[must_use]
    pub fn new(directory: Arc<RwLock<Directory>>, queue: Arc<Queue>) -> Self {
        Self { state: Arc::default(), directory, queue, unwitnessed: Arc::default() }
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

    fn marks(&self) -> Vec<wire::Mark> {
        if self.unwitnessed.load(Ordering::SeqCst) { vec![wire::Mark::Unwitnessed] } else { Vec::new() }
    }

    fn read(&self) -> RwLockReadGuard<'_, ExchangeState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, admitted: &Admitted, at: Moment) -> Sequenced {
        let (header, state) = (admitted.envelope().header(), self.read());
        if let Some(known) = state.message(header.core().message_id) {
            // A retry gets the same leaf; the same id with another header is another message.
            return if known.header_sha256 == header.sha256() {
                Sequenced::Existing(known.accepted)
            } else {
                let detail = "a message with this id and another header was accepted before";
                Sequenced::Refused(Refusal::new(RefusalCode::DuplicateId, detail))
            };
        }
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let judgement = match admitted.judged_by(&directory, at.time) {
            Ok(judgement) => judgement,
            Err(refusal) => return Sequenced::Refused(refusal),
        };
        let envelope = admitted.envelope().wire();
        let leaf = ExchangeLeaf {
            time: at.time,
            directory_size: judgement.directory_size,
            marks: judgement.marks.into_iter().chain(self.marks()).collect(),
            event: LeafEvent::Accepted {
                header: Box::new(header.clone()),
                signature: envelope.office_signature.clone(),
                numbers: header.core().channels().map(|channel| state.next_number(channel)).collect(),
            },
        };
        let body = wire::Envelope {
            header: Bytes::new(),
            office_signature: None,
            erasable: envelope.erasable.clone(),
            body: envelope.body.clone(),
        };
        Sequenced::Append { leaf: leaf.encode(), body: Some(body.encode_to_vec().into()) }
    }

    fn attest(&self, admitted: &AdmittedStatement, time: UnixMillis) -> Sequenced {
        let AdmittedStatement { kind, statement, attested } = admitted;
        match self.read().check_statement(*kind, statement) {
            Ok(Some(index)) => return Sequenced::Existing(index),
            Ok(None) => {}
            Err(violation @ Violation::NotAccepted(_)) => {
                return Sequenced::Refused(Refusal::new(RefusalCode::UnknownMessage, violation.to_string()));
            }
            Err(violation) => {
                return Sequenced::Refused(Refusal::new(RefusalCode::BadStatement, violation.to_string()));
            }
        }
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        if let Err(refusal) = admitted.check_signature(&directory) {
            return Sequenced::Refused(refusal);
        }
        let leaf = ExchangeLeaf {
            time,
            directory_size: directory.size(),
            marks: self.marks(),
            event: LeafEvent::Attested {
                kind: *kind,
                statement: statement.clone(),
                bytes: attested.statement.clone(),
                signature: attested.signature.clone(),
            },
        };
        Sequenced::Append { leaf: leaf.encode(), body: None }
    }
}

impl Sequencer for ExchangeSequencer {
    type Event = Event;

    fn sequence(&mut self, event: Event, at: Moment) -> Sequenced {
        match event {
            Event::Submit(admitted) => self.submit(&admitted, at),
            Event::Attest(admitted) => self.attest(&admitted, at.time),
        }
    }

    fn apply(&mut self, index: LogIndex, leaf: &Bytes) -> Result<(), BrokenRule> {
        let broken = |problem: String| BrokenRule { index, problem };
        let leaf = ExchangeLeaf::parse(leaf).map_err(|e| broken(e.to_string()))?;
        self.state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .apply(index, &leaf)
            .map_err(|e| broken(e.to_string()))
    }

    fn last_time(&self) -> UnixMillis {
        self.read().time()
    }

    fn body_matches(&self, leaf: &Bytes, body: Option<&Bytes>) -> bool {
        let Ok(leaf) = ExchangeLeaf::parse(leaf) else { return false };
        match (&leaf.event, body) {
            (LeafEvent::Accepted { header, .. }, Some(body)) => wire::Envelope::decode(body.clone())
                .is_ok_and(|stored| sha256(&[&stored.body])[..] == header.commitments().body_sha256[..]),
            (LeafEvent::Accepted { .. }, None) => false,
            (LeafEvent::Attested { .. }, body) => body.is_none(),
        }
    }

    fn logged(&mut self, logged: &Logged) {
        match ExchangeLeaf::parse(logged.leaf()) {
            Ok(leaf) => self.queue.take(logged, &leaf, &self.read()),
            // It was parsed when it was applied.
            Err(error) => tracing::error!(%error, index = %logged.index(), "a logged entry does not parse"),
        }
    }
}
