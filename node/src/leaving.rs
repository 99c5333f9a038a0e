//! Which messages may have left the node. A message is held for a moment, and taken back in it without anybody's knowing; but
//! when that moment is over no clock can say for certain, for clocks are set back, and a restart forgets what was sent and not
//! answered. Whoever is told "it never left" must be able to rely on it.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use liaison_proto::ids::MessageId;

use crate::state::State;

#[derive(Debug, Default)]
struct Inner {
    left: HashSet<MessageId>,
    taken_back: HashSet<MessageId>,
}

/// What has left, and what may not leave any more.
#[derive(Debug)]
pub struct Leaving(Mutex<Inner>);

impl Leaving {
    /// At a start: everything that waits may have left before it.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let left = state.to_submit.iter().map(|(.., id)| *id).collect();
        Self(Mutex::new(Inner { left, taken_back: HashSet::new() }))
    }

    /// A message is handed to the network now; false when it was taken back.
    pub fn leaves(&self, id: MessageId) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = !inner.taken_back.contains(&id);
        if may {
            inner.left.insert(id);
        }
        may
    }

    /// Keeps a message from leaving; false when it may have left already.
    pub fn take_back(&self, id: MessageId) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = !inner.left.contains(&id);
        if may {
            inner.taken_back.insert(id);
        }
        may
    }

    /// Lets a message leave after all.
    pub fn let_go(&self, id: MessageId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).taken_back.remove(&id);
    }

    /// Whether a message was kept from leaving.
    #[must_use]
    pub fn is_taken_back(&self, id: MessageId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).taken_back.contains(&id)
    }

    /// Whether any of these messages was kept from leaving.
    #[must_use]
    pub fn keeps_one(&self, mut of: impl Iterator<Item = MessageId>) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !inner.taken_back.is_empty() && of.any(|id| inner.taken_back.contains(&id))
    }

    /// What was answered need not be remembered: its state says it.
    pub fn answered(&self, id: MessageId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).left.remove(&id);
    }
}
