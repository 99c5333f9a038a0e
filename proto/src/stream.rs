//! Attachments are sealed in chunks (STREAM, Hoang, Reyhanitabar, Rogaway, Vizár 2015): each chunk has its counter and
//! a final flag in the nonce, so that none can be dropped, moved or appended, and none need wait for the others.
//!
//! The key is derived from the message's content key and the attachment's position, and serves one attachment only.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{
    limits::{self, CHUNK_BYTES},
    seal::{ContentKey, SealError},
};

/// Bytes that a chunk grows by.
pub const TAG_BYTES: usize = 16;
/// A sealed chunk, bytes; the last one is shorter.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// The length of a sealed attachment; none when it would pass its limit.
#[must_use]
pub const fn sealed_size(plain: u64) -> Option<u64> {
    let chunks = plain.div_ceil(CHUNK_BYTES as u64);
    let chunks = if chunks == 0 { 1 } else { chunks };
    match plain.checked_add(chunks * TAG_BYTES as u64) {
        Some(size) if size <= limits::ATTACHMENT_BYTES => Some(size),
        _ => None,
    }
}

/// Seals or opens the chunks of one attachment, in order.
pub struct ChunkCipher {
    key: LessSafeKey,
    next: u32,
}

impl fmt::Debug for ChunkCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkCipher(redacted, next {})", self.next)
    }
}

impl ChunkCipher {
    /// The cipher of the attachment at a position of a message.
    ///
    /// # Errors
    /// [`SealError::Body`] never happens for keys of this length.
    pub fn new(content_key: &ContentKey, position: u32) -> Result<Self, SealError> {
        let label = [b"liaison/v1/attachment".as_slice(), &position.to_be_bytes()].concat();
        let key = UnboundKey::new(&AES_256_GCM, &*content_key.derive(&label)).map_err(|_| SealError::Body)?;
        Ok(Self { key: LessSafeKey::new(key), next: 0 })
    }

    /// Seven zero bytes, the counter, and 1 for the last chunk.
    fn nonce(&mut self, last: bool) -> Result<Nonce, SealError> {
        let mut nonce = [0; 12];
        nonce[7..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = u8::from(last);
        self.next = self.next.checked_add(1).ok_or(SealError::TooLarge)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Seals the next chunk in place; every chunk but the last has [`CHUNK_BYTES`].
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), SealError> {
        let nonce = self.nonce(last)?;
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), chunk).map_err(|_| SealError::Body)
    }

    /// Opens the next chunk in place.
    ///
    /// # Errors
    /// [`SealError::Body`] when it is not the next one, or not the last where it should be.
    pub fn open(&mut self, chunk: &mut Vec<u8>, last: bool) -> Result<(), SealError> {
        let nonce = self.nonce(last)?;
        let length = self.key.open_in_place(nonce, Aad::empty(), chunk).map_err(|_| SealError::Body)?.len();
        chunk.truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &ContentKey, position: u32, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut cipher = ChunkCipher::new(key, position).unwrap();
        let seal = |(n, chunk): (usize, &&[u8])| {
            let mut bytes = chunk.to_vec();
            cipher.seal(&mut bytes, n + 1 == chunks.len()).unwrap();
            bytes
        };
        chunks.iter().enumerate().map(seal).collect()
    }

    fn opens(key: &ContentKey, position: u32, chunks: &[Vec<u8>]) -> Result<Vec<u8>, SealError> {
        let mut cipher = ChunkCipher::new(key, position)?;
        let mut plain = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            let mut bytes = chunk.clone();
            cipher.open(&mut bytes, n + 1 == chunks.len())?;
            plain.extend(bytes);
        }
        Ok(plain)
    }

    #[test]
    fn chunks_open_in_their_order_whole_and_at_their_position_only() {
        let key = ContentKey::from_bytes([7; 32]);
        let chunks = sealed(&key, 0, &[b"one", b"two", b"three"]);
        assert_eq!(opens(&key, 0, &chunks).unwrap(), b"onetwothree");
        let [one, two, three] = chunks.as_slice() else { panic!("three chunks") };
        for wrong in [
            vec![one.clone(), two.clone()],
            vec![two.clone(), one.clone(), three.clone()],
            vec![one.clone(), three.clone()],
            vec![one.clone(), two.clone(), three.clone(), three.clone()],
            vec![two.clone(), three.clone()],
        ] {
            assert_eq!(opens(&key, 0, &wrong), Err(SealError::Body));
        }
        assert_eq!(opens(&key, 1, &chunks), Err(SealError::Body), "opened at another position");
        assert_eq!(opens(&ContentKey::from_bytes([8; 32]), 0, &chunks), Err(SealError::Body));
    }

    #[test]
    fn the_sealed_size_is_known_before_and_an_empty_file_has_one_chunk() {
        assert_eq!(sealed_size(0), Some(16));
        assert_eq!(sealed_size(CHUNK_BYTES as u64), Some(SEALED_CHUNK_BYTES as u64));
        assert_eq!(sealed_size(CHUNK_BYTES as u64 + 1), Some(SEALED_CHUNK_BYTES as u64 + 17));
        assert_eq!(sealed_size(u64::MAX), None);
        assert_eq!(sealed_size(limits::ATTACHMENT_BYTES), None);
    }
}
