//! What the journals of a log hold: leaves with the position of their bodies, bodies with the index of their leaf, and
//! marks of what was signed.

use std::io;

use liaison_proto::{Bytes, ids::LogIndex};

use crate::journal::Position;

/// Record kinds of the leaves journal.
pub mod kind {
    /// Body position (u64, little-endian, all ones for none), then the leaf.
    pub const LEAF: u8 = 1;
    /// A [`super::SignedMark`].
    pub const MARK: u8 = 2;
    /// In the bodies journal: leaf index (u64, little-endian), then the body.
    pub const BODY: u8 = 1;
}

/// What was signed, as recorded in the leaves journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedMark {
    /// Tree size.
    pub size: u64,
    /// Tree root.
    pub root: [u8; 32],
    /// End of the bodies journal then.
    pub bodies_end: Position,
    /// Number of its next record then.
    pub bodies_sequence: u64,
}

impl SignedMark {
    /// Encoded length, bytes.
    pub const BYTES: usize = 56;

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..40].copy_from_slice(&self.root);
        bytes[40..48].copy_from_slice(&self.bodies_end.to_u64().to_le_bytes());
        bytes[48..56].copy_from_slice(&self.bodies_sequence.to_le_bytes());
        bytes
    }

    /// Reads it back.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Self {
            size: number(0)?,
            root: bytes[8..40].try_into().ok()?,
            bodies_end: Position::from_u64(number(40)?),
            bodies_sequence: number(48)?,
        })
    }
}

fn too_short(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} record is too short"))
}

/// The parts of a LEAF record: where its body is, and the leaf.
pub(crate) fn split_leaf(payload: &Bytes) -> io::Result<(Option<Position>, Bytes)> {
    let packed = payload.first_chunk::<8>().ok_or_else(|| too_short("leaf"))?;
    let packed = u64::from_le_bytes(*packed);
    Ok(((packed != u64::MAX).then(|| Position::from_u64(packed)), payload.slice(8..)))
}

/// The parts of a BODY record: the index of its leaf, and the body.
pub(crate) fn split_body(payload: &Bytes) -> io::Result<(LogIndex, Bytes)> {
    let index = payload.first_chunk::<8>().ok_or_else(|| too_short("body"))?;
    Ok((LogIndex(u64::from_le_bytes(*index)), payload.slice(8..)))
}
