//! What this node has seen of the logs is shown to the broker on connecting and then regularly. A broker that was
//! restored from an older backup is given back what it lost: entries with their proofs, and the sealed bodies beside
//! them. It had all of it before, so nothing is told that it did not know.

use std::{io, ops::Range, sync::Arc, time::Duration};

use liaison_log::{
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

use crate::{
    directory::DirectoryReplica, link::Link, retry::Backoff, store::StoreError, successor::Successor, urgent::Urgent,
};

/// What a broker that lacks what it signed is noted under, and one that waits for the offices.
pub(crate) const REPAIR: &str = "repair";
pub(crate) const CLOSED_LOG: &str = "closed";

const CALL: Duration = Duration::from_secs(30);
/// Between looks at a broker that takes nothing new.
const CLOSED: Duration = Duration::from_secs(5);
/// Longest stream of entries before it is looked again at what is missing.
const WHOLE: Duration = Duration::from_secs(60 * 60);

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
    let mut backoff = Backoff::default();
    let (mut losing, mut closed) = (false, false);
    let mut successor = Successor::default();
    let mut urgent = Urgent::default();
    loop {
        let mut pause = every;
        match present(&link, &directory).await {
            Some(answer) => {
                link.uploads.look_again(&link.store.state(), &answer.attachments);
                let seen =
                    [(LogName::Directory, directory.directory().size()), (LogName::Exchange, link.view.seen_size())];
                let lost = plausible(seen, answer.lost);
                report(&link, &lost).await?;
                let mut taken = 0;
                for entries in &lost {
                    taken += hand_back(&link, &directory, entries).await?;
                }
                if taken > 0 {
                    backoff.reset();
                }
                // What was handed back, or shown, just now may be all that was missing.
                if closed && answer.closed {
                    urgent.send(&link).await;
                } else if !answer.closed {
                    urgent.over();
                }
                closed = answer.closed;
                let waits = answer.closed && lost.is_empty();
                let line = "the broker was restored and waits until every office has shown what it knows; FLASH and URGENT \
                     go on unproven, the rest waits";
                link.health.note(CLOSED_LOG, waits.then(|| line.to_owned()));
                if waits {
                    pause = pause.min(CLOSED);
                }
                if !lost.is_empty() {
                    pause = backoff.pause(link.entropy.as_ref()).min(every);
                } else if losing {
                    tracing::info!("the broker is whole again");
                    link.health.note(REPAIR, None);
                }
                losing = !lost.is_empty();
            }
            None => tracing::debug!("the broker was not shown what this node has seen"),
        }
        // Whatever the broker says of itself: its checkpoint must fit.
        compare(&link, &source).await?;
        successor.follow(&link).await?;
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

/// What the broker says that it lacks; none when it did not answer.
async fn present(link: &Link, directory: &DirectoryReplica) -> Option<wire::PresentResponse> {
    let exchange = link.view.newest().await.map(|checkpoint| checkpoint.note().clone()).unwrap_or_default();
    let request = wire::PresentRequest { directory: directory.checkpoint().await, exchange };
    within(CALL, client(link).present(request)).await.ok().map(tonic::Response::into_inner)
}

/// What of an answer can be: a loss within what this node has seen of the log, in gaps that follow each other. A broker
/// that says anything else gets nothing for it.
fn plausible(seen: [(LogName, u64); 2], lost: Vec<wire::LostEntries>) -> Vec<wire::LostEntries> {
    let known =
        |entries: &wire::LostEntries| seen.iter().find(|(name, _)| *name == entries.log()).map(|(_, size)| *size);
    let mut kept: Vec<wire::LostEntries> = Vec::new();
    for mut entries in lost {
        let Some(seen) = known(&entries).filter(|_| kept.iter().all(|other| other.log != entries.log)) else {
            continue;
        };
        entries.missing.truncate(limits::REPAIR_GAPS);
        entries.missing.iter_mut().for_each(|gap| gap.to = gap.to.min(seen));
        let mut end = 0;
        entries.missing.retain(|gap| {
            let follows = gap.from >= end && gap.from < gap.to;
            end = end.max(gap.to);
            follows
        });
        kept.push(entries);
    }
    kept
}

/// A log that lost entries is trouble, whether or not they come back.
async fn report(link: &Link, lost: &[wire::LostEntries]) -> Result<(), StoreError> {
    for entries in lost {
        let log = if entries.log() == LogName::Directory { "directory" } else { "exchange" };
        let line = format!(
            "the broker was rolled back and is being repaired: its {log} log has {} entries and once had {}; FLASH and \
             URGENT go on unproven, the rest waits",
            entries.size, entries.signed_size
        );
        link.health.note(REPAIR, Some(line));
        // Once: a broker that says other sizes each time must not fill the list.
        link.alarm(format!("the broker was rolled back: its {log} log lacks entries that it signed"), Bytes::new())
            .await?;
    }
    Ok(())
}

/// Streams what this node has of the missing entries.
async fn hand_back(link: &Link, directory: &DirectoryReplica, lost: &wire::LostEntries) -> Result<u64, StoreError> {
    let gaps: Vec<Range<u64>> = lost.missing.iter().map(|gap| gap.from..gap.to).collect();
    let Some(first) = gaps.first().map(|gap| gap.start) else { return Ok(0) };
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
            return Ok(taken);
        }
        Ok(Err(status)) => tracing::warn!(code = ?status.code(), "not all was handed back"),
        Err(error) => tracing::error!(%error, "handing back failed"),
    }
    Ok(0)
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
    let compared = match link.view.checkpoint(&note, Lane::Bulk).await {
        Ok(checkpoint) => link.view.extend(&checkpoint, Lane::Bulk).await,
        Err(error) => Err(error),
    };
    match compared {
        Err(error) if error.is_alarm() => link.alarm(format!("the broker's checkpoint: {}", chain(&error)), note).await,
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise 12: whatever a broker says that it has lost, a node answers with nothing beyond what it has seen.
    #[test]
    fn what_a_broker_says_it_lost_is_believed_within_what_was_seen() {
        let gap = |(from, to): (u64, u64)| wire::EntryRange { from, to };
        let lost = |log: LogName, gaps: &[(u64, u64)]| wire::LostEntries {
            log: log.into(),
            size: u64::MAX,
            signed_size: 0,
            missing: gaps.iter().copied().map(gap).collect(),
        };
        let seen = [(LogName::Directory, 40), (LogName::Exchange, 100)];
        let kept = |answer: Vec<wire::LostEntries>| -> Vec<(LogName, Vec<(u64, u64)>)> {
            let gaps = |entries: &wire::LostEntries| entries.missing.iter().map(|gap| (gap.from, gap.to)).collect();
            plausible(seen, answer).iter().map(|entries| (entries.log(), gaps(entries))).collect()
        };
        let honest = lost(LogName::Exchange, &[(3, 5), (7, 100)]);
        assert_eq!(kept(vec![honest.clone()]), [(LogName::Exchange, vec![(3, 5), (7, 100)])]);
        assert_eq!(kept(vec![honest.clone(), honest]), [(LogName::Exchange, vec![(3, 5), (7, 100)])]);
        let beyond = lost(LogName::Directory, &[(0, u64::MAX), (0, 1), (u64::MAX, u64::MAX)]);
        assert_eq!(kept(vec![beyond]), [(LogName::Directory, vec![(0, 40)])]);
        let backwards = lost(LogName::Exchange, &[(10, 5), (20, 30), (25, 40), (50, 50)]);
        assert_eq!(kept(vec![backwards]), [(LogName::Exchange, vec![(20, 30)])]);
        assert_eq!(kept(vec![lost(LogName::Unspecified, &[(0, 10)])]), []);
        let many: Vec<(u64, u64)> = (0..50).map(|n| (2 * n, 2 * n + 1)).cycle().take(5000).collect();
        assert_eq!(kept(vec![lost(LogName::Exchange, &many)])[0].1.len(), 50);
    }
}
