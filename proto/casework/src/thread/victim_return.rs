//! The return of a victim, R1 to R9, with its exits, its loops, and the hold on a child's return.

use std::collections::BTreeSet;

use liaison_proto::{
    clock::UnixMillis,
    ids::{Country, MessageId, OfficeId},
    wire::Step,
};

use super::{Applied, Effect, OutOfStep, event::Event, order::Ancestry};
use crate::act::{Act, BestInterests, Scopes, SignedRecord};

/// One of the two sides of a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the person was found.
    Host,
    /// Where the person comes from.
    Origin,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Host => Self::Origin,
            Self::Origin => Self::Host,
        }
    }
}

/// What the country of origin found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Finding {
    receivable: bool,
    safe: bool,
}

/// Where a return stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VictimReturn {
    host: Country,
    origin: BTreeSet<Country>,
    state: Step,
    /// Since when, by the originators' clocks.
    since: UnixMillis,
    child: bool,
    best_interests: Option<BestInterests>,
    finding: Option<Finding>,
    /// A request that was declined and can be mended.
    fixable: bool,
    /// Who proposed the handover last.
    proposed_by: Option<Side>,
    /// Who signed the minutes first, and what; then whether the other side has signed the same.
    signed: Option<(Side, SignedRecord)>,
    both_signed: bool,
    handed_over_at: Option<UnixMillis>,
    /// Feedback so far.
    feedback: usize,
    /// Where it goes on once every consent that was withdrawn is given anew.
    resumes_at: Option<Step>,
    withdrawn: Scopes,
    /// The country of origin takes the longer time to verify.
    takes_longer: bool,
    /// It has asked for more, and nothing has come since.
    asked_more: bool,
    /// When the person is to be handed over, as proposed last.
    appointment: Option<UnixMillis>,
    newest: Newest,
}

/// What whoever goes on must have seen: agreeing, releasing and resuming follow the newest of what they answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Newest {
    proposal: Option<MessageId>,
    hold: Option<MessageId>,
    withdrawal: Option<MessageId>,
}

impl Newest {
    fn is_seen(newest: Option<MessageId>, event: &Event, ancestry: &Ancestry) -> Result<(), OutOfStep> {
        let unseen = newest.is_some_and(|newest| !ancestry.follows(event.id, newest));
        if unseen { Err(OutOfStep::NotSeen) } else { Ok(()) }
    }
}

impl VictimReturn {
    pub(super) fn new(root: &Event) -> Self {
        // A request that nobody can read here is treated as a child's.
        let child = !matches!(root.act(), Some(Act::RequestReturn { child: false }));
        // Whoever is written to for its help on the way is no country of origin.
        let to: BTreeSet<Country> = root.to.iter().map(OfficeId::country).collect();
        let claimed = root.details().and_then(|details| details.citizenship).filter(|country| to.contains(country));
        Self {
            host: root.from.country(),
            origin: claimed.map_or(to, |country| BTreeSet::from([country])),
            state: Step::ReturnRequested,
            since: root.created_at,
            child,
            best_interests: None,
            finding: None,
            fixable: false,
            proposed_by: None,
            signed: None,
            both_signed: false,
            handed_over_at: None,
            feedback: 0,
            resumes_at: None,
            withdrawn: Scopes::default(),
            takes_longer: false,
            asked_more: false,
            appointment: None,
            newest: Newest::default(),
        }
    }

    /// The side of an office: its country's. A third country, such as one of transit, has none.
    #[must_use]
    pub fn side(&self, office: OfficeId) -> Option<Side> {
        match office.country() {
            country if country == self.host => Some(Side::Host),
            country => self.origin.contains(&country).then_some(Side::Origin),
        }
    }

    pub(super) const fn state(&self) -> Step {
        self.state
    }

    /// Since when it stands there.
    #[must_use]
    pub const fn since(&self) -> UnixMillis {
        self.since
    }

