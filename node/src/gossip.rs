//! Checkpoints that counterparts had verified are compared with this node's view of the log: a log that is shown
//! differently to two offices is noticed by either. A broker that keeps the proof back is told on, too.

use liaison_log::checkpoint::VerifiedCheckpoint;
use liaison_proto::{Bytes, failure::chain};

use crate::{
    log_view::ViewError,
    record::{Gossip, NodeRecord},
    retry::Backoff,
    store::StoreError,
    submit::Link,
};

/// Attempts without a proof until the officer is told: about five minutes at the longest pause.
const PATIENCE: u32 = 60;

/// Compares what is kept to be compared, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link) -> Result<(), StoreError> {
    let mut changes = link.store.changes();
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    loop {
        changes.mark_unchanged();
        let next = link.store.state().to_compare.first().cloned();
        let Some(note) = next else {
            changes.changed().await.map_err(|_| StoreError::Stopped)?;
            continue;
        };
        let compared = compare(&link, &note).await?;
        if compared == Compared::Done {
            link.store.write(vec![NodeRecord::Gossip(Gossip { note, compared: true }).into()]).await?;
            backoff.reset();
            attempts = 0;
            continue;
        }
        // An outage is no proof kept back.
        attempts += u32::from(compared == Compared::KeptBack);
        if attempts == PATIENCE {
            let what = "the broker gives no proof that a counterpart's view of the log and this one's are of one log";
            link.alarm(what, note).await?;
        }
        tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await;
    }
}

#[derive(PartialEq, Eq)]
enum Compared {
    /// One way or the other.
    Done,
    /// The broker answers, and gives no proof.
    KeptBack,
    /// The broker does not answer.
    NoLink,
}

async fn compare(link: &Link, note: &Bytes) -> Result<Compared, StoreError> {
    // A note that does not verify says nothing about the log, only about the sender.
    let Ok(checkpoint) = VerifiedCheckpoint::verify(note, link.view.log()) else {
        tracing::warn!("a counterpart's newest checkpoint does not verify");
        return Ok(Compared::Done);
    };
    match link.view.extend(&checkpoint).await {
        Ok(()) => Ok(Compared::Done),
        Err(error) if error.is_alarm() => {
            let what = format!("the log was shown differently to a counterpart: {}", chain(&error));
            link.alarm(what, note.clone()).await?;
            Ok(Compared::Done)
        }
        Err(ViewError::Link(status)) if std::error::Error::source(&status).is_some() => Ok(Compared::NoLink),
        Err(_) => Ok(Compared::KeptBack),
    }
}
