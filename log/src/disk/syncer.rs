//! A thread that syncs files while its owner syncs others: kept from batch to batch, since starting one costs a batch as
//! much as its hashing.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use super::{DiskFile, sync_all};

struct Job {
    files: Vec<Arc<dyn DiskFile>>,
    done: mpsc::Sender<io::Result<()>>,
}

/// Starts its thread when it is first needed; the thread ends with its owner.
#[derive(Debug, Default)]
pub(super) struct Syncer(Mutex<Option<mpsc::Sender<Job>>>);

impl Syncer {
    /// Begins to sync files, and says where the outcome will be told.
    pub(super) fn begin(&self, files: Vec<Arc<dyn DiskFile>>) -> io::Result<mpsc::Receiver<io::Result<()>>> {
        let (done, outcome) = mpsc::channel();
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = match thread.as_ref() {
            Some(jobs) => jobs,
            None => thread.insert(start()?),
        };
        jobs.send(Job { files, done }).map_err(|_| io::Error::other("the syncing thread has ended"))?;
        Ok(outcome)
    }
}

fn start() -> io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::Builder::new().name("syncer".into()).spawn(move || {
        for Job { files, done } in jobs {
            // Whoever asked waits for it, or has ended.
            let _ = done.send(sync_all(&files));
        }
    })?;
    Ok(sender)
}
