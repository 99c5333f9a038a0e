//! How records change the state: the same calls while running and at every start.

use std::collections::BTreeMap;

use liaison_log::{
    checkpoint::claimed,
    journal::Position,
    leaf::{Event, ExchangeLeaf, NonDelivery},
    proof::TlogProof,
};
use liaison_proto::{
    Bytes,
    clock::UnixMillis,
    header::{Core, Header},
    ids::{Channel, LogIndex, MessageId},
    wire::{self, Kind, StatementKind},
};

use super::{
    AlarmState, EvidenceState, GivenUp, HeldEntry, Incoming, Outgoing, OwnStatement, Rewrap, Said, State, Submission,
    UnprovenIncoming, Waiting, note_rewrap,
};
use crate::record::{NodeRecord, Receipted, Recovered};

/// Alarms that are kept in memory once officers have seen them.
const ALARMS_SHOWN: usize = 500;

impl State {
    /// Takes a record that is durable. `body` is where its body stands.
    ///
    /// # Errors
    /// What is wrong with a record that this node can never have written.
    pub fn apply(&mut self, record: NodeRecord, position: Position, body: Option<Position>) -> Result<(), String> {
        if self.is_void(&record) {
            return Ok(());
        }
        self.hold_entry(&record, position, body)?;
        match record {
            NodeRecord::Queued(queued) => {
                let header = Header::parse(queued.header).map_err(|e| e.to_string())?;
                let (id, lane) = (header.core().message_id, header.core().lane);
                let body = body.ok_or("a queued message without a body")?;
                self.note_thread(&header);
                self.waiting.remove(&id);
                self.order += 1;
                self.to_submit.insert((lane, self.order, id));
                let signature = queued.office_signature;
                let (order, submission) = (self.order, Submission::Queued);
                let (body, not_before) = (Some(body), UnixMillis(queued.not_before_ms));
                let evidence = Vec::new();
                let (held_by_broker, again) = (None, false);
                let outgoing = Outgoing {
                    header,
                    signature,
                    body,
                    order,
                    not_before,
                    submission,
                    held_by_broker,
                    again,
                    evidence,
                };
                self.outgoing.insert(id, outgoing);
            }
            NodeRecord::Receipted(receipted) => self.apply_receipt(&receipted, position)?,
            NodeRecord::Refused(refused) => {
                let outgoing = self.outgoing_mut(&refused.message_id)?;
                let key = (outgoing.header.core().lane, outgoing.order, outgoing.header.core().message_id);
                let (code, detail, signed) = (refused.code, refused.detail, refused.signed.is_some());
                outgoing.submission = Submission::Refused { code, detail, signed };
                self.to_submit.remove(&key);
            }
            NodeRecord::Waiting(waiting) => {
                let core = Core::parse(&waiting.core).map_err(|e| e.to_string())?;
                let body = body.ok_or("a message that waits without its content")?;
                let (core_bytes, attachments) = (waiting.core, waiting.attachments);
                self.waiting.insert(core.message_id, Waiting { core, core_bytes, body, attachments });
            }
            NodeRecord::Cancelled(cancelled) => {
                let waiting = MessageId::from_wire(&cancelled.message_id).ok();
                if waiting.is_some_and(|id| self.waiting.remove(&id).is_some()) {
                    return Ok(());
                }
                let outgoing = self.outgoing_mut(&cancelled.message_id)?;
                let key = (outgoing.header.core().lane, outgoing.order, outgoing.header.core().message_id);
                // What has a receipt has left, whatever else is written of it.
                if outgoing.submission == Submission::Queued {
                    outgoing.submission = Submission::Cancelled;
                    self.to_submit.remove(&key);
                }
            }
            NodeRecord::Recovered(recovered) => self.apply_recovered(&recovered, position)?,
            NodeRecord::Downloaded(downloaded) => {
                if let Ok(name) = <[u8; 32]>::try_from(downloaded.sha256.as_ref()) {
                    self.to_download.remove(&name);
                    self.downloaded.insert(name);
                }
            }
            NodeRecord::Arrived(arrived) => {
                let receipt = arrived.receipt.as_ref().ok_or("an arrival without a receipt")?;
                let (index, leaf) = read_receipt(receipt)?;
                let header = Header::parse(arrived.header).map_err(|e| e.to_string())?;
                let id = header.core().message_id;
                let (number, channel) = self.own_number(&header, &leaf).ok_or("an arrival for another office")?;
                self.note_thread(&header);
                self.received_numbers.entry(channel).or_default().insert(number);
                // It was here when it first came, with or without its receipt.
                let unproven = self.unproven.remove(&id).filter(|unproven| unproven.header.bytes() == header.bytes());
                let at = unproven.map_or(UnixMillis(arrived.at_ms), |unproven| unproven.at);
                self.log_time = self.log_time.max(leaf.time);
                for attachment in &header.commitments().attachments {
                    let name = <[u8; 32]>::try_from(attachment.sha256.as_ref()).map_err(|e| e.to_string())?;
                    if !self.downloaded.contains(&name) {
                        self.to_download.insert(name, attachment.size);
                    }
                }
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
                    at,
                    statements: BTreeMap::new(),
                    rewrap: self.early_rewraps.remove(&id),
                    given_up: self.given_up.remove(&id).map(|given_up| (given_up.index, given_up.time)),
                };
                self.incoming.insert(id, incoming);
            }
            NodeRecord::Stated(stated) => {
                let attested = stated.attested.ok_or("a statement without its bytes")?;
                if self.is_void_statement(&stated.message_id, &attested.statement) {
                    return Ok(());
                }
                let incoming = self.incoming_mut(&stated.message_id)?;
                incoming.statements.insert(stated.kind, OwnStatement { attested, index: None });
                let (index, id, lane) =
                    (incoming.index, incoming.header.core().message_id, incoming.header.core().lane);
                // Opened only once DELIVERED is stated: RETRIEVED must not overtake it.
                if incoming.is_opened() {
                    self.to_open.remove(&(lane, index, id));
                } else {
                    self.to_open.insert((lane, index, id));
                }
                self.to_state.insert((lane, index, stated.kind, id));
            }
            NodeRecord::StatementReceipted(receipted) => {
                let (entry, _) = read_receipt(receipted.receipt.as_ref().ok_or("a receipt is missing")?)?;
                let incoming = self.incoming_mut(&receipted.message_id)?;
                // The answer to a CANNOT_OPEN may come after the message was sealed anew: it settles nothing then.
                let answered = incoming.rewrap.as_ref().is_some_and(|rewrap| entry < rewrap.index)
                    && receipted.kind == i32::from(StatementKind::CannotOpen);
                let Some(statement) = incoming.statements.get_mut(&receipted.kind).filter(|_| !answered) else {
                    return Ok(());
                };
                statement.index = Some(entry);
                let core = incoming.header.core();
                let key = (core.lane, incoming.index, receipted.kind, core.message_id);
                self.to_state.remove(&key);
            }
            NodeRecord::Evidence(evidence) => {
                let (index, leaf) = read_receipt(evidence.receipt.as_ref().ok_or("evidence without a receipt")?)?;
                self.apply_evidence(index, leaf, evidence.wrap, position);
            }
            NodeRecord::Unproven(unproven) => {
                let header = Header::parse(unproven.header).map_err(|e| e.to_string())?;
                let (signature, at) = (unproven.office_signature, UnixMillis(unproven.at_ms));
                let body = body.ok_or("an arrival without a body")?;
                let id = header.core().message_id;
                if !self.incoming.contains_key(&id) {
                    self.note_thread(&header);
                    self.unproven.insert(id, UnprovenIncoming { header, signature, body, at, judged: None });
                }
            }
            NodeRecord::HeldByBroker(held) => {
                self.outgoing_mut(&held.message_id)?.held_by_broker = Some(UnixMillis(held.at_ms));
            }
            NodeRecord::AlarmsSeen(seen) => {
                let up_to = UnixMillis(seen.up_to_ms);
                for alarm in self.alarms.iter_mut().filter(|alarm| alarm.at <= up_to && alarm.seen_by.is_none()) {
                    alarm.seen_by = Some(seen.officer.clone());
                }
                // All of them stay in the journal.
                let many = self.alarms.len().saturating_sub(ALARMS_SHOWN);
                let mut left = many;
                self.alarms.retain(|alarm| {
                    let goes = left > 0 && alarm.seen_by.is_some();
                    left -= usize::from(goes);
                    !goes
                });
            }
            // Its entry comes as evidence, too.
            NodeRecord::RewrapReceipted(_) => {}
            NodeRecord::Checkpoint(checkpoint) => {
                if let Some((_, size)) = claimed(&checkpoint.note) {
                    self.checkpoints.insert(size, position);
                }
                self.checkpoint = Some(checkpoint.note);
            }
            NodeRecord::Succeeded(succeeded) => self.apply_end(succeeded),
            NodeRecord::Proven(proven) => self.apply_proof(&proven, position)?,
            NodeRecord::Gossip(gossip) if gossip.compared => {
                self.to_compare.remove(&gossip.note);
            }
            NodeRecord::Gossip(gossip) => {
                self.to_compare.insert(gossip.note);
            }
            NodeRecord::Alarm(alarm) => {
                self.alarms.push(AlarmState { at: UnixMillis(alarm.at_ms), what: alarm.what, seen_by: None });
            }
        }
        Ok(())
    }

    /// Notes where the entry of a record stands. A later record of the same entry may have more beside it.
    fn hold_entry(&mut self, record: &NodeRecord, position: Position, body: Option<Position>) -> Result<(), String> {
        let Some((receipt, wrap)) = record.entry() else { return Ok(()) };
        let (index, leaf) = read_receipt(receipt)?;
        let (body, complete) = match &leaf.event {
            Event::Accepted { header, .. } => {
                let id = header.core().message_id;
                let body = body.or_else(|| self.outgoing.get(&id)?.body);
                (body, body.is_some())
            }
            Event::Rewrapped { .. } => (None, wrap.is_some_and(|wrap| !wrap.is_empty())),
            Event::Attested { .. } | Event::NonDelivery(_) | Event::Succeeded(_) => (None, true),
        };
        let held = HeldEntry { record: position, body, complete };
        let known = self.entries.entry(index).or_insert(held);
        if complete && !known.complete {
            *known = held;
        }
        Ok(())
    }

    fn apply_receipt(&mut self, receipted: &Receipted, position: Position) -> Result<(), String> {
        let (index, leaf) = read_receipt(receipted.receipt.as_ref().ok_or("a receipt is missing")?)?;
        let Event::Accepted { header, numbers, .. } = leaf.event else {
            return Err("a receipt that is not of an ACCEPTED entry".into());
        };
        self.log_time = self.log_time.max(leaf.time);
        for (channel, number) in header.core().channels().zip(&numbers) {
            self.sent_numbers.entry(channel).or_default().take(*number);
        }
        let outgoing = self.outgoing_mut(&receipted.message_id)?;
        outgoing.submission = Submission::Receipted {
            index,
            time: leaf.time,
            directory_size: leaf.directory_size,
            numbers,
            marks: leaf.marks,
            receipt: position,
        };
        let key = (outgoing.header.core().lane, outgoing.order, outgoing.header.core().message_id);
        self.to_submit.remove(&key);
        Ok(())
    }

    /// A message found again in the log: its ACCEPTED entry is its receipt.
    fn apply_recovered(&mut self, recovered: &Recovered, position: Position) -> Result<(), String> {
        let (index, leaf) = read_receipt(recovered.receipt.as_ref().ok_or("a receipt is missing")?)?;
        let Event::Accepted { header, signature, numbers } = leaf.event else {
            return Err("a receipt that is not of an ACCEPTED entry".into());
        };
        let id = header.core().message_id;
        self.note_thread(&header);
        for (channel, number) in header.core().channels().zip(&numbers) {
            self.sent_numbers.entry(channel).or_default().take(*number);
        }
        self.order += 1;
        let submission = Submission::Receipted {
            index,
            time: leaf.time,
            directory_size: leaf.directory_size,
            numbers,
            marks: leaf.marks,
            receipt: position,
        };
        let (order, not_before, evidence) = (self.order, UnixMillis(0), Vec::new());
        let (header, held_by_broker, again) = (*header, None, false);
        let outgoing =
            Outgoing { header, signature, body: None, order, not_before, submission, held_by_broker, again, evidence };
        self.outgoing.entry(id).or_insert(outgoing);
        // It left before the backup that this node was restored from knew of it.
        self.waiting.remove(&id);
        Ok(())
    }

    fn apply_evidence(&mut self, index: LogIndex, leaf: ExchangeLeaf, wrap: Bytes, receipt: Position) {
        // About the log itself: it came when it was asked for, whatever else is still to come.
        let Some(id) = leaf.event.message_id() else { return };
        self.evidence_from = LogIndex(self.evidence_from.0.max(index.0 + 1));
        self.log_time = self.log_time.max(leaf.time);
        let time = leaf.time;
        let (said, office) = match &leaf.event {
            Event::Accepted { .. } | Event::Succeeded(_) => return,
            Event::Attested { kind, statement, .. } => (Said::Stated(*kind, statement.reason), statement.office),
            Event::NonDelivery(given_up) => (Said::NonDelivery(given_up.reason), given_up.recipient),
            Event::Rewrapped { statement, .. } => (Said::Rewrapped, statement.recipient),
        };
        if Some(office) == self.office && !self.outgoing.contains_key(&id) {
            self.apply_own_evidence(id, index, leaf, wrap);
            return;
        }
        note_rewrap(&mut self.to_rewrap, (id, office), &said);
        if let Some(outgoing) = self.outgoing.get_mut(&id) {
            outgoing.evidence.push(EvidenceState { index, said, office, time, marks: leaf.marks, receipt });
        }
    }

    /// Evidence about a message sent to this office.
    fn apply_own_evidence(&mut self, id: MessageId, index: LogIndex, leaf: ExchangeLeaf, wrap: Bytes) {
        let time = leaf.time;
        match leaf.event {
            Event::NonDelivery(given_up) => match self.incoming.get_mut(&id) {
                Some(incoming) => incoming.given_up = Some((index, time)),
                None => {
                    self.received_numbers.entry(given_up.channel).or_default().insert(given_up.number);
                    let NonDelivery { reason, channel, number, .. } = given_up;
                    self.given_up.insert(id, GivenUp { index, reason, channel, number, time });
                }
            },
            Event::Rewrapped { statement, .. } => {
                let rewrap = Rewrap { index, key_sha256: statement.key_sha256, wrap };
                let Some(incoming) = self.incoming.get_mut(&id) else {
                    // A store that was restored hears of it before the message has come back.
                    self.early_rewraps.insert(id, rewrap);
                    return;
                };
                let accepted = incoming.index;
                incoming.rewrap = Some(rewrap);
                // To be opened once more; an earlier CANNOT_OPEN is answered by this entry.
                let kind = i32::from(StatementKind::CannotOpen);
                incoming.statements.remove(&kind);
                let lane = incoming.header.core().lane;
                if !incoming.is_opened() {
                    self.to_open.insert((lane, accepted, id));
                }
                self.to_state.remove(&(lane, accepted, kind, id));
            }
            Event::Accepted { .. } | Event::Attested { .. } | Event::Succeeded(_) => {}
        }
    }

    fn note_thread(&mut self, header: &Header) {
        let core = header.core();
        self.threads.entry(core.thread_id).or_default().insert(core.message_id);
        if core.kind == Kind::ContactUpdate {
            self.contacts.insert(core.message_id);
        }
        if let Some(answered) = core.in_reply_to {
            // One that came without a receipt comes again.
            let replies = self.replies.entry(answered).or_default();
            if !replies.contains(&core.message_id) {
                replies.push(core.message_id);
            }
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
