//! The one thread that writes a log. Callers hand it events and await the answers; what waits is committed together.

use std::{sync::Arc, thread};

use liaison_proto::{
    clock::Clock,
    failure::chain,
    refusal::{Refusal, RefusalCode},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::commit::{Answer, Log, Sequencer};

/// Events committed together at most: the batch that a disk of 2026 syncs in half a millisecond.
pub const MAX_BATCH: usize = 256;
/// Events that may wait; more are refused with a retryable refusal.
pub const MAX_WAITING: usize = 4096;

struct Request<E> {
    event: E,
    answer: oneshot::Sender<Answer>,
}

/// A handle to the committing thread.
pub struct Committer<E> {
    requests: mpsc::Sender<Request<E>>,
    stopped: watch::Receiver<bool>,
}

impl<E> Clone for Committer<E> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone(), stopped: self.stopped.clone() }
    }
}

fn stopped() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the log has stopped")
}

impl<E: Send + 'static> Committer<E> {
    /// Starts the thread. It ends when every handle is gone, or at the first failure.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start<S: Sequencer<Event = E>>(log: Log<S>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        let (stop, stopped) = watch::channel(false);
        thread::Builder::new().name("committer".into()).spawn(move || {
            run(log, waiting, clock.as_ref());
            stop.send_replace(true);
        })?;
        Ok(Self { requests, stopped })
    }

    /// Commits an event and returns its receipt: the leaf is durable and signed then.
    ///
    /// # Errors
    /// The sequencer's refusal, `TOO_MANY` when too much waits, or `UNAVAILABLE` when the log has stopped.
    pub async fn commit(&self, event: E) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(Request { event, answer }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Refusal::new(RefusalCode::TooMany, "too much waits for the log"),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Completes when the thread has ended.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        // An error means that the thread is gone, too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

fn run<S: Sequencer>(mut log: Log<S>, mut waiting: mpsc::Receiver<Request<S::Event>>, clock: &dyn Clock) {
    let mut unrecorded = false;
    loop {
        let first = match waiting.try_recv() {
            Ok(first) => first,
            Err(mpsc::error::TryRecvError::Disconnected) => break,
            Err(mpsc::error::TryRecvError::Empty) => {
                // Idle: what was signed last is recorded now rather than with the next batch.
                if std::mem::take(&mut unrecorded)
                    && let Err(error) = log.record_signed()
                {
                    tracing::error!(error = chain(&error), "the log has stopped");
                    return;
                }
                match waiting.blocking_recv() {
                    Some(first) => first,
                    None => break,
                }
            }
        };
        let (mut events, mut answers) = (vec![first.event], vec![first.answer]);
        while events.len() < MAX_BATCH
            && let Ok(next) = waiting.try_recv()
        {
            events.push(next.event);
            answers.push(next.answer);
        }
        match log.commit(events, clock.now()) {
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
    if let Err(error) = log.record_signed() {
        tracing::error!(error = chain(&error), "the signed size could not be recorded at the end");
    }
}
