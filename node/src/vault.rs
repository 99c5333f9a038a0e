//! What is unlocked, for whom and until when. The office stays unlocked until it is locked or the node stops; an
//! officer's key lives some minutes and serves only the user id that unlocked it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liaison_casework::{contacts::Contacts, thread::event::Digest};
use liaison_link::local::PeerUid;
use liaison_log::disk::Disk;
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{Clock, DAY_MS, UnixMillis},
    entropy::Entropy,
    ids::OfficeId,
    office::Office,
    sign::{PayloadType, SigningKey},
    wire::{self, directory_record::Record},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    key_table::{KeyTable, KeyTableError},
    keystore::{KeyPair, Keystore, KeystoreError, OfficeKeys, OfficerKey},
};

struct Session {
    officer: Arc<OfficerKey>,
    /// By the machine's wall clock, which goes on while it sleeps, and by one that nobody can set back; whichever is first.
    until: (UnixMillis, Instant),
}

#[derive(Default)]
struct Unlocked {
    office: Option<Arc<OfficeKeys>>,
    sessions: HashMap<PeerUid, Session>,
    /// What messages say to their workflow, by the hash of their header: gone when the office is locked.
    read: HashMap<[u8; 32], Arc<Read>>,
}

/// What was read of a message's content, so that a thread is not opened anew each time somebody looks at it.
#[derive(Debug)]
pub struct Read {
    /// What it says to its workflow.
    pub digest: Digest,
    /// Who answers at an office, where it says so.
    pub contacts: Option<Contacts>,
}

/// Messages of which that is kept.
const READ: usize = 20_000;

/// The vault of a node.
pub struct Vault {
    keystore: Keystore,
    /// The time that keys are judged by.
    clock: Arc<dyn Clock>,
    /// The machine's own: a log that is ahead ends nobody's session.
    wall: Arc<dyn Clock>,
    session_ms: u32,
    unlocked: Mutex<Unlocked>,
    changed: watch::Sender<u64>,
}

/// Days that a new encryption key is valid.
const VALID_DAYS: i64 = 30;

