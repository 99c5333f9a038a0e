//! The way out of a loss that nobody can make good: the operator closes the exchange log at its last provable size
//! ([`Repair::end`](crate::repair::Repair::end)), the countries name a successor in their next charter, and the broker begins
//! it with an entry that quotes both checkpoints.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, RwLock},
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
    Bytes,
    charter::Charter,
    clock::{DAY_MS, UnixMillis},
    directory::Directory,
    ids::{Lane, LogIndex},
};

use crate::{
    gate::{Gate, Reason},
    init::StartError,
    sequence::Event,
};

/// How long a successor gives nobody up after it has begun: offices state again what they had.
const REST_MS: i64 = DAY_MS;
const AGAIN: Duration = Duration::from_millis(500);
const AFTER_ERROR: Duration = Duration::from_secs(30);

fn place(data: &Path) -> PathBuf {
    data.join("end")
}

/// Until when a successor rests.
pub struct Rest {
    end: Option<u64>,
    log: Arc<LogReader>,
    until: OnceLock<UnixMillis>,
}

impl Rest {
    /// The rest of the newest successor in a chain of charters.
    #[must_use]
    pub fn new(charter: &Charter, log: Arc<LogReader>) -> Self {
        Self { end: End::all(charter).next().map(|end| end.size), log, until: OnceLock::new() }
    }

    /// Its end; long ago where there is no successor, or it has not begun.
    #[must_use]
    pub fn until(&self) -> UnixMillis {
        let begun = || ExchangeLeaf::parse(&self.log.leaf(LogIndex(self.end?)).ok()?).ok().map(|leaf| leaf.time);
        match self.until.get() {
            Some(until) => *until,
            None => begun().map_or(UnixMillis(i64::MIN), |at| *self.until.get_or_init(|| at.plus(REST_MS))),
        }
    }
}

/// Keeps the two checkpoints that the successor will quote.
///
/// # Errors
/// When they cannot be written.
pub fn keep(data: &Path, last: &VerifiedCheckpoint, lost: &VerifiedCheckpoint) -> io::Result<()> {
    fs::create_dir_all(place(data))?;
    let disk = OsDisk::new(place(data));
    replace_file(&disk, &format!("{}.lost", last.size()), lost.note())?;
    replace_file(&disk, &format!("{}.last", last.size()), last.note())
}

/// The two checkpoints that were kept for an end: the last provable one, and the largest.
///
/// # Errors
/// When there are none.
pub fn kept(data: &Path, size: u64) -> io::Result<[Bytes; 2]> {
    let read = |kind: &str| fs::read(place(data).join(format!("{size}.{kind}"))).map(Bytes::from);
    Ok([read("last")?, read("lost")?])
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
    loop {
        let size = log.checkpoint().size();
        if size > end.size {
            tracing::warn!(entry = end.size, "the log is the successor of the one that was closed");
            gate.lift(Reason::Succession);
            return;
        }
        let entered = directory.read().unwrap_or_else(PoisonError::into_inner).charters();
        if size == end.size && entered >= end.charter && gate.has_only(&[Reason::Succession, Reason::Held]) {
            let begun = kept(&data, end.size).and_then(|[last, lost]| {
                let begun = Succession { charter: end.charter, last, lost };
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
                (Err(error), _) => {
                    tracing::error!(%error, "the checkpoints of the closed log cannot be quoted");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
                (Ok(_), None) => tracing::error!("the directory has no office"),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
