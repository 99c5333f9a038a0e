//! Reading a log: receipts, tiles, bundles and bodies, all as of the newest signed checkpoint.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use liaison_proto::{
    Bytes,
    ids::LogIndex,
    refusal::{Refusal, RefusalCode},
    wire,
};

use crate::{
    Hash,
    checkpoint::{CheckpointError, CheckpointSigner, VerifiedCheckpoint},
    commit::Entered,
    journal::{JournalReader, Position},
    proof::TlogProof,
    record::{kind, split_body, split_leaf},
    tiles,
    tree::Tree,
};

/// Why durable entries could not be made visible.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A tile cannot be written.
    #[error("a tile could not be written")]
    Io(#[from] io::Error),
    /// Hashing failed on a damaged tile.
    #[error("hashing the log failed: {0}")]
    Tree(String),
    /// The checkpoint could not be made.
    #[error("signing the checkpoint failed")]
    Checkpoint(#[from] CheckpointError),
}

/// An entry about to become visible.
pub(crate) struct EntryRecord {
    pub(crate) position: Position,
    pub(crate) hash: Hash,
}

struct Visible {
    tree: Tree,
    /// Per entry, the position of its leaf.
    entries: Vec<u64>,
    checkpoint: VerifiedCheckpoint,
}

/// Shared by everything that reads a log. Shows only what is durable and signed.
pub struct LogReader {
    leaves: Arc<dyn JournalReader>,
    bodies: Arc<dyn JournalReader>,
    visible: RwLock<Visible>,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn unavailable(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "reading the log failed");
    Refusal::new(RefusalCode::Unavailable, "the log could not be read")
}

fn out_of_range(what: &str) -> Refusal {
    Refusal::new(RefusalCode::OutOfRange, format!("there is no such {what}"))
}

impl LogReader {
    pub(crate) fn new(
        leaves: Arc<dyn JournalReader>,
        bodies: Arc<dyn JournalReader>,
        tree: Tree,
        entries: Vec<u64>,
        checkpoint: VerifiedCheckpoint,
    ) -> Self {
        Self { leaves, bodies, visible: RwLock::new(Visible { tree, entries, checkpoint }) }
    }

    fn visible(&self) -> RwLockReadGuard<'_, Visible> {
        self.visible.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds durable entries and signs the tree they make.
    pub(crate) fn extend(&self, records: &[EntryRecord], signer: &CheckpointSigner) -> Result<(), PublishError> {
        let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            visible.tree.append(record.hash)?;
            visible.entries.push(record.position.to_u64());
        }
        let size = visible.tree.size();
        let root = visible.tree.root(size).map_err(|e| PublishError::Tree(e.to_string()))?;
        visible.checkpoint = signer.sign(size, root)?;
        Ok(())
    }

    /// The newest signed checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> VerifiedCheckpoint {
        self.visible().checkpoint.clone()
    }

    pub(crate) fn read_leaf_at(&self, position: Position) -> io::Result<Bytes> {
        let record = self.leaves.read(position)?;
        if record.kind != kind::LEAF {
            return Err(damaged("not a leaf record"));
        }
        Ok(split_leaf(&record.payload)?.1)
    }

    fn position(&self, index: LogIndex) -> Result<Position, Refusal> {
        let visible = self.visible();
        let position = usize::try_from(index.0).ok().and_then(|index| visible.entries.get(index).copied());
        position.map(Position::from_u64).ok_or_else(|| out_of_range("entry"))
    }

    /// The bytes of a leaf.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`, or `UNAVAILABLE` when it cannot be read intact.
    pub fn leaf(&self, index: LogIndex) -> Result<Bytes, Refusal> {
        self.read_leaf_at(self.position(index)?).map_err(unavailable)
    }

    /// The body kept beside a leaf.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when it has none, or `UNAVAILABLE` when it cannot be read intact.
    pub fn body(&self, index: LogIndex) -> Result<Bytes, Refusal> {
        let record = self.leaves.read(self.position(index)?).map_err(unavailable)?;
        let (position, _) = split_leaf(&record.payload).map_err(unavailable)?;
        let record = self.bodies.read(position.ok_or_else(|| out_of_range("body"))?).map_err(unavailable)?;
        let (owner, body) = split_body(&record.payload).map_err(unavailable)?;
        if owner == index { Ok(body) } else { Err(unavailable("body of another entry")) }
    }

    /// A leaf with its proof under the newest checkpoint.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`, or `UNAVAILABLE` when leaf or tiles cannot be read intact.
    pub fn receipt(&self, index: LogIndex) -> Result<wire::Receipt, Refusal> {
        self.receipt_of(&Entered { index, leaf: None })
    }

    /// The receipt of what was entered, with its proof under the newest checkpoint.
    ///
    /// # Errors
    /// As [`Self::receipt`].
    pub(crate) fn receipt_of(&self, entered: &Entered) -> Result<wire::Receipt, Refusal> {
        let index = entered.index;
        let leaf = entered.leaf.clone().map_or_else(|| self.leaf(index), Ok)?;
        let checkpoint = self.checkpoint();
        self.prove(index, leaf, &checkpoint)
    }

    /// A leaf with its proof under a checkpoint of this log that has it.
    ///
    /// # Errors
    /// As [`Self::receipt`].
    pub fn receipt_under(&self, index: LogIndex, checkpoint: &VerifiedCheckpoint) -> Result<wire::Receipt, Refusal> {
        self.prove(index, self.leaf(index)?, checkpoint)
    }

    fn prove(&self, index: LogIndex, leaf: Bytes, checkpoint: &VerifiedCheckpoint) -> Result<wire::Receipt, Refusal> {
        // The proof is for the checkpoint's size: a tree that has grown since has no signature yet.
        let hashes = self.visible().tree.prove_inclusion(checkpoint.size(), index.0).map_err(unavailable)?;
        let proof = TlogProof { extra: None, index, hashes, checkpoint: checkpoint.note().clone() };
        Ok(wire::Receipt { leaf, proof: proof.encode().into() })
    }

    /// The tree as it is, to try what further entries would make of it.
    #[must_use]
    pub fn trial(&self) -> Tree {
        self.visible().tree.trial()
    }

    /// Root of the tree at the signed or an earlier size.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`, or `UNAVAILABLE` when a tile is damaged.
    pub fn root(&self, size: u64) -> Result<Hash, Refusal> {
        let visible = self.visible();
        if size > visible.checkpoint.size() {
            return Err(out_of_range("size"));
        }
        visible.tree.root(size).map_err(unavailable)
    }

    /// RFC 6962 consistency proof between two sizes.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` unless 1 <= `old` <= `new` <= the signed size.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Bytes>, Refusal> {
        let visible = self.visible();
        if old == 0 || old > new || new > visible.checkpoint.size() {
            return Err(out_of_range("pair of sizes"));
        }
        let hashes = visible.tree.prove_consistency(old, new).map_err(unavailable)?;
        Ok(hashes.iter().map(|hash| Bytes::copy_from_slice(&hash.0)).collect())
    }

    /// The first `width` hashes of a tile.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`, or `UNAVAILABLE` when a tile is damaged.
    pub fn tile(&self, level: u8, index: u64, width: u32) -> Result<Vec<u8>, Refusal> {
        let visible = self.visible();
        if width == 0 || width > tiles::width(visible.checkpoint.size(), level, index) {
            return Err(out_of_range("tile"));
        }
        visible.tree.tile(level, index, width).map_err(unavailable)
    }

    /// The first `width` entries of a bundle without the first `skip` of them, encoded.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`, or `UNAVAILABLE` when an entry is damaged.
    pub fn bundle(&self, index: u64, width: u32, skip: u32) -> Result<Vec<u8>, Refusal> {
        if skip >= width || width > tiles::width(self.checkpoint().size(), 0, index) {
            return Err(out_of_range("bundle"));
        }
        let start = index * tiles::WIDTH;
        let entries = (start + u64::from(skip)..start + u64::from(width))
            .map(|i| self.leaf(LogIndex(i)))
            .collect::<Result<Vec<_>, _>>()?;
        tiles::encode_bundle(&entries).ok_or_else(|| unavailable("entry is too long for a bundle"))
    }
}
