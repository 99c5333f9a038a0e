//! Fair shares: how much an office may ask of the broker, so that one noisy office cannot starve another. What is over
//! the rate is refused with `TOO_MANY` and a `RetryInfo`; inside a stream it is read later.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use liaison_proto::{
    ids::{Lane, OfficeId},
    refusal::{Refusal, RefusalCode},
};

/// How long an answer that says "too many" is kept back: a client that does not listen is slowed by it. Always, however
/// soon its next envelope may come: 256 calls that each come again at once would take the broker's whole time.
pub(crate) const KEPT_BACK: Duration = Duration::from_millis(200);
/// Streams of deliveries and evidence that an office may hold open: each holds a few messages that nobody reads.
/// Four are a node's own, one for numbers it has lost; the others are those of connections that it has lost and that
/// the broker still believes in.
const STREAMS: usize = 16;
/// Streams of submissions that an office may hold open: each holds an envelope that may come slowly. Three are a node's
/// own.
const SUBMISSIONS: usize = 16;
/// Unit of the byte rate.
const UNIT: usize = 1024;

/// Reads a second, and at once: a node that replays a directory of thousands of entries asks for some dozen bundles, and
/// each receipt may cost a consistency proof.
const READS: NonZeroU32 = nonzero(1000);
const READS_AT_ONCE: NonZeroU32 = nonzero(5000);

const fn nonzero(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// The rates of one office.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Envelopes and statements a second, each lane for itself.
    pub messages: NonZeroU32,
    /// How many may come at once.
    pub burst: NonZeroU32,
    /// KiB of envelopes a second, each lane for itself; sixty times as much at once.
    pub kibibytes: NonZeroU32,
    /// Calls under way at the same time.
    pub calls: usize,
}

/// Places for what offices do at the same time, so many for each.
struct Places {
    most: usize,
    taken: Mutex<HashMap<OfficeId, usize>>,
}

/// A call or stream under way.
pub struct Place {
    places: Arc<Places>,
    office: OfficeId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.office) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.office);
            }
        }
    }
}

impl Places {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    fn take(self: &Arc<Self>, office: OfficeId) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(office).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), office })
    }

    /// A place, or the refusal after a pause.
    async fn take_or_refuse(self: &Arc<Self>, office: OfficeId, what: &str) -> Result<Place, Refusal> {
        if let Some(place) = self.take(office) {
            return Ok(place);
        }
        tokio::time::sleep(KEPT_BACK).await;
        let detail = format!("{office} has {} {what}", self.most);
        Err(Refusal::new(RefusalCode::TooMany, detail).after(KEPT_BACK))
    }
}

/// The shares of all offices.
pub struct Shares {
    messages: DefaultKeyedRateLimiter<(OfficeId, Lane)>,
    kibibytes: DefaultKeyedRateLimiter<(OfficeId, Lane)>,
    reads: DefaultKeyedRateLimiter<OfficeId>,
    calls: Arc<Places>,
    submissions: Arc<Places>,
    streams: Arc<Places>,
    clock: DefaultClock,
}

impl Shares {
    /// Shares by these rates.
    #[must_use]
    pub fn new(rates: Rates) -> Arc<Self> {
        let bytes = rates.kibibytes.saturating_mul(NonZeroU32::MIN.saturating_add(59));
        Arc::new(Self {
            messages: RateLimiter::keyed(Quota::per_second(rates.messages).allow_burst(rates.burst)),
            kibibytes: RateLimiter::keyed(Quota::per_second(rates.kibibytes).allow_burst(bytes)),
            reads: RateLimiter::keyed(Quota::per_second(READS).allow_burst(READS_AT_ONCE)),
            calls: Places::new(rates.calls),
            submissions: Places::new(SUBMISSIONS),
            streams: Places::new(STREAMS),
            clock: DefaultClock::default(),
        })
    }

    /// A place for a call.
    ///
    /// # Errors
    /// `TOO_MANY` after a pause, when too many calls of the office are under way.
    pub async fn call(&self, office: OfficeId) -> Result<Place, Refusal> {
        self.calls.take_or_refuse(office, "calls under way").await
    }

    /// A place for a stream of submissions.
    ///
    /// # Errors
    /// `TOO_MANY` after a pause, when the office holds too many.
    pub async fn submissions(&self, office: OfficeId) -> Result<Place, Refusal> {
        self.submissions.take_or_refuse(office, "streams of submissions open").await
    }

    /// A place for a stream of deliveries or evidence, until the office has read it or gone.
    ///
    /// # Errors
    /// `TOO_MANY` after a pause, when the office holds too many.
    pub async fn stream(&self, office: OfficeId) -> Result<Place, Refusal> {
        self.streams.take_or_refuse(office, "streams open").await
    }

    /// How long an office has to wait until its next envelope of a size; none when it need not.
    #[must_use]
    pub fn wait(&self, office: OfficeId, lane: Lane, bytes: usize) -> Option<Duration> {
        let units = u32::try_from(bytes / UNIT + 1).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        if let Err(until) = self.messages.check_key(&(office, lane)) {
            return Some(until.wait_time_from(self.clock.now()));
        }
        match self.kibibytes.check_key_n(&(office, lane), units) {
            Ok(Err(until)) => Some(until.wait_time_from(self.clock.now())),
            // An envelope never weighs more than the burst: the configuration is checked for it.
            Ok(Ok(())) | Err(_) => None,
        }
    }

    /// Takes an envelope or statement of an office, or refuses it after a pause.
    ///
    /// # Errors
    /// `TOO_MANY` with the time to wait.
    pub async fn take(&self, office: OfficeId, lane: Lane, bytes: usize) -> Result<(), Refusal> {
        let Some(wait) = self.wait(office, lane, bytes) else { return Ok(()) };
        tokio::time::sleep(KEPT_BACK).await;
        let detail = format!("{office} sends faster than its share");
        Err(Refusal::new(RefusalCode::TooMany, detail).after(wait.max(Duration::from_millis(1))))
    }

    /// Takes an envelope of a stream: waits until the office may send it.
    pub async fn take_patiently(&self, office: OfficeId, lane: Lane, bytes: usize) {
        while let Some(wait) = self.wait(office, lane, bytes) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a read of the log, of numbers or of an attachment's state.
    ///
    /// # Errors
    /// `TOO_MANY` with the time to wait.
    pub async fn read(&self, office: OfficeId) -> Result<(), Refusal> {
        let Err(until) = self.reads.check_key(&office) else { return Ok(()) };
        let wait = until.wait_time_from(self.clock.now());
        tokio::time::sleep(KEPT_BACK).await;
        let detail = format!("{office} reads faster than its share");
        Err(Refusal::new(RefusalCode::TooMany, detail).after(wait.max(Duration::from_millis(1))))
    }

    /// Forgets offices that have been quiet.
    pub fn tidy(&self) {
        self.messages.retain_recent();
        self.kibibytes.retain_recent();
        self.reads.retain_recent();
    }
}
