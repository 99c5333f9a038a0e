//! Messages as officers see them: true states, each with its time and its entry in the log.

use liaison_casework::catalogue::{kind_name, short_name};
use liaison_log::leaf::statement_name;
use liaison_proto::{
    clock::UnixMillis,
    header::Core,
    ids::{MessageId, OfficeId},
    wire::{self, Kind, NonDeliveryReason, StatementKind},
};
use serde_json::{Value, json};

use crate::state::{EvidenceState, Incoming, Outgoing, Said, State, Submission, UnprovenIncoming, Waiting};

/// What an entry was marked with, as officers see it.
fn marks(marks: &[wire::Mark]) -> Value {
    json!(marks.iter().map(|mark| short_name("MARK_", mark.as_str_name())).collect::<Vec<_>>())
}

fn when(time: UnixMillis) -> Value {
    json!(time.to_string())
}

/// The envelope's codes: no content, no person.
#[must_use]
pub fn core(core: &Core) -> Value {
    json!({
        "message": core.message_id,
        "thread": core.thread_id,
        "kind": kind_name(core.kind),
        "step": short_name("STEP_", core.step.as_str_name()),
        "in_reply_to": core.in_reply_to,
        "supersedes": core.supersedes,
        "from": core.from,
        "to": core.to,
        "corridor": core.corridor,
        "created_at": when(core.created_at),
        "due_at": core.due_at.map(when),
        "retain_until": core.retain_until.map(when),
        "priority": short_name("PRIORITY_", core.priority.as_str_name()),
        "handling": short_name("HANDLING_", core.handling.as_str_name()),
        "tlp": short_name("TLP_", core.tlp.as_str_name()),
        "data_class": short_name("DATA_CLASS_", core.data_class.as_str_name()),
        "legal_basis": core.legal_basis.iter().map(|b| short_name("LEGAL_BASIS_", b.as_str_name())).collect::<Vec<_>>(),
        "purpose": short_name("PURPOSE_", core.purpose.as_str_name()),
        "language": core.language,
        "exercise": core.exercise,
    })
}

/// An own message that waits for a second signature.
#[must_use]
pub fn waiting(waiting: &Waiting) -> Value {
    let mut shown = core(&waiting.core);
    let recipient = |office| json!({"office": office, "state": WAITS});
    shown["state"] = json!(WAITS);
    shown["recipients"] = json!(waiting.core.to.iter().map(recipient).collect::<Vec<_>>());
    shown
}

/// The state of a message that waits for a second signature.
pub const WAITS: &str = "WAITS";

/// The answer of `office` to a message, when one arrived: ACKED or DECLINED.
fn answer_of(state: &State, message: MessageId, office: OfficeId) -> Option<(&'static str, MessageId)> {
    let replies = state.replies.get(&message)?;
    // A decline stands: an acknowledgement of the same message, before or after it, does not hide it.
    let rank = |named: &str| u8::from(named == "DECLINED");
    replies
        .iter()
        .filter_map(|reply| {
            let answer = state.incoming.get(reply)?;
            // Until it was opened nobody knows that an officer of that office signed it.
            answer.statements.get(&i32::from(StatementKind::Retrieved))?;
            let core = answer.header.core();
            let named = match core.kind {
                Kind::Ack => "ACKED",
                Kind::Decline => "DECLINED",
                _ => return None,
            };
            (core.from == office).then_some((named, *reply))
        })
        .max_by_key(|(named, _)| rank(named))
}

/// Whether an office has answered a message, in an answer that came without a receipt.
fn unproven_answer(state: &State, message: MessageId, office: OfficeId) -> bool {
    let replies = state.replies.get(&message).into_iter().flatten();
    let mut unproven = replies.filter_map(|reply| Some(state.unproven.get(reply)?.header.core()));
    unproven.any(|core| core.from == office && matches!(core.kind, Kind::Ack | Kind::Decline))
}

/// The answer of this office to a message: ACKED, or DECLINED, which an acknowledgement does not hide.
#[must_use]
pub fn own_answer(state: &State, message: MessageId) -> Option<&'static str> {
    let replies = state.replies.get(&message)?;
    replies
        .iter()
        .filter_map(|reply| {
            let answer = state.outgoing.get(reply)?;
            let refused = matches!(answer.submission, Submission::Refused { .. } | Submission::Cancelled);
            match answer.header.core().kind {
                Kind::Ack if !refused => Some("ACKED"),
                Kind::Decline if !refused => Some("DECLINED"),
                _ => None,
            }
        })
        .max_by_key(|named| u8::from(*named == "DECLINED"))
}

