//! A log that was closed: what this node has of it beyond its end does not count any more. Messages that this office sent
//! go out again, received ones are unproven until they come again, statements are made again.

use liaison_log::{checkpoint::claimed, journal::Position, leaf::Statement, proof::TlogProof};
use liaison_proto::{
    Bytes,
    ids::{LogIndex, MessageId},
};

use super::{State, Submission, UnprovenIncoming, apply::read_receipt, note_rewrap};
use crate::record::{NodeRecord, Proven, Succeeded};

/// Where the log was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Number of the charter that closed it.
    pub charter: u64,
    /// Its origin.
    pub origin: String,
    /// Its last provable size.
    pub size: u64,
}

impl State {
    /// Whether a record is of a closed log beyond its end: verified before the end was known, and written after.
    pub(super) fn is_void(&self, record: &NodeRecord) -> bool {
        let beyond = |note: &[u8], place: u64| {
            let Some((origin, _)) = claimed(note) else { return false };
            self.ends.iter().any(|end| end.origin == origin && place >= end.size)
        };
        if let NodeRecord::Checkpoint(checkpoint) = record {
            return claimed(&checkpoint.note).is_some_and(|(_, size)| size > 0 && beyond(&checkpoint.note, size - 1));
        }
        let proof = record.entry().and_then(|(receipt, _)| TlogProof::parse(&receipt.proof).ok());
        proof.is_some_and(|proof| beyond(&proof.checkpoint, proof.index.0))
    }

    /// Whether a statement was signed for an entry of a closed log beyond its end, and written after that was known.
    pub(super) fn is_void_statement(&self, message: &Bytes, statement: &Bytes) -> bool {
        if self.ends.is_empty() {
            return false;
        }
        let (Ok(statement), Ok(id)) = (Statement::parse(statement), MessageId::from_wire(message)) else {
            return false;
        };
        let stands_there = self.incoming.get(&id).is_some_and(|incoming| incoming.index == statement.accepted);
        !stands_there && self.ends.iter().any(|end| statement.accepted.0 >= end.size)
    }

    /// How many messages sent and received have their entries at an index or beyond.
    #[must_use]
    pub fn beyond(&self, from: LogIndex) -> (usize, usize) {
        let sent = self.outgoing.values().filter(|outgoing| outgoing.is_entered_from(from)).count();
        (sent, self.incoming.values().filter(|incoming| incoming.index >= from).count())
    }

    pub(super) fn apply_end(&mut self, succeeded: Succeeded) {
        let (from, size) = (LogIndex(succeeded.size), succeeded.size);
        self.ends.push(End { charter: succeeded.charter, origin: succeeded.origin, size });
        self.checkpoint = (!succeeded.checkpoint.is_empty()).then_some(succeeded.checkpoint);
        self.checkpoints.split_off(&(size + 1));
        self.entries.split_off(&from);
        self.evidence_from = self.evidence_from.min(from);
        self.early_rewraps.retain(|_, rewrap| rewrap.index < from);
        self.given_up.retain(|_, given_up| given_up.index < from);
        self.send_again(from);
        self.receive_again(from);
        self.count_again();
    }

    /// An entry has a new proof, which takes the place of the one before wherever it is shown.
    pub(super) fn apply_proof(&mut self, proven: &Proven, position: Position) -> Result<(), String> {
        let (index, leaf) = read_receipt(proven.receipt.as_ref().ok_or("a receipt is missing")?)?;
        if let Some(held) = self.entries.get_mut(&index) {
            held.record = position;
        }
        let Some(id) = leaf.event.message_id() else { return Ok(()) };
        if let Some(outgoing) = self.outgoing.get_mut(&id) {
            if let Submission::Receipted { index: accepted, receipt, .. } = &mut outgoing.submission
                && *accepted == index
            {
                *receipt = position;
            }
            for evidence in outgoing.evidence.iter_mut().filter(|evidence| evidence.index == index) {
                evidence.receipt = position;
            }
        }
        if let Some(incoming) = self.incoming.get_mut(&id).filter(|incoming| incoming.index == index) {
            incoming.record = position;
        }
        Ok(())
    }

    fn send_again(&mut self, from: LogIndex) {
        self.to_rewrap.clear();
        for (id, outgoing) in &mut self.outgoing {
            if outgoing.is_entered_from(from) {
                outgoing.held_by_broker = None;
                outgoing.again = true;
                if outgoing.body.is_some() {
                    outgoing.submission = Submission::Queued;
                    self.to_submit.insert((outgoing.header.core().lane, outgoing.order, *id));
                } else {
                    // It was found again in the log after a restore, without its content.
                    let detail = "its entry was in a log that was closed, and its content is not here".to_owned();
                    outgoing.submission = Submission::Refused { code: "LOG_CLOSED".to_owned(), detail, signed: false };
                }
            }
            outgoing.evidence.retain(|evidence| evidence.index < from);
            for evidence in &outgoing.evidence {
                note_rewrap(&mut self.to_rewrap, (*id, evidence.office), &evidence.said);
            }
        }
    }

    fn receive_again(&mut self, from: LogIndex) {
        let void = |incoming: &super::Incoming| incoming.index >= from;
        let ids: Vec<_> = self.incoming.iter().filter(|(_, incoming)| void(incoming)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(incoming) = self.incoming.remove(&id) else { continue };
            self.to_open.remove(&(incoming.header.core().lane, incoming.index, id));
            for kind in incoming.statements.keys() {
                self.to_state.remove(&(incoming.header.core().lane, incoming.index, *kind, id));
            }
            let (header, signature, body, at) = (incoming.header, incoming.signature, incoming.body, incoming.at);
            let judged = Some((incoming.directory_size, incoming.time));
            self.unproven.insert(id, UnprovenIncoming { header, signature, body, at, judged });
        }
        for (id, incoming) in &mut self.incoming {
            for (kind, statement) in &mut incoming.statements {
                if statement.index.is_some_and(|entry| entry >= from) {
                    statement.index = None;
                    self.to_state.insert((incoming.header.core().lane, incoming.index, *kind, *id));
                }
            }
            incoming.rewrap = incoming.rewrap.take().filter(|rewrap| rewrap.index < from);
            incoming.given_up = incoming.given_up.filter(|(entry, _)| *entry < from);
        }
    }

    /// Numbers are what the entries that count have given.
    fn count_again(&mut self) {
        self.sent_numbers.clear();
        let mut sent: Vec<_> = self.outgoing.values().collect();
        sent.sort_unstable_by_key(|outgoing| outgoing.order);
        for outgoing in sent {
            let Submission::Receipted { numbers, .. } = &outgoing.submission else { continue };
            for (channel, number) in outgoing.header.core().channels().zip(numbers) {
                self.sent_numbers.entry(channel).or_default().take(*number);
            }
        }
        self.received_numbers.clear();
        for incoming in self.incoming.values() {
            let to = incoming.header.core().to.iter().position(|to| Some(*to) == self.office);
            if let Some(channel) = to.and_then(|at| incoming.header.core().channels().nth(at)) {
                self.received_numbers.entry(channel).or_default().insert(incoming.number);
            }
        }
        for given_up in self.given_up.values() {
            self.received_numbers.entry(given_up.channel).or_default().insert(given_up.number);
        }
    }
}
