//! What the node's journal adds up to: outbox, inbox, what must be submitted, stated and opened. Rebuilt at every start
//! by the same calls that build it while running.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use liaison_log::{
    journal::Position,
    leaf::{Event, ExchangeLeaf},
    proof::TlogProof,
};
use liaison_proto::{
    Bytes,
    clock::UnixMillis,
    header::Header,
    ids::{Channel, Lane, LogIndex, MessageId, OfficeId},
    wire::{self, CannotOpenReason, StatementKind},
};

use crate::record::NodeRecord;

/// Where an own message stands with the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// Durable here, not yet receipted.
    Queued,
    /// Accepted, with a verified receipt.
    Receipted {
        /// ACCEPTED entry.
        index: LogIndex,
        /// Broker time.
        time: UnixMillis,
        /// Channel numbers in the order of the recipients.
        numbers: Vec<u64>,
        /// What the broker could not settle.
        marks: Vec<wire::Mark>,
        /// Where the receipt stands in the journal.
        receipt: Position,
    },
    /// Refused for good.
    Refused {
        /// Refusal code.
        code: String,
        /// What was wrong.
        detail: String,
    },
}

/// An entry about an own message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceState {
    /// Its index.
    pub index: LogIndex,
    /// What was stated.
    pub kind: StatementKind,
    /// By whom.
    pub office: OfficeId,
    /// The office's own time.
    pub at: UnixMillis,
    /// Broker time.
    pub time: UnixMillis,
    /// For CANNOT_OPEN.
    pub reason: CannotOpenReason,
    /// Where the entry stands in the journal.
    pub receipt: Position,
}

/// A message this office sends.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its header.
    pub header: Header,
    /// The office's signature.
    pub signature: Option<wire::Signature>,
    /// Where its body stands.
    pub body: Position,
    /// Order of queueing.
    pub order: u64,
    /// With the broker.
    pub submission: Submission,
    /// What recipients stated.
    pub evidence: Vec<EvidenceState>,
}

/// A statement of this office about a message it received.
#[derive(Clone, Debug)]
pub struct OwnStatement {
    /// As signed.
    pub attested: wire::Attested,
    /// The entry, once receipted.
    pub index: Option<LogIndex>,
}

/// A message this office received.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its header.
    pub header: Header,
    /// The originating office's signature.
    pub signature: Option<wire::Signature>,
    /// Where its body stands.
    pub body: Position,
    /// Where the record with the receipt stands.
    pub record: Position,
    /// ACCEPTED entry.
    pub index: LogIndex,
    /// Broker time of acceptance.
    pub time: UnixMillis,
    /// Directory size the entry was judged by.
    pub directory_size: u64,
    /// Number on the channel.
    pub number: u64,
    /// What the broker could not settle.
    pub marks: Vec<wire::Mark>,
    /// Node time of arrival.
    pub at: UnixMillis,
    /// DELIVERED, then RETRIEVED or CANNOT_OPEN.
    pub statements: BTreeMap<i32, OwnStatement>,
}

impl Incoming {
    /// Whether an opening was stated, either way.
    #[must_use]
    pub fn is_opened(&self) -> bool {
        [StatementKind::Retrieved, StatementKind::CannotOpen]
            .iter()
            .any(|kind| self.statements.contains_key(&i32::from(*kind)))
    }
}

/// Something that only trouble or bad faith explains.
#[derive(Clone, Debug)]
pub struct AlarmState {
    /// Node time.
    pub at: UnixMillis,
    /// What was noticed.
    pub what: String,
}

/// The state of a node.
#[derive(Debug, Default)]
pub struct State {
    /// The office.
    office: Option<OfficeId>,
    /// Own messages.
    pub outgoing: BTreeMap<MessageId, Outgoing>,
    /// Received messages.
    pub incoming: BTreeMap<MessageId, Incoming>,
    /// Message -> messages that answer it, both ways.
    pub replies: HashMap<MessageId, Vec<MessageId>>,
    /// To be submitted, in order, per lane.
    pub to_submit: BTreeSet<(Lane, u64, MessageId)>,
    /// Statements to be sent, in order of arrival: accepted index, kind, message.
    pub to_state: BTreeSet<(LogIndex, i32, MessageId)>,
    /// Arrived and not opened.
    pub to_open: BTreeSet<(LogIndex, MessageId)>,
    /// Newest verified checkpoint.
    pub checkpoint: Option<Bytes>,
    /// Evidence is known below this index.
    pub evidence_from: LogIndex,
    /// Last receipted number per channel from this office.
    pub sent_numbers: HashMap<Channel, u64>,
    /// Received numbers per channel to this office.
    pub received_numbers: HashMap<Channel, BTreeSet<u64>>,
    /// Checkpoints of counterparts to be compared with this node's view of the log.
    pub to_compare: BTreeSet<Bytes>,
    /// Alarms, oldest first.
    pub alarms: Vec<AlarmState>,
    order: u64,
}

