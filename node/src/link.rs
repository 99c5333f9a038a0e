//! What every loop that talks to the broker needs. FLASH has a connection of its own, and so has what is large: neither
//! a queue of routine messages nor an attachment stands before a call for help.

use std::sync::Arc;

use liaison_link::charter_files::Charters;
use liaison_log::verify::VerifiedReceipt;
use liaison_proto::{
    Bytes,
    clock::Clock,
    entropy::SharedEntropy,
    failure::chain,
    ids::Lane,
    limits,
    wire::{self, attachments_client::AttachmentsClient, exchange_client::ExchangeClient},
};
use tokio::sync::Notify;
use tonic::transport::Channel;

use crate::{
    attachments::uploaded::Uploads,
    health::Health,
    leaving::Leaving,
    log_view::{LogView, ViewError},
    record::{Alarm, NodeRecord},
    store::{Store, StoreError},
};

/// Alarms kept at most that nobody has seen, each with an exhibit of at most a leaf: a cheating broker must not fill the disk.
const MOST_ALARMS: usize = 2_000;

/// The connections to the broker, each made when it is first used.
#[derive(Clone)]
pub struct Connections {
    /// Per lane, in the order of [`Lane::ALL`].
    pub lanes: [Channel; 3],
    /// For attachments.
    pub attachments: Channel,
}

/// What every loop that talks to the broker needs.
#[derive(Clone)]
pub struct Link {
    /// The connections.
    pub connections: Connections,
    /// The store.
    pub store: Store,
    /// The node's view of the exchange log.
    pub view: Arc<LogView>,
    /// Which messages may have left.
    pub leaving: Arc<Leaving>,
    /// Which attachments the broker has.
    pub uploads: Uploads,
    /// The newest charter: the broker's key for refusals, and the log's.
    pub charters: Charters,
    /// What may be wrong with this node.
    pub health: Arc<Health>,
    /// Tells that a stream from the broker has begun.
    pub connected: Arc<Notify>,
    /// The wall clock, never earlier than the log.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: SharedEntropy,
}

impl Link {
    /// The `Exchange` service on a lane's connection.
    #[must_use]
    pub fn exchange(&self, lane: Lane) -> ExchangeClient<Channel> {
        ExchangeClient::new(self.connections.lanes[lane as usize].clone())
            .max_decoding_message_size(limits::GRPC_BYTES)
            .max_encoding_message_size(limits::GRPC_BYTES)
    }

    /// The `Attachments` service.
    #[must_use]
    pub fn attachments(&self) -> AttachmentsClient<Channel> {
        AttachmentsClient::new(self.connections.attachments.clone())
            .max_decoding_message_size(limits::PART_BYTES + 1024)
    }

    /// Keeps an alarm: something that only trouble or bad faith explains.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn alarm(&self, what: impl Into<String>, exhibit: Bytes) -> Result<(), StoreError> {
        let what = what.into();
        let known = {
            let state = self.store.state();
            // What an officer has seen and happens again is told again.
            state.unseen_alarms().count() >= MOST_ALARMS || state.unseen_alarms().any(|alarm| alarm.what == what)
        };
        if !known {
            tracing::error!(%what, "alarm");
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

    /// Verifies a receipt, and reports it when it is not believed.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn verified(&self, receipt: &wire::Receipt, lane: Lane) -> Result<Option<VerifiedReceipt>, StoreError> {
        match self.view.verify(receipt, lane).await {
            Ok(verified) => Ok(Some(verified)),
            Err(error) => self.report(&error, receipt).await.map(|()| None),
        }
    }
}
