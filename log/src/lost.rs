//! What a log's keeper has lost and the parties hand back: entries proven under checkpoints that the log's key signed.
//!
//! Invariants:
//! - An entry is taken only with a proof under a signed checkpoint of this log, and only where one is missing.
//! - Nothing is handed on before all entries together make every tree that was shown ([`Lost::check`]): proofs from two
//!   forks of a log do not add up, and are noticed before anything is written.

use std::{collections::BTreeMap, io, ops::Range};

use liaison_proto::{charter::LogIdentity, wire};
use tlog_tiles::tlog::record_hash;

use crate::{
    Hash,
    checkpoint::VerifiedCheckpoint,
    reader::LogReader,
    verify::{Inconsistent, ReceiptError, VerifiedReceipt, verify_receipt},
};

/// Why what was handed back was not entered.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The checkpoints shown are not of one log: its key signed two.
    #[error("the log's key signed two different logs")]
    Forked(#[from] Inconsistent),
    /// The trial tree could not be made.
    #[error("the entries handed back could not be hashed")]
    Io(#[from] io::Error),
}

/// The lost entries of one log.
#[derive(Debug)]
pub struct Lost {
    log: LogIdentity,
    size: u64,
    /// Root by size of every tree beyond the log's own that was shown.
    shown: BTreeMap<u64, Hash>,
    /// The largest of them, as it was signed.
    largest: Option<VerifiedCheckpoint>,
    /// What was handed back, by index.
    found: BTreeMap<u64, Hash>,
}

impl Lost {
    /// A log of `size` entries, of which a larger checkpoint was shown.
    #[must_use]
    pub fn new(log: LogIdentity, size: u64, shown: &VerifiedCheckpoint) -> Self {
        let (largest, found) = (Some(shown.clone()), BTreeMap::new());
        Self { log, size, shown: BTreeMap::from([(shown.size(), shown.root())]), largest, found }
    }

    /// A log of `size` entries, which must have had `end` at least, with this root.
    #[must_use]
    pub fn expected(log: LogIdentity, size: u64, end: u64, root: Hash) -> Self {
        Self { log, size, shown: BTreeMap::from([(end, root)]), largest: None, found: BTreeMap::new() }
    }

    /// Takes another checkpoint that was shown.
    ///
    /// # Errors
    /// When another tree of this size was shown before.
    pub fn show(&mut self, checkpoint: &VerifiedCheckpoint) -> Result<(), Inconsistent> {
        let (size, root) = (checkpoint.size(), checkpoint.root());
        if size > self.size && *self.shown.entry(size).or_insert(root) != root {
            return Err(Inconsistent { old: size, new: size });
        }
        if self.largest.as_ref().is_none_or(|largest| size > largest.size()) {
            self.largest = Some(checkpoint.clone());
        }
        Ok(())
    }

    /// The largest checkpoint that was shown.
    #[must_use]
    pub const fn largest(&self) -> Option<&VerifiedCheckpoint> {
        self.largest.as_ref()
    }

    /// Entries that the log has, and the largest size that was shown.
    #[must_use]
    pub fn sizes(&self) -> (u64, u64) {
        (self.size, self.shown.keys().next_back().copied().unwrap_or(self.size))
    }

    /// The log has grown: by what was handed back, and nothing else.
    pub fn grown_to(&mut self, size: u64) {
        self.size = self.size.max(size);
        let size = self.size;
        self.shown = self.shown.split_off(&(size + 1));
        self.found = self.found.split_off(&size);
    }

    /// Whether an entry is still missing.
    #[must_use]
    pub fn is_missing(&self, index: u64) -> bool {
        let (size, signed) = self.sizes();
        (size..signed).contains(&index) && !self.found.contains_key(&index)
    }

    /// The first gaps, at most `most` of them.
    #[must_use]
    pub fn missing(&self, most: usize) -> Vec<Range<u64>> {
        let (mut next, signed) = self.sizes();
        let mut gaps = Vec::new();
        for &index in self.found.keys().chain([&signed]) {
            if gaps.len() == most {
                break;
            }
            if index > next {
                gaps.push(next..index);
            }
            next = index + 1;
        }
        gaps
    }

    /// Verifies an entry that was handed back; none when it is not missing. It counts once it is [kept](Self::keep).
    ///
    /// # Errors
    /// When its proof is not good.
    pub fn verify(&self, receipt: &wire::Receipt) -> Result<Option<VerifiedReceipt>, ReceiptError> {
        let verified = verify_receipt(receipt, &self.log)?;
        // What is beyond everything shown is shown with it.
        let missing = verified.index.0 >= self.size && !self.found.contains_key(&verified.index.0);
        Ok(missing.then_some(verified))
    }

    /// An entry that was verified, with what belongs beside it, is kept.
    ///
    /// # Errors
    /// When its checkpoint contradicts one that was shown.
    pub fn keep(&mut self, verified: &VerifiedReceipt) -> Result<(), Inconsistent> {
        self.show(&verified.checkpoint)?;
        // It may have been entered since it was verified.
        if verified.index.0 >= self.size {
            self.found.insert(verified.index.0, record_hash(&verified.leaf));
        }
        Ok(())
    }

    /// Whether a leaf is the one that was kept at an index.
    #[must_use]
    pub fn is_kept(&self, index: u64, leaf: &[u8]) -> bool {
        self.found.get(&index) == Some(&record_hash(leaf))
    }

    /// Checks that the entries handed back below `end`, of which none is missing, continue the log to every tree up to there
    /// that was shown.
    ///
    /// # Errors
    /// [`TrialError`].
    pub fn check(&self, reader: &LogReader, end: u64) -> Result<(), TrialError> {
        let mut tree = reader.trial();
        for (index, hash) in self.found.range(..end) {
            if tree.size() != *index {
                return Err(io::Error::other("entries are missing, or the log has grown").into());
            }
            tree.append(*hash)?;
            if let Some(root) = self.shown.get(&tree.size())
                && tree.root(tree.size()).map_err(io::Error::other)? != *root
            {
                return Err(Inconsistent { old: self.size, new: tree.size() }.into());
            }
        }
        Ok(())
    }
}
