//! Which messages' attachments the broker has: their messages may leave.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use liaison_proto::ids::MessageId;
use tokio::sync::watch;

use crate::state::State;

/// Which messages' attachments the broker has, as far as this process knows.
#[derive(Clone, Debug)]
pub struct Uploads {
    done: Arc<Mutex<HashSet<MessageId>>>,
    changed: watch::Sender<u64>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { done: Arc::default(), changed: watch::Sender::new(0) }
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

    pub(super) fn set_done(&self, id: MessageId) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Tells when something changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
