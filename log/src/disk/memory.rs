//! A simulated disk. A power cut keeps what was synced and, of the rest, an arbitrary part: any subset of the
//! 512-byte sectors written since the last sync, and any of the names made, replaced or removed since, as real devices do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile, parent};

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct Contents {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    /// What directory entries say now.
    names: BTreeMap<String, Arc<Mutex<Contents>>>,
    /// What they say after a power cut.
    synced_names: BTreeMap<String, Arc<Mutex<Contents>>>,
    /// Writes and syncs left before the device fails; none means no limit.
    operations_left: Option<u64>,
    operations: u64,
    /// What the disk says can still be written; none means no limit.
    available: Option<u64>,
}

impl State {
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.operations_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("simulated device failure")),
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

    /// Lets the disk say that so many bytes can still be written; none means no limit.
    pub fn say_available(&self, bytes: Option<u64>) {
        lock(&self.state).available = bytes;
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
            let mut found = contents.synced.clone();
            if contents.written.len() > found.len() && keep() {
                found.resize(contents.written.len(), 0);
            }
            for start in (0..found.len()).step_by(SECTOR) {
                let end = (start + SECTOR).min(found.len()).min(contents.written.len());
                if start < end && found[start..end] != contents.written[start..end] && keep() {
                    found[start..end].copy_from_slice(&contents.written[start..end]);
                }
            }
            names.insert(name.clone(), Arc::new(Mutex::new(Contents { written: found.clone(), synced: found })));
        }
        let state = State { synced_names: names.clone(), names, operations_left: None, operations: 0, available: None };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Flips one bit of a file, in what is written and what is synced.
    pub fn flip_bit(&self, name: &str, byte: usize, bit: u8) {
        if let Some(contents) = lock(&self.state).names.get(name) {
            let mut contents = lock(contents);
            let mask = 1 << (bit % 8);
            if let Some(b) = contents.written.get_mut(byte) {
                *b ^= mask;
            }
            if let Some(b) = contents.synced.get_mut(byte) {
                *b ^= mask;
            }
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let contents = lock(&self.contents);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = contents.written.get(start..start + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        lock(&self.state).operate()?;
        let mut contents = lock(&self.contents);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + bytes.len();
        if contents.written.len() < end {
            contents.written.resize(end, 0);
        }
        contents.written[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        lock(&self.state).operate()?;
        let mut contents = lock(&self.contents);
        contents.synced = contents.written.clone();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.contents).written.len() as u64)
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.operate()?;
        if state.names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} exists")));
        }
        let contents = Arc::new(Mutex::new(Contents::default()));
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
}