/// Why keys were not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The office is locked.
    #[error("the office is locked")]
    Locked(#[from] Locked),
    /// The keystore failed.
    #[error("the new keys could not be kept")]
    Keystore(#[from] KeystoreError),
    /// The key table failed.
    #[error("the stored messages' keys could not be sealed anew")]
    KeyTable(#[from] KeyTableError),
}

/// Nobody has unlocked, or the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("locked; run: liaison unlock OFFICER")]
pub struct Locked;

impl Vault {
    /// A locked vault: keys are judged by one clock, sessions last `session_ms` milliseconds by the machine's own.
    #[must_use]
    pub fn new(keystore: Keystore, clock: Arc<dyn Clock>, wall: Arc<dyn Clock>, session_ms: u32) -> Self {
        Self { keystore, clock, wall, session_ms, unlocked: Mutex::default(), changed: watch::Sender::new(0) }
    }

    fn lock_state(&self) -> MutexGuard<'_, Unlocked> {
        self.unlocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks the office, and the officer's key for this user id. Returns when the session ends.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn unlock(
        &self,
        uid: PeerUid,
        officer: &str,
        passphrase: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<UnixMillis, KeystoreError> {
        // A turn of its own: keys that are replaced meanwhile would make a session of the ones before.
        let change = self.keystore.begin_change()?;
        let (office, own) = self.keystore.unlock(officer, passphrase)?;
        self.keystore.renew_slot(officer, passphrase, &office, entropy)?;
        let officer = self.keystore.refresh(&office, own)?;
        let length = i64::from(self.session_ms);
        let until = (self.wall.now().plus(length), Instant::now() + Duration::from_millis(u64::from(self.session_ms)));
        let mut unlocked = self.lock_state();
        unlocked.office.get_or_insert_with(|| Arc::new(office));
        unlocked.sessions.insert(uid, Session { officer: Arc::new(officer), until });
        drop(unlocked);
        drop(change);
        self.changed.send_modify(|n| *n += 1);
        Ok(self.clock.now().plus(length))
    }

    /// Makes new encryption keys, goes on with them, and keeps their records to be published.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn rotate(&self, office: OfficeId, entropy: &dyn Entropy) -> Result<usize, RotateError> {
        let now = self.clock.now();
        // Held throughout: two changes at once would lose one's keys.
        let _change = self.keystore.begin_change()?;
        let keys = self.office()?;
        let (rotated, published) = self.keystore.rotate(&keys, now, entropy)?;
        self.go_on_with(rotated);
        for (position, key) in published.iter().enumerate() {
            let record = wire::EncryptionKey {
                version: 1,
                office: office.to_string(),
                suite: key.suite().to_wire(),
                public_key: key.bytes().clone(),
                not_before_ms: now.0,
                not_after_ms: now.plus(VALID_DAYS * DAY_MS).0,
            };
            let bytes = Bytes::from(record.encode_to_vec());
            let signature = keys.signing.sign(PayloadType::KeyRecord, &bytes);
            let record = Record::Key(wire::KeyRecord { key: bytes, office_signature: Some(signature) });
            let record = wire::DirectoryRecord { record: Some(record) };
            self.keystore.to_publish(&format!("{:015}-{position}", now.0), &record.encode_to_vec())?;
        }
        self.changed.send_modify(|n| *n += 1);
        Ok(published.len())
    }

    /// Goes on with changed keys, unless the office was locked meanwhile.
    fn go_on_with(&self, keys: OfficeKeys) {
        if let Some(office) = &mut self.lock_state().office {
            *office = Arc::new(keys);
        }
    }

    /// Makes new keys at rest, seals the key table anew, and forgets the storage key before. What a crash left half done is
    /// done when the office is unlocked next ([`Self::finish_at_rest`]).
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn renew_at_rest(
        &self,
        table: &KeyTable,
        disk: &dyn Disk,
        entropy: &dyn Entropy,
    ) -> Result<Vec<String>, RotateError> {
        self.finish_at_rest(table, disk, entropy)?;
        {
            let _change = self.keystore.begin_change()?;
            let keys = self.keystore.renew_at_rest(&*self.office()?, entropy)?;
            self.go_on_with(keys);
        }
        self.finish_at_rest(table, disk, entropy)?;
        Ok(self.keystore.behind()?)
    }

    /// Seals the key table under the newest storage key, when it is not yet.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn finish_at_rest(&self, table: &KeyTable, disk: &dyn Disk, entropy: &dyn Entropy) -> Result<(), RotateError> {
        let _change = self.keystore.begin_change()?;
        let keys = self.office()?;
        if keys.storage.former.is_some() {
            table.seal_anew(disk, &keys.storage, entropy)?;
            self.go_on_with(self.keystore.forget_former(&keys, entropy)?);
        }
        Ok(())
    }

    /// Makes the office's next signing and receipt key, and the record for the country's authority to sign.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn prepare_next(
        &self,
        current: &Office,
        fresh: bool,
        entropy: &dyn Entropy,
    ) -> Result<wire::Office, RotateError> {
        let _change = self.keystore.begin_change()?;
        let keys = self.office()?;
        let (keys, request) = self.keystore.prepare_next(&keys, current, fresh, entropy)?;
        self.go_on_with(keys);
        Ok(request)
    }

    /// Goes on with the keys of the office's next record, which the directory has. Returns the receipt key, and whether
    /// the signing key is in use, too: not while the office is locked.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn adopt(&self, next: &KeyPair, entropy: &dyn Entropy) -> Result<(SigningKey, bool), KeystoreError> {
        let _change = self.keystore.begin_change()?;
        let receipt = self.keystore.adopt_receipt(next)?;
        let Ok(keys) = self.office() else { return Ok((receipt, false)) };
        let keys = self.keystore.adopt_signing(&keys, next, entropy)?;
        let mut unlocked = self.lock_state();
        if let Some(office) = &mut unlocked.office {
            *office = Arc::new(keys);
        }
        // One whose slot cannot be read unlocks again.
        unlocked.sessions.retain(|_, session| match self.keystore.credential(&session.officer.officer_id) {
            Ok(credential) => {
                session.officer = Arc::new(OfficerKey { credential, ..OfficerKey::clone(&session.officer) });
                true
            }
            Err(_) => false,
        });
        drop(unlocked);
        self.changed.send_modify(|n| *n += 1);
        Ok((receipt, true))
    }

    /// Gives an officer a new credential; with their passphrase also a new key of their own.
    ///
    /// # Errors
    /// [`RotateError`].
    pub fn renew_officer(
        &self,
        officer: &str,
        passphrase: Option<&[u8]>,
        entropy: &dyn Entropy,
    ) -> Result<(), RotateError> {
        let now = self.clock.now();
        let _change = self.keystore.begin_change()?;
        let keys = self.office()?;
        let (key, credential) = match passphrase {
            None => (None, self.keystore.renew_credential(&keys, officer, now)?),
            Some(passphrase) => {
                let (key, credential) = self.keystore.renew_officer_key(&keys, officer, passphrase, now, entropy)?;
                (Some(key), credential)
            }
        };
        let mut unlocked = self.lock_state();
        for session in unlocked.sessions.values_mut().filter(|session| session.officer.officer_id == officer) {
            let mut renewed = OfficerKey { credential: credential.clone(), ..OfficerKey::clone(&session.officer) };
            if let Some(key) = &key {
                renewed.key = key.clone();
            }
            session.officer = Arc::new(renewed);
        }
        Ok(())
    }

    /// The keystore.
    #[must_use]
    pub const fn keystore(&self) -> &Keystore {
        &self.keystore
    }

    /// Forgets every key.
    pub fn lock(&self) {
        *self.lock_state() = Unlocked::default();
        self.changed.send_modify(|n| *n += 1);
    }

    /// The office's keys.
    ///
    /// # Errors
    /// [`Locked`].
    pub fn office(&self) -> Result<Arc<OfficeKeys>, Locked> {
        self.lock_state().office.clone().ok_or(Locked)
    }

    /// The officer who unlocked from this user id, while the session lasts.
    ///
    /// # Errors
    /// [`Locked`].
    pub fn officer(&self, uid: PeerUid) -> Result<Arc<OfficerKey>, Locked> {
        let (wall, steady) = (self.wall.now(), Instant::now());
        let mut unlocked = self.lock_state();
        unlocked.sessions.retain(|_, session| wall < session.until.0 && steady < session.until.1);
        unlocked.sessions.get(&uid).map(|session| Arc::clone(&session.officer)).ok_or(Locked)
    }

    /// What was read of a message before, since the office was unlocked. Its header commits to its content.
    #[must_use]
    pub fn recall(&self, header: &[u8; 32]) -> Option<Arc<Read>> {
        self.lock_state().read.get(header).cloned()
    }

    /// Keeps what was read of a message until the office is locked.
    pub fn remember(&self, header: [u8; 32], read: &Arc<Read>) {
        let mut unlocked = self.lock_state();
        if unlocked.office.is_some() {
            if unlocked.read.len() >= READ {
                unlocked.read.clear();
            }
            unlocked.read.insert(header, Arc::clone(read));
        }
    }

    /// Tells when something was locked or unlocked.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
