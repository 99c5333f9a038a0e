//! What a node that was restored from a backup asks: how far the numbers are, and the messages it does not have.

use std::collections::{BTreeMap, HashSet};

use liaison_log::{exchange::ExchangeState, index::Index};
use liaison_proto::{
    ids::{Channel, Lane, LogIndex, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire,
};

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, error.to_string())
}

/// The last number of every channel from or to an office.
///
/// # Errors
/// `UNAVAILABLE` when the index cannot be read.
pub fn of(state: &ExchangeState, office: OfficeId) -> Result<Vec<wire::ChannelNumber>, Refusal> {
    let mut channels = state.channels().map_err(unreadable)?;
    channels.retain(|(channel, _)| channel.from == office || channel.to == office);
    channels.sort_unstable();
    let number = |(Channel { from, to, lane }, number): (Channel, u64)| wire::ChannelNumber {
        from: from.to_string(),
        to: to.to_string(),
        lane: lane.to_wire().into(),
        number,
    };
    Ok(channels.into_iter().map(number).collect())
}

/// The ACCEPTED entries of these numbers of a channel to an office that it has signed for, as far as the index remembers
/// them. What it has not signed for comes by itself.
///
/// # Errors
/// `MALFORMED_ENVELOPE` when the channel is none, `UNAVAILABLE` when the index cannot be read.
pub fn entries(
    index: &dyn Index,
    office: OfficeId,
    request: &wire::RedeliverRequest,
) -> Result<Vec<LogIndex>, Refusal> {
    let malformed = |what: &str| Refusal::new(RefusalCode::MalformedEnvelope, format!("{what} is malformed"));
    let from: OfficeId = request.from.parse().map_err(|_| malformed("from"))?;
    let lane = Lane::from_wire(request.lane).ok_or_else(|| malformed("lane"))?;
    let mut found = BTreeMap::new();
    let wanted: HashSet<u64> = request.numbers.iter().copied().collect();
    index
        .each_message(&mut |_, message| {
            if let Some(recipient) = message.recipient(office)
                && message.from == from
                && message.lane == lane
                && recipient.delivered.is_some()
                && wanted.contains(&recipient.number)
            {
                found.insert(recipient.number, message.accepted);
            }
        })
        .map_err(unreadable)?;
    Ok(found.into_values().collect())
}
