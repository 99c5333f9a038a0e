//! A log read from the broker over gRPC.

use std::time::Duration;

use liaison_proto::{
    Bytes, limits,
    wire::{self, log_client::LogClient},
};
use tonic::{Code, Status, transport::Channel};

use crate::mirror::LogSource;

/// How long a read may take: a full bundle of the directory at 64 kbit/s, with other traffic beside it.
pub const DEADLINE: Duration = Duration::from_secs(300);

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
        Ok(within(DEADLINE, self.client.clone().consistency(request)).await?.into_inner().hashes)
    }

    /// The charters that follow the one of a number, the oldest first. They vouch for themselves.
    ///
    /// # Errors
    /// The broker's refusal, or a failure of the link.
    pub async fn charters(&self, after: u64) -> Result<Vec<wire::CharterRecord>, Status> {
        let request = wire::ChartersRequest { after };
        match within(DEADLINE, self.client.clone().charters(request)).await {
            // A broker of a version that has one charter.
            Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
            answer => {
                let mut charters = answer?.into_inner().charters;
                charters.truncate(limits::CHARTERS);
                Ok(charters)
            }
        }
    }
}

/// Bounds a call: a broker that answers pings but not the call must not hold anybody up.
///
/// # Errors
/// The call's own, or `DEADLINE_EXCEEDED`.
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("the broker took too long to answer")),
    }
}

impl LogSource for RemoteLog {
    type Error = Status;

    async fn checkpoint(&self) -> Result<Bytes, Status> {
        let request = wire::CheckpointRequest { log: self.log.into() };
        Ok(within(DEADLINE, self.client.clone().checkpoint(request)).await?.into_inner().checkpoint)
    }

    async fn bundle(&self, index: u64, width: u32, skip: u32) -> Result<Bytes, Status> {
        let request = wire::EntriesRequest { log: self.log.into(), index, width, skip };
        Ok(within(DEADLINE, self.client.clone().entries(request)).await?.into_inner().bundle)
    }
}
