//! The node's store: a journal of records and one of bodies, synced at the same time, with one writer; the state
//! they add up to is in memory.
//!
//! Invariants:
//! - A write is answered after it is durable, and the state shows durable records only.
//! - A message arrives once: a second arrival of the same id is not written.
//! - A failed write or sync is final for the process.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use liaison_log::{
    disk::{Disk, device_time},
    journal::{Journal as _, JournalReader, Position, file::SegmentedJournal, sync_both},
    work,
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    entropy::Entropy,
    failure::chain,
    header::Header,
    ids::{MessageId, OfficeId},
    wire,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{record::NodeRecord, state::State};

const RECORDS: &str = "records";
const BODIES: &str = "bodies";
/// Everything before this record is synced, in both journals.
const KIND_SYNCED: u8 = 255;
const MAX_BATCH: usize = 128;
const MAX_WAITING: usize = 1024;

/// Why the store could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("the store could not be read or written")]
    Io(#[from] io::Error),
    /// There is none.
    #[error("there is no store here; create one with: node init")]
    Missing,
    /// Records that were synced are no longer intact.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// There is no room; nothing was written.
    #[error("the disk is full; nothing was written")]
    Full,
    /// The store stopped after an earlier failure.
    #[error("the store has stopped after a failure; restart the node")]
    Stopped,
}

/// Pause before a write is tried again on a full disk.
const FULL_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// A record to write, with its body when it has one.
#[derive(Clone, Debug)]
pub struct Write {
    /// The record.
    pub record: NodeRecord,
    /// Erasable side and body, for records of messages.
    pub body: Option<wire::Envelope>,
}

impl From<NodeRecord> for Write {
    fn from(record: NodeRecord) -> Self {
        Self { record, body: None }
    }
}

struct Request {
    writes: Vec<Write>,
    /// None for what nobody waits for: it is kept while the disk is full, and written before anything else.
    done: Option<oneshot::Sender<Result<bool, StoreError>>>,
}

/// A handle to the store.
#[derive(Clone)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    state: Arc<RwLock<State>>,
    records: Arc<dyn JournalReader>,
    bodies: Arc<dyn JournalReader>,
    changed: watch::Sender<u64>,
    stopped: watch::Receiver<bool>,
}

struct Writer {
    records: SegmentedJournal,
    bodies: SegmentedJournal,
    state: Arc<RwLock<State>>,
    changed: watch::Sender<u64>,
    unmarked: bool,
    disk: Arc<dyn Disk>,
    reserve_bytes: u64,
    /// What nobody waits for and the full disk did not take: the newest checkpoint, of which the last one is enough.
    behind: Option<Request>,
}

/// Creates an empty store.
///
/// # Errors
/// When there is one already, or the device fails.
pub fn create(disk: &Arc<dyn Disk>, segment_bytes: u32, entropy: &dyn Entropy) -> io::Result<()> {
    SegmentedJournal::create(Arc::clone(disk), BODIES, segment_bytes, entropy)?;
    SegmentedJournal::create(Arc::clone(disk), RECORDS, segment_bytes, entropy)?;
    disk.sync_directory("")
}

/// How far the bodies journal was synced when a SYNCED record was written: its end, and the number of its next record.
#[derive(Clone, Copy)]
struct Synced {
    bodies_end: Position,
    bodies_sequence: u64,
}

impl Synced {
    const BYTES: usize = 16;

    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.bodies_end.to_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&self.bodies_sequence.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (end, sequence) = bytes.split_first_chunk::<8>()?;
        let bodies_end = Position::from_u64(u64::from_le_bytes(*end));
        Some(Self { bodies_end, bodies_sequence: u64::from_le_bytes(sequence.try_into().ok()?) })
    }
}

struct Found {
    position: Position,
    sequence: u64,
    kind: u8,
    body: Option<Position>,
    payload: Bytes,
}

