//! The one order in which every party reads a thread: that of the exchange log, which no party chooses, an answer never before
//! what it answers. What has no entry yet comes behind, by its originator's time. It follows from the messages alone, so that it
//! does not matter in which order they came; and nobody changes what was read before by setting a clock back.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use liaison_proto::{
    clock::UnixMillis,
    ids::{LogIndex, MessageId},
};

use super::event::Event;

/// Entered messages first, in the order of the log; then by time; then by id.
type Place = (bool, Option<LogIndex>, UnixMillis, MessageId);

const fn place(event: &Event) -> Place {
    (event.entry.is_none(), event.entry, event.created_at, event.id)
}

/// The message that one answers, as far as that says something about their order. Whoever answers has seen an entry before its own:
/// one that names what was entered later, or not at all, does not follow it.
fn answered(event: &Event, find: impl Fn(MessageId) -> Option<Option<LogIndex>>) -> Option<MessageId> {
    let answered = event.in_reply_to.filter(|answered| *answered != event.id)?;
    match (event.entry, find(answered)?) {
        (Some(own), Some(earlier)) => (earlier < own).then_some(answered),
        (Some(_), None) => None,
        (None, _) => Some(answered),
    }
}

/// Puts messages in their order, each once.
#[must_use]
pub fn in_order(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut events: BTreeMap<MessageId, Event> = events.into_iter().map(|event| (event.id, event)).collect();
    let mut answers: HashMap<MessageId, Vec<MessageId>> = HashMap::new();
    let mut ready = BinaryHeap::new();
    for event in events.values() {
        match answered(event, |id| events.get(&id).map(|event| event.entry)) {
            Some(answered) => answers.entry(answered).or_default().push(event.id),
            None => ready.push(Reverse((place(event), event.id))),
        }
    }
    let mut ordered = Vec::with_capacity(events.len());
    // An answer is read in its own place, or right behind what it answers where that came later.
    while let Some(Reverse((at, id))) = ready.pop() {
        let Some(event) = events.remove(&id) else { continue };
        for answer in answers.remove(&id).unwrap_or_default() {
            let own = events.get(&answer).map_or(at, place);
            ready.push(Reverse((own.max(at), answer)));
        }
        ordered.push(event);
    }
    // Messages without an entry that answer each other in a circle: nobody honest makes them, and they are read last.
    ordered.extend(events.into_values());
    ordered
}

/// Which message answers which, directly or through others: when a walk through the answers comes to each, and when it has seen
/// all that answer it.
#[derive(Debug, Default)]
pub struct Ancestry(HashMap<MessageId, (usize, usize)>);

impl Ancestry {
    /// Of these messages. Those without an entry that answer each other in a circle follow nothing.
    #[must_use]
    pub fn new(events: &[Event]) -> Self {
        let entries: HashMap<MessageId, Option<LogIndex>> =
            events.iter().map(|event| (event.id, event.entry)).collect();
        let mut answers: HashMap<MessageId, Vec<MessageId>> = HashMap::new();
        let mut walk = Vec::new();
        for event in events {
            match answered(event, |id| entries.get(&id).copied()) {
                Some(answered) => answers.entry(answered).or_default().push(event.id),
                None => walk.push((event.id, false)),
            }
        }
        let mut seen: HashMap<MessageId, (usize, usize)> = HashMap::new();
        while let Some((id, is_left)) = walk.pop() {
            let count = seen.len();
            if is_left {
                seen.entry(id).and_modify(|(_, end)| *end = count);
            } else {
                seen.insert(id, (count, count));
                walk.push((id, true));
                walk.extend(answers.remove(&id).into_iter().flatten().map(|answer| (answer, false)));
            }
        }
        Self(seen)
    }

    /// Whether `later` answers `earlier`, directly or through others.
    #[must_use]
    pub fn follows(&self, later: MessageId, earlier: MessageId) -> bool {
        let (Some((at, _)), Some((begin, end))) = (self.0.get(&later), self.0.get(&earlier)) else { return false };
        begin < at && at < end
    }
}
