//! Delivery: what waits for an office goes out on its stream, FLASH first, until the office has signed for it.

use std::{collections::HashMap, sync::Arc};

use liaison_log::{
    leaf::{Event, ExchangeLeaf},
    reader::LogReader,
};
use liaison_proto::{
    ProtoMessage as _,
    ids::{Lane, LogIndex, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire,
};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::queue::{Queue, Stream, Turn};

/// Items on their way on one stream: enough to fill a link, few enough that FLASH does not wait behind them long.
const IN_FLIGHT: usize = 16;
const LANES: [Lane; 3] = [Lane::Flash, Lane::Urgent, Lane::Bulk];

/// What the streams read from.
#[derive(Clone)]
pub struct Deliverer {
    /// The exchange log.
    pub reader: Arc<LogReader>,
    /// What waits.
    pub queue: Arc<Queue>,
    /// Turns true when the broker stops.
    pub stopping: watch::Receiver<bool>,
}

impl Deliverer {
    /// The envelope of an ACCEPTED entry, put together from leaf and body, with its proof.
    fn delivery(&self, index: LogIndex) -> Result<wire::Delivery, Refusal> {
        let receipt = self.reader.receipt(index)?;
        let damaged = |_| Refusal::new(RefusalCode::Unavailable, "a stored message could not be read");
        let leaf = ExchangeLeaf::parse(&receipt.leaf).map_err(|e| damaged(e.to_string()))?;
        let Event::Accepted { header, signature, .. } = leaf.event else {
            return Err(Refusal::new(RefusalCode::OutOfRange, "not an ACCEPTED entry"));
        };
        let body = wire::Envelope::decode(self.reader.body(index)?).map_err(|e| damaged(e.to_string()))?;
        let envelope = wire::Envelope {
            header: header.bytes().clone(),
            office_signature: signature,
            erasable: body.erasable,
            body: body.body,
        };
        Ok(wire::Delivery { envelope: Some(envelope), receipt: Some(receipt) })
    }

    /// Everything that waits for an office, then what comes.
    #[must_use]
    pub fn receive(self, office: OfficeId) -> mpsc::Receiver<Result<wire::Delivery, Status>> {
        let (items, stream) = mpsc::channel(IN_FLIGHT);
        let (changes, turn) = (self.queue.changes(office), self.queue.turn(office, Stream::Receive));
        let mut sent: HashMap<Lane, LogIndex> = HashMap::new();
        let next = move |this: &Self| {
            LANES.iter().find_map(|&lane| {
                let index = this.queue.next_waiting(office, lane, sent.get(&lane).copied())?;
                sent.insert(lane, index);
                Some(this.delivery(index))
            })
        };
        tokio::spawn(self.feed(changes, turn, items, next));
        stream
    }

    /// Evidence about an office's own messages from an index on, then what comes.
    #[must_use]
    pub fn evidence(self, office: OfficeId, from: LogIndex) -> mpsc::Receiver<Result<wire::EvidenceItem, Status>> {
        let (items, stream) = mpsc::channel(IN_FLIGHT);
        let (changes, turn) = (self.queue.changes(office), self.queue.turn(office, Stream::Evidence));
        let mut cursor = from;
        let next = move |this: &Self| {
            let index = this.queue.next_evidence(office, cursor)?;
            cursor = LogIndex(index.0 + 1);
            Some(this.reader.receipt(index).map(|receipt| wire::EvidenceItem { receipt: Some(receipt) }))
        };
        tokio::spawn(self.feed(changes, turn, items, next));
        stream
    }

    async fn feed<T>(
        mut self,
        mut changes: watch::Receiver<u64>,
        mut turn: Turn,
        items: mpsc::Sender<Result<T, Status>>,
        mut next: impl FnMut(&Self) -> Option<Result<T, Refusal>>,
    ) {
        loop {
            // The place first: what is read into memory can be handed over.
            let place = tokio::select! {
                place = items.reserve() => place,
                () = turn.over() => return,
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
            };
            let Ok(place) = place else { return };
            changes.mark_unchanged();
            match next(&self) {
                Some(Ok(item)) => place.send(Ok(item)),
                // What cannot be read is the operator's trouble; it must not hold up what comes behind it. The
                // recipient sees the gap in its numbers.
                Some(Err(refusal)) => tracing::error!(%refusal, "a stored entry could not be delivered"),
                None => {
                    drop(place);
                    tokio::select! {
                        changed = changes.changed() => if changed.is_err() { return },
                        () = items.closed() => return,
                        () = turn.over() => return,
                        _ = self.stopping.wait_for(|stopping| *stopping) => return,
                    }
                }
            }
        }
    }
}
