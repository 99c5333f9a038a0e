//! The successor of a log whose last entries nobody holds: the charter closes the log at its last provable size and names a
//! new origin and key. The successor's tree goes on from there, so every proof up to that size stays good; its first own
//! entry quotes both checkpoints, the last provable one and the largest that was signed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{
    Bytes,
    charter::{Charter, ClosedEntry, LogIdentity},
};

use crate::{
    Hash,
    checkpoint::{CheckpointError, VerifiedCheckpoint},
};

/// What the first own entry of a successor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// Number of the charter that names the successor.
    pub charter: u64,
    /// The closed log's checkpoint of its last provable size.
    pub last: Bytes,
    /// The largest checkpoint that the closed log had signed.
    pub lost: Bytes,
}

/// Why an entry is not the beginning of a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// The charter closes no log.
    #[error("no charter of that number names a successor")]
    NoSuccessor,
    /// A checkpoint is not of the closed log.
    #[error("a checkpoint that it quotes is not the closed log's")]
    Checkpoint(#[source] CheckpointError),
    /// The checkpoints are others than the charter's.
    #[error("it quotes other checkpoints than the charter")]
    Differs,
}

/// Where a log was closed.
#[derive(Clone, Debug)]
pub struct End {
    /// Number of the charter that closed it.
    pub charter: u64,
    /// Its last provable size.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Hash,
    /// What signed it.
    pub log: LogIdentity,
    /// The largest size that it had signed, and the root.
    lost: (u64, Hash),
}

fn root(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
}

/// How a charter says where a log ends.
#[must_use]
pub fn closed_entry(last: &VerifiedCheckpoint, lost: &VerifiedCheckpoint) -> ClosedEntry {
    let root = |checkpoint: &VerifiedCheckpoint| STANDARD.encode(checkpoint.root().0);
    ClosedEntry { size: last.size(), root: root(last), lost_size: lost.size(), lost_root: root(lost) }
}

impl End {
    /// The end of the exchange log that a charter itself closes.
    #[must_use]
    pub fn of(charter: &Charter) -> Option<Self> {
        let closed = charter.file().log.iter().find(|log| log.name == "exchange")?.closed.as_ref()?;
        Some(Self {
            charter: charter.number(),
            size: closed.size,
            root: root(&closed.root)?,
            log: charter.before()?.exchange_log().clone(),
            lost: (closed.lost_size, root(&closed.lost_root)?),
        })
    }

    /// Every end of the exchange log in a chain of charters, the newest first.
    pub fn all(charter: &Charter) -> impl Iterator<Item = Self> {
        charter.chain().filter_map(Self::of)
    }

    /// Checks what the successor's first own entry quotes.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub fn check(&self, succession: &Succession) -> Result<(), SuccessionError> {
        let quoted = |note: &Bytes| VerifiedCheckpoint::verify(note, &self.log).map_err(SuccessionError::Checkpoint);
        let (last, lost) = (quoted(&succession.last)?, quoted(&succession.lost)?);
        let same = (last.size(), last.root()) == (self.size, self.root)
            && (lost.size(), lost.root()) == self.lost
            && succession.charter == self.charter;
        if same { Ok(()) } else { Err(SuccessionError::Differs) }
    }
}

/// Checks a successor's first own entry by a chain of charters.
///
/// # Errors
/// [`SuccessionError`].
pub fn check(succession: &Succession, charter: &Charter) -> Result<(), SuccessionError> {
    let end = charter.numbered(succession.charter).and_then(End::of);
    end.ok_or(SuccessionError::NoSuccessor)?.check(succession)
}
