//! What may be wrong with this node itself, for `status`: lines that a human can act on.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Problems by what they are about: a newer line replaces the older, and an empty one takes it away.
#[derive(Debug, Default)]
pub struct Health {
    problems: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// Notes how something is.
    pub fn note(&self, about: &'static str, problem: Option<String>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => problems.insert(about, problem),
            None => problems.remove(about),
        };
    }

    /// Whether something is wrong.
    #[must_use]
    pub fn has(&self, about: &'static str) -> bool {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).contains_key(about)
    }

    /// A line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
