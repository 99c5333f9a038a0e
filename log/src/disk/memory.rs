//! A simulated disk. A power cut keeps what was synced and, of the rest, an arbitrary part: any subset of the
//! 512-byte sectors written since the last sync, and any of the names made, replaced or removed since, as real devices do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Disk, DiskFile, parent};

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
struct Contents {
    bytes: Vec<u8>,
    /// What the sectors held at the last sync that were written since; none for those beyond the end of then.
    before: BTreeMap<usize, Option<Box<[u8]>>>,
    /// How long the file was at the last sync.
    synced: usize,
    /// Which file this is, of all that there ever were.
    born: u64,
}

impl Contents {
    fn new(bytes: Vec<u8>, born: u64) -> Self {
        Self { synced: bytes.len(), bytes, before: BTreeMap::new(), born }
    }

    fn write(&mut self, bytes: &[u8], start: usize) {
        let end = start + bytes.len();
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            let place = sector * SECTOR;
            let (synced, held) = (self.synced, &self.bytes);
            let before = || (place < synced).then(|| held[place..(place + SECTOR).min(synced)].into());
            self.before.entry(sector).or_insert_with(before);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        self.before.clear();
        self.synced = self.bytes.len();
    }

    /// The bytes after a power cut.
    fn found(&self, keep: &mut impl FnMut() -> bool) -> Vec<u8> {
        let mut found = self.bytes.clone();
        if found.len() > self.synced && !keep() {
            found.truncate(self.synced);
        }
        for (sector, before) in &self.before {
            let start = sector * SECTOR;
            if start >= found.len() || keep() {
                continue;
            }
            let end = (start + SECTOR).min(found.len());
            found[start..end].fill(0);
            if let Some(before) = before {
                let end = (start + before.len()).min(found.len());
                found[start..end].copy_from_slice(&before[..end - start]);
            }
        }
        found
    }
}

fn birth() -> u64 {
    static BORN: AtomicU64 = AtomicU64::new(0);
    BORN.fetch_add(1, Ordering::Relaxed)
}

/// Says how long the device takes, each time that it is asked.
type Pace = Box<dyn FnMut() -> Duration + Send>;

#[derive(Default)]
struct State {
    /// What directory entries say now.
    names: BTreeMap<String, Arc<Mutex<Contents>>>,
    /// What they say after a power cut.
    synced_names: BTreeMap<String, Arc<Mutex<Contents>>>,
    /// Writes and syncs left before the device fails; none means no limit.
    operations_left: Option<u64>,
    operations: u64,
    /// Whether an operation has failed for that.
    failed: bool,
    /// What the disk says can still be written; none means no limit.
    available: Option<u64>,
    pace: Option<Pace>,
    /// Says that it has synced, and has not.
    lies: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.names.keys().collect();
        f.debug_struct("State").field("names", &names).field("operations", &self.operations).finish_non_exhaustive()
    }
}

