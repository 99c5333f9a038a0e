//! Which messages' attachments the broker has: their messages may leave.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use liaison_proto::{Bytes, ids::MessageId};
use tokio::sync::watch;

use crate::state::{State, Submission};

/// Which messages' attachments the broker has, as far as this process knows.
#[derive(Clone, Debug)]
pub struct Uploads {
    done: Arc<Mutex<HashSet<MessageId>>>,
    /// Messages that the broker has accepted, and whose attachments it may have lost.
    lost: Arc<Mutex<BTreeSet<MessageId>>>,
    changed: watch::Sender<u64>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { done: Arc::default(), lost: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Uploads {
    /// Whether a message of the outbox may leave: it has no attachments, or the broker has them.
    #[must_use]
    pub fn are_done(&self, state: &State, id: MessageId) -> bool {
        let none = state.outgoing.get(&id).is_some_and(|o| o.header.commitments().attachments.is_empty());
        none || self.done.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// The broker says that it has not got them after all.
    pub fn again(&self, id: MessageId) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The broker has lost these attachments of messages that it accepted.
    pub fn look_again(&self, state: &State, names: &[Bytes]) {
        if names.is_empty() {
            return;
        }
        let accepted = state.outgoing.iter().filter(|(_, outgoing)| {
            let attachments = &outgoing.header.commitments().attachments;
            matches!(outgoing.submission, Submission::Receipted { .. })
                && attachments.iter().any(|attachment| names.contains(&attachment.sha256))
        });
        self.lost().extend(accepted.map(|(id, _)| *id));
        self.changed.send_modify(|n| *n += 1);
    }

    fn lost(&self) -> MutexGuard<'_, BTreeSet<MessageId>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepted messages whose attachments must be looked after.
    pub(super) fn to_look_at(&self) -> Vec<MessageId> {
        self.lost().iter().copied().collect()
    }

    pub(super) fn set_done(&self, id: MessageId) {
        self.lost().remove(&id);
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Tells when something changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
