//! The way in: what the broker delivers is verified in full, kept durably with this office's signed DELIVERED, and only
//! then stated to the broker.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use liaison_log::{
    leaf::{Event, ExchangeLeaf, Statement},
    remote::{RemoteLog, within},
    verify::verify_entry,
};
use liaison_proto::{
    Bytes,
    envelope::UnverifiedEnvelope,
    failure::chain,
    ids::{Lane, OfficeId},
    refusal::Refusal,
    sign::{PayloadType, SigningKey},
    wire::{self, CannotOpenReason, StatementKind},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    contact::Contact,
    directory::{DirectoryError, DirectoryReplica},
    hand_back::{CLOSED_LOG, REPAIR},
    link::Link,
    log_view::ViewError,
    record::{Arrived, NodeRecord, Stated, Unproven},
    retry::{Backoff, gather},
    store::{StoreError, Write},
    submit::is_receipt_for,
};

/// Deliveries under way on a lane: enough to fill a link, few enough that a restart repeats little.
const CREDIT: u32 = 32;
/// Deliveries that are taken together at most.
const TOGETHER: usize = 16;
/// Messages without a receipt that are kept at most: a cheating broker must not fill the disk.
const MOST_UNPROVEN: usize = 4_096;
/// How long the broker may take to begin a stream.
const BEGIN: Duration = Duration::from_secs(30);

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is durable here.
    Yes,
    /// It is not to be believed; an alarm was kept.
    Reported,
    /// It could not be taken now; it comes again.
    Later,
}

/// The key that signs DELIVERED, also while the office is locked; shared, for it is replaced while messages come.
#[derive(Clone, Debug)]
pub struct ReceiptKey(Arc<RwLock<SigningKey>>);

impl ReceiptKey {
    /// Begins with a key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self(Arc::new(RwLock::new(key)))
    }

    /// Goes on with another key.
    pub fn replace(&self, key: SigningKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Signs DELIVERED.
    #[must_use]
    pub fn sign(&self, statement: &Bytes) -> wire::Signature {
        self.0.read().unwrap_or_else(PoisonError::into_inner).sign(PayloadType::Delivered, statement)
    }
}

/// What receiving needs beside the link.
#[derive(Clone)]
pub struct Receiver {
    /// The link.
    pub link: Link,
    /// The office.
    pub office: OfficeId,
    /// Signs DELIVERED.
    pub receipt_key: ReceiptKey,
    /// Whether the stream is up.
    pub contact: Arc<Contact>,
    /// Offices and keys.
    pub directory: Arc<DirectoryReplica>,
    /// Where the directory is updated from.
    pub directory_source: RemoteLog,
}