impl State {
    /// The empty state of an office.
    #[must_use]
    pub fn new(office: OfficeId) -> Self {
        Self { office: Some(office), ..Self::default() }
    }

    /// The office whose state this is.
    #[must_use]
    pub const fn office(&self) -> Option<OfficeId> {
        self.office
    }

    /// Numbers that are missing below the highest one received, per channel.
    #[must_use]
    pub fn missing_numbers(&self) -> Vec<(Channel, Vec<u64>)> {
        let mut missing: Vec<_> = self
            .received_numbers
            .iter()
            .filter_map(|(channel, numbers)| {
                let highest = *numbers.last()?;
                let gaps: Vec<u64> = (1..highest).filter(|number| !numbers.contains(number)).take(20).collect();
                (!gaps.is_empty()).then_some((*channel, gaps))
            })
            .collect();
        missing.sort_unstable_by_key(|(channel, _)| *channel);
        missing
    }

    /// Takes a record that is durable. `body` is where its body stands.
    ///
    /// # Errors
    /// What is wrong with a record that this node can never have written.
    pub fn apply(&mut self, record: NodeRecord, position: Position, body: Option<Position>) -> Result<(), String> {
        match record {
            NodeRecord::Queued(queued) => {
                let header = Header::parse(queued.header).map_err(|e| e.to_string())?;
                let (id, lane) = (header.core().message_id, header.core().lane);
                let body = body.ok_or("a queued message without a body")?;
                self.note_reply(&header);
                self.order += 1;
                self.to_submit.insert((lane, self.order, id));
                let signature = queued.office_signature;
                let (order, submission) = (self.order, Submission::Queued);
                self.outgoing.insert(id, Outgoing { header, signature, body, order, submission, evidence: Vec::new() });
            }
            NodeRecord::Receipted(receipted) => self.apply_receipt(&receipted, position)?,
            NodeRecord::Refused(refused) => {
                let outgoing = self.outgoing_mut(&refused.message_id)?;
                let key = (outgoing.header.core().lane, outgoing.order, outgoing.header.core().message_id);
                outgoing.submission = Submission::Refused { code: refused.code, detail: refused.detail };
                self.to_submit.remove(&key);
            }
            NodeRecord::Arrived(arrived) => {
                let receipt = arrived.receipt.as_ref().ok_or("an arrival without a receipt")?;
                let (index, leaf) = read_receipt(receipt)?;
                let header = Header::parse(arrived.header).map_err(|e| e.to_string())?;
                let id = header.core().message_id;
                let (number, channel) = self.own_number(&header, &leaf).ok_or("an arrival for another office")?;
                self.note_reply(&header);
                self.received_numbers.entry(channel).or_default().insert(number);
                let incoming = Incoming {
                    header,
                    signature: arrived.office_signature,
                    body: body.ok_or("an arrival without a body")?,
                    record: position,
                    index,
                    time: leaf.time,
                    directory_size: leaf.directory_size,
                    number,
                    marks: leaf.marks,
                    at: UnixMillis(arrived.at_ms),
                    statements: BTreeMap::new(),
                };
                self.incoming.insert(id, incoming);
            }
            NodeRecord::Stated(stated) => {
                let incoming = self.incoming_mut(&stated.message_id)?;
                let attested = stated.attested.ok_or("a statement without its bytes")?;
                incoming.statements.insert(stated.kind, OwnStatement { attested, index: None });
                let (index, id) = (incoming.index, incoming.header.core().message_id);
                // Opened only once DELIVERED is stated: RETRIEVED must not overtake it.
                if incoming.is_opened() {
                    self.to_open.remove(&(index, id));
                } else {
                    self.to_open.insert((index, id));
                }
                self.to_state.insert((index, stated.kind, id));
            }
            NodeRecord::StatementReceipted(receipted) => {
                let (entry, _) = read_receipt(receipted.receipt.as_ref().ok_or("a receipt is missing")?)?;
                let incoming = self.incoming_mut(&receipted.message_id)?;
                let statement = incoming.statements.get_mut(&receipted.kind).ok_or("a receipt for no statement")?;
                statement.index = Some(entry);
                let key = (incoming.index, receipted.kind, incoming.header.core().message_id);
                self.to_state.remove(&key);
            }
            NodeRecord::Evidence(evidence) => {
                let (index, leaf) = read_receipt(evidence.receipt.as_ref().ok_or("evidence without a receipt")?)?;
                self.apply_evidence(index, &leaf, position);
            }
            NodeRecord::Checkpoint(checkpoint) => self.checkpoint = Some(checkpoint.note),
            NodeRecord::Gossip(gossip) if gossip.compared => {
                self.to_compare.remove(&gossip.note);
            }
            NodeRecord::Gossip(gossip) => {
                self.to_compare.insert(gossip.note);
            }
            NodeRecord::Alarm(alarm) => {
                self.alarms.push(AlarmState { at: UnixMillis(alarm.at_ms), what: alarm.what });
            }
        }
        Ok(())
    }

