//! What cannot wait, was accepted, and has not arrived when the log is closed: its recipients get it again, without a proof, for
//! as long as that is so. Nothing is delivered with a proof meanwhile; and an entry that the broker has lost is entered with all
//! the others or not at all, and one of them may be with nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use liaison_log::{exchange::withdraws, remote::within};
use liaison_proto::{
    ids::{Lane, MessageId},
    refusal::{Refusal, RefusalCode},
    wire,
};
use tokio::time::Instant;

use crate::{
    link::Link,
    state::{Said, State, Submission},
};

const CALL: Duration = Duration::from_secs(30);
/// After this long a message goes again: the broker may have lost what it held. One that it holds changes nothing.
const AGAIN: Duration = Duration::from_secs(10 * 60);

/// Messages that went again since the log was closed, and when they last did.
#[derive(Debug, Default)]
pub struct Urgent(BTreeMap<MessageId, Instant>);

fn waits(state: &State) -> Vec<(Lane, MessageId)> {
    let withdrawals = state
        .outgoing
        .values()
        .filter(|outgoing| !matches!(outgoing.submission, Submission::Cancelled | Submission::Refused { .. }));
    let taken_back: BTreeSet<MessageId> =
        withdrawals.filter_map(|outgoing| withdraws(outgoing.header.core())).collect();
    let waiting = state.outgoing.iter().filter(|(id, outgoing)| {
        let core = outgoing.header.core();
        let accepted = matches!(outgoing.submission, Submission::Receipted { .. });
        let has_it = |office| {
            outgoing
                .evidence
                .iter()
                .any(|e| e.office == office && matches!(e.said, Said::Stated(..) | Said::NonDelivery(_)))
        };
        accepted && core.lane != Lane::Bulk && !taken_back.contains(id) && !core.to.iter().all(|office| has_it(*office))
    });
    let mut waiting: Vec<_> = waiting.map(|(id, outgoing)| (outgoing.header.core().lane, *id)).collect();
    // FLASH first.
    waiting.sort_unstable();
    waiting
}

impl Urgent {
    /// Sends again what waits.
    pub async fn send(&mut self, link: &Link) {
        let waiting = waits(&link.store.state());
        let mut full = None;
        for (lane, id) in waiting {
            if full == Some(lane) || self.0.get(&id).is_some_and(|went| went.elapsed() < AGAIN) {
                continue;
            }
            let envelope = {
                let state = link.store.state();
                let outgoing = state.outgoing.get(&id);
                outgoing.and_then(|o| Some(link.store.envelope(&o.header, o.signature.as_ref(), o.body?)))
            };
            // One that is damaged here is told of when its entry is handed back.
            let Some(Ok(envelope)) = envelope else { continue };
            let request = wire::SubmitRequest { envelope: Some(envelope), seen_size: link.view.seen_size() };
            let answer = within(CALL, link.exchange(lane).submit(request)).await;
            match answer.err().map(|status| Refusal::from_status(&status)) {
                // Whoever does not answer is asked again later, not once for each message.
                Some(None) => return,
                // The rest of the lane would be told the same.
                Some(Some(refusal)) if refusal.code == RefusalCode::TooMany => full = Some(lane),
                Some(Some(refusal)) if refusal.code != RefusalCode::HeldUnproven => {
                    tracing::debug!(message = %id, code = refusal.code.as_str(), "not sent again yet");
                }
                None | Some(Some(_)) => {
                    tracing::warn!(message = %id, "sent again without a proof: the log is closed");
                    self.0.insert(id, Instant::now());
                }
            }
        }
    }

    /// The log is open again.
    pub fn over(&mut self) {
        self.0.clear();
    }
}
