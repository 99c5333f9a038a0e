//! Waiting between attempts: doubling from 100 ms to 5 s, with jitter so that offices do not call back in step.

use std::time::Duration;

use liaison_proto::{
    entropy::{Entropy, random},
    ids::Lane,
};

const FIRST_MS: u64 = 100;
const LONGEST_MS: u64 = 5_000;
const LONGEST_OF_FLASH_MS: u64 = 1_000;

/// The pauses of one loop.
#[derive(Debug)]
pub struct Backoff {
    next_ms: u64,
    longest_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_ms: FIRST_MS, longest_ms: LONGEST_MS }
    }
}

impl Backoff {
    /// Pauses of a lane: a call for help is tried again within a second.
    #[must_use]
    pub fn of(lane: Lane) -> Self {
        let longest_ms = if lane == Lane::Flash { LONGEST_OF_FLASH_MS } else { LONGEST_MS };
        Self { longest_ms, ..Self::default() }
    }

    /// After a success the next pause is the shortest again.
    pub fn reset(&mut self) {
        self.next_ms = FIRST_MS;
    }

    /// The next pause: between half of it and all of it.
    pub fn pause(&mut self, entropy: &dyn Entropy) -> Duration {
        let full = self.next_ms;
        self.next_ms = (full * 2).min(self.longest_ms);
        let jitter = u64::from(u16::from_le_bytes(random(entropy))) * (full / 2) / u64::from(u16::MAX);
        Duration::from_millis(full / 2 + jitter)
    }
}

/// How long what can wait is gathered, so that what comes together is kept and stated together.
const GATHERED: Duration = Duration::from_millis(4);

/// Waits a moment for more of a lane to come; for a lane that cannot wait, not at all.
pub async fn gather(lane: Lane) {
    if lane == Lane::Bulk {
        tokio::time::sleep(GATHERED).await;
    }
}