impl State {
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.operations_left {
            None => Ok(()),
            Some(0) => {
                self.failed = true;
                Err(io::Error::other("simulated device failure"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// A disk in memory. Clones are handles to the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    contents: Arc<Mutex<Contents>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

impl MemoryDisk {
    /// Fails every write and sync after `operations` more of them.
    pub fn fail_after(&self, operations: u64) {
        lock(&self.state).operations_left = Some(operations);
    }

    /// Whether a write or sync has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        lock(&self.state).failed
    }

    /// Lets the disk say that so many bytes can still be written; none means no limit.
    pub fn say_available(&self, bytes: Option<u64>) {
        lock(&self.state).available = bytes;
    }

    /// Lets the device take its time, in a simulation's time, for what a writer has written.
    pub fn set_pace(&self, pace: impl FnMut() -> Duration + Send + 'static) {
        lock(&self.state).pace = Some(Box::new(pace));
    }

    /// Lets the device say that things are synced that are not: what relies on it must be seen to lose something.
    pub fn set_lying(&self) {
        lock(&self.state).lies = true;
    }

    /// A copy, as a backup makes it: the same bytes in other files, all of them durable.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = |contents: &Arc<Mutex<Contents>>| {
            Arc::new(Mutex::new(Contents::new(lock(contents).bytes.clone(), birth())))
        };
        let names: BTreeMap<_, _> = lock(&self.state).names.iter().map(|(n, c)| (n.clone(), copy(c))).collect();
        Self { state: Arc::new(Mutex::new(State { synced_names: names.clone(), names, ..State::default() })) }
    }

    /// Writes and syncs so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// The disk as it is found after a power cut: `keep` decides for each unsynced sector whether it reached the
    /// platter. Handles to the old disk go on using the old one.
    pub fn after_power_cut(&self, mut keep: impl FnMut() -> bool) -> Self {
        let state = lock(&self.state);
        let mut names = BTreeMap::new();
        let all: BTreeSet<&String> = state.names.keys().chain(state.synced_names.keys()).collect();
        for name in all {
            // What a directory entry says now, or what it said at the last sync.
            let (now, then) = (state.names.get(name), state.synced_names.get(name));
            let same = match (now, then) {
                (Some(now), Some(then)) => Arc::ptr_eq(now, then),
                _ => false,
            };
            let Some(contents) = (if same || !keep() { then } else { now }) else { continue };
            let contents = lock(contents);
            let found = Contents::new(contents.found(&mut keep), contents.born);
            names.insert(name.clone(), Arc::new(Mutex::new(found)));
        }
        Self { state: Arc::new(Mutex::new(State { synced_names: names.clone(), names, ..State::default() })) }
    }

    /// Flips one bit of a file, in what is written and what is synced.
    pub fn flip_bit(&self, name: &str, byte: usize, bit: u8) {
        if let Some(contents) = lock(&self.state).names.get(name) {
            let mut contents = lock(contents);
            let mask = 1 << (bit % 8);
            if let Some(b) = contents.bytes.get_mut(byte) {
                *b ^= mask;
            }
            if let Some(Some(before)) = contents.before.get_mut(&(byte / SECTOR))
                && let Some(b) = before.get_mut(byte % SECTOR)
            {
                *b ^= mask;
            }
        }
    }

    /// Every file: its name and what is written in it.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.state).names.iter().map(|(name, contents)| (name.clone(), lock(contents).bytes.clone())).collect()
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let contents = lock(&self.contents);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = contents.bytes.get(start..start + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        lock(&self.state).operate()?;
        lock(&self.contents).write(bytes, usize::try_from(offset).map_err(io::Error::other)?);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let lies = {
            let mut state = lock(&self.state);
            state.operate()?;
            state.lies
        };
        if !lies {
            lock(&self.contents).sync();
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.contents).bytes.len() as u64)
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.operate()?;
        if state.names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} exists")));
        }
        let contents = Arc::new(Mutex::new(Contents::new(Vec::new(), birth())));
        state.names.insert(name.to_owned(), Arc::clone(&contents));
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), contents }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let contents = lock(&self.state).names.get(name).cloned().ok_or_else(|| not_found(name))?;
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), contents }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let state = lock(&self.state);
        let names = state.names.keys().filter(|name| parent(name) == directory);
        Ok(names.map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.operate()?;
        state.names.remove(name).map(|_| ()).ok_or_else(|| not_found(name))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.operate()?;
        if state.lies {
            return Ok(());
        }
        let inside = |name: &str| parent(name) == directory;
        let mut synced = std::mem::take(&mut state.synced_names);
        synced.retain(|name, _| !inside(name));
        synced.extend(state.names.iter().filter(|(name, _)| inside(name)).map(|(n, c)| (n.clone(), Arc::clone(c))));
        state.synced_names = synced;
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.operate()?;
        let contents = state.names.remove(from).ok_or_else(|| not_found(from))?;
        state.names.insert(to.to_owned(), contents);
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        Ok(lock(&self.state).available.unwrap_or(u64::MAX))
    }

    fn identity(&self, name: &str) -> io::Result<String> {
        let contents = lock(&self.state).names.get(name).cloned().ok_or_else(|| not_found(name))?;
        let born = lock(&contents).born;
        Ok(born.to_string())
    }

    fn device_time(&self) -> Duration {
        lock(&self.state).pace.as_mut().map_or(Duration::ZERO, |pace| pace())
    }
}
