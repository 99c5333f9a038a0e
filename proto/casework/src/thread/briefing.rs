//! The briefing: planned, agreed, held, its record signed by both sides, its action points closed.

use liaison_proto::{
    ids::{Country, MessageId, OfficeId},
    wire::Step,
};

use super::{Applied, Effect, OutOfStep, event::Event, order::Ancestry};
use crate::act::{Act, SignedRecord};

/// Where a briefing stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Briefing {
    proposer: OfficeId,
    /// What was proposed last.
    proposal: MessageId,
    state: Step,
    /// The country that signed first, and what.
    signed: Option<(Country, SignedRecord)>,
}

impl Briefing {
    pub(super) const fn new(root: &Event) -> Self {
        Self { proposer: root.from, proposal: root.id, state: Step::BriefingPlanned, signed: None }
    }

    pub(super) fn apply(&mut self, event: &Event, act: &Act, ancestry: &Ancestry) -> Applied {
        let country = event.from.country();
        match act {
            _ if self.state == Step::BriefingActionsClosed => return Err(OutOfStep::Closed),
            Act::Brief { .. } if self.signed.is_some() => return Err(OutOfStep::SignedBefore),
            Act::Brief { agreed: false } => {
                (self.proposer, self.proposal, self.state) = (event.from, event.id, Step::BriefingPlanned);
            }
            Act::Brief { agreed: true } if country == self.proposer.country() => return Err(OutOfStep::OwnProposal),
            Act::Brief { agreed: true } if !ancestry.follows(event.id, self.proposal) => {
                return Err(OutOfStep::NotSeen);
            }
            Act::Brief { agreed: true } => self.state = Step::BriefingAgreed,
            Act::Minutes { actions_closed: true, .. } => match self.state {
                Step::BriefingRecordSigned => self.state = Step::BriefingActionsClosed,
                _ => return Err(OutOfStep::RecordsDiffer),
            },
            Act::Minutes { signed, .. } => match &self.signed {
                None if self.state != Step::BriefingAgreed => return Err(OutOfStep::NotAgreed),
                None => {
                    self.signed = Some((country, signed.clone()));
                    self.state = Step::BriefingHeld;
                }
                Some((first, _)) if *first == country => return Err(OutOfStep::SignedBefore),
                Some((_, first)) if first.sha256 == signed.sha256 && signed.quotes == first.sha256 => {
                    self.state = Step::BriefingRecordSigned;
                }
                Some(_) => return Err(OutOfStep::RecordsDiffer),
            },
            Act::Decline { .. } if country == self.proposer.country() => return Err(OutOfStep::OwnProposal),
            Act::Decline { .. } | Act::Update { closed: false } => return Ok(Effect::Noted),
            _ => return Err(OutOfStep::OtherWorkflow),
        }
        Ok(Effect::Moved)
    }

    pub(super) const fn state(&self) -> Step {
        self.state
    }

    pub(super) const fn proposer(&self) -> OfficeId {
        self.proposer
    }

    pub(super) fn first_signer(&self) -> Option<Country> {
        self.signed.as_ref().map(|(country, _)| *country)
    }
}
