//! A clock that a dead battery, a jump or a liar cannot turn into a one-way door.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liaison_proto::{
    charter::Charter,
    clock::{Clock, DAY_MS, HOUR_MS, UnixMillis},
};
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use tokio::time::Instant;

/// How far a log may be ahead of the own clock to be believed more.
const BELIEVED_AHEAD_MS: i64 = HOUR_MS;
/// A jump ahead by more, while running, is not believed: messages would expire, and be too old, all at once. A restart is
/// an operator's word for it.
const JUMP_MS: i64 = 7 * DAY_MS;

struct Anchors {
    /// The newest time seen in a log, and when.
    floor: (UnixMillis, Instant),
    /// The last answer, and when.
    last: Option<(UnixMillis, Instant)>,
    jumped: bool,
}

/// The wall clock, corrected by what is known otherwise:
/// - a machine whose clock died says 1970: it goes on from the newest time in the log, or from the charter's;
/// - a log that is a little ahead is followed; one that is far ahead of a clock that runs is not;
/// - a clock that jumps ahead by more than a week while running is not believed until a restart.
#[derive(Clone)]
pub struct FlooredTime {
    clock: Arc<dyn Clock>,
    /// No clock that runs says an earlier time: when the first charter was issued.
    born: UnixMillis,
    anchors: Arc<Mutex<Anchors>>,
}

impl FlooredTime {
    /// A clock for a charter's parties, with the newest time seen in a log.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, charter: &Charter, floor: UnixMillis) -> Self {
        let born = charter.chain().last().unwrap_or(charter).issued();
        let anchors = Anchors { floor: (floor.max(born), Instant::now()), last: None, jumped: false };
        Self { clock, born, anchors: Arc::new(Mutex::new(anchors)) }
    }

    fn lock(&self) -> MutexGuard<'_, Anchors> {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a time seen in a log.
    pub fn raise(&self, floor: UnixMillis) {
        let mut anchors = self.lock();
        if floor > anchors.floor.0 {
            anchors.floor = (floor, Instant::now());
        }
    }

    /// What is wrong with the clock, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let (wall, anchors) = (self.clock.now(), self.lock());
        let (floor, _) = anchors.floor;
        if wall < self.born {
            Some(format!("the clock is dead: it says {wall}; the time goes on from the log"))
        } else if anchors.jumped {
            Some(format!("the clock jumped to {wall}; it is not believed until a restart"))
        } else if floor.since(wall) > BELIEVED_AHEAD_MS {
            Some(format!("the log's time is {floor}, far ahead of this clock: one of the two is wrong"))
        } else {
            None
        }
    }
}

fn elapsed_since((at, then): (UnixMillis, Instant)) -> UnixMillis {
    at.plus(i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX))
}

impl Clock for FlooredTime {
    fn now(&self) -> UnixMillis {
        let wall = self.clock.now();
        let mut anchors = self.lock();
        let floor = elapsed_since(anchors.floor);
        let behind = floor.since(wall);
        let mut now = if wall < self.born || (0..=BELIEVED_AHEAD_MS).contains(&behind) { floor } else { wall };
        if let Some(last) = anchors.last {
            let steady = elapsed_since(last);
            anchors.jumped = now.since(steady) > JUMP_MS;
            if anchors.jumped {
                now = steady;
            }
        }
        anchors.last = Some((now, Instant::now()));
        now
    }
}

impl fmt::Debug for FlooredTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlooredTime")
    }
}

impl TimeProvider for FlooredTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.now().0).unwrap_or(0);
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}
