//! The way out of a loss that nobody can make good: the operator closes the exchange log at its last provable size
//! ([`Repair::end`](crate::repair::Repair::end)), the countries name a successor in their next charter, and the broker begins
//! it with an entry that quotes both checkpoints.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use liaison_log::{
    checkpoint::VerifiedCheckpoint,
    committer::Committer,
    disk::{OsDisk, replace_file},
    fair::Ticket,
    leaf::{Event as LeafEvent, ExchangeLeaf},
    reader::LogReader,
    succession::{End, Succession},
};
use liaison_proto::{
    charter::Charter,
    directory::Directory,
    ids::{Lane, LogIndex},
};

use crate::{
    gate::{Gate, Reason},
    init::StartError,
    sequence::Event,
};

const AGAIN: Duration = Duration::from_millis(500);

fn place(data: &Path) -> PathBuf {
    data.join("end")
}

/// Keeps the two checkpoints that the successor will quote.
///
/// # Errors
/// When they cannot be written.
pub fn keep(data: &Path, last: &VerifiedCheckpoint, lost: &VerifiedCheckpoint) -> io::Result<()> {
    fs::create_dir_all(place(data))?;
    let disk = OsDisk::new(place(data));
    replace_file(&disk, "last", last.note())?;
    replace_file(&disk, "lost", lost.note())
}

/// Looks whether the log is the one that the newest end in the charters speaks of; closes the gate until the successor's
/// first entry is there.
///
/// # Errors
/// When the log went on beyond its end, or is another one.
pub fn begin(charter: &Charter, log: &LogReader, gate: &Gate) -> Result<Option<End>, StartError> {
    let Some(end) = End::all(charter).next() else { return Ok(None) };
    let size = log.checkpoint().size();
    let other = |what: &str| StartError::Successor { end: end.size, size, what: what.to_owned() };
    if size >= end.size && log.root(end.size).ok() != Some(end.root) {
        return Err(other("and its entries up to there are others"));
    }
    if size > end.size {
        let leaf = log.leaf(LogIndex(end.size)).ok().and_then(|leaf| ExchangeLeaf::parse(&leaf).ok());
        if !leaf.is_some_and(|leaf| matches!(leaf.event, LeafEvent::Succeeded(_))) {
            return Err(other("and went on there: entries came back, or it was never closed"));
        }
        return Ok(None);
    }
    gate.close(Reason::Succession);
    Ok(Some(end))
}

/// Enters the successor's first entry, once the log is as long as its end and the directory has the charter.
pub async fn enter(
    end: End,
    data: PathBuf,
    directory: Arc<RwLock<Directory>>,
    log: Arc<LogReader>,
    exchange: Committer<Event>,
    gate: Arc<Gate>,
) {
    let disk = |name: &str| fs::read(place(&data).join(name)).map(Into::into);
    loop {
        let size = log.checkpoint().size();
        if size > end.size {
            tracing::warn!(entry = end.size, "the log is the successor of the one that was closed");
            gate.lift(Reason::Succession);
            return;
        }
        let entered = directory.read().unwrap_or_else(PoisonError::into_inner).charters();
        if size == end.size && entered >= end.charter && gate.has_only(&[Reason::Succession, Reason::Held]) {
            let begun = disk("last").and_then(|last| {
                let begun = Succession { charter: end.charter, last, lost: disk("lost")? };
                end.check(&begun).map_err(io::Error::other)?;
                Ok(begun)
            });
            let office = directory.read().unwrap_or_else(PoisonError::into_inner).offices().next().map(|o| o.id);
            match (begun, office) {
                (Ok(begun), Some(office)) => {
                    let ticket = Ticket { lane: Lane::Flash, office, bytes: 4096 };
                    if let Err(refusal) = exchange.commit(ticket, Event::Succeed(begun)).await {
                        tracing::error!(%refusal, "the successor has not begun yet");
                    }
                }
                (Err(error), _) => tracing::error!(%error, "the checkpoints of the closed log cannot be quoted"),
                (Ok(_), None) => tracing::error!("the directory has no office"),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
