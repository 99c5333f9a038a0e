//! What a thread expects next, from whom, until when.

use std::collections::BTreeSet;

use liaison_proto::{
    clock::UnixMillis,
    ids::{MessageId, OfficeId},
    wire::{Kind, Step},
};

use super::{Machine, Mark, Taken, Thread, event::Event, general::OfficeState, victim_return::Side};
use crate::{
    act::Act,
    tables::{Deadlines, Tables, deadlines::Asked},
};

/// Everything that a thread can expect.
pub const ALL: [&str; 25] = [
    "acknowledgement",
    "actions",
    "answer",
    "best-interests",
    "briefing",
    "call-back",
    "classification",
    "closing-after-withdrawal",
    "closure",
    "consent-passed-on",
    "decision",
    "feedback",
    "handover",
    "handover-answer",
    "handover-proposal",
    "handover-receipt",
    "hit-check",
    "more-information",
    "papers",
    "reconciliation",
    "record",
    "renewal",
    "response-out-of-step",
    "resubmission",
    "verification",
];

/// One thing that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What: the key of its label, without `expected-`.
    pub what: &'static str,
    /// From any of these offices.
    pub from: Vec<OfficeId>,
    /// Until when; none where nobody set a time.
    pub due: Option<UnixMillis>,
}

impl Thread {
    /// What is expected next. Nothing, when the thread is over.
    #[must_use]
    pub fn expected(&self, tables: &Tables, now: UnixMillis) -> Vec<Expected> {
        let deadlines = &tables.deadlines(&self.root_countries(), self.root.created_at);
        let mut expected = Vec::new();
        if !self.position.withdrawn {
            match &self.position.machine {
                Machine::General => self.general_expects(deadlines, now, &mut expected),
                Machine::Alert(_) => self.alert_expects(deadlines, now, &mut expected),
                Machine::Hotline(_) => self.hotline_expects(deadlines, &mut expected),
                Machine::Briefing(_) => self.briefing_expects(&mut expected),
                Machine::Return(_) => self.return_expects(deadlines, &mut expected),
            }
            // Classified is a state of its own: also what was answered at once is to be classified.
            if !matches!(self.position.machine, Machine::General) {
                self.attention(deadlines, &mut expected);
            }
        }
        self.open_questions(&mut expected);
        expected
    }

    fn attention(&self, deadlines: &Deadlines<'_>, expected: &mut Vec<Expected>) {
        for (office, state) in self.offices() {
            if *state <= OfficeState::Delivered {
                let due = deadlines.acknowledgement(&self.asked(*office));
                expected.push(Expected { what: "acknowledgement", from: vec![*office], due: Some(due) });
            }
        }
    }

    fn general_expects(&self, deadlines: &Deadlines<'_>, now: UnixMillis, expected: &mut Vec<Expected>) {
        if matches!(self.state(now), Step::Closed | Step::Expired) {
            return;
        }
        let asks = matches!(self.root.kind, Kind::InfoRequest | Kind::ActionRequest | Kind::VictimSearch);
        self.attention(deadlines, expected);
        for (office, state) in self.offices() {
            let from = vec![*office];
            match state {
                OfficeState::Acknowledged => {
                    expected.push(Expected { what: "classification", from: from.clone(), due: None });
                    if asks {
                        expected.push(Expected {
                            what: "answer",
                            from,
                            due: Some(self.answer_due(deadlines, *office)),
                        });
                    }
                }
                OfficeState::Classified | OfficeState::InProgress if asks => {
                    expected.push(Expected { what: "answer", from, due: Some(self.answer_due(deadlines, *office)) });
                }
                OfficeState::Declined { fixable: true } => {
                    expected.push(Expected { what: "resubmission", from: vec![self.root.from], due: None });
                }
                OfficeState::Answered => {
                    expected.push(Expected { what: "closure", from: vec![self.root.from], due: None });
                }
                _ => {}
            }
        }
    }

    /// What the tables are asked about the first message, for an office that is to act on it.
    fn asked(&self, office: OfficeId) -> Asked {
        Asked {
            kind: self.root.kind,
            priority: self.root.priority,
            at: self.root.created_at,
            availability: self.root.details().and_then(|details| details.availability),
            country: office.country(),
        }
    }

    /// As the header says, else by the tables.
    fn answer_due(&self, deadlines: &Deadlines<'_>, office: OfficeId) -> UnixMillis {
        self.root.due_at.unwrap_or_else(|| deadlines.answer(&self.asked(office)))
    }

    fn alert_expects(&self, deadlines: &Deadlines<'_>, now: UnixMillis, expected: &mut Vec<Expected>) {
        let Some(alert) = self.alert() else { return };
        let originator = vec![self.root.from];
        for _ in alert.waiting() {
            expected.push(Expected { what: "hit-check", from: originator.clone(), due: None });
        }
        if matches!(self.state(now), Step::AlertActive | Step::AlertExpired | Step::AlertConfirmed) {
            let due = alert.valid_until().unwrap_or_else(|| deadlines.alert(self.root.created_at));
            expected.push(Expected { what: "renewal", from: originator, due: Some(due) });
        }
    }

    fn hotline_expects(&self, deadlines: &Deadlines<'_>, expected: &mut Vec<Expected>) {
        let Machine::Hotline(hotline) = &self.position.machine else { return };
        match hotline.state() {
            Step::HotlineRaised => {
                let due = self.root.due_at;
                let due = due.unwrap_or_else(|| deadlines.hotline(self.root.created_at));
                expected.push(Expected { what: "call-back", from: self.root.to.clone(), due: Some(due) });
            }
            Step::HotlineClosed => {}
            _ => expected.push(Expected { what: "closure", from: self.root.to.clone(), due: None }),
        }
    }

