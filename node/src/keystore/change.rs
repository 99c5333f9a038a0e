//! Changes of what is kept: new encryption keys, another passphrase, records to be published. One change at a time, also
//! between the daemon and the command line.

use std::{fs, io, path::PathBuf};

use liaison_proto::{
    clock::{DAY_MS, UnixMillis},
    entropy::Entropy,
    seal::{DecryptionKey, EncryptionKey, Suite},
};

use super::{KEPT_DAYS, Keystore, KeystoreError, OfficeKeys, OwnKey, io_error, replace};

/// A turn to change the keystore; it ends with this.
pub struct Change(fs::File);

impl Drop for Change {
    fn drop(&mut self) {
        // Closing the file would do it, too.
        let _ = self.0.unlock();
    }
}

impl Keystore {
    /// Waits for a turn to change something.
    ///
    /// # Errors
    /// When the lock cannot be had.
    pub fn begin_change(&self) -> Result<Change, KeystoreError> {
        let path = self.directory.join("changing");
        let file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
        file.lock().map_err(io_error(&path))?;
        Ok(Change(file))
    }

    /// Makes a new encryption key of every suite and keeps the ones before for what was sealed to them; those replaced
    /// longer than [`KEPT_DAYS`] ago are destroyed. Returns the new keys, to be published.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn rotate(
        &self,
        keys: &OfficeKeys,
        now: UnixMillis,
        entropy: &dyn Entropy,
    ) -> Result<(OfficeKeys, Vec<EncryptionKey>), KeystoreError> {
        let (mut decryption, mut published) = (Vec::new(), Vec::new());
        for suite in Suite::ALL {
            let (key, public) = DecryptionKey::generate(suite, entropy);
            decryption.push(OwnKey { key, replaced: None });
            published.push(public);
        }
        let kept = keys.decryption.iter().map(|own| OwnKey { replaced: own.replaced.or(Some(now)), ..own.clone() });
        decryption.extend(kept.filter(|own| own.replaced.is_none_or(|at| now.since(at) <= KEPT_DAYS * DAY_MS)));
        let keys = OfficeKeys { decryption, ..keys.clone() };
        self.write_office(&keys, entropy)?;
        self.write_public(&keys)?;
        Ok((keys, published))
    }

    /// Records of this office that the directory does not have yet, by file.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn unpublished(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, KeystoreError> {
        let directory = self.directory.join("unpublished");
        let listing = match fs::read_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(io_error(&directory))?,
        };
        let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "record"));
        paths.sort();
        paths.into_iter().map(|path| Ok((path.clone(), fs::read(&path).map_err(io_error(&path))?))).collect()
    }

    /// Replaces a record that is not published yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace_record(&self, path: &std::path::Path, record: &[u8]) -> Result<(), KeystoreError> {
        replace(path, record)
    }

    /// Keeps a record until it is published. Names sort in the order of publication.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn to_publish(&self, name: &str, record: &[u8]) -> Result<(), KeystoreError> {
        let directory = self.directory.join("unpublished");
        fs::create_dir_all(&directory).map_err(io_error(&directory))?;
        replace(&directory.join(format!("{name}.record")), record)
    }

    /// Gives an officer another passphrase.
    ///
    /// # Errors
    /// As [`Self::unlock`].
    pub fn change_passphrase(
        &self,
        officer: &str,
        old: &[u8],
        new: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<(), KeystoreError> {
        let _change = self.begin_change()?;
        let (office_key, opened) = self.open_slot(officer, old)?;
        self.write_slot(officer, &office_key, &opened.key, &opened.credential.to_stored(), new, entropy)
    }
}
