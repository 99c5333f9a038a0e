//! A log read from the broker over gRPC.

use liaison_proto::{
    Bytes, limits,
    wire::{self, log_client::LogClient},
};
use tonic::{Status, transport::Channel};

use crate::mirror::LogSource;

/// One of the broker's two logs, as its `Log` service shows it.
#[derive(Clone, Debug)]
pub struct RemoteLog {
    client: LogClient<Channel>,
    log: wire::LogName,
}

impl RemoteLog {
    /// The log of this name behind `channel`.
    #[must_use]
    pub fn new(channel: Channel, log: wire::LogName) -> Self {
        Self { client: LogClient::new(channel).max_decoding_message_size(limits::BUNDLE_BYTES + 1024), log }
    }

    /// RFC 6962 consistency proof between two sizes.
    ///
    /// # Errors
    /// The broker's refusal, or a failure of the link.
    pub async fn consistency(&self, old_size: u64, new_size: u64) -> Result<Vec<Bytes>, Status> {
        let request = wire::ConsistencyRequest { log: self.log.into(), old_size, new_size };
        Ok(self.client.clone().consistency(request).await?.into_inner().hashes)
    }
}

impl LogSource for RemoteLog {
    type Error = Status;

    async fn checkpoint(&self) -> Result<Bytes, Status> {
        let request = wire::CheckpointRequest { log: self.log.into() };
        Ok(self.client.clone().checkpoint(request).await?.into_inner().checkpoint)
    }

    async fn bundle(&self, index: u64, width: u32) -> Result<Bytes, Status> {
        let request = wire::EntriesRequest { log: self.log.into(), index, width };
        Ok(self.client.clone().entries(request).await?.into_inner().bundle)
    }
}