/// Why a delivery was not taken. It stays at the broker, and is delivered again.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("a part is missing")]
    Incomplete,
    #[error("the receipt was not believed")]
    View(#[source] ViewError),
    #[error("the entry is not the one of this message for this office")]
    OtherMessage,
    #[error("the directory could not be brought up to the size that the entry was judged by")]
    Directory(#[source] DirectoryError),
    #[error("the broker's directory does not reach the size that the entry was judged by")]
    DirectoryBehind,
    #[error("the envelope does not verify")]
    Envelope(#[source] Refusal),
    #[error("too many messages came without a receipt")]
    TooManyUnproven,
    #[error("the store has stopped")]
    Store(#[from] StoreError),
}

impl NotTaken {
    /// Whether broker or originator are at fault, rather than link or disk.
    const fn is_alarm(&self) -> bool {
        match self {
            Self::View(error) => error.is_alarm(),
            Self::OtherMessage | Self::Envelope(_) | Self::Incomplete | Self::TooManyUnproven => true,
            Self::Directory(error) => error.is_alarm(),
            // A broker that was restored has it again once its offices have handed it back.
            Self::DirectoryBehind | Self::Store(_) => false,
        }
    }
}

/// What a delivery says it is of, for the alarm about it; nothing of it is verified.
fn claimed_message(leaf: &Bytes) -> String {
    match ExchangeLeaf::parse(leaf).map(|leaf| leaf.event) {
        Ok(Event::Accepted { header, .. }) => format!("message {}", header.core().message_id),
        _ => "no ACCEPTED entry".to_owned(),
    }
}

impl Receiver {
    /// Receives one lane until the store stops.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn run(self, lane: Lane) -> Result<(), StoreError> {
        let mut backoff = Backoff::of(lane);
        loop {
            let (credit, requests) = mpsc::channel(4);
            // Room for it was just made.
            let _ = credit.try_send(wire::ReceiveRequest { lane: lane.to_wire().into(), credit: CREDIT });
            if let Ok(stream) = within(BEGIN, self.link.exchange(lane).receive(ReceiverStream::new(requests))).await {
                self.contact.set(lane, true);
                self.link.connected.notify_one();
                let mut taken = 0;
                let mut stream = stream.into_inner();
                while let Ok(Some(delivery)) = stream.message().await {
                    // What has come besides is taken together, and made durable at once.
                    gather(lane).await;
                    let mut deliveries = vec![delivery];
                    while deliveries.len() < TOGETHER
                        && let Some(Ok(Some(more))) = stream.message().now_or_never()
                    {
                        deliveries.push(more);
                    }
                    let (proven, unproven): (Vec<_>, Vec<_>) =
                        deliveries.into_iter().partition(|delivery| delivery.receipt.is_some());
                    let taking = proven.into_iter().map(|delivery| self.take_or_report(delivery, lane));
                    let mut taken_now = join_all(taking).await;
                    // What bounds those sees each of them.
                    for delivery in unproven {
                        taken_now.push(self.take_or_report(delivery, lane).await);
                    }
                    let (mut later, mut count) = (false, 0);
                    for kept in taken_now {
                        match kept? {
                            Kept::Yes => backoff.reset(),
                            Kept::Reported => {}
                            Kept::Later => later = true,
                        }
                        count += 1;
                    }
                    if later {
                        break;
                    }
                    // Credit comes back once a delivery is durable: a slow disk slows the broker down.
                    taken += count;
                    if taken >= CREDIT / 2 {
                        let more = wire::ReceiveRequest { lane: lane.to_wire().into(), credit: taken };
                        if credit.send(more).await.is_err() {
                            break;
                        }
                        taken = 0;
                    }
                }
            }
            self.contact.set(lane, false);
            tokio::time::sleep(backoff.pause(self.link.entropy.as_ref())).await;
        }
    }

    /// Takes a delivery, or keeps an alarm about it.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn take_or_report(&self, delivery: wire::Delivery, lane: Lane) -> Result<Kept, StoreError> {
        let exhibit = delivery.receipt.as_ref().map(|receipt| receipt.leaf.clone()).unwrap_or_default();
        match self.take(delivery, lane).await {
            Ok(()) => Ok(Kept::Yes),
            Err(NotTaken::Store(error @ StoreError::Full)) => {
                tracing::warn!(error = chain(&error), "a delivery was not taken yet");
                Ok(Kept::Later)
            }
            Err(NotTaken::Store(error)) => Err(error),
            Err(error) if error.is_alarm() => {
                let entry = claimed_message(&exhibit);
                let what = format!("a delivery was not taken ({entry}): {}", chain(&error));
                self.link.alarm(what, exhibit).await?;
                Ok(Kept::Reported)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "a delivery was not taken yet");
                Ok(Kept::Later)
            }
        }
    }

    async fn take(&self, delivery: wire::Delivery, lane: Lane) -> Result<(), NotTaken> {
        let envelope = delivery.envelope.ok_or(NotTaken::Incomplete)?;
        let Some(receipt) = delivery.receipt else { return self.take_unproven(envelope, lane).await };
        let verified = self.link.view.verify(&receipt, lane).await.map_err(NotTaken::View)?;
        if !is_receipt_for(&verified.leaf, &envelope) {
            return Err(NotTaken::OtherMessage);
        }
        let leaf = ExchangeLeaf::parse(&verified.leaf).map_err(|_| NotTaken::OtherMessage)?;
        if self.directory.directory().size() < leaf.directory_size {
            self.directory.update(&self.directory_source).await.map_err(NotTaken::Directory)?;
            if self.directory.directory().size() < leaf.directory_size {
                // Where nothing explains it the broker is at fault.
                let restored = self.link.health.has(REPAIR) || self.link.health.has(CLOSED_LOG);
                return Err(if restored { NotTaken::DirectoryBehind } else { NotTaken::OtherMessage });
            }
        }
        let (header, number) = self.check(&leaf, envelope.clone())?;
        self.check_unproven(&header).await?;
        let statement = Statement {
            message_id: header.core().message_id,
            office: self.office,
            accepted: verified.index,
            header_sha256: header.sha256(),
            number,
            at: self.link.clock.now(),
            reason: CannotOpenReason::Unspecified,
        }
        .encode();
        let signature = self.receipt_key.sign(&statement);
        let message_id = Bytes::copy_from_slice(header.core().message_id.as_bytes());
        // Copies: parts of what came in one buffer with a body would keep the whole of it in memory.
        let arrived = NodeRecord::Arrived(Arrived {
            header: Bytes::copy_from_slice(&envelope.header),
            office_signature: envelope.office_signature.map(|signature| wire::Signature {
                algorithm: signature.algorithm,
                value: Bytes::copy_from_slice(&signature.value),
            }),
            receipt: Some(receipt),
            at_ms: self.link.clock.now().0,
        });
        let stated = NodeRecord::Stated(Stated {
            message_id,
            kind: StatementKind::Delivered.into(),
            attested: Some(wire::Attested { statement, signature: Some(signature) }),
        });
        let body = wire::Envelope { erasable: envelope.erasable, body: envelope.body, ..wire::Envelope::default() };
        let id = header.core().message_id;
        if !self.link.store.try_write(vec![Write { record: arrived, body: Some(body) }, stated.clone().into()]).await? {
            // It was there already; a crash between the two records may have left it without its statement.
            let unstated = self
                .link
                .store
                .state()
                .incoming
                .get(&id)
                .is_some_and(|known| !known.statements.contains_key(&i32::from(StatementKind::Delivered)));
            if unstated {
                self.link.store.write(vec![stated.into()]).await?;
            }
        }
        Ok(())
    }

    /// Officers may have read another message under this id, when it came without a receipt.
    async fn check_unproven(&self, header: &liaison_proto::header::Header) -> Result<(), StoreError> {
        let id = header.core().message_id;
        let other = {
            let state = self.link.store.state();
            let unproven = state.unproven.get(&id).filter(|known| known.header.bytes() != header.bytes());
            unproven.map(|known| (known.header.core().from, known.header.bytes().clone()))
        };
        if let Some((from, exhibit)) = other {
            let what = format!("what came from {from} as message {id} without a receipt is not the message of this id");
            self.link.alarm(what, exhibit).await?;
        }
        Ok(())
    }

    /// Keeps what the broker delivers without a receipt while its log is under repair. What cannot wait is shown to the
    /// officers marked UNPROVEN; nothing is stated about it before it comes with its receipt.
    async fn take_unproven(&self, envelope: wire::Envelope, lane: Lane) -> Result<(), NotTaken> {
        let unverified = UnverifiedEnvelope::parse(envelope).map_err(NotTaken::Envelope)?;
        let core = unverified.header().core();
        if lane == Lane::Bulk || core.lane != lane || !core.to.contains(&self.office) {
            return Err(NotTaken::OtherMessage);
        }
        let id = core.message_id;
        let keys = || {
            let directory = self.directory.directory();
            directory.signing_keys(core.from, directory.size(), self.link.clock.now())
        };
        let mut known = keys();
        if known.is_none() {
            // A node that has just started may have no directory yet.
            self.directory.update(&self.directory_source).await.map_err(NotTaken::Directory)?;
            known = keys();
        }
        let keys = known.ok_or(NotTaken::OtherMessage)?;
        let signed = unverified.verify(&keys).map_err(NotTaken::Envelope)?;
        {
            let state = self.link.store.state();
            if state.incoming.contains_key(&id) || state.given_up.contains_key(&id) {
                return Ok(());
            }
            if let Some(known) = state.unproven.get(&id) {
                let same = known.header.bytes() == signed.header().bytes();
                return if same { Ok(()) } else { Err(NotTaken::OtherMessage) };
            }
            if state.unproven.len() >= MOST_UNPROVEN {
                return Err(NotTaken::TooManyUnproven);
            }
        }
        tracing::warn!(message = %id, "received without a receipt: the broker's log is under repair");
        let wire::Envelope { header, office_signature, erasable, body } = signed.wire().clone();
        let at_ms = self.link.clock.now().0;
        let record = NodeRecord::Unproven(Unproven { header, office_signature, at_ms });
        let body = wire::Envelope { erasable, body, ..wire::Envelope::default() };
        self.link.store.try_write(vec![Write { record, body: Some(body) }]).await?;
        Ok(())
    }

    /// Verifies signature, commitments and keys by the directory as of the entry; returns header and own number.
    fn check(
        &self,
        leaf: &ExchangeLeaf,
        envelope: wire::Envelope,
    ) -> Result<(liaison_proto::header::Header, u64), NotTaken> {
        let directory = self.directory.directory();
        verify_entry(leaf, &directory).map_err(|_| NotTaken::OtherMessage)?;
        let unverified = UnverifiedEnvelope::parse(envelope).map_err(NotTaken::Envelope)?;
        let from = unverified.header().core().from;
        let keys = directory.signing_keys(from, leaf.directory_size, leaf.time).ok_or(NotTaken::OtherMessage)?;
        let signed = unverified.verify(&keys).map_err(NotTaken::Envelope)?;
        let Event::Accepted { numbers, .. } = &leaf.event else { return Err(NotTaken::OtherMessage) };
        let core = signed.header().core();
        let position = core.to.iter().position(|to| *to == self.office).ok_or(NotTaken::OtherMessage)?;
        let number = numbers.get(position).copied().ok_or(NotTaken::OtherMessage)?;
        Ok((signed.header().clone(), number))
    }
}
