//! The directory log's decisions: a record enters when it verifies by the directory so far.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use liaison_log::commit::{BrokenRule, Logged, Moment, Sequenced, Sequencer};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::Charter,
    clock::UnixMillis,
    directory::Directory,
    ids::LogIndex,
    limits,
    refusal::{Refusal, RefusalCode},
    sha256, wire,
};

/// The state of the directory log.
pub struct DirectorySequencer {
    /// With entries that may not be durable yet.
    pending: Directory,
    /// Durable entries only: what admission judges by.
    published: Arc<RwLock<Directory>>,
    known: HashMap<[u8; 32], LogIndex>,
}

impl DirectorySequencer {
    /// A sequencer of an empty log; recovery fills it. The handle shows durable entries only.
    #[must_use]
    pub fn new(charter: Charter) -> (Self, Arc<RwLock<Directory>>) {
        let pending = Directory::new(charter);
        let published = Arc::new(RwLock::new(pending.clone()));
        (Self { pending, published: Arc::clone(&published), known: HashMap::new() }, published)
    }
}

fn record_sha256(record: &wire::DirectoryRecord) -> [u8; 32] {
    sha256(&[&record.encode_to_vec()])
}

impl Sequencer for DirectorySequencer {
    type Event = wire::DirectoryRecord;

    fn sequence(&mut self, record: wire::DirectoryRecord, at: Moment) -> Sequenced {
        if let Some(index) = self.known.get(&record_sha256(&record)) {
            return Sequenced::Existing(*index);
        }
        // On a copy: the state changes when the leaf is applied. Records are few.
        if let Err(error) = self.pending.clone().apply(&record) {
            return Sequenced::Refused(Refusal::new(RefusalCode::BadRecord, error.to_string()));
        }
        let leaf = wire::DirectoryLeaf { version: 1, time_ms: at.time.0, record: Some(record) }.encode_to_vec();
        if leaf.len() > limits::LEAF_BYTES {
            return Sequenced::Refused(Refusal::new(RefusalCode::TooLarge, "the record does not fit into an entry"));
        }
        Sequenced::Append { leaf: leaf.into(), body: None }
    }

    fn apply(&mut self, index: LogIndex, leaf: &Bytes) -> Result<(), BrokenRule> {
        self.pending.apply_leaf(leaf).map_err(|e| BrokenRule { index, problem: e.to_string() })?;
        let record = wire::DirectoryLeaf::decode(leaf.clone()).ok().and_then(|leaf| leaf.record);
        if let Some(record) = record {
            self.known.insert(record_sha256(&record), index);
        }
        Ok(())
    }

    fn last_time(&self) -> UnixMillis {
        self.pending.time()
    }

    fn body_matches(&self, _leaf: &Bytes, body: Option<&Bytes>) -> bool {
        body.is_none()
    }

    fn logged(&mut self, logged: &Logged) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = published.apply_leaf(logged.leaf()) {
            // It was applied to the pending state before.
            tracing::error!(%error, index = %logged.index(), "a logged record does not apply");
        }
    }
}
