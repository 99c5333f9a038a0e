//! The way to the broker: what is in the outbox is submitted in its order, one lane beside the other, until the broker
//! has receipted or finally refused it.

use std::{sync::Arc, time::Duration};

use liaison_log::{
    leaf::{Event, ExchangeLeaf},
    remote::within,
};
use liaison_proto::{
    Bytes,
    clock::Clock,
    entropy::SharedEntropy,
    failure::chain,
    ids::{Lane, MessageId},
    limits,
    refusal::{Refusal, is_final_refusal},
    wire::{self, exchange_client::ExchangeClient},
};
use tonic::transport::Channel;

use crate::{
    log_view::{LogView, ViewError},
    record::{Alarm, NodeRecord, Receipted, Refused},
    retry::Backoff,
    state::Submission,
    store::{Store, StoreError},
};

/// How long the largest message may take: 1.2 MB at 64 kbit/s and as much again.
const LARGEST_CALL: Duration = Duration::from_secs(300);
/// Alarms kept at most, each with an exhibit of at most a leaf: a cheating broker must not fill the disk.
const MOST_ALARMS: usize = 2_000;

/// What every loop that talks to the broker needs.
#[derive(Clone)]
pub struct Link {
    /// The connection.
    pub channel: Channel,
    /// The store.
    pub store: Store,
    /// The node's view of the exchange log.
    pub view: Arc<LogView>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: SharedEntropy,
}

impl Link {
    /// The `Exchange` service.
    #[must_use]
    pub fn exchange(&self) -> ExchangeClient<Channel> {
        ExchangeClient::new(self.channel.clone())
            .max_decoding_message_size(limits::GRPC_BYTES)
            .max_encoding_message_size(limits::GRPC_BYTES)
    }

    /// Keeps an alarm: something that only trouble or bad faith explains.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn alarm(&self, what: impl Into<String>, exhibit: Bytes) -> Result<(), StoreError> {
        let what = what.into();
        tracing::error!(%what, "alarm");
        let known = {
            let state = self.store.state();
            state.alarms.len() >= MOST_ALARMS || state.alarms.iter().any(|alarm| alarm.what == what)
        };
        if !known {
            let exhibit = exhibit.slice(..exhibit.len().min(limits::LEAF_BYTES));
            let record = NodeRecord::Alarm(Alarm { at_ms: self.clock.now().0, what, exhibit });
            self.store.write(vec![record.into()]).await?;
        }
        Ok(())
    }

    /// Reports why a receipt was not believed: an alarm, or a warning when only the link failed.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn report(&self, error: &ViewError, exhibit: &wire::Receipt) -> Result<(), StoreError> {
        if error.is_alarm() {
            return self.alarm(chain(error), exhibit.proof.clone()).await;
        }
        tracing::warn!(error = chain(error), "a receipt could not be checked yet");
        Ok(())
    }
}

enum Outcome {
    Done,
    Retry,
    /// Its stored bytes are damaged; what is behind it must not wait.
    Unreadable,
}

/// Submits one lane's messages in order, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link, lane: Lane) -> Result<(), StoreError> {
    let mut changes = link.store.changes();
    let mut backoff = Backoff::default();
    let mut unreadable: Vec<MessageId> = Vec::new();
    loop {
        changes.mark_unchanged();
        let next = {
            let state = link.store.state();
            let lane_only =
                state.to_submit.range((lane, 0, MessageId::LOWEST)..).take_while(|(found, ..)| *found == lane);
            lane_only.map(|(_, _, id)| *id).find(|id| !unreadable.contains(id))
        };
        match next {
            Some(id) => match submit(&link, id).await? {
                Outcome::Done => backoff.reset(),
                Outcome::Unreadable => unreadable.push(id),
                Outcome::Retry => tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await,
            },
            None => changes.changed().await.map_err(|_| StoreError::Stopped)?,
        }
    }
}

