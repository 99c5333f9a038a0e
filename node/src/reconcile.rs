//! After a restore from a backup the store is behind: the broker is asked how far the numbers are, and for what this
//! store does not have. What it has already is not written twice.

use std::time::Duration;

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
/// Between looks: what is on its way arrives by itself.
const LOOK: Duration = Duration::from_secs(20);

/// Asks for what is missing, at first and then now and again, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(receiver: Receiver) -> Result<(), StoreError> {
    loop {
        if let Ok(channels) = numbers(&receiver).await {
            for (channel, last) in channels {
                let missing = missing(&receiver, channel, last);
                for part in missing.chunks(limits::REDELIVERIES) {
                    ask(&receiver, channel, part).await?;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
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

/// Numbers up to `last` that never came.
fn missing(receiver: &Receiver, channel: Channel, last: u64) -> Vec<u64> {
    let state = receiver.link.store.state();
    let known = state.received_numbers.get(&channel);
    (1..=last).filter(|number| known.is_none_or(|known| !known.contains(number))).collect()
}

async fn ask(receiver: &Receiver, channel: Channel, numbers: &[u64]) -> Result<(), StoreError> {
    let (from, lane) = (channel.from.to_string(), channel.lane.to_wire().into());
    let request = wire::RedeliverRequest { from, lane, numbers: numbers.to_vec() };
    let Ok(answer) = within(CALL, receiver.link.exchange(Lane::Bulk).redeliver(request)).await else { return Ok(()) };
    let mut deliveries = answer.into_inner();
    while let Ok(Ok(Some(delivery))) = tokio::time::timeout(NEXT, deliveries.message()).await {
        if receiver.take_or_report(delivery).await? == Kept::Later {
            break;
        }
        tracing::warn!(%channel.from, "a message that this store had lost was delivered again");
    }
    Ok(())
}
