//! What is unlocked, for whom and until when. The office stays unlocked until it is locked or the node stops; an
//! officer's key lives some minutes and serves only the user id that unlocked it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use liaison_link::local::PeerUid;
use liaison_proto::clock::{Clock, UnixMillis};
use tokio::sync::watch;

use crate::keystore::{Keystore, KeystoreError, OfficeKeys, OfficerKey};

struct Session {
    officer: Arc<OfficerKey>,
    until: UnixMillis,
}

#[derive(Default)]
struct Unlocked {
    office: Option<Arc<OfficeKeys>>,
    sessions: HashMap<PeerUid, Session>,
}

/// The vault of a node.
pub struct Vault {
    keystore: Keystore,
    clock: Arc<dyn Clock>,
    session_ms: i64,
    unlocked: Mutex<Unlocked>,
    changed: watch::Sender<u64>,
}

/// Nobody has unlocked, or the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("locked; run: liaison unlock OFFICER")]
pub struct Locked;

impl Vault {
    /// A locked vault. Sessions last `session_ms` milliseconds.
    #[must_use]
    pub fn new(keystore: Keystore, clock: Arc<dyn Clock>, session_ms: i64) -> Self {
        Self { keystore, clock, session_ms, unlocked: Mutex::default(), changed: watch::Sender::new(0) }
    }

    fn lock_state(&self) -> MutexGuard<'_, Unlocked> {
        self.unlocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks the office, and the officer's key for this user id. Returns when the session ends.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn unlock(&self, uid: PeerUid, officer: &str, passphrase: &[u8]) -> Result<UnixMillis, KeystoreError> {
        let (office, officer) = self.keystore.unlock(officer, passphrase)?;
        let until = self.clock.now().plus(self.session_ms);
        let mut unlocked = self.lock_state();
        unlocked.office.get_or_insert_with(|| Arc::new(office));
        unlocked.sessions.insert(uid, Session { officer: Arc::new(officer), until });
        drop(unlocked);
        self.changed.send_modify(|n| *n += 1);
        Ok(until)
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
        let now = self.clock.now();
        let mut unlocked = self.lock_state();
        unlocked.sessions.retain(|_, session| now < session.until);
        unlocked.sessions.get(&uid).map(|session| Arc::clone(&session.officer)).ok_or(Locked)
    }

    /// Tells when something was locked or unlocked.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
