//! Checkpoints that counterparts had verified are compared with this node's view of the log: a log that is shown
//! differently to two offices is noticed by either. A broker that keeps the proof back is told on, too.

use std::collections::BTreeMap;

use liaison_log::checkpoint::VerifiedCheckpoint;
use liaison_proto::{Bytes, failure::chain, ids::Lane};

use crate::{
    hand_back::{CLOSED_LOG, REPAIR},
    link::Link,
    log_view::ViewError,
    record::{Gossip, NodeRecord},
    retry::Backoff,
    store::StoreError,
};

/// What attempts without a proof may add up to until the officer is told, and what one costs: about five minutes at the
/// longest pause. A broker that says that its log is under repair has an hour for it, not for ever.
const PATIENCE: u32 = 720;
const KEPT_BACK: u32 = 12;
const UNDER_REPAIR: u32 = 1;

/// Compares what is kept to be compared, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link) -> Result<(), StoreError> {
    let mut changes = link.store.changes();
    let mut backoff = Backoff::default();
    let mut kept_back: BTreeMap<Bytes, u32> = BTreeMap::new();
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
                    kept_back.remove(&note);
                    link.store.write(vec![NodeRecord::Gossip(Gossip { note, compared: true }).into()]).await?;
                    backoff.reset();
                }
                // An outage is no proof kept back.
                Compared::NotNow => {}
                Compared::NoProof(cost) => {
                    let before = kept_back.get(&note).copied().unwrap_or_default();
                    let tried = before.saturating_add(cost);
                    kept_back.insert(note.clone(), tried);
                    if before < PATIENCE && tried >= PATIENCE {
                        let what = format!(
                            "the broker gives no proof that a counterpart's log of {} entries is this node's",
                            size_of(&link, &note)
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
    /// The broker answers, and gives no proof; this much of the patience is spent.
    NoProof(u32),
    /// The broker does not answer.
    NotNow,
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
        Err(ViewError::Link(status)) if std::error::Error::source(&status).is_some() => Ok(Compared::NotNow),
        // A log that lacks what the counterpart saw proves it once it is whole again; that it lacks it was told.
        Err(_) if link.health.has(REPAIR) || link.health.has(CLOSED_LOG) => Ok(Compared::NoProof(UNDER_REPAIR)),
        Err(_) => Ok(Compared::NoProof(KEPT_BACK)),
    }
}