    fn apply_receipt(&mut self, receipted: &crate::record::Receipted, position: Position) -> Result<(), String> {
        let (index, leaf) = read_receipt(receipted.receipt.as_ref().ok_or("a receipt is missing")?)?;
        let Event::Accepted { header, numbers, .. } = leaf.event else {
            return Err("a receipt that is not of an ACCEPTED entry".into());
        };
        self.sent_numbers.extend(header.core().channels().zip(numbers.iter().copied()));
        let outgoing = self.outgoing_mut(&receipted.message_id)?;
        outgoing.submission =
            Submission::Receipted { index, time: leaf.time, numbers, marks: leaf.marks, receipt: position };
        let key = (outgoing.header.core().lane, outgoing.order, outgoing.header.core().message_id);
        self.to_submit.remove(&key);
        Ok(())
    }

    fn apply_evidence(&mut self, index: LogIndex, leaf: &ExchangeLeaf, position: Position) {
        self.evidence_from = LogIndex(self.evidence_from.0.max(index.0 + 1));
        if let Event::Attested { kind, statement, .. } = &leaf.event
            && let Some(outgoing) = self.outgoing.get_mut(&statement.message_id)
        {
            outgoing.evidence.push(EvidenceState {
                index,
                kind: *kind,
                office: statement.office,
                at: statement.at,
                time: leaf.time,
                reason: statement.reason,
                receipt: position,
            });
        }
    }

    fn note_reply(&mut self, header: &Header) {
        if let Some(answered) = header.core().in_reply_to {
            self.replies.entry(answered).or_default().push(header.core().message_id);
        }
    }

    /// The number and channel that an ACCEPTED entry gives this office.
    fn own_number(&self, header: &Header, leaf: &ExchangeLeaf) -> Option<(u64, Channel)> {
        let Event::Accepted { numbers, .. } = &leaf.event else { return None };
        let position = header.core().to.iter().position(|to| Some(*to) == self.office)?;
        Some((*numbers.get(position)?, header.core().channels().nth(position)?))
    }

    fn outgoing_mut(&mut self, id: &Bytes) -> Result<&mut Outgoing, String> {
        let id = MessageId::from_wire(id).map_err(|e| e.to_string())?;
        self.outgoing.get_mut(&id).ok_or_else(|| format!("message {id} was never queued"))
    }

    fn incoming_mut(&mut self, id: &Bytes) -> Result<&mut Incoming, String> {
        let id = MessageId::from_wire(id).map_err(|e| e.to_string())?;
        self.incoming.get_mut(&id).ok_or_else(|| format!("message {id} never arrived"))
    }
}

/// Index and entry of a receipt that was verified before it was written.
pub(crate) fn read_receipt(receipt: &wire::Receipt) -> Result<(LogIndex, ExchangeLeaf), String> {
    let proof = TlogProof::parse(&receipt.proof).map_err(|e| e.to_string())?;
    let leaf = ExchangeLeaf::parse(&receipt.leaf).map_err(|e| e.to_string())?;
    Ok((proof.index, leaf))
}
