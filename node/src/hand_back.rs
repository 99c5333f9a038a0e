//! What this node has seen of the logs is shown to the broker on connecting and then regularly. A broker that was
//! restored from an older backup is given back what it lost: entries with their proofs, and the sealed bodies beside
//! them. It had all of it before, so nothing is told that it did not know.

use std::{io, ops::Range, sync::Arc, time::Duration};

use liaison_log::{
    checkpoint::VerifiedCheckpoint,
    mirror::LogSource as _,
    remote::{RemoteLog, within},
};
use liaison_proto::{
    Bytes,
    failure::chain,
    ids::{Lane, LogIndex},
    limits,
    wire::{self, LogName, repair_client::RepairClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::{directory::DirectoryReplica, link::Link, store::StoreError};

const CALL: Duration = Duration::from_secs(30);
/// Longest stream of entries before it is looked again at what is missing.
const WHOLE: Duration = Duration::from_secs(60 * 60);
/// Between looks while something is missing.
const SOON: Duration = Duration::from_secs(1);

/// Shows what this node has seen, hands back what the broker lost, and compares the logs, until the store stops.
///
/// # Errors
/// [`StoreError`].
pub async fn run(
    link: Link,
    directory: Arc<DirectoryReplica>,
    source: RemoteLog,
    every: Duration,
) -> Result<(), StoreError> {
    let mut losing = false;
    loop {
        let pause = match present(&link, &directory).await {
            Some(lost) if !lost.is_empty() => {
                report(&link, &lost).await?;
                for entries in &lost {
                    hand_back(&link, &directory, entries).await?;
                }
                losing = true;
                SOON
            }
            Some(_) => {
                if std::mem::take(&mut losing) {
                    tracing::info!("the broker is whole again");
                    link.health.note("repair", None);
                    link.uploads.look_again(&link.store.state());
                }
                compare(&link, &source).await?;
                every
            }
            None => every,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = link.connected.notified() => {}
        }
    }
}

fn client(link: &Link) -> RepairClient<Channel> {
    RepairClient::new(link.connections.lanes[Lane::Urgent as usize].clone())
        .max_encoding_message_size(limits::GRPC_BYTES)
}

/// What the broker lacks; none when it did not answer.
async fn present(link: &Link, directory: &DirectoryReplica) -> Option<Vec<wire::LostEntries>> {
    let exchange = link.view.newest().await.map(|checkpoint| checkpoint.note().clone()).unwrap_or_default();
    let request = wire::PresentRequest { directory: directory.checkpoint().await, exchange };
    match within(CALL, client(link).present(request)).await {
        Ok(answer) => Some(answer.into_inner().lost),
        Err(status) => {
            tracing::debug!(code = ?status.code(), "the broker was not shown what this node has seen");
            None
        }
    }
}

/// A log that lost entries is trouble, whether or not they come back.
async fn report(link: &Link, lost: &[wire::LostEntries]) -> Result<(), StoreError> {
    for entries in lost {
        let log = if entries.log() == LogName::Directory { "directory" } else { "exchange" };
        let missing: u64 = entries.missing.iter().map(|gap| gap.to.saturating_sub(gap.from)).sum();
        link.health.note(
            "repair",
            Some(format!(
                "the broker was rolled back and is being repaired: its {log} log has {} entries and once had {}, \
                 {missing} are still missing; FLASH and URGENT first, the rest waits",
                entries.size, entries.signed_size
            )),
        );
        let what = format!(
            "the broker was rolled back: its {log} log has {} entries and once had {}",
            entries.size, entries.signed_size
        );
        link.alarm(what, Bytes::new()).await?;
    }
    Ok(())
}

/// Streams what this node has of the missing entries.
async fn hand_back(link: &Link, directory: &DirectoryReplica, lost: &wire::LostEntries) -> Result<(), StoreError> {
    let gaps: Vec<Range<u64>> = lost.missing.iter().map(|gap| gap.from..gap.to).collect();
    let Some(first) = gaps.first().map(|gap| gap.start) else { return Ok(()) };
    let (sender, requests) = mpsc::channel(4);
    let calling = tokio::spawn({
        let mut client = client(link);
        async move { within(WHOLE, client.hand_back(ReceiverStream::new(requests))).await }
    });
    if lost.log() == LogName::Directory {
        let receipts = directory.receipts(first).await.unwrap_or_default();
        for (index, receipt) in (first..).zip(receipts) {
            let request = wire::HandBackRequest { log: lost.log, receipt: Some(receipt), kept: None };
            if gaps.iter().any(|gap| gap.contains(&index)) && sender.send(request).await.is_err() {
                break;
            }
        }
    } else {
        send_entries(link, lost, &gaps, &sender).await?;
    }
    drop(sender);
    match calling.await {
        Ok(Ok(answer)) => {
            let taken = answer.into_inner().taken;
            if taken > 0 {
                tracing::warn!(taken, "entries that the broker had lost were handed back");
            }
        }
        Ok(Err(status)) => tracing::warn!(code = ?status.code(), "not all was handed back"),
        Err(error) => tracing::error!(%error, "handing back failed"),
    }
    Ok(())
}

async fn send_entries(
    link: &Link,
    lost: &wire::LostEntries,
    gaps: &[Range<u64>],
    sender: &mpsc::Sender<wire::HandBackRequest>,
) -> Result<(), StoreError> {
    for gap in gaps {
        let mut next = gap.start;
        loop {
            let held = {
                let state = link.store.state();
                let held = state.entries.range(LogIndex(next)..LogIndex(gap.end));
                held.into_iter().find(|(_, held)| held.complete).map(|(index, held)| (*index, *held))
            };
            let Some((index, held)) = held else { break };
            next = index.0 + 1;
            match read_entry(link, &held) {
                Ok((receipt, kept)) => {
                    let request = wire::HandBackRequest { log: lost.log, receipt: Some(receipt), kept };
                    if sender.send(request).await.is_err() {
                        return Ok(());
                    }
                }
                Err(error) => {
                    link.alarm(format!("entry {index} cannot be read to be handed back: {error}"), Bytes::new())
                        .await?;
                }
            }
        }
    }
    Ok(())
}

fn read_entry(link: &Link, held: &crate::state::HeldEntry) -> io::Result<(wire::Receipt, Option<wire::Envelope>)> {
    let record = link.store.record(held.record)?;
    let (receipt, wrap) = record.entry().ok_or(io::ErrorKind::InvalidData)?;
    let kept = match (held.body, wrap) {
        (Some(body), _) => Some(link.store.body(body)?),
        (None, Some(wrap)) if !wrap.is_empty() => {
            let erasable = Some(wire::ErasableSide { wraps: vec![wrap.clone()], ..wire::ErasableSide::default() });
            Some(wire::Envelope { erasable, ..wire::Envelope::default() })
        }
        _ => None,
    };
    Ok((receipt.clone(), kept))
}

/// Compares the broker's newest checkpoint with this node's view: a log that was rolled back without asking for its
/// entries is noticed before the next message.
async fn compare(link: &Link, source: &RemoteLog) -> Result<(), StoreError> {
    let Ok(note) = source.checkpoint().await else { return Ok(()) };
    match VerifiedCheckpoint::verify(&note, link.view.log()) {
        Ok(checkpoint) => match link.view.extend(&checkpoint, Lane::Bulk).await {
            Err(error) if error.is_alarm() => link.alarm(chain(&error), note).await,
            _ => Ok(()),
        },
        Err(error) => link.alarm(format!("the broker's checkpoint: {error}"), note).await,
    }
}
