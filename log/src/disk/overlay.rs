//! A disk on top of another that is only read: what would be written stays in memory. So a check can run the recovery of
//! the normal path without touching what it checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile};

/// A file as it would be: the base's until something is written.
struct OverlayFile {
    base: Option<Arc<dyn DiskFile>>,
    changed: Mutex<Option<Vec<u8>>>,
}

impl OverlayFile {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for OverlayFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match (&*self.lock(), &self.base) {
            (Some(bytes), _) => {
                let start = usize::try_from(offset).map_err(io::Error::other)?;
                let part = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            (None, Some(base)) => base.read_at(buffer, offset),
            (None, None) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut changed = self.lock();
        let mut contents = match (changed.take(), &self.base) {
            (Some(contents), _) => contents,
            (None, Some(base)) => {
                let mut contents = vec![0; usize::try_from(base.size()?).map_err(io::Error::other)?];
                base.read_at(&mut contents, 0)?;
                contents
            }
            (None, None) => Vec::new(),
        };
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[start..end].copy_from_slice(bytes);
        *changed = Some(contents);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        match (&*self.lock(), &self.base) {
            (Some(bytes), _) => Ok(bytes.len() as u64),
            (None, Some(base)) => base.size(),
            (None, None) => Ok(0),
        }
    }
}

/// The overlay.
pub struct OverlayDisk {
    base: Arc<dyn Disk>,
    /// Files opened or made here; none where one was removed.
    files: Mutex<BTreeMap<String, Option<Arc<OverlayFile>>>>,
}

impl OverlayDisk {
    /// On top of a disk.
    #[must_use]
    pub fn new(base: Arc<dyn Disk>) -> Self {
        Self { base, files: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<OverlayFile>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the files that would have been made, written or removed.
    #[must_use]
    pub fn changed(&self) -> Vec<String> {
        let files = self.lock();
        let changed = |file: &Option<Arc<OverlayFile>>| {
            file.as_ref().is_none_or(|file| file.base.is_none() || file.lock().is_some())
        };
        files.iter().filter(|(_, file)| changed(file)).map(|(name, _)| name.clone()).collect()
    }
}

impl Disk for OverlayDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.lock();
        match files.get(name) {
            Some(Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None if self.base.open(name).is_ok() => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(None) | None => {}
        }
        let file = Arc::new(OverlayFile { base: None, changed: Mutex::new(Some(Vec::new())) });
        files.insert(name.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.lock();
        match files.get(name) {
            Some(Some(file)) => return Ok(Arc::clone(file) as Arc<dyn DiskFile>),
            Some(None) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let file = Arc::new(OverlayFile { base: Some(self.base.open(name)?), changed: Mutex::new(None) });
        files.insert(name.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.base.list(directory)?.into_iter().collect();
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        for (name, file) in self.lock().iter() {
            let Some(own) = name.strip_prefix(&prefix).filter(|own| !own.contains('/')) else { continue };
            if file.is_some() {
                names.insert(own.to_owned());
            } else {
                names.remove(own);
            }
        }
        Ok(names.into_iter().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.open(name)?;
        self.lock().insert(name.to_owned(), None);
        Ok(())
    }

    fn sync_directory(&self, _directory: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.open(from)?;
        let mut contents = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
        file.read_at(&mut contents, 0)?;
        let moved = Arc::new(OverlayFile { base: None, changed: Mutex::new(Some(contents)) });
        let mut files = self.lock();
        files.insert(from.to_owned(), None);
        files.insert(to.to_owned(), Some(moved));
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn identity(&self, name: &str) -> io::Result<String> {
        self.base.identity(name)
    }
}
