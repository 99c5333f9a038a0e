//! Delivery: what waits for an office in a lane goes out on the lane's stream, as far as the office gave credit, until
//! the office has signed for it.

use std::sync::Arc;

use liaison_log::{
    checkpoint::VerifiedCheckpoint,
    leaf::{Event, ExchangeLeaf},
    reader::LogReader,
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    ids::{Lane, LogIndex, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    wire,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::{Status, Streaming};

use crate::{
    gate::Gate,
    holding::Holding,
    queue::{Queue, Stream, Turn},
};

/// Items read ahead on a stream: one is on its way while the next is read. The rest of the credit waits on the disk.
const READ_AHEAD: usize = 2;

/// What the streams read from.
#[derive(Clone)]
pub struct Deliverer {
    /// The exchange log.
    pub reader: Arc<LogReader>,
    /// What waits.
    pub queue: Arc<Queue>,
    /// Closed while entries are missing.
    pub gate: Arc<Gate>,
    /// What cannot wait meanwhile.
    pub holding: Arc<Holding>,
    /// Turns true when the broker stops.
    pub stopping: watch::Receiver<bool>,
}

fn damaged(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "a stored message is damaged");
    Refusal::new(RefusalCode::Unavailable, "a stored message could not be read")
}

/// Answers of a stream.
pub type Items<T> = mpsc::Receiver<Result<T, Status>>;

impl Deliverer {
    /// The envelope of an ACCEPTED entry, put together from leaf and body, with its proof.
    fn delivery(&self, index: LogIndex, steady: &mut Steady) -> Result<wire::Delivery, Refusal> {
        let receipt = steady.receipt(&self.reader, index)?;
        let leaf = ExchangeLeaf::parse(&receipt.leaf).map_err(damaged)?;
        let Event::Accepted { header, signature, .. } = leaf.event else {
            return Err(Refusal::new(RefusalCode::OutOfRange, "not an ACCEPTED entry"));
        };
        let body = wire::Envelope::decode(self.reader.body(index)?).map_err(damaged)?;
        let envelope = wire::Envelope {
            header: header.bytes().clone(),
            office_signature: signature,
            erasable: body.erasable,
            body: body.body,
        };
        Ok(wire::Delivery { envelope: Some(envelope), receipt: Some(receipt) })
    }

    /// An entry of evidence; with REWRAPPED its recipient gets the wrap.
    fn item(&self, office: OfficeId, index: LogIndex, steady: &mut Steady) -> Result<wire::EvidenceItem, Refusal> {
        let receipt = steady.receipt(&self.reader, index)?;
        let leaf = ExchangeLeaf::parse(&receipt.leaf).map_err(damaged)?;
        let wrap = match &leaf.event {
            Event::Rewrapped { statement, .. } if statement.recipient == office => {
                let body = wire::Envelope::decode(self.reader.body(index)?).map_err(damaged)?;
                body.erasable.and_then(|side| side.wraps.first().cloned()).unwrap_or_default()
            }
            _ => Bytes::new(),
        };
        Ok(wire::EvidenceItem { receipt: Some(receipt), wrap })
    }

    /// One lane of what waits for an office, then what comes; as far as the requests give credit.
    #[must_use]
    pub fn receive(
        self,
        office: OfficeId,
        lane: Lane,
        credit: u32,
        requests: Streaming<wire::ReceiveRequest>,
    ) -> Items<wire::Delivery> {
        let (items, stream) = mpsc::channel(READ_AHEAD);
        let (changes, turn) = (self.queue.changes(office), self.queue.turn(office, Stream::Receive(lane)));
        let granted = Arc::new(Semaphore::new(credit.min(limits::CREDIT) as usize));
        let granting = Ends(tokio::spawn(grant(requests, Arc::clone(&granted))).abort_handle());
        let (mut sent, mut held, mut steady): (Option<LogIndex>, usize, _) = (None, 0, Steady::default());
        let next = move |this: &Self| {
            let _with_the_stream = &granting;
            if !this.gate.is_open() {
                // What is proven under an old checkpoint would look like a rollback; what cannot wait goes unproven.
                steady.end();
                let (place, envelope) = this.holding.next(office, lane, held)?;
                held = place + 1;
                return Some(Ok(wire::Delivery { envelope: Some(envelope), receipt: None }));
            }
            let Some(index) = this.queue.next_waiting(office, lane, sent) else {
                steady.end();
                return None;
            };
            sent = Some(index);
            Some(this.delivery(index, &mut steady))
        };
        tokio::spawn(self.feed(changes, turn, items, Some(granted), next));
        stream
    }

    /// Evidence that concerns an office from an index on, then what comes.
    #[must_use]
    pub fn evidence(self, office: OfficeId, from: LogIndex) -> Items<wire::EvidenceItem> {
        let (items, stream) = mpsc::channel(16);
        let (changes, turn) = (self.queue.changes(office), self.queue.turn(office, Stream::Evidence));
        let (mut cursor, mut steady) = (from, Steady::default());
        let next = move |this: &Self| {
            let next = if this.gate.is_open() { this.queue.next_evidence(office, cursor) } else { None };
            let Some(index) = next else {
                steady.end();
                return None;
            };
            cursor = LogIndex(index.0 + 1);
            Some(this.item(office, index, &mut steady))
        };
        tokio::spawn(self.feed(changes, turn, items, None, next));
        stream
    }

    /// Messages once more, whatever was stated about them, for a node that lost them.
    #[must_use]
    pub fn again(mut self, entries: Vec<LogIndex>) -> Items<wire::Delivery> {
        let (items, stream) = mpsc::channel(READ_AHEAD);
        tokio::spawn(async move {
            let mut steady = Steady::default();
            for index in entries {
                let place = tokio::select! {
                    place = items.reserve() => place.ok(),
                    _ = self.stopping.wait_for(|stopping| *stopping) => None,
                };
                let Some(place) = place else { return };
                place.send(self.delivery(index, &mut steady).map_err(Into::into));
            }
        });
        stream
    }

    async fn feed<T>(
        mut self,
        mut changes: watch::Receiver<u64>,
        mut turn: Turn,
        items: mpsc::Sender<Result<T, Status>>,
        credit: Option<Arc<Semaphore>>,
        mut next: impl FnMut(&Self) -> Option<Result<T, Refusal>>,
    ) {
        let credited = async |credit: &Option<Arc<Semaphore>>| match credit {
            Some(credit) => credit.acquire().await.map(|permit| permit.forget()).is_ok(),
            None => true,
        };
        let mut paid = false;
        let mut gate = self.gate.changes();
        loop {
            // Credit and place first: what is read into memory can be handed over.
            let place = tokio::select! {
                place = async { if paid || credited(&credit).await { items.reserve().await.ok() } else { None } } => place,
                () = turn.over() => return,
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
            };
            let Some(place) = place else { return };
            paid = true;
            changes.mark_unchanged();
            gate.mark_unchanged();
            match next(&self) {
                Some(Ok(item)) => {
                    place.send(Ok(item));
                    paid = false;
                }
                // What cannot be read is the operator's trouble; it must not hold up what comes behind it. The
                // recipient sees the gap in its numbers.
                Some(Err(refusal)) => tracing::error!(%refusal, "a stored entry could not be delivered"),
                None => {
                    drop(place);
                    tokio::select! {
                        changed = changes.changed() => if changed.is_err() { return },
                        _ = gate.changed() => {}
                        () = items.closed() => return,
                        () = turn.over() => return,
                        _ = self.stopping.wait_for(|stopping| *stopping) => return,
                    }
                }
            }
        }
    }
}

/// Receipts under one checkpoint for what goes out together: whoever receives it asks once how that checkpoint compares
/// with what it has seen, not once for each.
#[derive(Default)]
struct Steady {
    checkpoint: Option<VerifiedCheckpoint>,
    left: usize,
}

impl Steady {
    /// Receipts under the same checkpoint at most.
    const MOST: usize = 64;

    fn receipt(&mut self, reader: &LogReader, index: LogIndex) -> Result<wire::Receipt, Refusal> {
        let usable = self.checkpoint.take().filter(|checkpoint| self.left > 0 && index.0 < checkpoint.size());
        if usable.is_none() {
            self.left = Self::MOST;
        }
        self.left -= 1;
        let checkpoint = self.checkpoint.insert(usable.unwrap_or_else(|| reader.checkpoint()));
        reader.receipt_under(index, checkpoint)
    }

    /// Nothing more goes out for now: what comes next is under the newest checkpoint.
    fn end(&mut self) {
        self.checkpoint = None;
    }
}

/// A task that ends with whoever holds this.
struct Ends(tokio::task::AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Adds the credit that requests give. When they end nothing more is granted: what was granted still goes out, and the
/// turn ends with the connection.
async fn grant(mut requests: Streaming<wire::ReceiveRequest>, granted: Arc<Semaphore>) {
    while let Ok(Some(request)) = requests.message().await {
        let room = (limits::CREDIT as usize).saturating_sub(granted.available_permits());
        granted.add_permits((request.credit as usize).min(room));
    }
}
