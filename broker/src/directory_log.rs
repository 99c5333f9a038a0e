//! The directory log's decisions: a record enters when it verifies by the directory so far.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use liaison_log::commit::{ApplyError, BrokenRule, Logged, Moment, Sequenced, Sequencer};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::Charter,
    clock::{DAY_MS, UnixMillis},
    directory::Directory,
    ids::{LogIndex, OfficeId},
    limits,
    office::PublishedKey,
    refusal::{Refusal, RefusalCode},
    sha256,
    wire::{self, directory_record::Record},
};

use crate::{
    entry::Restored,
    gate::{Gate, Reason, repairing},
};

/// What may be entered into the directory log.
#[derive(Debug)]
pub enum DirectoryEvent {
    /// A record.
    Publish(Box<wire::DirectoryRecord>),
    /// An entry that was lost and handed back.
    Restore(Restored),
}

/// The state of the directory log.
pub struct DirectorySequencer {
    /// With entries that may not be durable yet.
    pending: Directory,
    /// Durable entries only: what admission judges by.
    published: Arc<RwLock<Directory>>,
    known: HashMap<[u8; 32], LogIndex>,
    /// Closed while entries are missing: only those are entered then.
    gate: Arc<Gate>,
    /// Number of the newest charter in this broker's files: it has the keys that it names.
    charter: u64,
    /// When each office's newest KEY records were entered.
    keys: HashMap<OfficeId, VecDeque<UnixMillis>>,
}

/// KEY records of an office in a day: one of each suite a month is usual.
const KEYS_A_DAY: usize = 64;

impl DirectorySequencer {
    /// The directory is replayed in full by every node: no office fills it with keys.
    fn too_many_keys(&self, record: &wire::DirectoryRecord, now: UnixMillis) -> Option<Refusal> {
        let Some(Record::Key(record)) = &record.record else { return None };
        let keys = self.keys.get(&PublishedKey::claimed_office(record).ok()?)?;
        let recent = keys.iter().filter(|at| now.since(**at) < DAY_MS).count();
        let detail = || format!("the office has published {recent} keys within a day");
        let refusal = || Refusal::new(RefusalCode::TooMany, detail()).after(Duration::from_secs(3600));
        (recent >= KEYS_A_DAY).then(refusal)
    }

    fn note_key(&mut self, record: &wire::DirectoryRecord, at: UnixMillis) {
        let Some(Record::Key(record)) = &record.record else { return };
        let Ok(office) = PublishedKey::claimed_office(record) else { return };
        let keys = self.keys.entry(office).or_default();
        keys.push_back(at);
        if keys.len() > KEYS_A_DAY {
            keys.pop_front();
        }
    }
}

impl DirectorySequencer {
    /// A sequencer of an empty log; recovery fills it. The handle shows durable entries only.
    #[must_use]
    pub fn new(charter: Charter, gate: Arc<Gate>) -> (Self, Arc<RwLock<Directory>>) {
        let number = charter.number();
        let pending = Directory::new(charter);
        let published = Arc::new(RwLock::new(pending.clone()));
        let (known, keys) = (HashMap::new(), HashMap::new());
        let sequencer = Self { pending, published: Arc::clone(&published), known, gate, charter: number, keys };
        (sequencer, published)
    }
}

fn record_sha256(record: &wire::DirectoryRecord) -> [u8; 32] {
    sha256(&[&record.encode_to_vec()])
}

impl Sequencer for DirectorySequencer {
    type Event = DirectoryEvent;

    fn sequence(&mut self, event: DirectoryEvent, at: Moment) -> Sequenced {
        let record = match event {
            DirectoryEvent::Restore(restored) => return restored.at(at),
            DirectoryEvent::Publish(_) if !self.gate.has_only(&[Reason::Succession, Reason::Held]) => {
                return Sequenced::Refused(repairing());
            }
            DirectoryEvent::Publish(record) => *record,
        };
        if let Some(index) = self.known.get(&record_sha256(&record)) {
            return Sequenced::Existing(*index);
        }
        // One that somebody else brings may name keys that this broker does not have.
        if matches!(record.record, Some(Record::Charter(_))) && self.pending.charters() >= self.charter {
            return Sequenced::Refused(Refusal::new(RefusalCode::NotPermitted, "the operator enters charters"));
        }
        if let Some(refusal) = self.too_many_keys(&record, at.time) {
            return Sequenced::Refused(refusal);
        }
        // On a copy: the state changes when the leaf is applied. Records are few.
        if let Err(error) = self.pending.clone().apply(&record, at.time) {
            return Sequenced::Refused(Refusal::new(RefusalCode::BadRecord, error.to_string()));
        }
        // Only what its countries have signed is worth compiling.
        if let Some(Record::Policy(policy)) = &record.record
            && let Err(error) = liaison_policy::check(&policy.policy)
        {
            return Sequenced::Refused(Refusal::new(RefusalCode::BadRecord, error.to_string()));
        }
        let leaf = wire::DirectoryLeaf { version: 1, time_ms: at.time.0, record: Some(record) }.encode_to_vec();
        if leaf.len() > limits::LEAF_BYTES {
            return Sequenced::Refused(Refusal::new(RefusalCode::TooLarge, "the record does not fit into an entry"));
        }
        Sequenced::Append { leaf: leaf.into(), body: None }
    }

    fn apply(&mut self, index: LogIndex, leaf: &Bytes) -> Result<(), ApplyError> {
        self.pending.apply_leaf(leaf).map_err(|e| BrokenRule { index, problem: e.to_string() })?;
        let leaf = wire::DirectoryLeaf::decode(leaf.clone()).ok();
        if let Some((record, time)) = leaf.and_then(|leaf| Some((leaf.record?, leaf.time_ms))) {
            self.note_key(&record, UnixMillis(time));
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
