//! Whether the broker is reached, and since when it is or is not: the officer must not take silence for quiet.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU8, Ordering},
};

use liaison_proto::{
    clock::{Clock, UnixMillis},
    ids::Lane,
};
use serde_json::{Value, json};

/// The state of the stream of deliveries.
pub struct Contact {
    clock: Arc<dyn Clock>,
    /// Lanes whose stream of deliveries is up.
    lanes: AtomicU8,
    since_ms: AtomicI64,
}

impl Contact {
    /// Not connected, since now.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let since_ms = AtomicI64::new(clock.now().0);
        Self { clock, lanes: AtomicU8::new(0), since_ms }
    }

    /// Notes that a lane's stream is up or down.
    pub fn set(&self, lane: Lane, connected: bool) {
        let bit = 1 << lane as u8;
        let before = if connected {
            self.lanes.fetch_or(bit, Ordering::SeqCst)
        } else {
            self.lanes.fetch_and(!bit, Ordering::SeqCst)
        };
        let after = if connected { before | bit } else { before & !bit };
        // Reached when any lane is: on a bad link FLASH may be the only one.
        if (before == 0) != (after == 0) {
            self.since_ms.store(self.clock.now().0, Ordering::SeqCst);
        }
    }

    /// Whether, and since when.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let since = UnixMillis(self.since_ms.load(Ordering::SeqCst));
        let lanes = self.lanes.load(Ordering::SeqCst);
        let up: Vec<Lane> = Lane::ALL.into_iter().filter(|lane| lanes & (1 << *lane as u8) != 0).collect();
        json!({"connected": lanes != 0, "lanes": up, "since": since.to_string()})
    }
}
