//! Whether anything new may be entered. A broker that was restored from a backup, or is behind what it once signed,
//! signs nothing of its own before it is whole again: a second history must never begin.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liaison_proto::{
    refusal::{Refusal, RefusalCode},
    wire::LogName,
};
use tokio::sync::watch;

/// When to come again.
const AGAIN: Duration = Duration::from_secs(2);

/// Why nothing new is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The data directory is a copy: the offices have not yet shown whether it is the newest one.
    Unconfirmed,
    /// Entries of the directory log are lost.
    DirectoryLost,
    /// Entries of the exchange log are lost.
    ExchangeLost,
    /// The key of a log has signed two different logs.
    Forked,
    /// The log was closed, and its successor has not begun.
    Succession,
    /// What was held meanwhile is not entered yet: it comes first.
    Held,
}

/// Closed for as long as there is a reason.
pub struct Gate {
    reasons: Mutex<BTreeSet<Reason>>,
    open: watch::Sender<bool>,
}

impl Default for Gate {
    /// Open.
    fn default() -> Self {
        Self { reasons: Mutex::default(), open: watch::Sender::new(true) }
    }
}

impl Gate {
    fn reasons(&self) -> MutexGuard<'_, BTreeSet<Reason>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it for a reason.
    pub fn close(&self, reason: Reason) {
        let mut reasons = self.reasons();
        if reasons.insert(reason) {
            tracing::error!(?reason, "nothing new is entered");
        }
        self.open.send_replace(false);
    }

    /// A reason is gone.
    pub fn lift(&self, reason: Reason) {
        let mut reasons = self.reasons();
        if reasons.remove(&reason) {
            tracing::info!(?reason, "no more");
        }
        self.open.send_replace(reasons.is_empty());
    }

    /// Whether there is this reason.
    #[must_use]
    pub fn is_closed_for(&self, reason: Reason) -> bool {
        self.reasons().contains(&reason)
    }

    /// Whether there is this reason and no other.
    #[must_use]
    pub fn is_only_for(&self, reason: Reason) -> bool {
        let reasons = self.reasons();
        reasons.len() == 1 && reasons.contains(&reason)
    }

    /// Whether there is no other reason than some of these.
    #[must_use]
    pub fn has_only(&self, reasons: &[Reason]) -> bool {
        self.reasons().iter().all(|reason| reasons.contains(reason))
    }

    /// Tells when it was opened or closed, or something was held.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// Whether new entries may be made.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Passes when it is open.
    ///
    /// # Errors
    /// `REPAIRING`.
    pub fn pass(&self) -> Result<(), Refusal> {
        if self.is_open() { Ok(()) } else { Err(repairing()) }
    }

    /// Passes when a log may be shown. One that is behind what it once signed would look rolled back; but whoever has no
    /// directory can take nothing, not even what cannot wait, and only the exchange log may be behind for days.
    ///
    /// # Errors
    /// `REPAIRING`.
    pub fn shows(&self, log: LogName) -> Result<(), Refusal> {
        let of_the_exchange = [Reason::ExchangeLost, Reason::Succession, Reason::Held];
        if log == LogName::Directory && self.has_only(&of_the_exchange) { Ok(()) } else { self.pass() }
    }

    /// Completes when it is open.
    pub async fn opened(&self) {
        let mut open = self.open.subscribe();
        // An error means that the gate is gone, which this handle prevents.
        let _ = open.wait_for(|open| *open).await;
    }
}

/// The refusal of what would be entered into a log that is not whole.
#[must_use]
pub fn repairing() -> Refusal {
    Refusal::new(RefusalCode::Repairing, "the log lacks entries that it once had").after(AGAIN)
}