async fn submit(link: &Link, id: MessageId) -> Result<Outcome, StoreError> {
    let envelope = {
        let state = link.store.state();
        let Some(outgoing) = state.outgoing.get(&id).filter(|o| o.submission == Submission::Queued) else {
            return Ok(Outcome::Done);
        };
        link.store.envelope(&outgoing.header, outgoing.signature.as_ref(), outgoing.body)
    };
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(error) => {
            link.alarm(format!("message {id} cannot be read from the outbox: {error}"), Bytes::new()).await?;
            return Ok(Outcome::Unreadable);
        }
    };
    let request = wire::SubmitRequest { envelope: Some(envelope.clone()) };
    let answer = within(LARGEST_CALL, link.exchange().submit(request)).await;
    let receipt = match answer {
        Ok(answer) => answer.into_inner().receipt.unwrap_or_default(),
        Err(status) => return refused(link, id, &status).await,
    };
    match link.view.verify(&receipt).await {
        Ok(verified) => {
            if !is_receipt_for(&verified.leaf, &envelope) {
                link.alarm(format!("the broker's receipt for {id} is of another message"), receipt.proof).await?;
                return Ok(Outcome::Retry);
            }
            check_numbers(link, &verified.leaf).await?;
            let record = NodeRecord::Receipted(Receipted {
                message_id: Bytes::copy_from_slice(id.as_bytes()),
                receipt: Some(receipt),
                at_ms: link.clock.now().0,
            });
            link.store.write(vec![record.into()]).await?;
            Ok(Outcome::Done)
        }
        Err(error) => {
            link.report(&error, &receipt).await?;
            Ok(Outcome::Retry)
        }
    }
}

async fn refused(link: &Link, id: MessageId, status: &tonic::Status) -> Result<Outcome, StoreError> {
    match Refusal::from_status(status) {
        Some(refusal) if !refusal.code.is_retryable() => {
            tracing::warn!(message = %id, code = %refusal.code, "refused by the broker");
            let record = NodeRecord::Refused(Refused {
                message_id: Bytes::copy_from_slice(id.as_bytes()),
                code: refusal.code.to_string(),
                detail: refusal.detail,
                at_ms: link.clock.now().0,
            });
            link.store.write(vec![record.into()]).await?;
            Ok(Outcome::Done)
        }
        // A refusal of a newer version: without RetryInfo it is final.
        None if is_final_refusal(status) => {
            let record = NodeRecord::Refused(Refused {
                message_id: Bytes::copy_from_slice(id.as_bytes()),
                code: "UNKNOWN_REFUSAL".to_owned(),
                detail: status.message().to_owned(),
                at_ms: link.clock.now().0,
            });
            link.store.write(vec![record.into()]).await?;
            Ok(Outcome::Done)
        }
        _ => {
            tracing::debug!(message = %id, code = ?status.code(), "not submitted yet");
            Ok(Outcome::Retry)
        }
    }
}

/// Whether a leaf is the ACCEPTED entry of exactly these header bytes and this signature.
pub(crate) fn is_receipt_for(leaf: &Bytes, envelope: &wire::Envelope) -> bool {
    match ExchangeLeaf::parse(leaf).map(|leaf| leaf.event) {
        Ok(Event::Accepted { header, signature, .. }) => {
            header.bytes() == &envelope.header && signature == envelope.office_signature
        }
        _ => false,
    }
}

/// The numbers given must be the next ones: a broker that skips one could hide a message behind it.
async fn check_numbers(link: &Link, leaf: &Bytes) -> Result<(), StoreError> {
    let Ok(Event::Accepted { header, numbers, .. }) = ExchangeLeaf::parse(leaf).map(|leaf| leaf.event) else {
        return Ok(());
    };
    for (channel, &number) in header.core().channels().zip(&numbers) {
        let last = link.store.state().sent_numbers.get(&channel).copied();
        if last.unwrap_or(0).checked_add(1) != Some(number) {
            let what = format!(
                "number {number} was given on {} -> {} {:?}, which is not the next one",
                channel.from, channel.to, channel.lane
            );
            link.alarm(what, leaf.clone()).await?;
        }
    }
    Ok(())
}
