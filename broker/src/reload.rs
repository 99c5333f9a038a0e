//! Certificates and revocation lists are looked at every few seconds: the settings for new connections are replaced
//! whole, and connections whose party may not be connected any more are cut.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use liaison_link::{
    time::FlooredTime,
    tls::{Identity, TlsError},
};
use liaison_proto::{
    charter::Charter,
    clock::{Clock as _, UnixMillis},
    directory::Directory,
    failure::chain,
};

use crate::{
    accept::{Door, check_believed, ending, server_config},
    config::Config,
    identity::Party,
    revocation::Revocations,
};

/// What is looked after, and what was found wrong with it.
pub struct Reloader {
    /// Where the files are.
    pub config: Config,
    /// The settings of new connections.
    pub door: Arc<Door>,
    /// The certificate that is served.
    pub identity: Identity,
    /// Revocation lists.
    pub revocations: Arc<RwLock<Revocations>>,
    /// Durable directory entries.
    pub directory: Arc<RwLock<Directory>>,
    /// Time, with its floor.
    pub time: FlooredTime,
    /// Why the newest certificate is not used, if it is not.
    pub problem: Arc<Mutex<Option<String>>>,
}

type Stamp = Vec<Option<(SystemTime, u64)>>;

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// Reads the lists, when a directory for them is configured.
#[must_use]
pub fn read_lists(config: &Config, charter: &Charter, before: &Revocations, now: UnixMillis) -> Revocations {
    config.revocation_lists.as_ref().map_or_else(Revocations::default, |directory| {
        Revocations::read(directory, charter, config.revocation_grace_hours, before, now)
    })
}

/// What the status says of a certificate that is not good.
#[must_use]
pub fn certificate_line(error: &TlsError) -> String {
    format!("the broker's certificate on the disk cannot be used: {}", chain(error))
}

impl Reloader {
    fn stamps(&self) -> Stamp {
        let mut paths = vec![self.config.tls_certificate.clone(), self.config.tls_key.clone()];
        if let Some(directory) = &self.config.revocation_lists {
            let mut lists: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().map(|f| f.path()).collect();
            lists.sort();
            paths.extend(lists);
        }
        paths.iter().map(|path| stamp(path)).collect()
    }

    /// Charters that still hold: when an overlap has ended, a CA is not believed any more.
    fn generations(&self) -> usize {
        self.door.charter.in_force(self.time.now()).count()
    }

    /// Looks every so often, until the task is dropped.
    pub async fn run(mut self) {
        let mut known = (self.stamps(), self.generations());
        let mut directory_size = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(u64::from(self.config.reload_seconds))).await;
            let found = (self.stamps(), self.generations());
            if found != known {
                known = found;
                self.reload();
            }
            let size = self.directory.read().unwrap_or_else(PoisonError::into_inner).size();
            if size != directory_size {
                directory_size = size;
                self.cut_unenrolled();
            }
        }
    }

    fn reload(&mut self) {
        let revocations = {
            let mut revocations = self.revocations.write().unwrap_or_else(PoisonError::into_inner);
            *revocations = read_lists(&self.config, &self.door.charter, &revocations, self.time.now());
            revocations.clone()
        };
        for problem in revocations.problems(self.time.now()) {
            tracing::warn!(%problem, "revocation lists");
        }
        let charter = Arc::clone(&self.door.charter);
        let settings = |identity: &Identity| server_config(&charter, identity.clone(), &revocations, self.time.clone());
        let read = Identity::read(&self.config.tls_certificate, &self.config.tls_key).and_then(|identity| {
            // One that no office would believe must not replace one that they do.
            check_believed(&charter, &identity, &self.time)?;
            Ok((settings(&identity)?, identity))
        });
        let (settings, problem) = match read {
            Ok((settings, identity)) => {
                self.identity = identity;
                (Ok(settings), ending(&charter, &self.identity, &self.time))
            }
            // The lists count all the same.
            Err(error) => (settings(&self.identity), Some(certificate_line(&error))),
        };
        if let Some(problem) = &problem {
            tracing::error!(%problem, "the broker's certificate");
        }
        match settings {
            Ok(settings) => {
                *self.door.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
                tracing::info!("certificates and revocation lists were read again");
            }
            Err(error) => tracing::error!(error = chain(&error), "nothing new is used"),
        }
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        let cut = self.door.connections.cut(|party, serial| revocations.is_revoked(party, serial));
        if cut > 0 {
            tracing::warn!(cut, "connections with a revoked certificate were cut");
        }
    }

    /// An office that the directory revoked is not connected any more.
    fn cut_unenrolled(&self) {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        let revoked =
            |office| directory.records(office).next().is_some() && directory.office(office, directory.size()).is_none();
        let cut = self.door.connections.cut(|party, _| matches!(party, Party::Office(office) if revoked(*office)));
        if cut > 0 {
            tracing::warn!(cut, "connections of revoked offices were cut");
        }
    }
}