/// Where an own message stands with one recipient.
fn recipient_state(state: &State, outgoing: &Outgoing, office: OfficeId) -> &'static str {
    let said = |wanted: &dyn Fn(&Said) -> bool| {
        outgoing.evidence.iter().filter(|e| e.office == office && wanted(&e.said)).map(|e| e.index).max()
    };
    let stated = |kind: StatementKind| said(&|said| matches!(said, Said::Stated(stated, _) if *stated == kind));
    if let Some((answer, _)) = answer_of(state, outgoing.header.core().message_id, office) {
        return answer;
    }
    let cannot_open = stated(StatementKind::CannotOpen) > said(&|said| *said == Said::Rewrapped);
    match &outgoing.submission {
        Submission::Queued if outgoing.held_by_broker.is_some() => {
            let answered = unproven_answer(state, outgoing.header.core().message_id, office);
            if answered { "ANSWERED" } else { "HELD" }
        }
        Submission::Queued => "QUEUED",
        Submission::Cancelled => "TAKEN_BACK",
        // What a recipient signed weighs more than what the broker said.
        _ if stated(StatementKind::Retrieved).is_some() => "RETRIEVED",
        _ if cannot_open => "CANNOT_OPEN",
        _ if stated(StatementKind::Delivered).is_some() => "DELIVERED",
        _ if said(&|said| *said == Said::NonDelivery(NonDeliveryReason::Withdrawn)).is_some() => "WITHDRAWN",
        _ if said(&|said| *said == Said::NonDelivery(NonDeliveryReason::Expired)).is_some() => "EXPIRED",
        Submission::Refused { .. } => "REFUSED",
        Submission::Receipted { .. } => "ACCEPTED",
    }
}

/// Whether the originator took a received message back: WITHDRAWN, or RECALLED because it went to the wrong office.
fn taken_back(state: &State, incoming: &Incoming) -> Option<&'static str> {
    let core = incoming.header.core();
    let replies = state.replies.get(&core.message_id)?;
    let kinds = replies.iter().filter_map(|reply| {
        let answer = state.incoming.get(reply)?;
        // Until it was opened nobody knows that an officer of that office signed it.
        answer.statements.get(&i32::from(StatementKind::Retrieved))?;
        let by = answer.header.core();
        (by.from == core.from).then_some(by.kind)
    });
    kinds
        .filter_map(|kind| match kind {
            Kind::Withdraw => Some("WITHDRAWN"),
            Kind::Recall => Some("RECALLED"),
            _ => None,
        })
        .max_by_key(|named| u8::from(*named == "RECALLED"))
}

/// Whether a received message was taken back by whoever sent it.
#[must_use]
pub fn is_taken_back(state: &State, id: MessageId) -> bool {
    state.incoming.get(&id).is_some_and(|incoming| taken_back(state, incoming).is_some())
}

/// A line of the outbox.
#[must_use]
pub fn outgoing(state: &State, outgoing: &Outgoing) -> Value {
    let header = outgoing.header.core();
    let mut value = core(header);
    let numbers = match &outgoing.submission {
        Submission::Receipted { numbers, .. } => numbers.clone(),
        _ => Vec::new(),
    };
    let recipients: Vec<Value> = header
        .to
        .iter()
        .enumerate()
        .map(|(i, &office)| {
            json!({
                "office": office,
                "state": recipient_state(state, outgoing, office),
                "number": numbers.get(i),
                "answer": answer_of(state, header.message_id, office).map(|(_, id)| id),
            })
        })
        .collect();
    value["recipients"] = json!(recipients);
    if let Submission::Receipted { marks: found, .. } = &outgoing.submission {
        value["marks"] = marks(found);
    }
    if let Submission::Refused { code, detail, signed } = &outgoing.submission {
        value["refusal"] = json!({"code": code, "detail": detail, "signed": signed});
    }
    if outgoing.submission == Submission::Queued && outgoing.not_before.0 > 0 {
        value["leaves_at"] = when(outgoing.not_before);
    }
    value
}

