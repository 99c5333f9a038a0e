//! Whether the broker is reached, and since when it is or is not: the officer must not take silence for quiet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use liaison_proto::clock::{Clock, UnixMillis};
use serde_json::{Value, json};

/// The state of the stream of deliveries.
pub struct Contact {
    clock: Arc<dyn Clock>,
    connected: AtomicBool,
    since_ms: AtomicI64,
}

impl Contact {
    /// Not connected, since now.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let since_ms = AtomicI64::new(clock.now().0);
        Self { clock, connected: AtomicBool::new(false), since_ms }
    }

    /// Notes that the stream is up or down.
    pub fn set(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::SeqCst) != connected {
            self.since_ms.store(self.clock.now().0, Ordering::SeqCst);
        }
    }

    /// Whether, and since when.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let since = UnixMillis(self.since_ms.load(Ordering::SeqCst));
        json!({"connected": self.connected.load(Ordering::SeqCst), "since": since.to_string()})
    }
}