impl Store {
    /// Opens the store of an office: only what was written behind the last synced point may be cut.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        disk: &Arc<dyn Disk>,
        segment_bytes: u32,
        reserve_bytes: u64,
        office: OfficeId,
    ) -> Result<Self, StoreError> {
        let mut state = State::new(office);
        let mut unsynced: Vec<Found> = Vec::new();
        let mut synced: Option<(Position, Synced)> = None;
        let opened = SegmentedJournal::open(Arc::clone(disk), RECORDS, segment_bytes, None, |position, record| {
            if record.kind == KIND_SYNCED {
                let mark = Synced::decode(&record.payload).ok_or(io::ErrorKind::InvalidData)?;
                synced = Some((position, mark));
                return unsynced.drain(..).try_for_each(|found| apply(&mut state, &found));
            }
            let packed = record.payload.first_chunk::<8>().ok_or(io::ErrorKind::InvalidData)?;
            let packed = u64::from_le_bytes(*packed);
            let body = (packed != u64::MAX).then(|| Position::from_u64(packed));
            let (kind, sequence, payload) = (record.kind, record.sequence, record.payload.slice(8..));
            unsynced.push(Found { position, sequence, kind, body, payload });
            Ok(())
        });
        let (mut records, tail) = match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(StoreError::Damaged(e.to_string())),
            opened => opened?,
        };
        if tail.torn && records.any_beyond_end(KIND_SYNCED, Synced::BYTES, records.sequence())? {
            return Err(StoreError::Damaged("a record is damaged, and later ones were synced".into()));
        }
        // Bodies that were synced are not looked at here, and never cut: one that is damaged is one message's trouble.
        let from = synced.map(|(_, mark)| (mark.bodies_end, mark.bodies_sequence));
        let mut found_bodies = Vec::new();
        let (mut bodies, bodies_tail) =
            SegmentedJournal::open(Arc::clone(disk), BODIES, segment_bytes, from, |position, record| {
                found_bodies.push((position, record.sequence));
                Ok(())
            })?;
        let mut cut = tail.torn.then_some((tail.end, records.sequence()));
        let mut kept_bodies = 0;
        for found in unsynced {
            if let Some(body) = found.body {
                if !found_bodies.iter().any(|(position, _)| *position == body) {
                    cut = Some((found.position, found.sequence));
                    break;
                }
                kept_bodies += 1;
            }
            apply(&mut state, &found)?;
        }
        if let Some((end, sequence)) = cut {
            tracing::warn!("records that were never synced were cut");
            records.cut(end, sequence)?;
        }
        match found_bodies.get(kept_bodies) {
            Some(&(position, sequence)) => bodies.cut(position, sequence)?,
            None if bodies_tail.torn => bodies.cut(bodies_tail.end, bodies.sequence())?,
            None => {}
        }
        // What is kept may be known to the operating system and not to the disk.
        let start = Position { segment: 0, offset: 0 };
        records.rewrite(synced.map_or(start, |(position, _)| position))?;
        bodies.rewrite(from.map_or(start, |(position, _)| position))?;
        let reserve_bytes = reserve_bytes.saturating_add(2 * u64::from(segment_bytes));
        Self::start(records, bodies, state, Arc::clone(disk), reserve_bytes)
    }

    fn start(
        records: SegmentedJournal,
        bodies: SegmentedJournal,
        state: State,
        disk: Arc<dyn Disk>,
        reserve_bytes: u64,
    ) -> Result<Self, StoreError> {
        let state = Arc::new(RwLock::new(state));
        let changed = watch::Sender::new(0);
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        let (stop, stopped) = watch::channel(false);
        let store = Self {
            requests,
            state: Arc::clone(&state),
            records: records.reader(),
            bodies: bodies.reader(),
            changed: changed.clone(),
            stopped,
        };
        let mut writer = Writer { records, bodies, state, changed, unmarked: true, disk, reserve_bytes, behind: None };
        work::start("store", async move {
            if let Err(error) = writer.run(waiting).await {
                tracing::error!(error = chain(&error), "the store has stopped");
            }
            stop.send_replace(true);
        })?;
        Ok(store)
    }

    /// Writes records, all or none after a crash is not promised: order is. Waits while the disk is full. Returns false
    /// when it was an arrival that the store has already.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn write(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        loop {
            match self.try_write(writes.clone()).await {
                Err(StoreError::Full) => tokio::time::sleep(FULL_PAUSE).await,
                written => return written,
            }
        }
    }

    /// The same, for those who can come again.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Stopped`].
    pub async fn try_write(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request { writes, done: Some(done) }).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Puts a record in line, and does not wait: it is durable before whatever is written after it. While the disk is full
    /// the last such record is kept.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn write_behind(&self, write: Write) -> Result<(), StoreError> {
        self.requests.send(Request { writes: vec![write], done: None }).await.map_err(|_| StoreError::Stopped)
    }

    /// The durable state.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when the state has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Completes when the store has stopped.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Closes the store, for whoever opens it again in the same process: completes when the writer has ended, which it
    /// does with the last handle.
    pub async fn close(self) {
        let Self { requests, mut stopped, .. } = self;
        drop(requests);
        // An error means that the writer has ended, too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When it is not intact.
    pub fn record(&self, position: Position) -> io::Result<NodeRecord> {
        let record = self.records.read(position)?;
        if record.payload.len() < 8 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        NodeRecord::decode(record.kind, &record.payload.slice(8..))
    }

    /// Reads a body back: erasable side and sealed body.
    ///
    /// # Errors
    /// When it is not intact.
    pub fn body(&self, position: Position) -> io::Result<wire::Envelope> {
        wire::Envelope::decode(self.bodies.read(position)?.payload).map_err(io::Error::other)
    }

    /// Puts an envelope together again from its header, signature and stored body.
    ///
    /// # Errors
    /// When the body is not intact.
    pub fn envelope(
        &self,
        header: &Header,
        signature: Option<&wire::Signature>,
        body: Position,
    ) -> io::Result<wire::Envelope> {
        let stored = self.body(body)?;
        let (header, office_signature) = (header.bytes().clone(), signature.cloned());
        Ok(wire::Envelope { header, office_signature, erasable: stored.erasable, body: stored.body })
    }
}

