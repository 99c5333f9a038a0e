//! A party's own copy of a log, fetched from a source that is not trusted: a plain C2SP tile directory that other
//! tools read unchanged. What is kept has been hashed into the tree of a checkpoint whose signature verified and that
//! extends the checkpoint kept before.

use std::{future::Future, io, sync::Arc};

use liaison_proto::{Bytes, charter::LogIdentity, ids::LogIndex, limits, wire};
use tlog_tiles::tlog::record_hash;

use crate::{
    Hash,
    checkpoint::{CheckpointError, MAX_BYTES, VerifiedCheckpoint},
    disk::{Disk, read_file, replace_file},
    proof::TlogProof,
    tiles::{self, WIDTH},
    tree::Tree,
};

const CHECKPOINT: &str = "checkpoint";

/// Where a log is read from.
pub trait LogSource: Send + Sync {
    /// What reading can fail with.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The newest checkpoint.
    fn checkpoint(&self) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;

    /// The first `width` entries of a bundle without the first `skip` of them, which are here, encoded; or with them.
    fn bundle(&self, index: u64, width: u32, skip: u32) -> impl Future<Output = Result<Bytes, Self::Error>> + Send;
}

/// Why a mirror could not be brought up to date. What was kept before is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError<E: std::error::Error + 'static> {
    /// The source did not answer.
    #[error("reading the log from its source failed")]
    Source(#[source] E),
    /// The checkpoint does not verify.
    #[error("the source's checkpoint is not good")]
    Checkpoint(#[from] CheckpointError),
    /// The source shows fewer entries than were signed before.
    #[error("the log was rolled back from {kept} to {shown} entries")]
    RolledBack {
        /// Size kept.
        kept: u64,
        /// Size shown.
        shown: u64,
    },
    /// The source claims more entries than this party keeps.
    #[error("the log claims {0} entries, more than this party keeps")]
    TooLarge(u64),
    /// The source's entries do not make the tree that was signed.
    #[error("the entries shown are not the ones signed: the tree of {0} entries differs")]
    Differs(u64),
    /// A bundle is malformed.
    #[error("bundle {0} is malformed")]
    Bundle(u64),
    /// The local copy is damaged or cannot be written.
    #[error("the local copy failed")]
    Disk(#[from] io::Error),
    /// The local copy is damaged.
    #[error("the local copy is damaged: {0}")]
    Damaged(String),
}

/// A local copy.
pub struct Mirror {
    disk: Arc<dyn Disk>,
    log: LogIdentity,
    max_entries: u64,
    entries: Vec<Bytes>,
    checkpoint: Option<VerifiedCheckpoint>,
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Mirror {
    /// Opens the copy on `disk`, empty when there is none, and checks it against its own checkpoint. A log that claims
    /// more than `max_entries` is not fetched.
    ///
    /// # Errors
    /// When the copy is damaged: entries do not hash to the tree that was signed.
    pub fn open(disk: Arc<dyn Disk>, log: LogIdentity, max_entries: u64) -> io::Result<Self> {
        let note = match read_file(disk.as_ref(), CHECKPOINT, MAX_BYTES as u64) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { disk, log, max_entries, entries: Vec::new(), checkpoint: None });
            }
            note => Bytes::from(note?),
        };
        let checkpoint =
            VerifiedCheckpoint::verify(&note, &log).map_err(|e| damaged(format!("the copy's checkpoint: {e}")))?;
        let mut entries = Vec::new();
        for index in 0..checkpoint.size().div_ceil(WIDTH) {
            let width = tiles::width(checkpoint.size(), 0, index);
            let path = tiles::bundle_path(index, width);
            let bundle = Bytes::from(read_file(disk.as_ref(), &path, limits::BUNDLE_BYTES as u64)?);
            entries
                .extend(tiles::decode_bundle(&bundle, width).ok_or_else(|| damaged(format!("{path} is malformed")))?);
        }
        let tree = tree_of(&entries)?;
        let root = tree.root(checkpoint.size()).map_err(io::Error::other)?;
        if root != checkpoint.root() {
            return Err(damaged("the copy's entries are not the ones signed"));
        }
        for (level, index, width) in tile_coordinates(0, checkpoint.size()) {
            let path = tiles::tile_path(level, index, width);
            let found = read_file(disk.as_ref(), &path, WIDTH * 32)?;
            if found != tree.tile(level, index, width).map_err(io::Error::other)? {
                return Err(damaged(format!("{path} is not the tile of these entries")));
            }
        }
        Ok(Self { disk, log, max_entries, entries, checkpoint: Some(checkpoint) })
    }

    /// Forgets the copy on `disk`: the next update fetches everything. Files that no checkpoint names are written over.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forget(disk: &dyn Disk) -> io::Result<()> {
        match disk.remove(CHECKPOINT) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => disk.sync_directory(""),
        }
    }

    /// Goes on with the identity that a later charter gives the log.
    pub fn set_log(&mut self, log: LogIdentity) {
        self.log = log;
    }

    /// Every entry, in order.
    #[must_use]
    pub fn entries(&self) -> &[Bytes] {
        &self.entries
    }

    /// The checkpoint kept.
    #[must_use]
    pub const fn checkpoint(&self) -> Option<&VerifiedCheckpoint> {
        self.checkpoint.as_ref()
    }

    /// Kept entries from an index on, each with its proof under the checkpoint kept: what a keeper that lost them is
    /// given back.
    ///
    /// # Errors
    /// Never for a copy that was opened.
    pub fn receipts(&self, from: u64) -> io::Result<Vec<wire::Receipt>> {
        let Some(checkpoint) = &self.checkpoint else { return Ok(Vec::new()) };
        let tree = tree_of(&self.entries)?;
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        let receipt = |(index, leaf): (usize, &Bytes)| {
            let hashes = tree.prove_inclusion(checkpoint.size(), index as u64).map_err(io::Error::other)?;
            let (index, checkpoint) = (LogIndex(index as u64), checkpoint.note().clone());
            let proof = TlogProof { extra: None, index, hashes, checkpoint }.encode().into();
            Ok(wire::Receipt { leaf: leaf.clone(), proof })
        };
        self.entries.iter().enumerate().skip(start).map(receipt).collect()
    }

    /// Fetches what is new, verifies all of it, then keeps it. Returns the number of new entries.
    ///
    /// Consistency needs no proof here: the new tree is computed from the entries kept and the new ones, so a source
    /// that rewrote an old entry cannot have signed a root that fits.
    ///
    /// # Errors
    /// [`MirrorError`]; the copy is unchanged then.
    pub async fn update<S: LogSource>(&mut self, source: &S) -> Result<u64, MirrorError<S::Error>> {
        let note = source.checkpoint().await.map_err(MirrorError::Source)?;
        let new = VerifiedCheckpoint::verify(&note, &self.log)?;
        let kept = self.entries.len() as u64;
        if self.checkpoint.as_ref().is_some_and(|old| old.size() == new.size() && old.root() == new.root()) {
            return Ok(0);
        }
        if new.size() > self.max_entries {
            return Err(MirrorError::TooLarge(new.size()));
        }
        if new.size() < kept {
            return Err(MirrorError::RolledBack { kept, shown: new.size() });
        }
        let mut entries = self.entries.clone();
        for index in kept / WIDTH..new.size().div_ceil(WIDTH) {
            let width = tiles::width(new.size(), 0, index);
            // A slow line carries what is new, not each time the bundle that it is in.
            let known = u32::try_from(kept.saturating_sub(index * WIDTH)).unwrap_or(u32::MAX);
            if known >= width {
                continue;
            }
            let bundle = source.bundle(index, width, known).await.map_err(MirrorError::Source)?;
            let new = tiles::decode_bundle(&bundle, width - known);
            let whole = || Some(tiles::decode_bundle(&bundle, width)?.split_off(known as usize));
            entries.extend(new.or_else(whole).ok_or(MirrorError::Bundle(index))?);
        }
        let tree = tree_of(&entries)?;
        let root = tree.root(new.size()).map_err(|e| MirrorError::Damaged(e.to_string()))?;
        if tree.size() != new.size() || root != new.root() {
            return Err(MirrorError::Differs(new.size()));
        }
        self.write(&tree, &entries, kept, new.size())?;
        // The checkpoint last: a copy cut short is the old copy with files that nothing names yet.
        replace_file(self.disk.as_ref(), CHECKPOINT, new.note())?;
        let added = new.size() - kept;
        self.entries = entries;
        self.checkpoint = Some(new);
        Ok(added)
    }

    fn write(&self, tree: &Tree, entries: &[Bytes], old: u64, new: u64) -> io::Result<()> {
        for index in old / WIDTH..new.div_ceil(WIDTH) {
            let width = tiles::width(new, 0, index);
            let start = usize::try_from(index * WIDTH).map_err(io::Error::other)?;
            let bundle = tiles::encode_bundle(&entries[start..start + width as usize])
                .ok_or_else(|| damaged("entry is too long for a bundle"))?;
            self.write_file(&tiles::bundle_path(index, width), &bundle)?;
        }
        for (level, index, width) in tile_coordinates(old, new) {
            let tile = tree.tile(level, index, width).map_err(io::Error::other)?;
            self.write_file(&tiles::tile_path(level, index, width), &tile)?;
        }
        Ok(())
    }

    fn write_file(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        match read_file(self.disk.as_ref(), path, bytes.len() as u64) {
            Ok(found) if found == bytes => Ok(()),
            _ => replace_file(self.disk.as_ref(), path, bytes),
        }
    }
}

/// Level, index and width of every tile that a tree of `new` entries has and one of `old` has not.
fn tile_coordinates(old: u64, new: u64) -> impl Iterator<Item = (u8, u64, u32)> {
    let levels = (0_u8..8).take_while(move |level| new >> (8 * u32::from(*level)) > 0);
    levels.flat_map(move |level| {
        let shift = 8 * u32::from(level);
        let indexes = (old >> shift) / WIDTH..(new >> shift).div_ceil(WIDTH);
        indexes.map(move |index| (level, index, tiles::width(new, level, index)))
    })
}

/// Root of the tree that entries make.
///
/// # Errors
/// Never on the simulated disk that holds the tree's tiles meanwhile.
pub fn root_of(entries: &[Bytes]) -> io::Result<Hash> {
    tree_of(entries)?.root(entries.len() as u64).map_err(io::Error::other)
}

fn tree_of(entries: &[Bytes]) -> io::Result<Tree> {
    let mut tree = Tree::new(Arc::new(crate::disk::memory::MemoryDisk::default()));
    entries.iter().try_for_each(|entry| tree.append(record_hash(entry)))?;
    Ok(tree)
}
