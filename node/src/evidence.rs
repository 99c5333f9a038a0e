//! What became of the office's own messages: entries of the log about them, verified and kept.

use std::sync::Arc;

use liaison_log::{
    leaf::{Event, ExchangeLeaf},
    remote::RemoteLog,
    verify::verify_entry,
};
use liaison_proto::{failure::chain, ids::LogIndex, wire};

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
    // Behind an entry that will never verify there may be good ones.
    let mut passed = LogIndex(0);
    loop {
        let from_index = link.store.state().evidence_from.max(passed).0;
        if let Ok(stream) = link.exchange().evidence(wire::EvidenceRequest { from_index }).await {
            let mut stream = stream.into_inner();
            while let Ok(Some(item)) = stream.message().await {
                match take(&link, &directory, &source, item.receipt.unwrap_or_default()).await? {
                    Taken::Kept => backoff.reset(),
                    Taken::PassedOver(index) => passed = passed.max(LogIndex(index.0.saturating_add(1))),
                    Taken::Later => break,
                }
            }
        }
        tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await;
    }
}

enum Taken {
    Kept,
    PassedOver(LogIndex),
    Later,
}

async fn take(
    link: &Link,
    directory: &DirectoryReplica,
    source: &RemoteLog,
    receipt: wire::Receipt,
) -> Result<Taken, StoreError> {
    let verified = match link.view.verify(&receipt).await {
        Ok(verified) => verified,
        Err(error) => {
            link.report(&error, &receipt).await?;
            return Ok(Taken::Later);
        }
    };
    if verified.index < link.store.state().evidence_from {
        return Ok(Taken::Kept);
    }
    let leaf = match ExchangeLeaf::parse(&verified.leaf) {
        Ok(leaf) => leaf,
        Err(error) => {
            link.alarm(format!("entry {} was shown as evidence: {error}", verified.index), receipt.leaf).await?;
            return Ok(Taken::PassedOver(verified.index));
        }
    };
    let is_own = match &leaf.event {
        Event::Attested { statement, .. } => link.store.state().outgoing.contains_key(&statement.message_id),
        Event::Accepted { .. } => false,
    };
    if !is_own {
        link.alarm(
            format!("entry {} was shown as evidence and is of no message sent from here", verified.index),
            receipt.leaf,
        )
        .await?;
        return Ok(Taken::PassedOver(verified.index));
    }
    if directory.directory().size() < leaf.directory_size && directory.update(source).await.is_err() {
        return Ok(Taken::Later);
    }
    let checked = verify_entry(&leaf, &directory.directory());
    if let Err(error) = checked {
        link.alarm(format!("entry {} does not verify: {}", verified.index, chain(&error)), receipt.leaf).await?;
        return Ok(Taken::PassedOver(verified.index));
    }
    link.store.write(vec![NodeRecord::Evidence(Evidence { receipt: Some(receipt) }).into()]).await?;
    Ok(Taken::Kept)
}
