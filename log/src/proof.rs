//! C2SP tlog-proof: index, inclusion proof and checkpoint as one text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{Bytes, ids::LogIndex, limits};

use crate::Hash;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A tree of 2^64 entries has proofs of 64 hashes.
const MAX_HASHES: usize = 64;

/// A parsed proof; nothing in it is verified.
#[derive(Clone, Debug, PartialEq)]
pub struct TlogProof {
    /// Opaque data that travels with the proof and is not authenticated by it; receipts handed from person to person
    /// carry the entry here.
    pub extra: Option<Bytes>,
    /// The entry.
    pub index: LogIndex,
    /// From the leaf's sibling up.
    pub hashes: Vec<Hash>,
    /// Signed note.
    pub checkpoint: Bytes,
}

/// Not a proof of the C2SP form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proof is malformed")]
pub struct MalformedProof;

impl TlogProof {
    /// The text form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let extra = self.extra.as_ref().map(|extra| format!("extra {}\n", STANDARD.encode(extra))).unwrap_or_default();
        let mut text = format!("{FIRST_LINE}\n{extra}index {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&STANDARD.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.checkpoint);
        bytes
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// [`MalformedProof`].
    pub fn parse(bytes: &Bytes) -> Result<Self, MalformedProof> {
        if bytes.len() > limits::PROOF_BYTES + limits::LEAF_BYTES * 4 / 3 + 4 {
            return Err(MalformedProof);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| MalformedProof)?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(MalformedProof)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(MalformedProof);
        }
        let mut line = lines.next().ok_or(MalformedProof)?;
        let mut extra = None;
        if let Some(encoded) = line.strip_prefix("extra ") {
            extra = Some(Bytes::from(STANDARD.decode(encoded).map_err(|_| MalformedProof)?));
            line = lines.next().ok_or(MalformedProof)?;
        }
        let digits = line.strip_prefix("index ").ok_or(MalformedProof)?;
        let index: u64 = digits.parse().map_err(|_| MalformedProof)?;
        if index.to_string() != digits {
            return Err(MalformedProof);
        }
        let mut hashes = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            hashes.push(Hash(hash.ok_or(MalformedProof)?));
            if hashes.len() > MAX_HASHES {
                return Err(MalformedProof);
            }
        }
        let offset = bytes.len() - checkpoint.len();
        Ok(Self { extra, index: LogIndex(index), hashes, checkpoint: bytes.slice(offset..) })
    }
}
