//! Originator control: what was sent is passed on only as far as its originator allows.

use std::collections::BTreeSet;

use liaison_proto::{
    ids::{MessageId, OfficeId},
    wire::{Handling, Tlp},
};

use super::{OutOfStep, Thread, event::Event};
use crate::act::Act;

/// What originators have granted: which message may go to which office.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeSet<(MessageId, OfficeId)>);

impl Grants {
    /// Takes note of a decision: each originator's own, of its own messages. `originator` tells whose a message is.
    pub(super) fn note(&mut self, event: &Event, act: &Act, originator: impl Fn(MessageId) -> Option<OfficeId>) {
        let Act::DecideOnward { about, granted } = act else { return };
        let Some(recipient) = about.recipient else { return };
        for message in about.messages.iter().filter(|message| originator(**message) == Some(event.from)) {
            match granted {
                true => self.0.insert((*message, recipient)),
                false => self.0.remove(&(*message, recipient)),
            };
        }
    }

    /// Whether a message may go to an office.
    #[must_use]
    pub fn allows(&self, message: MessageId, recipient: OfficeId) -> bool {
        self.0.contains(&(message, recipient))
    }
}

impl From<ControlBreach> for OutOfStep {
    fn from(breach: ControlBreach) -> Self {
        match breach {
            ControlBreach::NotGranted(_) => Self::OnwardNotGranted,
            ControlBreach::Wider { .. } => Self::TlpWider,
        }
    }
}

/// Why a message may not be sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlBreach {
    /// A new recipient of what its originator has not allowed to be passed on.
    NotGranted(OfficeId),
    /// A wider TLP than that of the message answered.
    Wider {
        /// What it must be at least.
        at_least: Tlp,
    },
}

/// How far a TLP lets a message go, the narrowest highest.
const fn narrowness(tlp: Tlp) -> i32 {
    tlp as i32
}

/// Whether an answer stays within what the originators of its thread allow: nobody new hears of an H2 message without a
/// decision of its originator, and TLP never widens. What begins a thread and what is answered are both asked about, where
/// somebody else wrote them: an answer to one's own message is no way around.
///
/// # Errors
/// The first breach.
pub fn check(answer: &Event, thread: &Thread) -> Result<(), ControlBreach> {
    let answered = answer.in_reply_to.and_then(|id| thread.event_of(id));
    if let Some(answered) = answered.filter(|answered| narrowness(answer.tlp) < narrowness(answered.tlp)) {
        return Err(ControlBreach::Wider { at_least: answered.tlp });
    }
    for held in [thread.root()].into_iter().chain(answered) {
        if held.from == answer.from || !matches!(held.handling, Handling::H2 | Handling::H3) {
            continue;
        }
        // Whomever its originator has written to in this thread is a party by its own will.
        let written_to = |office: OfficeId| held.from == office || thread.has_written(held.from, office);
        // A change of consent reaches every holder, by whomever it became one.
        let consent = matches!(answer.act(), Some(Act::Consent { .. }));
        let holds = |office: OfficeId| consent && thread.holds(office);
        for recipient in &answer.to {
            if !written_to(*recipient) && !holds(*recipient) && !thread.grants().allows(held.id, *recipient) {
                return Err(ControlBreach::NotGranted(*recipient));
            }
        }
    }
    Ok(())
}

/// Holders whom a change of consent would not reach: the parties of the first message, and whomever its sender itself has written to
/// since. Whom others wrote to hears it from them: so nobody makes it impossible to send by adding recipients.
#[must_use]
pub fn not_reached(change: &Event, thread: &Thread) -> Vec<OfficeId> {
    if !matches!(change.act(), Some(Act::Consent { .. })) {
        return Vec::new();
    }
    let root = thread.root();
    let own = thread.events().iter().filter(|event| event.from == change.from);
    let holders: BTreeSet<OfficeId> =
        own.chain([root]).flat_map(|event| event.to.iter().copied()).chain([root.from]).collect();
    holders.into_iter().filter(|office| *office != change.from && !change.to.contains(office)).collect()
}