    /// Whether a child's return waits for a decision on its best interests and for a guardian.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.child && self.best_interests.is_none() && !self.is_over() && !self.is_handed_over()
    }

    /// Whether both sides have signed that the person is with the other one. What one side alone says ends no protection.
    #[must_use]
    pub const fn is_handed_over(&self) -> bool {
        self.both_signed
    }

    /// Whether nothing stands against a handover of who may be a child.
    const fn may_go(&self) -> Result<(), OutOfStep> {
        match self.best_interests {
            None if self.child => Err(OutOfStep::ChildHeld),
            Some(BestInterests::Other) => Err(OutOfStep::ChildStays),
            _ => Ok(()),
        }
    }

    /// When.
    #[must_use]
    pub const fn handed_over_at(&self) -> Option<UnixMillis> {
        self.handed_over_at
    }

    /// Whether a proposal of this office would be in answer to the other side's.
    #[must_use]
    pub fn counters(&self, office: OfficeId) -> bool {
        self.proposed_by.is_some_and(|by| self.side(office) == Some(by.other()))
            && matches!(self.state, Step::ReturnProposed | Step::ReturnCountered)
    }

    pub(super) const fn proposed_by(&self) -> Option<Side> {
        self.proposed_by
    }

    /// The side whose signature under the minutes is missing.
    #[must_use]
    pub fn unsigned(&self) -> Option<Side> {
        self.signed.as_ref().filter(|_| !self.both_signed).map(|(first, _)| first.other())
    }

    /// When the person is to be handed over.
    pub(super) const fn appointment(&self) -> Option<UnixMillis> {
        self.appointment
    }

    pub(super) const fn takes_longer(&self) -> bool {
        self.takes_longer
    }

    /// Whether the country of origin waits for more.
    pub(super) const fn asked_more(&self) -> bool {
        self.asked_more
    }

    pub(super) const fn feedback(&self) -> usize {
        self.feedback
    }

    pub(super) const fn is_fixable(&self) -> bool {
        self.fixable
    }

    pub(super) fn is_receivable(&self) -> bool {
        self.finding.is_some_and(|found| found.receivable && found.safe)
    }

    const fn is_over(&self) -> bool {
        matches!(self.state, Step::ReturnClosed | Step::ReturnClosedRefused | Step::ReturnClosedNotReturned)
            || matches!(self.state, Step::Declined if !self.fixable)
    }

    fn to(&mut self, state: Step, event: &Event) -> Applied {
        (self.state, self.since) = (state, event.created_at);
        Ok(Effect::Moved)
    }

    pub(super) fn apply(&mut self, event: &Event, act: &Act, ancestry: &Ancestry) -> Applied {
        // A consent that is withdrawn is heard in every state and from everybody who may have heard the person.
        if let Act::Consent { withdrawn, scopes } = act {
            return self.consent(*withdrawn, *scopes, event, ancestry);
        }
        let side = self.side(event.from).ok_or(OutOfStep::OtherSide)?;
        if self.is_over() {
            return Err(OutOfStep::Closed);
        }
        if self.state == Step::ReturnSuspended
            && !matches!(act, Act::UpdateReturn { to: Step::ReturnClosedNotReturned, .. })
        {
            return Err(OutOfStep::Suspended);
        }
        let says_more =
            matches!(act, Act::RequestReturn { .. } | Act::UpdateReturn { .. } | Act::Tell | Act::Update { .. });
        self.asked_more &= side != Side::Host || !says_more;
        match act {
            Act::RequestReturn { child } => self.request_again(side, *child, event),
            Act::Decline { fixable } => self.decline(side, *fixable, event),
            Act::UpdateReturn { to, best_interests } => {
                if *to != Step::ReturnBiaHold && matches!(best_interests, Some(BestInterests::Return)) {
                    Newest::is_seen(self.newest.hold, event, ancestry)?;
                }
                self.update(side, *to, *best_interests, event)
            }
            Act::Verify { receivable, safe } => {
                self.verify(side, Finding { receivable: *receivable, safe: *safe }, event)
            }
            Act::ProposeHandover => self.propose(side, event),
            Act::AnswerHandover { agreed } => {
                if *agreed {
                    Newest::is_seen(self.newest.proposal, event, ancestry)?;
                }
                self.answer(side, *agreed, event)
            }
            Act::HandOver(signed) => self.hand_over(side, signed, event),
            Act::Feedback { closes } => self.hear(side, *closes, event),
            Act::Tell | Act::Update { closed: false } => Ok(Effect::Noted),
            _ => Err(OutOfStep::OtherWorkflow),
        }
    }

    /// With what was missing; or with what is known better while it is being verified.
    fn request_again(&mut self, side: Side, child: bool, event: &Event) -> Applied {
        if side == Side::Origin {
            return Err(OutOfStep::OtherSide);
        }
        match self.state {
            Step::Declined => {
                // Once a child always protected as one.
                self.child |= child;
                self.to(Step::ReturnRequested, event)
            }
            Step::ReturnRequested | Step::ReturnVerifying => {
                self.child |= child;
                Ok(Effect::Moved)
            }
            _ => Err(OutOfStep::Answered),
        }
    }

    fn decline(&mut self, side: Side, fixable: bool, event: &Event) -> Applied {
        match (side, self.state) {
            (Side::Host, _) => Err(OutOfStep::OtherSide),
            (_, Step::ReturnRequested | Step::ReturnVerifying) => {
                self.fixable = fixable;
                self.to(Step::Declined, event)
            }
            _ => Err(OutOfStep::Answered),
        }
    }

    fn update(&mut self, side: Side, to: Step, decided: Option<BestInterests>, event: &Event) -> Applied {
        if self.is_handed_over() {
            return Err(OutOfStep::HandedOver);
        }
        // The child is where the host is: it decides. Recorded whatever else the update says.
        if decided.is_some() && side == Side::Origin {
            return Err(OutOfStep::OtherSide);
        }
        let decides = decided.is_some() && decided != self.best_interests;
        self.best_interests = decided.or(self.best_interests);
        match (to, self.state) {
            (Step::ReturnBiaHold, _) => {
                self.child = true;
                // A new doubt undoes the decision that was made without it.
                self.best_interests = decided;
                self.newest.hold = Some(event.id);
                Ok(Effect::Moved)
            }
            (Step::ReturnVerifying, Step::ReturnRequested) if side == Side::Host => Err(OutOfStep::OtherSide),
            (Step::ReturnVerifying, Step::ReturnRequested | Step::ReturnVerifying) if side == Side::Origin => {
                let details = event.details();
                self.takes_longer |= details.is_some_and(|details| details.takes_longer);
                self.asked_more = details.is_some_and(|details| details.asks_more);
                match self.state {
                    Step::ReturnVerifying if !decides => Ok(Effect::Noted),
                    Step::ReturnVerifying => Ok(Effect::Moved),
                    _ => self.to(Step::ReturnVerifying, event),
                }
            }
            // From R3 it goes back to being verified; within R2 more is asked for, or told.
            (Step::ReturnVerifying, Step::ReturnVerifying) => Ok(if decides { Effect::Moved } else { Effect::Noted }),
            (Step::ReturnVerifying, Step::ReturnRequested | Step::ReturnVerified) => {
                self.finding = None;
                self.to(Step::ReturnVerifying, event)
            }
            (Step::ReturnDocsReady, Step::ReturnVerified) if !self.is_receivable() => Err(OutOfStep::NotReceivable),
            (Step::ReturnDocsReady, Step::ReturnVerified) => self.to(Step::ReturnDocsReady, event),
            // Said again, with the decision that was missing.
            (Step::ReturnDocsReady, Step::ReturnDocsReady) => Ok(Effect::Moved),
            (Step::ReturnDocsReady, Step::ReturnRequested | Step::ReturnVerifying) => Err(OutOfStep::NotVerified),
            // Also when one side has signed what the other does not.
            (Step::ReturnFailed, Step::ReturnAgreed | Step::ReturnHandedOver) => {
                (self.proposed_by, self.signed, self.handed_over_at) = (None, None, None);
                self.to(Step::ReturnFailed, event)
            }
            (Step::ReturnFailed, _) => Err(OutOfStep::NotAgreed),
            (Step::ReturnClosedRefused, Step::ReturnVerified) if !self.is_receivable() => {
                self.to(Step::ReturnClosedRefused, event)
            }
            (Step::ReturnClosedRefused, _) => Err(OutOfStep::NotForThat),
            // The host asked for the return, and has the person: it may end it. The other side only where consent is gone.
            (Step::ReturnClosedNotReturned, state) if side == Side::Host || state == Step::ReturnSuspended => {
                self.to(Step::ReturnClosedNotReturned, event)
            }
            (Step::ReturnClosedNotReturned, _) => Err(OutOfStep::OtherSide),
            _ => Err(OutOfStep::Answered),
        }
    }

    fn verify(&mut self, side: Side, finding: Finding, event: &Event) -> Applied {
        match (side, self.state) {
            (Side::Host, _) => Err(OutOfStep::OtherSide),
            (_, Step::ReturnRequested | Step::Declined) => Err(OutOfStep::NotVerifying),
            (_, Step::ReturnVerifying) => {
                self.finding = Some(finding);
                self.to(Step::ReturnVerified, event)
            }
            _ => Err(OutOfStep::Answered),
        }
    }

    fn propose(&mut self, side: Side, event: &Event) -> Applied {
        match self.state {
            Step::ReturnRequested | Step::ReturnVerifying | Step::Declined => return Err(OutOfStep::NotVerified),
            Step::ReturnVerified => return Err(OutOfStep::NotReady),
            // One side has signed: the other signs, too, or says that it failed.
            Step::ReturnHandedOver => return Err(OutOfStep::HandedOver),
            _ if self.is_handed_over() => return Err(OutOfStep::HandedOver),
            _ => {}
        }
        self.may_go()?;
        let counters = self.counters(event.from);
        self.proposed_by = Some(side);
        self.newest.proposal = Some(event.id);
        self.appointment = event.details().and_then(|details| details.appointment);
        self.to(if counters { Step::ReturnCountered } else { Step::ReturnProposed }, event)
    }

    fn answer(&mut self, side: Side, agreed: bool, event: &Event) -> Applied {
        if !matches!(self.state, Step::ReturnProposed | Step::ReturnCountered) {
            return Err(OutOfStep::NothingProposed);
        }
        if self.proposed_by == Some(side) {
            return Err(OutOfStep::OwnProposal);
        }
        // Decided otherwise since it was proposed.
        if agreed {
            self.may_go()?;
        }
        self.to(if agreed { Step::ReturnAgreed } else { Step::ReturnFailed }, event)
    }

    fn hand_over(&mut self, side: Side, signed: &SignedRecord, event: &Event) -> Applied {
        match (&self.signed, self.state) {
            (None, Step::ReturnAgreed) => {
                self.may_go()?;
                self.signed = Some((side, signed.clone()));
                self.handed_over_at = Some(event.created_at);
                self.to(Step::ReturnHandedOver, event)
            }
            (None, _) => Err(OutOfStep::NotAgreed),
            (Some((first, _)), _) if *first == side || self.both_signed => Err(OutOfStep::SignedBefore),
            (Some((_, first)), _) if first.sha256 == signed.sha256 && signed.quotes == first.sha256 => {
                self.both_signed = true;
                Ok(Effect::Moved)
            }
            (Some(_), _) => Err(OutOfStep::RecordsDiffer),
        }
    }

    fn hear(&mut self, side: Side, closes: bool, event: &Event) -> Applied {
        if !self.is_handed_over() {
            return Err(OutOfStep::NotHandedOver);
        }
        if side == Side::Host {
            return Err(OutOfStep::OtherSide);
        }
        self.feedback += 1;
        self.to(if closes { Step::ReturnClosed } else { Step::ReturnReintegrating }, event)
    }

    /// Consent that is withdrawn stops a return at once, from whichever party it is heard. It goes on where it was only when
    /// all that was withdrawn is given anew, as the host hears it, where the person is.
    fn consent(&mut self, withdrawn: bool, scopes: Scopes, event: &Event, ancestry: &Ancestry) -> Applied {
        if scopes.is_empty() || self.is_over() || self.is_handed_over() {
            return Ok(Effect::Noted);
        }
        if withdrawn {
            self.withdrawn.verify |= scopes.verify;
            self.withdrawn.returns |= scopes.returns;
            self.newest.withdrawal = Some(event.id);
            if self.resumes_at.is_some() {
                return Ok(Effect::Moved);
            }
            self.resumes_at = Some(self.state);
            return self.to(Step::ReturnSuspended, event);
        }
        let Some(state) = self.resumes_at.filter(|_| self.side(event.from) == Some(Side::Host)) else {
            return Ok(Effect::Noted);
        };
        Newest::is_seen(self.newest.withdrawal, event, ancestry)?;
        self.withdrawn.verify &= !scopes.verify;
        self.withdrawn.returns &= !scopes.returns;
        if !self.withdrawn.is_empty() {
            return Ok(Effect::Moved);
        }
        self.resumes_at = None;
        self.to(state, event)
    }
}
