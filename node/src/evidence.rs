//! What became of the office's own messages: entries of the log about them, verified and kept.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use liaison_log::{
    leaf::{Event, ExchangeLeaf},
    remote::{RemoteLog, within},
    verify::verify_entry,
};
use liaison_proto::{
    Bytes,
    failure::chain,
    ids::{Lane, LogIndex},
    sha256,
    wire::{self, log_client::LogClient},
};

use crate::{
    directory::DirectoryReplica,
    link::Link,
    record::{Evidence, NodeRecord, Recovered},
    retry::{Backoff, gather},
    state::{Outgoing, Submission},
    store::StoreError,
};

/// How long the broker may take to begin an answer.
const BEGIN: Duration = Duration::from_secs(30);

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
        let request = wire::EvidenceRequest { from_index };
        if let Ok(stream) = within(BEGIN, link.exchange(Lane::Urgent).evidence(request)).await {
            let mut stream = stream.into_inner();
            // After an end of the log it is asked for from there.
            let mut ends = link.view.ends();
            loop {
                let item = tokio::select! {
                    item = stream.message() => item,
                    _ = ends.changed() => {
                        passed = LogIndex(0);
                        break;
                    }
                };
                let Ok(Some(item)) = item else { break };
                // What has come besides is kept together.
                gather(Lane::Bulk).await;
                let mut items = vec![item];
                while items.len() < TOGETHER
                    && let Some(Ok(Some(more))) = stream.message().now_or_never()
                {
                    items.push(more);
                }
                let (mut records, mut later) = (Vec::new(), false);
                let mut from = link.store.state().evidence_from;
                for item in items {
                    match take(&link, &directory, &source, item, from).await? {
                        Taken::New(index, record) => {
                            from = LogIndex(index.0.saturating_add(1));
                            records.push(NodeRecord::Evidence(record).into());
                        }
                        Taken::Kept => backoff.reset(),
                        Taken::PassedOver(index) => passed = passed.max(LogIndex(index.0.saturating_add(1))),
                        Taken::Later => {
                            later = true;
                            break;
                        }
                    }
                }
                if !records.is_empty() {
                    link.store.write(records).await?;
                    backoff.reset();
                }
                if later {
                    break;
                }
            }
        }
        tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await;
    }
}

/// Items that are kept together at most.
const TOGETHER: usize = 32;

enum Taken {
    /// An entry to be kept.
    New(LogIndex, Evidence),
    /// It is here already.
    Kept,
    PassedOver(LogIndex),
    Later,
}

async fn take(
    link: &Link,
    directory: &DirectoryReplica,
    source: &RemoteLog,
    item: wire::EvidenceItem,
    from: LogIndex,
) -> Result<Taken, StoreError> {
    let (receipt, wrap) = (item.receipt.unwrap_or_default(), item.wrap);
    let Some(verified) = link.verified(&receipt, Lane::Urgent).await? else { return Ok(Taken::Later) };
    if verified.index < from {
        return Ok(Taken::Kept);
    }
    let leaf = match ExchangeLeaf::parse(&verified.leaf) {
        Ok(leaf) => leaf,
        Err(error) => {
            link.alarm(format!("entry {} was shown as evidence: {error}", verified.index), receipt.leaf).await?;
            return Ok(Taken::PassedOver(verified.index));
        }
    };
    // First: what is judged by a directory that is behind looks like a forgery.
    if directory.directory().size() < leaf.directory_size && directory.update(source).await.is_err() {
        return Ok(Taken::Later);
    }
    match concerns(link, &leaf, &wrap) {
        Concern::Own => {}
        // After a restore the store may have lost what it sent; the log has it.
        Concern::SentFromHere(accepted) => match recover(link, directory, accepted).await? {
            Taken::Kept => {}
            other => return Ok(other),
        },
        Concern::None => {
            let what = format!("entry {} was shown as evidence and concerns no message of this office", verified.index);
            link.alarm(what, receipt.leaf).await?;
            return Ok(Taken::PassedOver(verified.index));
        }
    }
    let checked = verify_entry(&leaf, &directory.directory());
    if let Err(error) = checked {
        link.alarm(format!("entry {} does not verify: {}", verified.index, chain(&error)), receipt.leaf).await?;
        return Ok(Taken::PassedOver(verified.index));
    }
    let id = leaf.event.message_id();
    let is_cancelled = |outgoing: &Outgoing| outgoing.submission == Submission::Cancelled;
    let cancelled = id.is_some_and(|id| link.store.state().outgoing.get(&id).is_some_and(is_cancelled));
    if let Some(id) = id.filter(|_| cancelled) {
        let what = format!("message {id} was taken back before it left, and entry {} is about it", verified.index);
        link.alarm(what, receipt.leaf.clone()).await?;
    }
    Ok(Taken::New(verified.index, Evidence { receipt: Some(receipt), wrap }))
}

enum Concern {
    /// About a message that is here.
    Own,
    /// Stated by somebody about a message of this index that this store does not have.
    SentFromHere(LogIndex),
    None,
}

fn concerns(link: &Link, leaf: &ExchangeLeaf, wrap: &Bytes) -> Concern {
    let state = link.store.state();
    let (Some(id), own) = (leaf.event.message_id(), state.office()) else { return Concern::None };
    if state.outgoing.contains_key(&id) {
        return Concern::Own;
    }
    match &leaf.event {
        Event::NonDelivery(given_up) if Some(given_up.recipient) == own => Concern::Own,
        Event::Rewrapped { statement, .. } if Some(statement.recipient) == own => {
            if sha256(&[wrap]) == statement.wrap_sha256 { Concern::Own } else { Concern::None }
        }
        event => event.accepted().map_or(Concern::None, Concern::SentFromHere),
    }
}

/// Fetches the ACCEPTED entry of a message that this office signed and this store does not have.
async fn recover(link: &Link, directory: &DirectoryReplica, accepted: LogIndex) -> Result<Taken, StoreError> {
    let mut log = LogClient::new(link.connections.lanes[Lane::Urgent as usize].clone());
    let request = wire::EntryRequest { log: wire::LogName::Exchange.into(), index: accepted.0 };
    let receipt = match within(BEGIN, log.entry(request)).await {
        Ok(answer) => answer.into_inner().receipt.unwrap_or_default(),
        Err(_) => return Ok(Taken::Later),
    };
    let Some(verified) = link.verified(&receipt, Lane::Urgent).await? else { return Ok(Taken::Later) };
    let office = link.store.state().office();
    let own = ExchangeLeaf::parse(&verified.leaf).ok().filter(|leaf| {
        let from = match &leaf.event {
            Event::Accepted { header, .. } => Some(header.core().from),
            _ => None,
        };
        from == office && verify_entry(leaf, &directory.directory()).is_ok()
    });
    if own.is_none() || verified.index != accepted {
        let what = format!("entry {accepted} was shown as a message of this office, and is none");
        link.alarm(what, receipt.leaf).await?;
        return Ok(Taken::PassedOver(accepted));
    }
    tracing::warn!(entry = accepted.0, "a message that this store had lost was found again in the log");
    let record = NodeRecord::Recovered(Recovered { receipt: Some(receipt), at_ms: link.clock.now().0 });
    link.store.write(vec![record.into()]).await?;
    Ok(Taken::Kept)
}
