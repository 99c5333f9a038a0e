//! After a restore from a backup the store is behind: the broker is asked how far the numbers are, and for what this
//! store does not have. What it has already is not written twice.

use std::{collections::HashMap, time::Duration};

use liaison_log::remote::within;
use liaison_proto::{
    ids::{Channel, Lane},
    limits, wire,
};
use tonic::Status;

use crate::{
    receive::{Kept, Receiver},
    store::StoreError,
};

const CALL: Duration = Duration::from_secs(30);
/// How long the next message may take.
const NEXT: Duration = Duration::from_secs(300);
/// Between looks.
const LOOK: Duration = Duration::from_secs(10);

/// Looks until a gap is asked for: what is on its way arrives by itself.
const PATIENCE: u32 = 2;
/// Looks until a gap that was asked for is asked for again: about ten minutes.
const AGAIN: u32 = 30;

/// Asks for what stays missing, until the store stops; and tells when a number of this office's own never came to be.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(receiver: Receiver) -> Result<(), StoreError> {
    let mut seen: HashMap<(Channel, u64), u32> = HashMap::new();
    loop {
        if let Ok(channels) = numbers(&receiver).await {
            let mut now = HashMap::new();
            for (channel, last) in channels {
                let missing = missing(&receiver, channel, last);
                let looks = |number: &u64| seen.get(&(channel, *number)).copied().unwrap_or(0);
                let due = |number: &&u64| looks(number) >= PATIENCE && (looks(number) - PATIENCE).is_multiple_of(AGAIN);
                let asked: Vec<u64> = missing.iter().filter(due).copied().collect();
                now.extend(missing.iter().map(|number| ((channel, *number), looks(number) + 1)));
                if !asked.is_empty() {
                    ask(&receiver, channel, &asked).await?;
                }
            }
            seen = now;
            report_own_gaps(&receiver).await?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A broker that skips a number could hide a message behind it. A gap closes when a retry fills it.
async fn report_own_gaps(receiver: &Receiver) -> Result<(), StoreError> {
    let gaps: Vec<(Channel, u64)> = {
        let state = receiver.link.store.state();
        let queued = |lane: Lane| state.to_submit.iter().any(|(of, ..)| *of == lane);
        let own = state.sent_numbers.iter().filter(|(channel, _)| !queued(channel.lane));
        own.filter_map(|(channel, sent)| sent.first_gap().map(|gap| (*channel, gap))).collect()
    };
    for (Channel { from, to, lane }, gap) in gaps {
        let what = format!("number {gap} on {from} -> {to} {lane:?} was given to no message that this node knows");
        receiver.link.alarm(what, liaison_proto::Bytes::new()).await?;
    }
    Ok(())
}

async fn numbers(receiver: &Receiver) -> Result<Vec<(Channel, u64)>, Status> {
    let mut exchange = receiver.link.exchange(Lane::Bulk);
    let answer = within(CALL, exchange.numbers(wire::NumbersRequest {})).await?.into_inner();
    let channel = |number: wire::ChannelNumber| {
        let (from, to) = (number.from.parse().ok()?, number.to.parse().ok()?);
        Some((Channel { from, to, lane: Lane::from_wire(number.lane)? }, number.number))
    };
    Ok(answer.channels.into_iter().filter_map(channel).filter(|(channel, _)| channel.to == receiver.office).collect())
}

/// The first numbers up to `last` that never came; `last` is the broker's word and may be anything.
fn missing(receiver: &Receiver, channel: Channel, last: u64) -> Vec<u64> {
    let state = receiver.link.store.state();
    let known = state.received_numbers.get(&channel);
    let absent = (1..=last).filter(|number| known.is_none_or(|known| !known.contains(number)));
    absent.take(limits::REDELIVERIES).collect()
}

async fn ask(receiver: &Receiver, channel: Channel, numbers: &[u64]) -> Result<(), StoreError> {
    let (from, lane) = (channel.from.to_string(), channel.lane.to_wire().into());
    let request = wire::RedeliverRequest { from, lane, numbers: numbers.to_vec() };
    let Ok(answer) = within(CALL, receiver.link.exchange(Lane::Bulk).redeliver(request)).await else { return Ok(()) };
    let mut deliveries = answer.into_inner();
    while let Ok(Ok(Some(delivery))) = tokio::time::timeout(NEXT, deliveries.message()).await {
        if receiver.take_or_report(delivery, Lane::Bulk).await? == Kept::Later {
            break;
        }
        tracing::warn!(%channel.from, "a message that this store had lost was delivered again");
    }
    Ok(())
}