fn apply(state: &mut State, found: &Found) -> io::Result<()> {
    let record = NodeRecord::decode(found.kind, &found.payload)?;
    state
        .apply(record, found.position, found.body)
        .map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// The id of a message that arrives with these writes.
fn arrival(writes: &[Write]) -> Option<MessageId> {
    writes.iter().find_map(|write| match &write.record {
        NodeRecord::Arrived(arrived) => {
            Header::parse(arrived.header.clone()).ok().map(|header| header.core().message_id)
        }
        _ => None,
    })
}

impl Writer {
    async fn run(&mut self, mut waiting: mpsc::Receiver<Request>) -> io::Result<()> {
        loop {
            let first = match waiting.try_recv() {
                Ok(first) => first,
                Err(mpsc::error::TryRecvError::Disconnected) => return self.mark(),
                Err(mpsc::error::TryRecvError::Empty) => {
                    self.mark()?;
                    match waiting.recv().await {
                        Some(first) => first,
                        None => return Ok(()),
                    }
                }
            };
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.commit(batch).await?;
        }
    }

    /// Records that everything before is synced.
    fn mark(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unmarked) {
            self.append_mark()?;
            sync_both(self.disk.as_ref(), &mut self.records, &mut self.bodies)?;
        }
        Ok(())
    }

    fn append_mark(&mut self) -> io::Result<()> {
        let mark = Synced { bodies_end: self.bodies.end(), bodies_sequence: self.bodies.sequence() };
        self.records.append(KIND_SYNCED, &[&mark.encode()]).map(|_| ())
    }

    async fn commit(&mut self, batch: Vec<Request>) -> io::Result<()> {
        // Looked at before anything is written: a write that fails half-way would stop the store.
        if self.disk.available()? < self.reserve_bytes {
            tracing::error!("the disk is full: nothing is written until there is room");
            for request in batch {
                match request.done {
                    Some(done) => drop(done.send(Err(StoreError::Full))),
                    None => self.behind = Some(request),
                }
            }
            return Ok(());
        }
        let batch = self.behind.take().into_iter().chain(batch);
        if std::mem::take(&mut self.unmarked) {
            self.append_mark()?;
        }
        let mut written = Vec::new();
        let mut answers = Vec::new();
        let mut arrivals: Vec<MessageId> = Vec::new();
        for Request { writes, done } in batch {
            if let Some(id) = arrival(&writes) {
                let known = self.state.read().unwrap_or_else(PoisonError::into_inner).incoming.contains_key(&id);
                if known || arrivals.contains(&id) {
                    answers.extend(done.map(|done| (done, false)));
                    continue;
                }
                arrivals.push(id);
            }
            for Write { record, body } in writes {
                let body = match body {
                    Some(body) => Some(self.bodies.append(1, &[&body.encode_to_vec()])?),
                    None => None,
                };
                let (kind, bytes) = record.encode();
                let packed = body.map_or(u64::MAX, Position::to_u64).to_le_bytes();
                let position = self.records.append(kind, &[&packed, &bytes])?;
                written.push((record, position, body));
            }
            answers.extend(done.map(|done| (done, true)));
        }
        sync_both(self.disk.as_ref(), &mut self.records, &mut self.bodies)?;
        device_time(self.disk.as_ref()).await;
        self.unmarked = true;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for (record, position, body) in written {
                state.apply(record, position, body).map_err(io::Error::other)?;
            }
        }
        self.changed.send_modify(|n| *n += 1);
        for (done, answer) in answers {
            // Whoever asked may have gone away.
            let _ = done.send(Ok(answer));
        }
        Ok(())
    }
}
