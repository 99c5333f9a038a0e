//! The node's view of the exchange log: every checkpoint it is shown must be of one append-only log.

use std::{
    collections::VecDeque,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use liaison_link::charter_files::{CharterFileError, Charters};
use liaison_log::{
    checkpoint::{CheckpointError, VerifiedCheckpoint, claimed},
    remote::{DEADLINE, RemoteLog, within},
    succession::End,
    verify::{Inconsistent, ReceiptError, VerifiedReceipt, verify_consistency, verify_receipt_by},
};
use liaison_proto::{
    Bytes,
    charter::{Charter, LogIdentity},
    clock::Clock,
    ids::{Lane, LogIndex},
    refusal::{Refusal, RefusalCode},
    wire,
};
use tokio::sync::{Mutex, watch};
use tonic::Status;

use crate::{
    record::{Alarm, Checkpoint, NodeRecord, Succeeded},
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
    /// The broker's charter does not follow from the one held here.
    #[error("the broker's charter is not one that follows from this node's")]
    Charter(#[from] CharterFileError),
    /// The newest checkpoint could not be kept.
    #[error("the newest checkpoint could not be kept")]
    Store(#[from] StoreError),
}

impl ViewError {
    /// Whether the log itself is at fault, rather than link or disk.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        match self {
            // Of before the end of the log.
            Self::Receipt(ReceiptError::Checkpoint(CheckpointError::Closed)) => false,
            Self::Receipt(_) | Self::Inconsistent(_) => true,
            Self::Charter(error) => error.is_alarm(),
            Self::Link(_) | Self::Store(_) => false,
        }
    }
}

/// Whether another charter may explain it.
fn is_unknown_key(error: &ReceiptError) -> bool {
    matches!(error, ReceiptError::Checkpoint(CheckpointError::Signature | CheckpointError::Origin))
}

/// Whether a log has a key for what a checkpoint claims: none beyond its end.
fn signs(log: &LogIdentity, note: &Bytes) -> bool {
    claimed(note).is_some_and(|(origin, size)| log.keys(origin, size).next().is_some())
}

/// Checkpoints that are remembered: receipts that come together are under the same few.
const SEEN: usize = 32;
/// How long the broker may take to compare checkpoints for a call for help.
const FLASH_ANSWER: Duration = Duration::from_secs(10);

/// The newest checkpoint that was verified, and how others compare with it.
pub struct LogView {
    charters: Charters,
    /// Per lane: a proof that FLASH needs waits for nothing else.
    sources: [RemoteLog; 3],
    store: Store,
    clock: Arc<dyn Clock>,
    newest: Mutex<Option<VerifiedCheckpoint>>,
    /// Whose turn it is to ask the broker how checkpoints compare, per lane.
    asking: [Mutex<()>; 3],
    /// How often it gave no answer, per lane.
    failures: [AtomicU64; 3],
    /// Verified, and of one log with the newest: these are believed again without asking.
    seen: std::sync::Mutex<VecDeque<VerifiedCheckpoint>>,
    seen_size: AtomicU64,
    /// Number of the newest charter whose end of the log, if it has one, was followed.
    settled: AtomicU64,
    ends: watch::Sender<usize>,
}

impl LogView {
    /// The view of a log, continued from what the store holds.
    #[must_use]
    pub fn new(charters: Charters, sources: [RemoteLog; 3], store: Store, clock: Arc<dyn Clock>) -> Self {
        let kept: Option<Bytes> = store.state().checkpoint.clone();
        // It was verified before it was kept; another chain of charters makes it void.
        let newest = kept.and_then(|note| VerifiedCheckpoint::verify(&note, charters.get().exchange_log()).ok());
        let seen_size = AtomicU64::new(newest.as_ref().map_or(0, VerifiedCheckpoint::size));
        let (newest, settled, ends) = (Mutex::new(newest), AtomicU64::new(0), watch::Sender::new(0));
        let (asking, failures, seen) = (Default::default(), Default::default(), Default::default());
        Self { charters, sources, store, clock, newest, asking, failures, seen, seen_size, settled, ends }
    }

    /// Tells when the log was closed and its successor is followed.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<usize> {
        self.ends.subscribe()
    }

    /// Follows the newest charter: where it closes the log, what is here of it beyond its end does not count any more, and
    /// the officers are told.
    ///
    /// # Errors
    /// [`ViewError::Store`].
    pub async fn settle(&self) -> Result<Arc<Charter>, ViewError> {
        let charter = self.charters.get();
        if self.settled.load(Ordering::SeqCst) >= charter.number() {
            return Ok(charter);
        }
        let mut newest = self.newest.lock().await;
        let mut ends: Vec<_> = End::all(&charter).collect();
        ends.reverse();
        for end in ends {
            let (kept, affected) = {
                let state = self.store.state();
                if state.ends.iter().any(|known| known.charter == end.charter) {
                    continue;
                }
                let kept = state.checkpoints.range(..=end.size).next_back().map(|(_, position)| *position);
                let held = state.entries.range(LogIndex(end.size)..);
                let first = held.clone().next().map(|(index, _)| *index);
                (kept, (state.beyond(LogIndex(end.size)), held.count(), first))
            };
            let kept = match kept.map(|position| self.store.record(position)) {
                Some(Ok(NodeRecord::Checkpoint(checkpoint))) => Some(checkpoint.note),
                _ => None,
            };
            let stored = kept.and_then(|note| VerifiedCheckpoint::verify(&note, charter.exchange_log()).ok());
            // The newest one may still be on its way to the disk.
            let in_memory = newest.clone().filter(|newest| {
                newest.size() <= end.size && VerifiedCheckpoint::verify(newest.note(), charter.exchange_log()).is_ok()
            });
            let checkpoint = in_memory.or(stored);
            let note = checkpoint.as_ref().map(|checkpoint| checkpoint.note().clone()).unwrap_or_default();
            let (origin, size) = (end.log.origin, end.size);
            let succeeded = Succeeded { charter: end.charter, origin, size, checkpoint: note };
            let ((sent, received), held, first) = affected;
            let first = first.map_or_else(String::new, |first| format!(", the first is entry {first}"));
            let what = format!(
                "entries of the exchange log were lost for good: charter no. {} closed it at {size} entries, and a successor \
                 goes on; {sent} messages of this office are sent again, {received} received ones are UNPROVEN until \
                 they come again; {held} of the entries given up were here{first}",
                end.charter
            );
            let alarm = Alarm { at_ms: self.clock.now().0, what, exhibit: Bytes::new() };
            self.store.write(vec![NodeRecord::Succeeded(succeeded).into(), NodeRecord::Alarm(alarm).into()]).await?;
            self.seen_size.store(checkpoint.as_ref().map_or(0, VerifiedCheckpoint::size), Ordering::SeqCst);
            *newest = checkpoint;
            self.seen().clear();
            self.ends.send_modify(|ends| *ends += 1);
        }
        self.settled.store(charter.number(), Ordering::SeqCst);
        Ok(charter)
    }

    /// Asks the broker for charters that are not known here yet.
    ///
    /// # Errors
    /// [`ViewError::Link`], or [`ViewError::Charter`] for one that does not follow.
    pub async fn learn(&self, lane: Lane) -> Result<(), ViewError> {
        let known = self.charters.get().number();
        let learnt = self.sources[lane as usize].charters(known).await.map_err(ViewError::Link)?;
        Ok(self.charters.learn(&learnt)?)
    }

    /// Asks for later charters, and follows them.
    ///
    /// # Errors
    /// As [`Self::learn`] and [`Self::settle`].
    pub async fn follow(&self, lane: Lane) -> Result<(), ViewError> {
        self.learn(lane).await?;
        self.settle().await.map(|_| ())
    }

    /// Verifies what the log signed. What verifies under no key known may be under one of a charter that is not known
    /// yet: the broker is asked for it.
    async fn under_its_key<T>(
        &self,
        lane: Lane,
        verify: impl Fn(&LogIdentity) -> Result<T, ReceiptError>,
    ) -> Result<T, ViewError> {
        let charter = self.settle().await?;
        let error = match verify(charter.exchange_log()) {
            Err(error) if is_unknown_key(&error) => error,
            verified => return Ok(verified?),
        };
        self.learn(lane).await?;
        if self.charters.get().number() == charter.number() {
            return Err(error.into());
        }
        Ok(verify(self.settle().await?.exchange_log())?)
    }

    /// Verifies a signed checkpoint; it is not compared with others.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn checkpoint(&self, note: &Bytes, lane: Lane) -> Result<VerifiedCheckpoint, ViewError> {
        // Whoever stole a key that was replaced must not make the log look forked.
        let now = self.clock.now();
        let verify =
            |log: &LogIdentity| VerifiedCheckpoint::verify(note, &log.in_force(now)).map_err(ReceiptError::Checkpoint);
        self.under_its_key(lane, verify).await
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
        let verify = |note: &Bytes, log: &LogIdentity| match self.seen().iter().find(|seen| seen.note() == note) {
            // Unless the log was closed before it.
            Some(seen) if signs(log, note) => Ok(seen.clone()),
            _ => VerifiedCheckpoint::verify(note, log),
        };
        let verified = self.under_its_key(lane, |log| verify_receipt_by(receipt, |note| verify(note, log))).await?;
        self.follow_to(&verified.checkpoint, lane, true).await?;
        Ok(verified)
    }

    /// Verifies that a checkpoint is of the log this node has seen so far, and keeps it when it is newer.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn extend(&self, shown: &VerifiedCheckpoint, lane: Lane) -> Result<(), ViewError> {
        self.follow_to(shown, lane, false).await
    }

    /// `seen_is_enough` for receipts, which prove what they are about under any checkpoint of this log. Where the broker says
    /// what its newest one is, it must show that it still has the log that was seen: it may have been rolled back.
    async fn follow_to(&self, shown: &VerifiedCheckpoint, lane: Lane, seen_is_enough: bool) -> Result<(), ViewError> {
        // Of what comes together on a lane, one asks the broker; when it gets no answer, the others do not ask in their turn.
        let failures = &self.failures[lane as usize];
        let before = failures.load(Ordering::SeqCst);
        let _asking = self.asking[lane as usize].lock().await;
        if failures.load(Ordering::SeqCst) != before {
            return Err(ViewError::Link(Status::aborted("the broker has just not answered")));
        }
        loop {
            if seen_is_enough && self.seen().contains(shown) {
                return Ok(());
            }
            // The lock is not held while the broker is asked: one that does not answer holds up no other lane.
            let known = self.newest.lock().await.clone();
            if let Some(known) = &known {
                let compared = self.compare(known, shown, lane).await;
                if matches!(compared, Err(ViewError::Link(_))) {
                    failures.fetch_add(1, Ordering::SeqCst);
                }
                compared?;
            }
            let mut newest = self.newest.lock().await;
            // It may have been verified just before the log was closed.
            if !signs(self.charters.get().exchange_log(), shown.note()) {
                return Err(ViewError::Link(Status::aborted("the log was closed meanwhile")));
            }
            if known.as_ref().is_some_and(|known| shown.size() <= known.size()) {
                // Whatever is newer by now extends what it was compared with; where the log was closed it does not.
                if newest.as_ref().map(VerifiedCheckpoint::size) >= known.as_ref().map(VerifiedCheckpoint::size) {
                    self.remember(shown);
                    return Ok(());
                }
            } else if *newest == known {
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
            let asked = self.sources[lane as usize].consistency(old.size(), new.size());
            // Nothing large is ever in the way of FLASH.
            let limit = if lane == Lane::Flash { FLASH_ANSWER } else { DEADLINE };
            match within(limit, asked).await {
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
        // Whatever is stated on the strength of it is written behind it.
        let record = NodeRecord::Checkpoint(Checkpoint { note: shown.note().clone() });
        self.store.write_behind(record.into()).await?;
        self.seen_size.store(shown.size(), Ordering::SeqCst);
        *newest = Some(shown.clone());
        self.remember(shown);
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, VecDeque<VerifiedCheckpoint>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, consistent: &VerifiedCheckpoint) {
        let mut seen = self.seen();
        if seen.len() >= SEEN {
            seen.pop_front();
        }
        seen.push_back(consistent.clone());
    }
}
