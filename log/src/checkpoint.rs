//! C2SP checkpoints in signed notes: made by the log's key, verified strictly.

use liaison_proto::{
    Bytes,
    charter::LogIdentity,
    sign::{SigningKey, VerifyingKey},
};
use signed_note::{Note, Signature};
use tlog_tiles::Checkpoint;

use crate::Hash;

/// Largest checkpoint with its signatures, bytes.
pub const MAX_BYTES: usize = 8 * 1024;

/// Ed25519 in C2SP signed notes.
const ALGORITHM_ED25519: u8 = 0x01;

/// Why a checkpoint was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note with a checkpoint in it.
    #[error("checkpoint is malformed")]
    Malformed,
    /// Of another log.
    #[error("checkpoint is of another log")]
    Origin,
    /// Of a log that was closed, and beyond its last provable size.
    #[error("checkpoint is of a log that was closed at a smaller size")]
    Closed,
    /// Without a good signature of the log's key.
    #[error("checkpoint has no good signature of the log")]
    Signature,
}

/// A checkpoint whose log signature verified.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedCheckpoint {
    size: u64,
    root: Hash,
    note: Bytes,
}

impl VerifiedCheckpoint {
    /// Number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.root
    }

    /// The signed note as it came.
    #[must_use]
    pub const fn note(&self) -> &Bytes {
        &self.note
    }

    /// Parses a signed note and verifies the log's signature strictly, under the key in use or one before it. Signatures
    /// by others (witnesses) may stand beside it.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(note: &Bytes, log: &LogIdentity) -> Result<Self, CheckpointError> {
        if note.len() > MAX_BYTES {
            return Err(CheckpointError::Malformed);
        }
        let parsed = Note::from_bytes(note).map_err(|_| CheckpointError::Malformed)?;
        let checkpoint = Checkpoint::from_reader(&mut std::io::Cursor::new(parsed.text()), false)
            .map_err(|_| CheckpointError::Malformed)?;
        // The parser is lenient about what follows; only the canonical form is a checkpoint.
        if checkpoint.to_bytes() != parsed.text() {
            return Err(CheckpointError::Malformed);
        }
        let origin = checkpoint.origin();
        let (signatures, mut known) = (signatures(note)?, false);
        let signed = log.keys(origin, checkpoint.size()).any(|key| {
            known = true;
            let id = key_id(origin, key);
            let mut ours = signatures.iter().filter(|signature| signature.name() == origin && signature.id() == id);
            let (Some(signature), None) = (ours.next(), ours.next()) else { return false };
            signature.signature().try_into().is_ok_and(|bytes| key.verify_raw(parsed.text(), bytes).is_ok())
        });
        match (signed, known) {
            (false, false) if log.is_closed(origin) => return Err(CheckpointError::Closed),
            (false, false) => return Err(CheckpointError::Origin),
            (false, true) => return Err(CheckpointError::Signature),
            (true, _) => {}
        }
        Ok(Self { size: checkpoint.size(), root: *checkpoint.hash(), note: note.clone() })
    }
}

/// Origin and size that a checkpoint claims; nothing is verified.
#[must_use]
pub fn claimed(note: &[u8]) -> Option<(&str, u64)> {
    let mut lines = std::str::from_utf8(note).ok()?.lines();
    Some((lines.next()?, lines.next()?.parse().ok()?))
}

fn signatures(note: &[u8]) -> Result<Vec<Signature>, CheckpointError> {
    let text = std::str::from_utf8(note).map_err(|_| CheckpointError::Malformed)?;
    let (_, lines) = text.rsplit_once("\n\n").ok_or(CheckpointError::Malformed)?;
    lines.lines().map(|line| Signature::from_bytes(line.as_bytes()).map_err(|_| CheckpointError::Malformed)).collect()
}

/// The key id of an Ed25519 key in signed notes.
#[must_use]
pub fn key_id(name: &str, key: &VerifyingKey) -> u32 {
    signed_note::key_id(name, &[&[ALGORITHM_ED25519][..], key.as_bytes()].concat())
}

/// The verifier key line of C2SP tools: `<name>+<key id>+<base64 of algorithm and key>`.
#[must_use]
pub fn verifier_key(log: &LogIdentity) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let encoded = STANDARD.encode([&[ALGORITHM_ED25519][..], log.key.as_bytes()].concat());
    format!("{}+{:08x}+{encoded}", log.origin, key_id(&log.origin, &log.key))
}

/// Signs checkpoints of one log.
#[derive(Clone, Debug)]
pub struct CheckpointSigner {
    origin: String,
    key: SigningKey,
}

impl CheckpointSigner {
    /// The signer of the log with this origin.
    #[must_use]
    pub const fn new(origin: String, key: SigningKey) -> Self {
        Self { origin, key }
    }

    /// The identity that verifies what this signs.
    #[must_use]
    pub fn identity(&self) -> LogIdentity {
        LogIdentity { origin: self.origin.clone(), key: self.key.verifying_key(), former: Vec::new() }
    }

    /// Signs a checkpoint.
    ///
    /// # Errors
    /// When the origin is not one that C2SP allows.
    pub fn sign(&self, size: u64, root: Hash) -> Result<VerifiedCheckpoint, CheckpointError> {
        let malformed = |_| CheckpointError::Malformed;
        let text = Checkpoint::new(&self.origin, size, root, "").map_err(|_| CheckpointError::Malformed)?.to_bytes();
        let id = key_id(&self.origin, &self.key.verifying_key());
        let signature =
            Signature::new(self.origin.clone(), id, self.key.sign_raw(&text).to_vec()).map_err(malformed)?;
        let note = Note::new(&text, &[signature]).map_err(malformed)?.to_bytes().into();
        Ok(VerifiedCheckpoint { size, root, note })
    }
}
