//! What a thread expects next, from whom, until when.

use liaison_proto::{
    clock::{DAY_MS, HOUR_MS, UnixMillis},
    ids::OfficeId,
    wire::{Kind, Priority, Step},
};

use super::{Machine, Mark, Thread, general::OfficeState, victim_return::Side};
use crate::{act::Act, deadlines::Deadlines};

/// Everything that a thread can expect.
pub const ALL: [&str; 23] = [
    "acknowledgement",
    "actions",
    "answer",
    "best-interests",
    "briefing",
    "call-back",
    "classification",
    "closing-after-withdrawal",
    "closure",
    "decision",
    "feedback",
    "handover",
    "handover-answer",
    "handover-proposal",
    "handover-receipt",
    "hit-check",
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
    pub fn expected(&self, deadlines: &Deadlines, now: UnixMillis) -> Vec<Expected> {
        let mut expected = Vec::new();
        if !self.position.withdrawn {
            match &self.position.machine {
                Machine::General => self.general_expects(deadlines, now, &mut expected),
                Machine::Alert(_) => self.alert_expects(now, &mut expected),
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

    fn attention(&self, deadlines: &Deadlines, expected: &mut Vec<Expected>) {
        for (office, state) in self.offices() {
            if *state <= OfficeState::Delivered {
                let due = deadlines.acknowledgement(self.root.priority, self.root.created_at, office.country());
                expected.push(Expected { what: "acknowledgement", from: vec![*office], due: Some(due) });
            }
        }
    }

    fn general_expects(&self, deadlines: &Deadlines, now: UnixMillis, expected: &mut Vec<Expected>) {
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
                        expected.push(Expected { what: "answer", from, due: Some(self.answer_due(deadlines)) });
                    }
                }
                OfficeState::Classified | OfficeState::InProgress if asks => {
                    expected.push(Expected { what: "answer", from, due: Some(self.answer_due(deadlines)) });
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

    /// As the header says, else by the table.
    fn answer_due(&self, deadlines: &Deadlines) -> UnixMillis {
        let urgent = matches!(self.root.priority, Priority::Flash | Priority::Urgent);
        self.root.due_at.unwrap_or_else(|| {
            let hours = if urgent { deadlines.urgent_answer_hours } else { deadlines.answer_days * 24 };
            self.root.created_at.plus(hours * HOUR_MS)
        })
    }

    fn alert_expects(&self, now: UnixMillis, expected: &mut Vec<Expected>) {
        let Some(alert) = self.alert() else { return };
        let originator = vec![self.root.from];
        for _ in alert.waiting() {
            expected.push(Expected { what: "hit-check", from: originator.clone(), due: None });
        }
        if matches!(self.state(now), Step::AlertActive | Step::AlertExpired | Step::AlertConfirmed) {
            expected.push(Expected { what: "renewal", from: originator, due: alert.valid_until() });
        }
    }

    fn hotline_expects(&self, deadlines: &Deadlines, expected: &mut Vec<Expected>) {
        let Machine::Hotline(hotline) = &self.position.machine else { return };
        match hotline.state() {
            Step::HotlineRaised => {
                let due = self.root.due_at;
                let due = due.unwrap_or_else(|| self.root.created_at.plus(deadlines.hotline_minutes * HOUR_MS / 60));
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

    fn return_expects(&self, deadlines: &Deadlines, expected: &mut Vec<Expected>) {
        let Some(found) = self.victim_return() else { return };
        let side = |wanted: Side| self.offices_of(|office| found.side(office) == Some(wanted));
        let days = |days: i64| Some(found.since().plus(days * DAY_MS));
        let mut expect = |what, from, due| expected.push(Expected { what, from, due });
        match found.state() {
            Step::ReturnRequested | Step::ReturnVerifying => {
                let origin = side(Side::Origin);
                let country = origin.first().map_or(self.root.from.country(), |office| office.country());
                let due = deadlines.verification(self.root.created_at, country);
                expect("verification", origin, Some(self.root.due_at.unwrap_or(due)));
            }
            Step::Declined if found.is_fixable() => expect("resubmission", side(Side::Host), None),
            Step::ReturnVerified if found.is_receivable() => {
                expect("papers", side(Side::Origin), days(deadlines.papers_days));
            }
            Step::ReturnVerified => expect("closure", self.offices_of(|_| true), None),
            Step::ReturnDocsReady | Step::ReturnFailed if !found.is_held() => {
                expect("handover-proposal", self.offices_of(|_| true), None);
            }
            Step::ReturnProposed | Step::ReturnCountered => {
                let from = found.proposed_by().map_or(Side::Origin, Side::other);
                expect("handover-answer", side(from), None);
            }
            Step::ReturnAgreed => expect("handover", self.offices_of(|_| true), None),
            Step::ReturnHandedOver | Step::ReturnReintegrating => {
                if let Some(missing) = found.unsigned() {
                    expect("handover-receipt", side(missing), None);
                }
                let after = deadlines.feedback_days.get(found.feedback()).or(deadlines.feedback_days.last());
                let due = after.zip(found.handed_over_at()).map(|(days, at)| at.plus(days * DAY_MS));
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
        let answered = |id| self.events.iter().any(|event| event.in_reply_to == Some(id));
        for (event, taken) in self.events.iter().zip(&self.taken) {
            let what = match (taken.mark, &event.act) {
                (Mark::OutOfStep(_), _) => "response-out-of-step",
                (Mark::Noted, Some(Act::AskOnward(_))) => "decision",
                (Mark::Noted | Mark::Taken, Some(Act::Reconcile { same: None })) => "reconciliation",
                _ => continue,
            };
            if !answered(event.id) {
                expected.push(Expected { what, from: event.to.clone(), due: None });
            }
        }
    }
}
