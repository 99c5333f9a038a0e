//! The one writer of a log. Callers hand it events and await the answers; what waits is committed together, in
//! fair shares.

use std::{sync::Arc, time::Duration};

use liaison_proto::{
    clock::Clock,
    failure::chain,
    refusal::{Refusal, RefusalCode},
};
use tokio::sync::{oneshot, watch};

use crate::{
    commit::{Answer, Entered, Log, Sequencer},
    disk::device_time,
    fair::{Bounds, FairQueue, NotTaken, Ticket},
    reader::LogReader,
    work,
};

/// Events committed together at most: the batch that a disk of 2026 syncs in half a millisecond.
pub const MAX_BATCH: usize = 256;
/// Bytes committed together, about: what a FLASH behind them has to wait for.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Events that may wait: of one office in a lane, and in a lane. Each holds at most an envelope.
const WAITING: Bounds = Bounds { office: 256, lane: 4096 };
/// How long nothing comes until what was signed last is recorded: whoever sends one message after the other does not
/// wait for it.
const IDLE: Duration = Duration::from_millis(5);
/// When to come again with what does not fit.
const CROWDED: Duration = Duration::from_millis(250);

struct Request<E> {
    event: E,
    answer: oneshot::Sender<Result<Entered, Refusal>>,
}

/// Closes the queue with the last handle.
struct Open<E>(Arc<FairQueue<Request<E>>>);

impl<E> Drop for Open<E> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A handle to the writer.
pub struct Committer<E> {
    open: Arc<Open<E>>,
    reader: Arc<LogReader>,
    stopped: watch::Receiver<bool>,
}

impl<E> Clone for Committer<E> {
    fn clone(&self) -> Self {
        Self { open: Arc::clone(&self.open), reader: Arc::clone(&self.reader), stopped: self.stopped.clone() }
    }
}

fn stopped() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the log has stopped")
}

/// An answer that is not there yet.
pub struct Promised {
    entered: oneshot::Receiver<Result<Entered, Refusal>>,
    reader: Arc<LogReader>,
}

impl Promised {
    /// The receipt: the leaf is durable and signed then.
    ///
    /// # Errors
    /// The sequencer's refusal, `STORAGE_FULL`, or `UNAVAILABLE` when the log has stopped.
    pub async fn answer(self) -> Answer {
        let entered = self.entered.await.unwrap_or_else(|_| Err(stopped()))?;
        self.reader.receipt_of(&entered)
    }
}

impl<E: Send + 'static> Committer<E> {
    /// Starts the writer. It ends when every handle is gone, or at the first failure.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<S: Sequencer<Event = E>>(log: Log<S>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let (queue, reader) = (Arc::new(FairQueue::new(WAITING)), log.reader());
        let waiting = Arc::clone(&queue);
        let (stop, stopped) = watch::channel(false);
        work::start("committer", async move {
            run(log, &waiting, clock.as_ref()).await;
            // Whoever still waits is answered by the end of its request.
            waiting.close();
            while !waiting.try_batch(MAX_BATCH, usize::MAX).is_empty() {}
            stop.send_replace(true);
        })?;
        Ok(Self { open: Arc::new(Open(queue)), reader, stopped })
    }

    /// Puts an event in line. Events of one office and lane are committed in the order of their calls.
    ///
    /// # Errors
    /// `TOO_MANY` when too much of this office waits, or `UNAVAILABLE` when too much waits at all or the log has stopped.
    pub fn promise(&self, ticket: Ticket, event: E) -> Result<Promised, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.open.0.push(ticket, Request { event, answer }).map_err(|why| match why {
            NotTaken::OfficeFull => {
                Refusal::new(RefusalCode::TooMany, "too much of this office waits for the log").after(CROWDED)
            }
            NotTaken::LaneFull => Refusal::new(RefusalCode::Unavailable, "too much waits for the log").after(CROWDED),
            NotTaken::Closed => stopped(),
        })?;
        Ok(Promised { entered: answered, reader: Arc::clone(&self.reader) })
    }

    /// Commits an event and returns its receipt: the leaf is durable and signed then.
    ///
    /// # Errors
    /// As [`Self::promise`] and [`Promised::answer`].
    pub async fn commit(&self, ticket: Ticket, event: E) -> Answer {
        self.promise(ticket, event)?.answer().await
    }

    /// How many events wait, per lane.
    #[must_use]
    pub fn waiting(&self) -> [usize; 3] {
        self.open.0.waiting()
    }

    /// Completes when the writer has ended.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        // An error means that the writer is gone, too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Nothing more is taken; completes when what waited is committed and the log is closed.
    pub async fn close(&self) {
        self.open.0.close();
        self.stopped().await;
    }
}

async fn run<S: Sequencer>(mut log: Log<S>, waiting: &FairQueue<Request<S::Event>>, clock: &dyn Clock) {
    let disk = Arc::clone(&log.disk);
    let mut unrecorded = false;
    loop {
        let idle = unrecorded.then_some(IDLE);
        let Some(requests) = waiting.wait_batch(MAX_BATCH, MAX_BATCH_BYTES, idle).await else { break };
        if requests.is_empty() {
            // What was signed last is recorded now rather than with the next batch.
            unrecorded = false;
            if let Err(error) = log.record_signed() {
                tracing::error!(error = chain(&error), "the log has stopped");
                return;
            }
            continue;
        }
        let (events, answers): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|request| (request.event, request.answer)).unzip();
        let entered = log.enter(events, clock.now());
        device_time(disk.as_ref()).await;
        match entered {
            Ok(results) => {
                // A caller that has gone away finds its receipt when it retries.
                answers.into_iter().zip(results).for_each(|(answer, result)| drop(answer.send(result)));
                unrecorded = true;
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "the log has stopped");
                return;
            }
        }
    }
    if let Err(error) = log.close() {
        tracing::error!(error = chain(&error), "the log could not be closed cleanly");
    }
}
