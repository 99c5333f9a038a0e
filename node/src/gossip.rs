//! Checkpoints that counterparts had verified are compared with this node's view of the log: a log that is shown
//! differently to two offices is noticed by either. A broker that keeps the proof back is told on, too.

use std::collections::BTreeMap;

use liaison_log::checkpoint::VerifiedCheckpoint;
use liaison_proto::{Bytes, failure::chain, ids::Lane};

use tonic::{Code, Status};

use crate::{
    hand_back::{CLOSED_LOG, REPAIR},
    link::Link,
    log_view::ViewError,
    record::{Gossip, NodeRecord},
    retry::Backoff,
    store::StoreError,
};

/// Attempts without a proof until the officer is told: about five minutes at the longest pause. A broker that says that its
/// log is under repair has about a day, and not for ever.
const PATIENCE: u32 = 60;
const PATIENCE_IN_REPAIR: u32 = 17_280;

/// Attempts at one checkpoint that brought no proof.
#[derive(Default)]
struct Attempts {
    kept_back: u32,
    in_repair: u32,
}

/// Compares what is kept to be compared, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link) -> Result<(), StoreError> {
    let mut changes = link.store.changes();
    let mut backoff = Backoff::default();
    let mut attempts: BTreeMap<Bytes, Attempts> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let notes: Vec<Bytes> = link.store.state().to_compare.iter().cloned().collect();
        if notes.is_empty() {
            changes.changed().await.map_err(|_| StoreError::Stopped)?;
            continue;
        }
        // Every one in turn: a proof that is kept back must not switch off the other comparisons.
        for note in notes {
            match compare(&link, &note).await? {
                Compared::Done => {
                    attempts.remove(&note);
                    link.store.write(vec![NodeRecord::Gossip(Gossip { note, compared: true }).into()]).await?;
                    backoff.reset();
                }
                // An outage is no proof kept back.
                Compared::NotNow => {}
                Compared::NoProof { in_repair } => {
                    let made = attempts.entry(note.clone()).or_default();
                    let (made, patience, says) = if in_repair {
                        (&mut made.in_repair, PATIENCE_IN_REPAIR, "says for a day that its log is under repair, and ")
                    } else {
                        (&mut made.kept_back, PATIENCE, "")
                    };
                    *made += 1;
                    if *made == patience {
                        let size = size_of(&link, &note);
                        let what = format!(
                            "the broker {says}gives no proof that a counterpart's log of {size} entries is this node's"
                        );
                        link.alarm(what, note).await?;
                    }
                }
            }
        }
        tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await;
    }
}

fn size_of(link: &Link, note: &Bytes) -> u64 {
    VerifiedCheckpoint::verify(note, link.charters.get().exchange_log()).map_or(0, |checkpoint| checkpoint.size())
}

#[derive(PartialEq, Eq)]
enum Compared {
    /// One way or the other.
    Done,
    /// The broker answers, and gives no proof; it may say that its log is under repair.
    NoProof { in_repair: bool },
    /// The broker does not answer.
    NotNow,
}

/// Whether no answer came at all.
fn is_silence(status: &Status) -> bool {
    std::error::Error::source(status).is_some() || matches!(status.code(), Code::DeadlineExceeded | Code::Aborted)
}

async fn compare(link: &Link, note: &Bytes) -> Result<Compared, StoreError> {
    let checkpoint = match link.view.checkpoint(note, Lane::Bulk).await {
        // A note that does not verify says nothing about the log, only about the sender.
        Err(ViewError::Receipt(_)) => {
            tracing::warn!("a counterpart's newest checkpoint does not verify");
            return Ok(Compared::Done);
        }
        checkpoint => checkpoint,
    };
    let compared = match checkpoint {
        Ok(checkpoint) => link.view.extend(&checkpoint, Lane::Bulk).await,
        Err(error) => Err(error),
    };
    match compared {
        Ok(()) => Ok(Compared::Done),
        Err(error) if error.is_alarm() => {
            let what = format!("the log was shown differently to a counterpart: {}", chain(&error));
            link.alarm(what, note.clone()).await?;
            Ok(Compared::Done)
        }
        Err(ViewError::Link(status)) if is_silence(&status) => Ok(Compared::NotNow),
        // A log that lacks what the counterpart saw proves it once it is whole again; that it lacks it was told.
        Err(_) if link.health.has(REPAIR) || link.health.has(CLOSED_LOG) => Ok(Compared::NoProof { in_repair: true }),
        Err(_) => Ok(Compared::NoProof { in_repair: false }),
    }
}