    /// Offices of this thread's first message on the side of a country, or not.
    fn offices_of(&self, wanted: impl Fn(OfficeId) -> bool) -> Vec<OfficeId> {
        [self.root.from].into_iter().chain(self.root.to.iter().copied()).filter(|office| wanted(*office)).collect()
    }

    fn briefing_expects(&self, expected: &mut Vec<Expected>) {
        let Machine::Briefing(briefing) = &self.position.machine else { return };
        let other = |country| self.offices_of(|office| office.country() != country);
        let (what, from) = match briefing.state() {
            Step::BriefingPlanned => ("answer", other(briefing.proposer().country())),
            Step::BriefingAgreed => ("briefing", self.offices_of(|_| true)),
            Step::BriefingHeld => match briefing.first_signer() {
                Some(first) => ("record", other(first)),
                None => return,
            },
            Step::BriefingRecordSigned => ("actions", self.offices_of(|_| true)),
            _ => return,
        };
        expected.push(Expected { what, from, due: None });
    }

    fn return_expects(&self, deadlines: &Deadlines<'_>, expected: &mut Vec<Expected>) {
        let Some(found) = self.victim_return() else { return };
        let side = |wanted: Side| self.offices_of(|office| found.side(office) == Some(wanted));
        let mut expect = |what, from, due| expected.push(Expected { what, from, due });
        match found.state() {
            Step::ReturnRequested | Step::ReturnVerifying => {
                let origin = side(Side::Origin);
                let country = origin.first().map_or(self.root.from.country(), |office| office.country());
                let due = deadlines.verification(self.root.created_at, country, found.takes_longer());
                expect("verification", origin, Some(self.root.due_at.unwrap_or(due)));
                if found.asked_more() {
                    expect("more-information", side(Side::Host), None);
                }
            }
            Step::Declined if found.is_fixable() => expect("resubmission", side(Side::Host), None),
            Step::ReturnVerified if found.is_receivable() => {
                expect("papers", side(Side::Origin), Some(deadlines.papers(found.since())));
            }
            Step::ReturnVerified => expect("closure", self.offices_of(|_| true), None),
            Step::ReturnDocsReady | Step::ReturnFailed if !found.is_held() => {
                expect("handover-proposal", self.offices_of(|_| true), None);
            }
            Step::ReturnProposed | Step::ReturnCountered => {
                let from = found.proposed_by().map_or(Side::Origin, Side::other);
                // So early that the province that receives the person knows in time.
                let due = found.appointment().map(|at| deadlines.arrival_notice(at));
                expect("handover-answer", side(from), due);
            }
            Step::ReturnAgreed => expect("handover", self.offices_of(|_| true), found.appointment()),
            Step::ReturnHandedOver | Step::ReturnReintegrating => {
                if let Some(missing) = found.unsigned() {
                    expect("handover-receipt", side(missing), None);
                }
                let due = found.handed_over_at().map(|at| deadlines.feedback(at, found.feedback()));
                expect("feedback", side(Side::Origin), due);
            }
            Step::ReturnSuspended => expect("closing-after-withdrawal", side(Side::Host), None),
            _ => {}
        }
        if found.is_held() {
            expect("best-interests", side(Side::Host), None);
        }
    }

    /// What waits for an answer of its own, wherever the thread stands: what did not fit, what is to be passed on, what is
    /// compared.
    fn open_questions(&self, expected: &mut Vec<Expected>) {
        let answered: BTreeSet<MessageId> = self.events.iter().filter_map(|event| event.in_reply_to).collect();
        for (event, taken) in self.events.iter().zip(&self.taken) {
            let what = match (taken.mark, event.act()) {
                (Mark::OutOfStep(_), _) => "response-out-of-step",
                (Mark::Noted, Some(Act::AskOnward(_))) => "decision",
                (Mark::Noted | Mark::Taken, Some(Act::Reconcile { same: None })) => "reconciliation",
                _ => continue,
            };
            if !answered.contains(&event.id) {
                expected.push(Expected { what, from: event.to.clone(), due: None });
            }
        }
        self.consent_to_pass_on(expected);
    }

    /// Consent that was withdrawn reaches every holder: who wrote to an office that it has not reached tells it, too.
    fn consent_to_pass_on(&self, expected: &mut Vec<Expected>) {
        let counts = |taken: &&(&Event, &Taken)| matches!(taken.1.mark, Mark::Taken | Mark::Noted);
        let read: Vec<(&Event, &Taken)> = self.events.iter().zip(&self.taken).filter(|pair| counts(&pair)).collect();
        let is_change = |event: &Event| matches!(event.act(), Some(Act::Consent { withdrawn: true, .. }));
        let Some(first) = read.iter().position(|(event, _)| is_change(event)) else { return };
        let changes = || read.iter().filter(|(event, _)| is_change(event));
        let reached: BTreeSet<OfficeId> =
            changes().flat_map(|(event, _)| event.to.iter().copied().chain([event.from])).collect();
        let mut tellers: BTreeSet<OfficeId> = BTreeSet::new();
        // What was written to somebody after the change was written knowing it.
        for (event, _) in &read[..first] {
            if event.to.iter().any(|office| !reached.contains(office)) {
                tellers.insert(event.from);
            }
        }
        if !tellers.is_empty() {
            expected.push(Expected { what: "consent-passed-on", from: tellers.into_iter().collect(), due: None });
        }
    }
}
