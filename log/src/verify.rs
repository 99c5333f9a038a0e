//! What nodes and auditors check: receipts, consistency, and the signatures inside entries.

use liaison_proto::{
    Bytes,
    charter::LogIdentity,
    clock::DAY_MS,
    directory::Directory,
    ids::{LogIndex, OfficeId},
    limits,
    sign::{PayloadType, SignatureError},
    wire,
};
use tlog_tiles::tlog::{check_record, check_tree, record_hash};

use crate::{
    Hash,
    checkpoint::{CheckpointError, VerifiedCheckpoint},
    leaf::{Event, ExchangeLeaf, payload_type},
    proof::TlogProof,
    succession::{self, SuccessionError},
};

/// Why a receipt proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not a leaf with a tlog-proof.
    #[error("receipt is malformed")]
    Malformed,
    /// Its checkpoint is not good.
    #[error("receipt's checkpoint is not good")]
    Checkpoint(#[source] CheckpointError),
    /// The leaf is not in the tree of the checkpoint.
    #[error("receipt's leaf is not in the tree of its checkpoint")]
    Inclusion,
}

/// A receipt that verified.
#[derive(Clone, Debug)]
pub struct VerifiedReceipt {
    /// Index of the entry.
    pub index: LogIndex,
    /// The entry.
    pub leaf: Bytes,
    /// The checkpoint it is proven against.
    pub checkpoint: VerifiedCheckpoint,
}

/// Verifies a receipt: checkpoint signature and inclusion.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify_receipt(receipt: &wire::Receipt, log: &LogIdentity) -> Result<VerifiedReceipt, ReceiptError> {
    verify_receipt_by(receipt, |note| VerifiedCheckpoint::verify(note, log))
}

/// Verifies a receipt whose checkpoint `verify` judges: it may have verified the very same bytes before.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify_receipt_by(
    receipt: &wire::Receipt,
    verify: impl FnOnce(&Bytes) -> Result<VerifiedCheckpoint, CheckpointError>,
) -> Result<VerifiedReceipt, ReceiptError> {
    if receipt.leaf.len() > limits::LEAF_BYTES {
        return Err(ReceiptError::Malformed);
    }
    let proof = TlogProof::parse(&receipt.proof).map_err(|_| ReceiptError::Malformed)?;
    let checkpoint = verify(&proof.checkpoint).map_err(ReceiptError::Checkpoint)?;
    if proof.index.0 >= checkpoint.size() {
        return Err(ReceiptError::Inclusion);
    }
    check_record(&proof.hashes, checkpoint.size(), checkpoint.root(), proof.index.0, record_hash(&receipt.leaf))
        .map_err(|_| ReceiptError::Inclusion)?;
    Ok(VerifiedReceipt { index: proof.index, leaf: receipt.leaf.clone(), checkpoint })
}

/// Two checkpoints that no one log can have signed honestly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checkpoints of sizes {old} and {new} are not of one append-only log")]
pub struct Inconsistent {
    /// Smaller size.
    pub old: u64,
    /// Larger size.
    pub new: u64,
}

/// Verifies that `new` extends `old`. Equal sizes need equal roots; the empty tree is extended by any.
///
/// # Errors
/// [`Inconsistent`].
pub fn verify_consistency(
    old: &VerifiedCheckpoint,
    new: &VerifiedCheckpoint,
    hashes: &[Bytes],
) -> Result<(), Inconsistent> {
    let inconsistent = Inconsistent { old: old.size(), new: new.size() };
    if old.size() == new.size() {
        return if old.root() == new.root() { Ok(()) } else { Err(inconsistent) };
    }
    if old.size() > new.size() {
        return Err(inconsistent);
    }
    if old.size() == 0 {
        return Ok(());
    }
    let proof: Option<Vec<Hash>> =
        hashes.iter().map(|hash| <[u8; 32]>::try_from(hash.as_ref()).ok().map(Hash)).collect();
    let proof = proof.filter(|proof| proof.len() <= 64).ok_or(inconsistent)?;
    check_tree(&proof, new.size(), new.root(), old.size(), old.root()).map_err(|_| inconsistent)
}

