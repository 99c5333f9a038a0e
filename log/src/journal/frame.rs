//! One frame of a journal segment, and the segment's own header.
//!
//! Frame: length of the payload (u32), CRC-32C (u32), sequence number (u64), kind (u8), payload. All little-endian. The
//! CRC covers the journal's nonce, length, sequence, kind and payload. A length of zero marks the end: no record is empty.
//!
//! The nonce is random and known to nobody outside: what a stranger puts into a payload never passes for a frame, even
//! where recovery searches for one at every byte.

/// Bytes before the payload.
pub const HEADER: usize = 17;
/// Bytes of the segment header: magic (8), format version (u32), segment number (u32), nonce (8), CRC-32C of those
/// (u32), zeros.
pub const SEGMENT_HEADER: usize = 32;

const MAGIC: &[u8; 8] = b"LIAISONJ";
const VERSION: u32 = 1;

/// The random number of a journal, the same in all its segments.
pub type Nonce = [u8; 8];

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Payload length in bytes, at least 1.
    pub length: u32,
    /// CRC-32C over nonce, length, sequence, kind and payload.
    pub crc: u32,
    /// Number of the record in the journal.
    pub sequence: u64,
    /// The owner's record kind.
    pub kind: u8,
}

impl FrameHeader {
    /// The header for a payload given in parts; none for an empty one.
    #[must_use]
    pub fn new(nonce: Nonce, sequence: u64, kind: u8, payload: &[&[u8]]) -> Option<Self> {
        let length = payload.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(length).ok().filter(|&length| length > 0)?;
        let mut header = Self { length, crc: 0, sequence, kind };
        header.crc = header.checksum(nonce, payload);
        Some(header)
    }

    fn checksum(&self, nonce: Nonce, payload: &[&[u8]]) -> u32 {
        let mut crc = crc32c::crc32c(&nonce);
        crc = crc32c::crc32c_append(crc, &self.length.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &self.sequence.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &[self.kind]);
        payload.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part))
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16] = self.kind;
        bytes
    }

    /// Reads a header; nothing is checked yet.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        let [l0, l1, l2, l3, c0, c1, c2, c3, sequence @ .., kind] = *bytes;
        Self {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            sequence: u64::from_le_bytes(sequence),
            kind,
        }
    }

    /// Whether the payload is the one the header was made for.
    #[must_use]
    pub fn matches(&self, nonce: Nonce, payload: &[u8]) -> bool {
        payload.len() as u64 == u64::from(self.length) && self.checksum(nonce, &[payload]) == self.crc
    }
}

/// The header of a segment.
#[must_use]
pub fn segment_header(nonce: Nonce, segment: u32) -> [u8; SEGMENT_HEADER] {
    let mut bytes = [0; SEGMENT_HEADER];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&segment.to_le_bytes());
    bytes[16..24].copy_from_slice(&nonce);
    let crc = crc32c::crc32c(&bytes[0..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The nonce of a segment's header; none when it is not the intact header of this segment.
#[must_use]
pub fn read_segment_header(bytes: &[u8; SEGMENT_HEADER], segment: u32) -> Option<Nonce> {
    let nonce = bytes[16..24].try_into().ok()?;
    (*bytes == segment_header(nonce, segment)).then_some(nonce)
}
