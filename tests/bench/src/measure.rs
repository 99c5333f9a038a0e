//! Closed loops and what they measure: rate, median, 99th percentile, CPU.

use std::{
    fs,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// The moment from which something is measured.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time; nothing is decided by it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What one round of one subject measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    /// Operations.
    pub(crate) count: usize,
    /// How long they took together.
    pub(crate) wall: Duration,
    /// How long each took, ascending.
    pub(crate) latencies: Vec<Duration>,
}

impl Round {
    /// A round of operations that were timed one by one.
    pub(crate) fn new(wall: Duration, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self { count: latencies.len(), wall, latencies }
    }

    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.wall.as_secs_f64().max(1e-9)
    }

    /// The latency that a fraction of the operations did not exceed, milliseconds.
    pub(crate) fn percentile(&self, fraction: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = ((self.latencies.len() as f64 * fraction).ceil() as usize).saturating_sub(1).min(last);
        self.latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// `callers` callers that each begin the next of `count` operations as soon as their last one has ended. `operation` is
/// given the caller and the number of the operation.
///
/// # Errors
/// The first failed operation.
pub(crate) async fn closed_loop<F, R>(callers: usize, count: usize, operation: F) -> io::Result<Round>
where
    F: Fn(usize, usize) -> R + Send + Sync + 'static,
    R: Future<Output = io::Result<()>> + Send,
{
    let (next, operation) = (Arc::new(AtomicUsize::new(0)), Arc::new(operation));
    let begin = now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (next, operation) = (Arc::clone(&next), Arc::clone(&operation));
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(count / callers + 1);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok::<_, io::Error>(latencies);
                    }
                    let begin = now();
                    operation(caller, number).await?;
                    latencies.push(begin.elapsed());
                }
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(count);
    for task in tasks {
        latencies.extend(task.await.map_err(io::Error::other)??);
    }
    Ok(Round::new(begin.elapsed(), latencies))
}

/// CPU that a process has used, user and system.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu(process: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = [11, 12].iter().filter_map(|&at| fields.get(at)?.parse::<u64>().ok()).sum::<u64>();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The middle of several figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}