/// A line of the inbox.
#[must_use]
pub fn incoming(state: &State, incoming: &Incoming) -> Value {
    let mut value = core(incoming.header.core());
    let stated = |kind: StatementKind| incoming.statements.get(&i32::from(kind));
    let position = if let Some(taken_back) = taken_back(state, incoming) {
        taken_back
    } else if let Some(answer) = own_answer(state, incoming.header.core().message_id) {
        answer
    } else if stated(StatementKind::CannotOpen).is_some() {
        "CANNOT_OPEN"
    } else if stated(StatementKind::Retrieved).is_some() {
        "OPENED"
    } else {
        "LOCKED"
    };
    value["state"] = json!(position);
    value["number"] = json!(incoming.number);
    value["marks"] = marks(&incoming.marks);
    value["accepted_at"] = when(incoming.time);
    value["arrived_at"] = when(incoming.at);
    value
}

/// A line of the inbox for a message that came without a receipt: who signed it is known, its place in the log is not.
#[must_use]
pub fn unproven(state: &State, unproven: &UnprovenIncoming) -> Value {
    let mut value = core(unproven.header.core());
    value["state"] = json!(own_answer(state, unproven.header.core().message_id).unwrap_or("UNPROVEN"));
    value["marks"] = marks(&[wire::Mark::Unproven]);
    value["arrived_at"] = when(unproven.at);
    value
}

fn event(what: &str, at: UnixMillis, by: Option<OfficeId>, entry: Option<u64>) -> Value {
    json!({"what": what, "at": at.to_string(), "by": by, "entry": entry})
}

fn evidence_event(evidence: &EvidenceState) -> Value {
    let what = match &evidence.said {
        Said::Stated(kind, _) => statement_name(*kind),
        Said::NonDelivery(_) => "NON_DELIVERY",
        Said::Rewrapped => "REWRAPPED",
    };
    let mut event = event(what, evidence.time, Some(evidence.office), Some(evidence.index.0));
    if let Said::NonDelivery(reason) = evidence.said {
        event["why"] = json!(if reason == NonDeliveryReason::Withdrawn { "WITHDRAWN" } else { "EXPIRED" });
    }
    if evidence.marks.contains(&wire::Mark::Late) {
        event["late"] = json!(true);
    }
    event
}

/// Everything that happened to a message, in the order of time, with its entries in the log.
#[must_use]
pub fn history(state: &State, id: MessageId) -> Vec<Value> {
    let mut events: Vec<(UnixMillis, Value)> = Vec::new();
    if let Some(outgoing) = state.outgoing.get(&id) {
        let core = outgoing.header.core();
        events.push((core.created_at, event("SIGNED", core.created_at, Some(core.from), None)));
        if outgoing.submission == Submission::Cancelled {
            events.push((outgoing.not_before, event("TAKEN_BACK", core.created_at, Some(core.from), None)));
        }
        if let Some(at) = outgoing.held_by_broker {
            events.push((at, event("HELD", at, None, None)));
        }
        if let Submission::Receipted { index, time, .. } = &outgoing.submission {
            events.push((*time, event("ACCEPTED", *time, None, Some(index.0))));
        }
        events.extend(outgoing.evidence.iter().map(|evidence| (evidence.time, evidence_event(evidence))));
    }
    if let Some(incoming) = state.incoming.get(&id) {
        let core = incoming.header.core();
        events.push((core.created_at, event("SIGNED", core.created_at, Some(core.from), None)));
        events.push((incoming.time, event("ACCEPTED", incoming.time, None, Some(incoming.index.0))));
        events.push((incoming.at, event("ARRIVED", incoming.at, None, None)));
        if let Some((_, at)) = incoming.given_up {
            events.push((at, event("NON_DELIVERY", at, None, None)));
        }
        if let Some(rewrap) = &incoming.rewrap {
            events.push((incoming.at, event("REWRAPPED", incoming.at, Some(core.from), Some(rewrap.index.0))));
        }
        for (kind, statement) in &incoming.statements {
            let kind = StatementKind::try_from(*kind).unwrap_or_default();
            let at = liaison_log::leaf::Statement::parse(&statement.attested.statement).map_or(incoming.at, |s| s.at);
            let by = core.to.iter().copied().find(|to| Some(*to) == state.office());
            events.push((at, event(statement_name(kind), at, by, statement.index.map(|index| index.0))));
        }
    }
    for reply in state.replies.get(&id).into_iter().flatten() {
        let core = state
            .incoming
            .get(reply)
            .map(|incoming| incoming.header.core())
            .or_else(|| state.outgoing.get(reply).map(|outgoing| outgoing.header.core()));
        if let Some(core) = core {
            events.push((core.created_at, event(kind_name(core.kind), core.created_at, Some(core.from), None)));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}
