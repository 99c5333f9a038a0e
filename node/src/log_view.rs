//! The node's view of the exchange log: every checkpoint it is shown must be of one append-only log.

use std::sync::atomic::{AtomicU64, Ordering};

use liaison_log::{
    checkpoint::VerifiedCheckpoint,
    remote::RemoteLog,
    verify::{Inconsistent, ReceiptError, VerifiedReceipt, verify_consistency, verify_receipt},
};
use liaison_proto::{
    Bytes,
    charter::LogIdentity,
    ids::Lane,
    refusal::{Refusal, RefusalCode},
    wire,
};
use tokio::sync::Mutex;
use tonic::Status;

use crate::{
    record::{Checkpoint, NodeRecord},
    store::{Store, StoreError},
};

/// Why a receipt or checkpoint was not believed.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The receipt proves nothing.
    #[error("the broker's receipt does not verify")]
    Receipt(#[from] ReceiptError),
    /// Two checkpoints that no one log can have signed.
    #[error("the exchange log was forked or rolled back")]
    Inconsistent(#[from] Inconsistent),
    /// The proof could not be had: nothing is known yet.
    #[error("the consistency proof could not be fetched")]
    Link(#[source] Status),
    /// The newest checkpoint could not be kept.
    #[error("the newest checkpoint could not be kept")]
    Store(#[from] StoreError),
}

impl ViewError {
    /// Whether the log itself is at fault, rather than link or disk.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        matches!(self, Self::Receipt(_) | Self::Inconsistent(_))
    }
}

/// The newest checkpoint that was verified, and how others compare with it.
pub struct LogView {
    log: LogIdentity,
    /// Per lane: a proof that FLASH needs waits for nothing else.
    sources: [RemoteLog; 3],
    store: Store,
    newest: Mutex<Option<VerifiedCheckpoint>>,
    seen_size: AtomicU64,
}

impl LogView {
    /// The view of a log, continued from what the store holds.
    #[must_use]
    pub fn new(log: LogIdentity, sources: [RemoteLog; 3], store: Store) -> Self {
        let kept: Option<Bytes> = store.state().checkpoint.clone();
        // It was verified before it was kept; a charter with another key makes it void.
        let newest = kept.and_then(|note| VerifiedCheckpoint::verify(&note, &log).ok());
        let seen_size = AtomicU64::new(newest.as_ref().map_or(0, VerifiedCheckpoint::size));
        Self { log, sources, store, newest: Mutex::new(newest), seen_size }
    }

    /// The log's identity.
    #[must_use]
    pub const fn log(&self) -> &LogIdentity {
        &self.log
    }

    /// The newest verified checkpoint.
    pub async fn newest(&self) -> Option<VerifiedCheckpoint> {
        self.newest.lock().await.clone()
    }

    /// Size of the newest verified checkpoint: a broker that has less has lost entries.
    #[must_use]
    pub fn seen_size(&self) -> u64 {
        self.seen_size.load(Ordering::SeqCst)
    }

    /// Verifies a receipt, and that its checkpoint is of the log this node has seen so far.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn verify(&self, receipt: &wire::Receipt, lane: Lane) -> Result<VerifiedReceipt, ViewError> {
        let verified = verify_receipt(receipt, &self.log)?;
        self.extend(&verified.checkpoint, lane).await?;
        Ok(verified)
    }

    /// Verifies that a checkpoint is of the log this node has seen so far, and keeps it when it is newer.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn extend(&self, shown: &VerifiedCheckpoint, lane: Lane) -> Result<(), ViewError> {
        loop {
            // The lock is not held while the broker is asked: one that does not answer holds up nobody else.
            let known = self.newest.lock().await.clone();
            if let Some(known) = &known {
                self.compare(known, shown, lane).await?;
                if shown.size() <= known.size() {
                    return Ok(());
                }
            }
            let mut newest = self.newest.lock().await;
            if *newest == known {
                return self.keep(&mut newest, shown).await;
            }
            // Another checkpoint came first: compare with that one, too.
        }
    }

    /// Verifies that two checkpoints are of one append-only log.
    async fn compare(
        &self,
        known: &VerifiedCheckpoint,
        shown: &VerifiedCheckpoint,
        lane: Lane,
    ) -> Result<(), ViewError> {
        let (old, new) = if shown.size() < known.size() { (shown, known) } else { (known, shown) };
        let proof = if old.size() == 0 || old.size() == new.size() {
            Vec::new()
        } else {
            match self.sources[lane as usize].consistency(old.size(), new.size()).await {
                Ok(proof) => proof,
                // The log has signed both sizes: a broker that does not know one of them was rolled back.
                Err(status) if Refusal::from_status(&status).is_some_and(|r| r.code == RefusalCode::OutOfRange) => {
                    return Err(Inconsistent { old: old.size(), new: new.size() }.into());
                }
                Err(status) => return Err(ViewError::Link(status)),
            }
        };
        Ok(verify_consistency(old, new, &proof)?)
    }

    async fn keep(&self, newest: &mut Option<VerifiedCheckpoint>, shown: &VerifiedCheckpoint) -> Result<(), ViewError> {
        let record = NodeRecord::Checkpoint(Checkpoint { note: shown.note().clone() });
        self.store.write(vec![record.into()]).await?;
        self.seen_size.store(shown.size(), Ordering::SeqCst);
        *newest = Some(shown.clone());
        Ok(())
    }
}
