//! What became of the office's own messages: entries of the log about them, verified and kept.

use std::sync::Arc;

use liaison_log::{leaf::ExchangeLeaf, remote::RemoteLog, verify::verify_entry};
use liaison_proto::{failure::chain, wire};

use crate::{
    directory::DirectoryReplica,
    record::{Evidence, NodeRecord},
    retry::Backoff,
    store::StoreError,
    submit::Link,
};

/// Receives evidence until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link, directory: Arc<DirectoryReplica>, source: RemoteLog) -> Result<(), StoreError> {
    let mut backoff = Backoff::default();
    loop {
        let from_index = link.store.state().evidence_from.0;
        if let Ok(stream) = link.exchange().evidence(wire::EvidenceRequest { from_index }).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(item)) = stream.message().await {
                let receipt = item.receipt.unwrap_or_default();
                if !take(&link, &directory, &source, receipt).await? {
                    break;
                }
                backoff.reset();
            }
        }
        tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await;
    }
}

async fn take(
    link: &Link,
    directory: &DirectoryReplica,
    source: &RemoteLog,
    receipt: wire::Receipt,
) -> Result<bool, StoreError> {
    let verified = match link.view.verify(&receipt).await {
        Ok(verified) => verified,
        Err(error) => {
            link.report(&error, &receipt).await?;
            return Ok(false);
        }
    };
    if verified.index < link.store.state().evidence_from {
        return Ok(true);
    }
    let leaf = match ExchangeLeaf::parse(&verified.leaf) {
        Ok(leaf) => leaf,
        Err(error) => {
            link.alarm(format!("entry {} was shown as evidence: {error}", verified.index), receipt.leaf).await?;
            return Ok(false);
        }
    };
    if directory.directory().size() < leaf.directory_size && directory.update(source).await.is_err() {
        return Ok(false);
    }
    let checked = verify_entry(&leaf, &directory.directory());
    if let Err(error) = checked {
        link.alarm(format!("entry {} does not verify: {}", verified.index, chain(&error)), receipt.leaf).await?;
        return Ok(false);
    }
    link.store.write(vec![NodeRecord::Evidence(Evidence { receipt: Some(receipt) }).into()]).await?;
    Ok(true)
}
