//! One envelope on its way in: known already, or admitted and put in line for the log. A final refusal of what an office
//! validly signed is signed by the evidence key.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use liaison_log::{
    committer::{Committer, Promised},
    disk::Disk,
    exchange::ExchangeState,
    fair::Ticket,
    leaf::{Event as LeafEvent, ExchangeLeaf},
    reader::LogReader,
    work,
};
use liaison_proto::{
    ProtoMessage as _,
    clock::Clock,
    directory::Directory,
    envelope::UnverifiedEnvelope,
    evidence::sign_refusal,
    header::Header,
    ids::{Lane, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    sign::SigningKey,
    wire::{self, Mark},
};

use crate::{
    admit::{self, Admitted, Rejection, Submission},
    gate::{Gate, Reason, repairing},
    holding::Holding,
    identity::Party,
    revocation::Revocations,
    sequence::Event,
    share::Shares,
};

/// What envelopes are judged and entered with.
pub struct Intake {
    /// Writes the exchange log.
    pub exchange: Committer<Event>,
    /// Durable directory entries.
    pub directory: Arc<RwLock<Directory>>,
    /// The exchange log's state; it may be ahead of what is durable.
    pub state: Arc<RwLock<ExchangeState>>,
    /// The exchange log, to read.
    pub reader: Arc<LogReader>,
    /// Revocation lists.
    pub revocations: Arc<RwLock<Revocations>>,
    /// Fair shares.
    pub shares: Arc<Shares>,
    /// Closed while the log is under repair.
    pub gate: Arc<Gate>,
    /// What cannot wait meanwhile.
    pub holding: Arc<Holding>,
    /// Room on the disk.
    pub room: Room,
    /// Signs refusals.
    pub evidence_key: SigningKey,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Bytes beyond the reserve below which URGENT, and bulk, are refused.
const URGENT_ROOM: u64 = 128 << 20;
const BULK_ROOM: u64 = 256 << 20;
/// Bytes beyond the reserve below which attachments are refused.
pub(crate) const ATTACHMENT_ROOM: u64 = 512 << 20;

/// When what is held is tried again that could not be entered.
const ENTER_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How much room there must be on the disk: what can wait is refused earlier, so that it never crowds out FLASH, nor the
/// statements that end a message's way.
pub struct Room {
    /// The data directory's disk.
    pub disk: Arc<dyn Disk>,
    /// Bytes that the log keeps free in any case.
    pub reserve: u64,
}

impl Room {
    /// Whether not even what cannot wait finds room.
    fn is_full(&self) -> bool {
        self.disk.available().is_ok_and(|available| available < self.reserve)
    }

    /// Why there is no room for a lane, if there is none.
    pub(crate) fn refuses(&self, lane: Lane) -> Option<Refusal> {
        let needed = match lane {
            // The log itself looks after the last reserve.
            Lane::Flash => return None,
            Lane::Urgent => self.reserve + URGENT_ROOM,
            Lane::Bulk => self.reserve + BULK_ROOM,
        };
        let full = || Refusal::new(RefusalCode::StorageFull, "the broker's disk is nearly full; nothing was accepted");
        self.disk.available().is_ok_and(|available| available < needed).then(full)
    }
}

/// An envelope that was taken in.
pub struct Taken(Answer);

enum Answer {
    Known(wire::Receipt),
    Refused(Refusal),
    Promised(Promised, Box<Header>),
    /// To be held; its sender has seen a log of this size. With its receipt, when the log has it already.
    Unproven(Box<Admitted>, u64, Option<wire::Receipt>),
}

impl Intake {
    pub(crate) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, ExchangeState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is added to everything that a party enters now.
    pub(crate) fn marks(&self, office: OfficeId) -> Vec<Mark> {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        let stale = revocations.is_stale(&Party::Office(office), self.clock.now());
        if stale { vec![Mark::StaleRevocation] } else { Vec::new() }
    }

    /// Whether the caller has seen a larger log than this one: then entries are lost here, and nothing of the caller's
    /// is entered in their place.
    pub(crate) fn check_seen(&self, seen_size: u64) -> Result<(), Refusal> {
        if seen_size > self.reader.checkpoint().size() { Err(repairing()) } else { Ok(()) }
    }

    /// The receipt of a message that was accepted before: a retry of the same bytes gets the same leaf, whatever has
    /// changed since in directory or clock.
    fn known(&self, office: OfficeId, unverified: &UnverifiedEnvelope) -> Option<wire::Receipt> {
        let header = unverified.header();
        let known = self.state().message(header.core().message_id).ok()??;
        if known.from != office || known.header_sha256 != header.sha256() {
            return None;
        }
        // Not durable yet: the committer answers then.
        let receipt = self.reader.receipt(known.accepted).ok()?;
        let same_signature = match ExchangeLeaf::parse(&receipt.leaf).ok()?.event {
            LeafEvent::Accepted { signature, .. } => signature == unverified.wire().office_signature,
            _ => false,
        };
        (same_signature && unverified.check_commitments().is_ok()).then_some(receipt)
    }

    /// Whether a message may be delivered without a proof, by what the log knows of it: nothing, or that it waits. What was given
    /// up is not delivered any more, and another message under its id never.
    fn may_go_unproven(&self, unverified: &UnverifiedEnvelope) -> bool {
        let header = unverified.header();
        self.state().message(header.core().message_id).ok().flatten().is_none_or(|known| {
            known.header_sha256 == header.sha256()
                && known.recipients.iter().all(|recipient| recipient.non_delivery.is_none())
                && known.recipients.iter().any(|recipient| recipient.delivered.is_none())
        })
    }

    /// The lane that an envelope asks for, and its size; nothing of it is verified.
    pub(crate) fn weight(envelope: Option<&wire::Envelope>) -> (Lane, usize) {
        let Some(envelope) = envelope else { return (Lane::Bulk, 0) };
        // Only so far as it is needed: a header that is no header pays as bulk, and is refused later.
        let lane = || {
            let small = envelope.header.len() <= limits::HEADER_BYTES;
            let header = small.then(|| wire::Header::decode(envelope.header.clone()))?.ok()?;
            Lane::of(wire::Core::decode(header.core).ok()?.priority())
        };
        let lane = lane().unwrap_or(Lane::Bulk);
        (lane, envelope.header.len() + envelope.body.len())
    }

    /// Judges an envelope and puts it in line. Envelopes of one office and lane are entered in the order of the calls.
    pub fn take(&self, office: OfficeId, request: wire::SubmitRequest) -> Taken {
        let wire::SubmitRequest { envelope, seen_size } = request;
        let Some(envelope) = envelope else {
            let detail = "there is no envelope";
            return self.refused(office, Refusal::new(RefusalCode::MalformedEnvelope, detail).into());
        };
        let bytes = envelope.body.len() + envelope.header.len();
        let unverified = match UnverifiedEnvelope::parse(envelope) {
            Ok(unverified) => unverified,
            Err(refusal) => return self.refused(office, refusal.into()),
        };
        let (seen, lane) = (self.check_seen(seen_size), unverified.header().core().lane);
        let cannot_wait = !self.gate.is_open() && lane != Lane::Bulk;
        let known = seen.is_ok().then(|| self.known(office, &unverified)).flatten();
        // While nothing is delivered with a proof, what cannot wait goes without, also when it was accepted before.
        let unproven = cannot_wait && self.may_go_unproven(&unverified);
        if !unproven && let Some(receipt) = known {
            return Taken(Answer::Known(receipt));
        }
        if cannot_wait && !unproven {
            return self.refused(office, repairing().into());
        }
        if let Err(refusal) = seen
            && !unproven
        {
            return self.refused(office, refusal.into());
        }
        let admitted = {
            let directory = self.directory();
            let submission = Submission { office, envelope: unverified, marks: self.marks(office) };
            admit::admit(submission, &directory, self.clock.now())
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            // A directory that lacks entries knows less than it did: nothing is refused for good by it.
            Err(_) if !self.gate.is_open() => return self.refused(office, repairing().into()),
            Err(rejection) => return self.refused(office, rejection),
        };
        let header = Box::new(admitted.envelope().header().clone());
        if let Some(refusal) = self.room.refuses(header.core().lane) {
            return self.refused(office, refusal.into());
        }
        if unproven {
            return Taken(Answer::Unproven(Box::new(admitted), seen_size, known));
        }
        self.put_in_line(admitted, header, bytes)
    }

    fn put_in_line(&self, admitted: Admitted, header: Box<Header>, bytes: usize) -> Taken {
        let office = header.core().from;
        let ticket = Ticket { lane: header.core().lane, office, bytes };
        match self.exchange.promise(ticket, Event::Submit(Box::new(admitted))) {
            Ok(promised) => Taken(Answer::Promised(promised, header)),
            Err(refusal) => self.refused(office, refusal.into()),
        }
    }

    fn refused(&self, office: OfficeId, rejection: Rejection) -> Taken {
        let Rejection { refusal, verified } = rejection;
        let refusal = match verified {
            Some(header) => self.sign(refusal, &header),
            None => refusal,
        };
        note(office, &refusal);
        Taken(Answer::Refused(refusal))
    }

    fn sign(&self, refusal: Refusal, header: &Header) -> Refusal {
        if refusal.retry_after.is_some() {
            return refusal;
        }
        sign_refusal(refusal, header, self.clock.now(), &self.evidence_key)
    }

    /// The answer to an envelope, once there is one.
    ///
    /// # Errors
    /// The refusal.
    pub async fn answer(self: &Arc<Self>, taken: Taken) -> Result<wire::Receipt, Refusal> {
        let mut answer = taken.0;
        if let Answer::Unproven(admitted, seen_size, known) = answer {
            answer = match (self.hold(*admitted, seen_size).await, known) {
                (Err(refusal), Some(receipt)) if refusal.code == RefusalCode::HeldUnproven => Answer::Known(receipt),
                (held, _) => held?.0,
            };
        }
        match answer {
            Answer::Unproven(..) => Err(repairing()),
            Answer::Known(receipt) => Ok(receipt),
            Answer::Refused(refusal) => Err(refusal),
            Answer::Promised(promised, header) => promised.answer().await.map_err(|refusal| {
                let refusal = self.sign(refusal, &header);
                note(header.core().from, &refusal);
                refusal
            }),
        }
    }

    /// Holds a message that cannot wait; it is put in line when the log takes it itself by now.
    async fn hold(self: &Arc<Self>, admitted: Admitted, seen_size: u64) -> Result<Taken, Refusal> {
        let this = Arc::clone(self);
        let held = work::blocking(move || {
            if this.room.is_full() {
                return Err(Refusal::new(RefusalCode::StorageFull, "the broker's disk is full; nothing was accepted"));
            }
            match this.holding.hold(admitted.envelope(), seen_size) {
                Some(refusal) => Err(refusal),
                None => this.check_seen(seen_size).map(|()| admitted),
            }
        });
        let admitted = held.await.map_err(|_| Refusal::new(RefusalCode::Unavailable, "holding failed"))??;
        let header = Box::new(admitted.envelope().header().clone());
        let bytes = admitted.envelope().wire().body.len();
        Ok(self.put_in_line(admitted, header, bytes))
    }

    /// Enters what was held whenever the log is whole again, first of all, until the log stops.
    pub async fn enter_held(self: Arc<Self>) {
        let mut changes = self.gate.changes();
        loop {
            changes.mark_unchanged();
            if self.gate.is_only_for(Reason::Held) {
                self.enter_all_held().await;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(ENTER_AGAIN) => {}
                () = self.exchange.stopped() => return,
            }
        }
    }

    async fn enter_all_held(&self) {
        while let Some((envelope, seen_size)) = self.holding.next_to_enter() {
            let (id, office) = (envelope.header().core().message_id, envelope.header().core().from);
            // Its sender has seen more than there is: it shows that, and submits it again. Not in that place.
            if self.check_seen(seen_size).is_err() {
                self.holding.settle();
                continue;
            }
            match self.enter_one_held(envelope).await {
                Ok(_) => tracing::info!(message = %id, "entered after it was held"),
                // Its sender submits it again, and is told.
                Err(refusal) if refusal.retry_after.is_none() || refusal.code == RefusalCode::AttachmentMissing => {
                    note(office, &refusal);
                }
                // A full disk, a log under repair again: it is tried again.
                Err(_) => {
                    tokio::time::sleep(ENTER_AGAIN).await;
                    return;
                }
            }
            self.holding.settle();
        }
    }

    async fn enter_one_held(&self, envelope: UnverifiedEnvelope) -> Result<wire::Receipt, Refusal> {
        let office = envelope.header().core().from;
        let mut marks = self.marks(office);
        marks.push(Mark::Unproven);
        let submission = Submission { office, envelope, marks };
        let admitted = admit::admit(submission, &self.directory(), self.clock.now());
        let admitted = Box::new(admitted.map_err(|rejection| rejection.refusal)?);
        let ticket = Ticket { lane: Lane::Flash, office, bytes: 1024 };
        self.exchange.commit(ticket, Event::Held(admitted)).await
    }

    /// The lane of a known message; bulk for an unknown one.
    pub(crate) fn lane(&self, message: liaison_proto::ids::MessageId) -> Lane {
        self.state().message(message).ok().flatten().map_or(Lane::Bulk, |message| message.lane)
    }
}

/// Counts and logs a refusal, without what it was about.
pub(crate) fn note(office: OfficeId, refusal: &Refusal) {
    metrics::counter!("liaison_refusals_total", "code" => refusal.code.as_str()).increment(1);
    if refusal.code == RefusalCode::TooMany {
        tracing::debug!(%office, code = %refusal.code, "refused");
    } else {
        tracing::info!(%office, code = %refusal.code, "refused");
    }
}
