//! The hot line: raised, answered, acted on, closed.

use liaison_proto::{ids::OfficeId, wire::Step};

use super::{Applied, Effect, OutOfStep, event::Event};
use crate::act::Act;

/// Where a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hotline {
    caller: OfficeId,
    state: Step,
}

impl Hotline {
    pub(super) const fn new(root: &Event) -> Self {
        Self { caller: root.from, state: Step::HotlineRaised }
    }

    pub(super) fn apply(&mut self, event: &Event, act: &Act) -> Applied {
        let caller = event.from == self.caller;
        let next = match act {
            // More of the same call, from either side.
            Act::Call | Act::Consent { .. } => return Ok(Effect::Noted),
            Act::Acknowledge { .. } if caller || self.state != Step::HotlineRaised => return Ok(Effect::Noted),
            Act::Acknowledge { .. } => Step::HotlineAnswered,
            _ if self.state == Step::HotlineClosed => return Err(OutOfStep::Closed),
            Act::Update { closed: false } if caller => return Ok(Effect::Noted),
            Act::Update { closed: false } => Step::HotlineActing,
            Act::CloseCall => Step::HotlineClosed,
            Act::Decline { .. } if caller => return Err(OutOfStep::OtherSide),
            // Who cannot help says so; the call stays open for the others, and for the contact points.
            Act::Decline { .. } => return Ok(Effect::Noted),
            _ => return Err(OutOfStep::OtherWorkflow),
        };
        self.state = next;
        Ok(Effect::Moved)
    }

    pub(super) const fn state(&self) -> Step {
        self.state
    }
}
