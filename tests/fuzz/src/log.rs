//! The log: entries, statements, checkpoints, proofs, bundles; and what is stored, as a restored disk may hold it.

use std::sync::Arc;

use liaison_log::{
    checkpoint::{CheckpointSigner, VerifiedCheckpoint, claimed},
    disk::{Disk, memory::MemoryDisk},
    index::MessageState,
    journal::file::SegmentedJournal,
    leaf::{ExchangeLeaf, RewrapStatement, Statement},
    proof::TlogProof,
    tiles,
    verify::verify_receipt,
};
use liaison_node::record::NodeRecord;
use liaison_proto::{Bytes, ProtoMessage as _, charter::LogIdentity, sign::SigningKey, wire};

/// The log of the golden vectors.
fn identity() -> LogIdentity {
    CheckpointSigner::new("exchange.liaison.example".to_owned(), SigningKey::from_seed(&[11; 32])).identity()
}

/// An entry that parses is encoded to one that parses to the same.
pub(crate) fn exchange_leaf(bytes: &[u8]) {
    let Ok(leaf) = ExchangeLeaf::parse(&Bytes::copy_from_slice(bytes)) else { return };
    let encoded = leaf.encode();
    let again = ExchangeLeaf::parse(&encoded);
    assert!(
        again.is_ok_and(|again| again.encode() == encoded && again.name() == leaf.name()),
        "an entry reads two ways"
    );
}

/// Statements of recipients and of originators.
pub(crate) fn statement(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(statement) = Statement::parse(&bytes) {
        assert_eq!(Statement::parse(&statement.encode()), Ok(statement));
    }
    if let Ok(statement) = RewrapStatement::parse(&bytes) {
        assert_eq!(RewrapStatement::parse(&statement.encode()), Ok(statement));
    }
}

/// A checkpoint that verifies claims what it was verified to say.
pub(crate) fn checkpoint(bytes: &[u8]) {
    let note = Bytes::copy_from_slice(bytes);
    let _ = claimed(&note);
    if let Ok(checkpoint) = VerifiedCheckpoint::verify(&note, &identity()) {
        assert_eq!(claimed(&note), Some(("exchange.liaison.example", checkpoint.size())));
    }
}

/// A proof that parses has one text.
pub(crate) fn tlog_proof(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(proof) = TlogProof::parse(&bytes) {
        assert_eq!(TlogProof::parse(&proof.encode().into()).as_ref(), Ok(&proof));
    }
}

/// A receipt as it comes to a node.
pub(crate) fn receipt(bytes: &[u8]) {
    let Ok(receipt) = wire::Receipt::decode(bytes) else { return };
    if let Ok(verified) = verify_receipt(&receipt, &identity()) {
        assert!(verified.index.0 < verified.checkpoint.size());
    }
}

/// A bundle of entries; its width is the first byte.
pub(crate) fn bundle(bytes: &[u8]) {
    let Some((&width, bytes)) = bytes.split_first() else { return };
    if let Some(entries) = tiles::decode_bundle(&Bytes::copy_from_slice(bytes), u32::from(width)) {
        assert_eq!(entries.len(), usize::from(width));
        assert_eq!(tiles::encode_bundle(&entries).as_deref(), Some(bytes), "a bundle has two encodings");
    }
}

/// A journal's only segment, whatever is in it; records come in order, and what is not one is its end.
pub(crate) fn journal(bytes: &[u8]) {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
    let written = disk.create("j/00000000.segment").and_then(|file| file.write_at(bytes, 0));
    assert!(written.is_ok());
    let mut next = 0;
    let _ = SegmentedJournal::open(disk, "j", 4096, None, |_, record| {
        assert_eq!(record.sequence, next, "a record out of order");
        next += 1;
        Ok(())
    });
}

/// A row of the broker's index.
pub(crate) fn index_row(bytes: &[u8]) {
    if let Ok(state) = MessageState::decode(bytes) {
        assert_eq!(MessageState::decode(&state.encode()), Ok(state));
    }
}

/// A record of a node's journal; its kind is the first byte.
pub(crate) fn node_record(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    if let Ok(record) = NodeRecord::decode(kind, &Bytes::copy_from_slice(bytes)) {
        let (kind, encoded) = record.encode();
        let again = NodeRecord::decode(kind, &encoded.clone().into());
        assert!(again.is_ok_and(|again| again.encode().1 == encoded), "a record reads two ways");
    }
}
