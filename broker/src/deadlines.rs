//! What is done at a time: messages that were withdrawn or have expired are given up. When is not kept anywhere but in
//! the log, so a restart forgets nothing.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use liaison_log::{committer::Committer, exchange::ExchangeState, fair::Ticket};
use liaison_proto::{clock::Clock, ids::Lane};

use crate::{sequence::Event, succession::Rest};

/// How often it is looked: a withdrawal is given up soon, and the clock may be set.
const LOOK: Duration = Duration::from_millis(250);
/// Given up at once at most.
const AT_ONCE: usize = 128;

/// Gives up what is due, until the log stops.
///
/// Nothing is given up before `rest` is over: in the successor of a closed log offices must first state again what they had.
pub async fn run(state: Arc<RwLock<ExchangeState>>, exchange: Committer<Event>, clock: Arc<dyn Clock>, rest: Rest) {
    let mut more = false;
    loop {
        if !more {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = exchange.stopped() => return,
            }
        }
        if clock.now() < rest.until() {
            more = false;
            continue;
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
        // Put in line together, so that they are committed together.
        let mut promised = Vec::new();
        for given_up in due {
            let about = (given_up.message_id, given_up.recipient);
            let ticket = Ticket { lane: Lane::Bulk, office: given_up.channel.from, bytes: 256 };
            promised.push((about, exchange.promise(ticket, Event::GiveUp(given_up))));
        }
        more = promised.len() == AT_ONCE;
        for ((message, recipient), promised) in promised {
            let answer = match promised {
                Ok(promised) => promised.answer().await,
                Err(refusal) => Err(refusal),
            };
            match answer {
                Ok(_) => tracing::info!(%message, %recipient, "given up"),
                // Delivered in the meantime, or it will be looked at again.
                Err(refusal) => {
                    more = false;
                    tracing::debug!(%message, %recipient, %refusal, "not given up");
                }
            }
        }
    }
}