/// Why an entry that parses is still not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The entry claims a directory larger than the one replayed.
    #[error("entry was judged by a directory of {0} entries, which nobody has")]
    UnknownDirectory(u64),
    /// The office had no valid record then.
    #[error("office {0} had no valid record at that directory size")]
    UnknownOffice(OfficeId),
    /// A recipient's key was not published then.
    #[error("the key sealed to was not a published key of {0} at that directory size")]
    UnknownKey(OfficeId),
    /// Admitted against a rule that everybody can check again: corridor, suite, age.
    #[error("the message was admitted against a rule: {0}")]
    Admission(&'static str),
    /// A successor of a closed log that the charter does not name so.
    #[error("the successor of a closed log is not the charter's")]
    Succession(#[source] SuccessionError),
    /// The signature does not verify.
    #[error("signature of {0} is not good")]
    Signature(OfficeId, #[source] SignatureError),
}

/// Verifies the office signature inside an entry, and what admission had to check, by the directory as it was at the
/// size that the entry names.
///
/// # Errors
/// [`EntryError`].
pub fn verify_entry(leaf: &ExchangeLeaf, directory: &Directory) -> Result<(), EntryError> {
    let size = leaf.directory_size;
    if size > directory.size() {
        return Err(EntryError::UnknownDirectory(size));
    }
    let unknown = |office| EntryError::UnknownOffice(office);
    let signing_keys = |office| directory.signing_keys(office, size, leaf.time).ok_or(unknown(office));
    match &leaf.event {
        Event::Accepted { header, signature, .. } => {
            let core = header.core();
            signing_keys(core.from)?
                .verify(PayloadType::Header, header.bytes(), signature.as_ref())
                .map_err(|e| EntryError::Signature(core.from, e))?;
            for (&to, commitment) in core.to.iter().zip(&header.commitments().recipients) {
                directory.office(to, size).ok_or(unknown(to))?;
                let key =
                    directory.encryption_key(to, &commitment.key_sha256, size).ok_or(EntryError::UnknownKey(to))?;
                if key.key.suite() != core.suite {
                    return Err(EntryError::UnknownKey(to));
                }
            }
            if directory.charter_at(size).corridor(core.from, &core.to).as_ref() != Some(&core.corridor) {
                return Err(EntryError::Admission("the corridor is not one of the charter's"));
            }
            if leaf.time.since(core.created_at) > limits::DEDUP_DAYS * DAY_MS {
                return Err(EntryError::Admission("it was older than message ids are remembered"));
            }
            Ok(())
        }
        Event::Attested { kind, statement, bytes, signature } => {
            let office = statement.office;
            let keys = match kind {
                wire::StatementKind::Delivered => directory.receipt_keys(office, size, leaf.time),
                _ => directory.signing_keys(office, size, leaf.time),
            };
            let malformed = EntryError::Signature(office, SignatureError::Malformed);
            keys.ok_or(unknown(office))?
                .verify(payload_type(*kind).ok_or(malformed)?, bytes, signature.as_ref())
                .map_err(|e| EntryError::Signature(office, e))
        }
        Event::Rewrapped { statement, bytes, signature } => {
            let (from, to) = (statement.office, statement.recipient);
            signing_keys(from)?
                .verify(PayloadType::Rewrapped, bytes, signature.as_ref())
                .map_err(|e| EntryError::Signature(from, e))?;
            directory.encryption_key(to, &statement.key_sha256, size).map(|_| ()).ok_or(EntryError::UnknownKey(to))
        }
        Event::Succeeded(begun) => succession::check(begun, directory.charter_at(size)).map_err(EntryError::Succession),
        // Nobody signs it but the log; what justifies it is in the log, too.
        Event::NonDelivery(_) => Ok(()),
    }
}
