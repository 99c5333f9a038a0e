//! An append-only sequence of records that survives a crash up to a prefix.

use std::{io, sync::Arc};

use liaison_proto::Bytes;

use crate::disk::{Disk, DiskFile};

pub mod file;
pub mod frame;

/// Where a record stands: segment number and byte offset of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Segment number.
    pub segment: u32,
    /// Byte offset within the segment.
    pub offset: u32,
}

impl Position {
    /// Packed into 64 bits, for references from other records.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        ((self.segment as u64) << 32) | self.offset as u64
    }

    /// The position packed by [`Self::to_u64`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the halves are 32 bits each")]
    pub const fn from_u64(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the owner of the journal meant by it.
    pub kind: u8,
    /// Number of the record in the journal, from 0.
    pub sequence: u64,
    /// The bytes that were appended.
    pub payload: Bytes,
}

/// Writing a journal. One owner; readers have handles of their own.
pub trait Journal: Send {
    /// Puts a record behind the last one and says where. It can be read once what is unsynced was taken, and is durable
    /// after the next sync, not before.
    ///
    /// # Errors
    /// When the device fails or is full. The journal must not be used afterwards.
    fn append(&mut self, kind: u8, payload: &[&[u8]]) -> io::Result<Position>;

    /// Writes what was appended since the last call, and says which files to sync for it.
    ///
    /// # Errors
    /// When the device fails or is full. The journal must not be used afterwards.
    fn take_unsynced(&mut self) -> io::Result<Vec<Arc<dyn DiskFile>>>;

    /// A handle for readers.
    fn reader(&self) -> Arc<dyn JournalReader>;

    /// Where the next record will stand, if it fits in the segment.
    fn end(&self) -> Position;
}

/// Reading records back by position.
pub trait JournalReader: Send + Sync {
    /// Reads the record at `position`.
    ///
    /// # Errors
    /// When there is no intact record.
    fn read(&self, position: Position) -> io::Result<Record>;
}

/// Writes and syncs what was appended to two journals, both at the same time; the first failure is returned, and is final.
///
/// # Errors
/// When a device fails.
pub fn sync_both(disk: &dyn Disk, first: &mut dyn Journal, second: &mut dyn Journal) -> io::Result<()> {
    let (first, second) = (first.take_unsynced()?, second.take_unsynced()?);
    disk.sync_both(&first, &second)
}
