//! What is done at a time: messages that were withdrawn or have expired are given up. When is not kept anywhere but in
//! the log, so a restart forgets nothing.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use liaison_log::{committer::Committer, exchange::ExchangeState, fair::Ticket};
use liaison_proto::{clock::Clock, ids::Lane};

use crate::sequence::Event;

/// How often it is looked: a withdrawal is given up soon, and the clock may be set.
const LOOK: Duration = Duration::from_millis(250);
/// Given up at once at most.
const AT_ONCE: usize = 64;

/// Gives up what is due, until the log stops.
pub async fn run(state: Arc<RwLock<ExchangeState>>, exchange: Committer<Event>, clock: Arc<dyn Clock>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = exchange.stopped() => return,
        }
        let due = {
            let state = state.read().unwrap_or_else(PoisonError::into_inner);
            // The log's time may be ahead of the clock.
            state.due(clock.now().max(state.time()), AT_ONCE)
        };
        let due = match due {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "it cannot be told what is due");
                continue;
            }
        };
        for given_up in due {
            let (message, recipient) = (given_up.message_id, given_up.recipient);
            let ticket = Ticket { lane: Lane::Bulk, office: recipient, bytes: 0 };
            match exchange.commit(ticket, Event::GiveUp(given_up)).await {
                Ok(_) => tracing::info!(%message, %recipient, "given up"),
                // Delivered in the meantime, or it will be looked at again.
                Err(refusal) => tracing::debug!(%message, %recipient, %refusal, "not given up"),
            }
        }
    }
}
