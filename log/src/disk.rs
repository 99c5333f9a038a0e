//! File operations, injected: the operating system's ([`OsDisk`]), or simulated ones that forget what was not synced
//! ([`memory::MemoryDisk`]).

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, UNIX_EPOCH},
};

pub mod memory;
pub mod overlay;
mod syncer;

use syncer::Syncer;

/// A file that is being made beside whoever will need it.
pub enum Making {
    /// It is made, or could not be.
    Done(io::Result<Arc<dyn DiskFile>>),
    /// A thread makes it.
    Running(JoinHandle<io::Result<Arc<dyn DiskFile>>>),
}

impl Making {
    /// The file, once it is made.
    ///
    /// # Errors
    /// When it could not be made.
    pub fn finish(self) -> io::Result<Arc<dyn DiskFile>> {
        match self {
            Self::Done(made) => made,
            Self::Running(thread) => {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes a file failed")))
            }
        }
    }
}

/// Work that makes a file.
pub type Make = Box<dyn FnOnce() -> io::Result<Arc<dyn DiskFile>> + Send>;

/// An open file. Reads and writes name their offset, so that readers and the writer need no common cursor.
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// When the file ends before, or the device fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// When the device fails or is full.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes written data durable (`fdatasync`). After a failure nothing written before may be trusted.
    ///
    /// # Errors
    /// When the device fails.
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// When the device fails.
    fn size(&self) -> io::Result<u64>;
}

/// A directory that a log or node owns. Names are relative, with `/` between parts.
pub trait Disk: Send + Sync {
    /// Creates a file that must not exist; parent directories are made.
    ///
    /// # Errors
    /// When it exists, or the device fails.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file.
    ///
    /// # Errors
    /// When it does not exist, or the device fails.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Names of the files directly in a directory, sorted; empty when there is no such directory.
    ///
    /// # Errors
    /// When the device fails.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Removes a file.
    ///
    /// # Errors
    /// When it does not exist, or the device fails.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    ///
    /// # Errors
    /// When the device fails.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;
    /// Renames a file over another, atomically.
    ///
    /// # Errors
    /// When the device fails.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Bytes that can still be written.
    ///
    /// # Errors
    /// When the device fails.
    fn available(&self) -> io::Result<u64>;
    /// How long a simulated device takes for what a writer has just written: time that passes for everybody else, too. A
    /// real one has taken it already.
    fn device_time(&self) -> Duration {
        Duration::ZERO
    }
    /// What a copy of a file cannot have: who it is, rather than what is in it.
    ///
    /// # Errors
    /// When it does not exist, or the device fails.
    fn identity(&self, name: &str) -> io::Result<String>;
    /// Begins to make a file that will be needed soon. A simulated disk makes it at once, so that a simulation is the
    /// same each time.
    fn make_beside(&self, make: Make) -> Making {
        Making::Done(make())
    }
    /// Syncs two sets of files, at the same time where the device can; the first failure is returned, and is final.
    ///
    /// # Errors
    /// When the device fails.
    fn sync_both(&self, first: &[Arc<dyn DiskFile>], second: &[Arc<dyn DiskFile>]) -> io::Result<()> {
        sync_all(first).and(sync_all(second))
    }
}

fn sync_all(files: &[Arc<dyn DiskFile>]) -> io::Result<()> {
    files.iter().try_for_each(|file| file.sync_data())
}

/// Lets a simulated device's time pass.
pub async fn device_time(disk: &dyn Disk) {
    let time = disk.device_time();
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Gives the disk of a directory.
pub type Disks = Arc<dyn Fn(&Path) -> Arc<dyn Disk> + Send + Sync>;

/// The operating system's.
#[must_use]
pub fn os_disks() -> Disks {
    Arc::new(|directory| Arc::new(OsDisk::new(directory)))
}

/// Reads a whole file.
///
/// # Errors
/// When it does not exist, is larger than `limit`, or the device fails.
pub fn read_file(disk: &dyn Disk, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let size = file.size()?;
    if size > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{name} is larger than {limit} bytes")));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces a file so that after any crash it holds the old bytes or the new ones.
///
/// # Errors
/// When the device fails.
pub fn replace_file(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.new");
    match disk.remove(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, name)?;
    disk.sync_directory(parent(name))
}

/// The directory part of a name.
#[must_use]
pub fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: PathBuf,
    syncer: Arc<Syncer>,
}

impl OsDisk {
    /// The disk whose names are below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), syncer: Arc::default() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Disk for OsDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(name);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.root.join(name))?))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.root.join(directory)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.root.join(name))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        File::open(self.root.join(directory))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.root.join(from), self.root.join(to))
    }

    fn available(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn identity(&self, name: &str) -> io::Result<String> {
        let found = std::fs::metadata(self.root.join(name))?;
        // Not every file system knows when a file was made.
        let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Ok(format!("{} {}", found.ino(), born.map_or(0, |born| born.as_nanos())))
    }

    fn make_beside(&self, make: Make) -> Making {
        match thread::Builder::new().name("make-file".into()).spawn(make) {
            Ok(thread) => Making::Running(thread),
            Err(error) => Making::Done(Err(error)),
        }
    }

    fn sync_both(&self, first: &[Arc<dyn DiskFile>], second: &[Arc<dyn DiskFile>]) -> io::Result<()> {
        if first.is_empty() || second.is_empty() {
            return sync_all(first).and(sync_all(second));
        }
        let other = self.syncer.begin(second.to_vec())?;
        let one = sync_all(first);
        one.and(other.recv().unwrap_or_else(|_| Err(io::Error::other("the syncing thread failed"))))
    }
}
