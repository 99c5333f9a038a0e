//! The general thread: sent, delivered, acknowledged, classified, in progress, answered or declined, closed; for each
//! recipient by itself.

use std::collections::BTreeMap;

use liaison_proto::{
    clock::UnixMillis,
    ids::OfficeId,
    wire::{Kind, Step},
};

use super::{Applied, Effect, OutOfStep, event::Event};
use crate::act::Act;

/// What a recipient has done with a thread's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OfficeState {
    /// On its way.
    Sent,
    /// Durable there.
    Delivered,
    /// A named officer has it.
    Acknowledged,
    /// Judged.
    Classified,
    /// Being worked on.
    InProgress,
    /// Answered.
    Answered,
    /// Declined; whether a resubmission can succeed.
    Declined {
        /// It can.
        fixable: bool,
    },
    /// Closed.
    Closed,
}

impl OfficeState {
    /// Its name, as steps are named.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Delivered => "DELIVERED",
            Self::Acknowledged => "ACKED",
            Self::Classified => "CLASSIFIED",
            Self::InProgress => "IN_PROGRESS",
            Self::Answered => "ANSWERED",
            Self::Declined { .. } => "DECLINED",
            Self::Closed => "CLOSED",
        }
    }

    const fn step(self) -> Step {
        match self {
            Self::Sent | Self::Delivered => Step::Sent,
            Self::Acknowledged => Step::Acked,
            Self::Classified => Step::Classified,
            Self::InProgress => Step::InProgress,
            Self::Answered => Step::Answered,
            Self::Declined { .. } => Step::Declined,
            Self::Closed => Step::Closed,
        }
    }
}

/// The recipients of a thread's first message, each with what it has done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct General {
    originator: OfficeId,
    kind: Kind,
    retain_until: Option<UnixMillis>,
    offices: BTreeMap<OfficeId, OfficeState>,
    /// The originator has closed it.
    closed: bool,
}

impl General {
    pub(super) fn new(root: &Event) -> Self {
        let offices = root.to.iter().map(|office| (*office, OfficeState::Sent)).collect();
        Self { originator: root.from, kind: root.kind, retain_until: root.retain_until, offices, closed: false }
    }

    pub(super) fn delivered(&mut self, office: OfficeId) {
        self.reach(office, OfficeState::Delivered);
    }

    pub(super) const fn offices(&self) -> &BTreeMap<OfficeId, OfficeState> {
        &self.offices
    }

    /// Moves an office forward, never back.
    fn reach(&mut self, office: OfficeId, state: OfficeState) -> Effect {
        match self.offices.get_mut(&office) {
            Some(before) if *before < state => {
                *before = state;
                Effect::Moved
            }
            _ => Effect::Noted,
        }
    }

    /// An acknowledgement or a classification, in whatever workflow.
    pub(super) fn attend(&mut self, event: &Event, act: &Act) -> Applied {
        if event.from == self.originator {
            // Of an answer: it moves nothing.
            return Ok(Effect::Noted);
        }
        let state = match act {
            Act::Acknowledge { classified: false } => OfficeState::Acknowledged,
            _ => OfficeState::Classified,
        };
        // Where somebody stands is not where the thread stands: it moves nothing that others could contend for.
        self.reach(event.from, state);
        Ok(Effect::Noted)
    }

    pub(super) fn apply(&mut self, event: &Event, act: &Act) -> Applied {
        // Whoever got it later, by leave of the originator, is one of those who act on it.
        let joins = event.from != self.originator && event.from.country() != self.originator.country();
        let own = match joins {
            true => Some(*self.offices.entry(event.from).or_insert(OfficeState::Delivered)),
            false => self.offices.get(&event.from).copied(),
        };
        if self.closed || own == Some(OfficeState::Closed) {
            return Err(OutOfStep::Closed);
        }
        match (act, own) {
            (Act::Update { closed: true }, None) => {
                self.closed = true;
                self.offices.values_mut().for_each(|state| *state = OfficeState::Closed);
                Ok(Effect::Moved)
            }
            (Act::Update { closed: true }, Some(_)) => self.set(event.from, OfficeState::Closed),
            (Act::Update { closed: false }, Some(OfficeState::Declined { .. })) => Err(OutOfStep::Answered),
            (Act::Update { closed: false }, Some(OfficeState::Answered)) => Ok(Effect::Noted),
            (Act::Update { closed: false }, Some(_)) => self.set(event.from, OfficeState::InProgress),
            (Act::Answer { .. }, _) if !self.asks() => Err(OutOfStep::NothingAsked),
            (Act::Answer { .. }, None) => Err(OutOfStep::OtherSide),
            (Act::Answer { .. }, Some(OfficeState::Declined { .. })) => Err(OutOfStep::Answered),
            (Act::Answer { partial: true }, Some(_)) => self.set(event.from, OfficeState::InProgress),
            (Act::Answer { partial: false }, Some(_)) => self.set(event.from, OfficeState::Answered),
            (Act::Decline { .. }, None) => Err(OutOfStep::OtherSide),
            (Act::Decline { .. }, Some(OfficeState::Answered)) => Err(OutOfStep::Answered),
            (Act::Decline { fixable }, Some(_)) => self.set(event.from, OfficeState::Declined { fixable: *fixable }),
            (Act::Tell, None) if event.kind == self.kind && event.from == self.originator => self.resubmit(event),
            // More in the same matter, from either side; and a consent that changed.
            (Act::Tell | Act::Update { closed: false } | Act::Consent { .. }, _) => Ok(Effect::Noted),
            _ => Err(OutOfStep::OtherWorkflow),
        }
    }

    /// Whether the first message asks for something.
    const fn asks(&self) -> bool {
        matches!(self.kind, Kind::InfoRequest | Kind::ActionRequest | Kind::VictimSearch)
    }

    fn set(&mut self, office: OfficeId, state: OfficeState) -> Applied {
        self.offices.insert(office, state);
        Ok(Effect::Moved)
    }

    /// The same kind again from the originator: who declined for want of something has it now.
    fn resubmit(&mut self, event: &Event) -> Applied {
        let declined = self.offices.iter_mut().filter(|(office, _)| event.to.contains(office));
        let mut effect = Effect::Noted;
        for (_, state) in declined {
            match state {
                OfficeState::Declined { fixable: true } => {
                    *state = OfficeState::InProgress;
                    effect = Effect::Moved;
                }
                OfficeState::Declined { fixable: false } => return Err(OutOfStep::NotFixable),
                _ => {}
            }
        }
        Ok(effect)
    }

    /// The least that any recipient has done. When its time is over before anybody answered, it has expired.
    pub(super) fn state(&self, now: UnixMillis) -> Step {
        let least = self.offices.values().min().copied().unwrap_or(OfficeState::Sent);
        let over = self.retain_until.is_some_and(|until| until <= now);
        if over && least < OfficeState::Answered { Step::Expired } else { least.step() }
    }
}
