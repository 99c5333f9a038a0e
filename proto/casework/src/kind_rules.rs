//! What must hold for one kind beyond each field by itself: rules that join fields, or content and envelope.

use liaison_proto::{
    clock::UnixMillis,
    ids::MessageId,
    wire::{Kind, Priority},
};
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value as Json};

use crate::{
    advice,
    age::{ADULT, when_found},
    catalogue, codes,
    fields::{inner, text, texts},
    forms,
    tables::GateStatus,
    validate::{Findings, is_empty},
};

/// Alert types that are about no suspect. A missing person is a victim, whose name must not go to a whole corridor.
const NOT_ABOUT_SUSPECTS: [&str; 2] = ["YELLOW", "BLACK"];

/// Counts below it are suppressed (CTDC uses the same).
const SMALLEST_CELL: u64 = 11;

/// What an officer wrote: the object, and the message that was built from what is right in it.
struct Written<'a> {
    object: &'a Map<String, Json>,
    content: &'a DynamicMessage,
}

impl Written<'_> {
    /// Whether anything was written for a field, right or wrong: what is wrong has its own problem already.
    fn has(&self, field: &str) -> bool {
        self.object.get(field).is_some_and(|value| !is_empty(value))
    }

    fn text(&self, field: &str) -> String {
        text(self.content, field)
    }

    fn inner(&self, field: &str) -> Option<DynamicMessage> {
        inner(self.content, field)
    }
}

/// Checks the rules of a kind, adding to the findings.
pub(crate) fn check(kind: Kind, object: &Map<String, Json>, content: &DynamicMessage, found: &mut Findings<'_>) {
    let written = Written { object, content };
    match kind {
        Kind::HotlineCall => hotline_call(&written, found),
        Kind::ReturnRequest => return_request(&written, found),
        Kind::SuspectAlert => suspect_alert(&written, found),
        Kind::ActionRequest => action_request(&written, found),
        Kind::VictimSearch => check_age(&written, found),
        Kind::ReturnUpdate => return_update(&written, found),
        Kind::StatReturn => stat_return(&written, found),
        Kind::HandoverProposal => {
            for field in ["appointment", "fallback"] {
                let Some(appointment) = written.inner(field) else { continue };
                let (gate, at) = (text(&appointment, "gate"), text(&appointment, "at"));
                gate_is_open(&format!("content.{field}.gate"), &gate, &at, found);
            }
        }
        Kind::BriefingPlan => gate_is_open("content.gate", &written.text("gate"), &written.text("begins_at"), found),
        _ => {}
    }
}

/// Checks what the header answers: a kind that needs a thread has `in_reply_to`, and what a list withdraws or recalls
/// has it among its messages. `reply` is what was read, none when it was not there or not of its form.
pub(crate) fn check_thread(
    kind: Kind,
    file: &Map<String, Json>,
    content: &DynamicMessage,
    reply: Option<MessageId>,
    found: &mut Findings<'_>,
) {
    let ids = texts(content, "message_ids");
    for (i, id) in ids.iter().enumerate() {
        if ids[..i].contains(id) {
            found.problem(&format!("content.message_ids[{i}]"), "named twice", advice::EACH_ONCE);
        }
    }
    let translated = text(content, "message_id");
    if kind == Kind::Translation && reply.is_some_and(|id| !translated.is_empty() && id.to_string() != translated) {
        found.problem("content.message_id", "not among the messages named", advice::REPLIED_TO);
    }
    if !catalogue::needs_thread(kind) {
        return;
    }
    let advice = match kind {
        Kind::HotlineClose => advice::CALL_ID,
        _ if !ids.is_empty() => advice::ONE_OF_THE_MESSAGES,
        _ => advice::THREAD_ID,
    };
    // A decision answers the request for it.
    let ids = if kind == Kind::OnwardDecision { Vec::new() } else { ids };
    match reply {
        None if file.get("in_reply_to").is_none_or(is_empty) => found.problem("in_reply_to", "required here", advice),
        Some(id) if !ids.is_empty() && !ids.contains(&id.to_string()) => {
            found.problem("in_reply_to", "not among the messages named", advice);
        }
        _ => {}
    }
}

/// Checks what the content owes to the envelope's priority.
pub(crate) fn check_priority(
    kind: Kind,
    priority: Option<Priority>,
    object: &Map<String, Json>,
    found: &mut Findings<'_>,
) {
    let urgent = matches!(priority, Some(Priority::Flash | Priority::Urgent));
    if kind == Kind::InfoRequest && urgent && object.get("urgency_reason").is_none_or(is_empty) {
        found.problem("content.urgency_reason", "required here", advice::URGENCY);
    }
}

fn action_request(written: &Written<'_>, found: &mut Findings<'_>) {
    let Some(window) = written.inner("window") else { return };
    let instant = |field: &str| forms::instant(&text(&window, field)).map(|(millis, _)| millis);
    if let (Some(from), Some(until)) = (instant("from"), instant("until"))
        && until <= from
    {
        found.problem("content.window.until", "too early", advice::AFTER_FROM);
    }
}

fn return_update(written: &Written<'_>, found: &mut Findings<'_>) {
    // Medical detail goes to the service that receives the person, once it is certain that one does.
    if written.has("medical_summary") && written.text("state") != "DOCS_READY" {
        found.problem("content.medical_summary", "too soon", advice::MEDICAL);
    }
    if written.has("best_interests") && !written.has("guardian") {
        found.problem("content.guardian", "required here", advice::GUARDIAN_WITH_DECISION);
    }
}

/// Small counts identify: they are suppressed before they leave.
fn stat_return(written: &Written<'_>, found: &mut Findings<'_>) {
    let rows = written.object.get("rows").and_then(Json::as_array).into_iter().flatten();
    for (i, row) in rows.enumerate() {
        let count = row.get("count").and_then(Json::as_u64);
        let before = row.get("count_year_before").and_then(Json::as_u64);
        for (field, count) in [("count", count), ("count_year_before", before)] {
            if count.is_some_and(|count| (1..SMALLEST_CELL).contains(&count)) {
                found.problem(&format!("content.rows[{i}].{field}"), "out of range", advice::SUPPRESSED);
            }
        }
        let suppressed = row.get("suppressed").and_then(Json::as_bool) == Some(true);
        if count.is_some() == suppressed {
            found.problem(&format!("content.rows[{i}].count"), "required here", advice::COUNT);
        }
    }
}

/// Nobody is brought to a gate that is closed.
fn gate_is_open(field: &str, gate: &str, at: &str, found: &mut Findings<'_>) {
    let Some((millis, _)) = forms::instant(at).filter(|_| !gate.is_empty()) else { return };
    if let GateStatus::Closed(advice) = found.tables.gate(gate, UnixMillis(millis)) {
        found.problem(field, "gate is closed", advice);
    }
}

fn hotline_call(written: &Written<'_>, found: &mut Findings<'_>) {
    if written.object.get("persons_count").and_then(Json::as_u64) == Some(0) {
        found.problem("content.persons_count", "out of range", advice::ONE_OR_MORE);
    }
}

fn return_request(written: &Written<'_>, found: &mut Findings<'_>) {
    if let Some(Json::Object(name)) = written.object.get("name")
        && name.get("latin").is_none_or(is_empty)
    {
        found.problem("content.name.latin", "required here", advice::LATIN_NAME);
    }
    check_age(written, found);
    check_child(written, found);
    check_consent(written, found);
}

fn check_age(written: &Written<'_>, found: &mut Findings<'_>) {
    if !written.has("birth_date") && !written.has("age") {
        found.problem("content.birth_date", "required here", advice::BIRTH_DATE);
    }
}

/// A child needs a guardian, or the reason why none is known.
fn check_child(written: &Written<'_>, found: &mut Findings<'_>) {
    let age = when_found(written.content);
    let certainly_child = age.is_some_and(|age| age.oldest < ADULT);
    let maybe_child = age.is_none_or(|age| age.youngest < ADULT);
    let is_child = match written.text("age_group").as_str() {
        "CHILD" => true,
        "ADULT" => {
            if certainly_child {
                found.problem("content.age_group", "contradicts the age", advice::ADULT_AGE);
            }
            certainly_child
        }
        // Who may be a child is protected as one.
        codes::UNKNOWN => maybe_child,
        _ => age.is_some() && maybe_child,
    };
    if is_child && !written.has("guardian") {
        found.problem("content.guardian", "required here", advice::GUARDIAN);
    }
}

/// Consent to verification at least, unless the person was rescued from danger, with the reason.
fn check_consent(written: &Written<'_>, found: &mut Findings<'_>) {
    let reason = written.text("rescued_without_consent_reason");
    if reason == codes::UNKNOWN {
        found.problem("content.rescued_without_consent_reason", "no reason", advice::REASON);
    }
    if !written.has("consent") && !written.has("rescued_without_consent_reason") {
        found.problem("content.consent", "required here", advice::CONSENT);
    }
    let Some(consent) = written.inner("consent") else { return };
    let scope = texts(&consent, "scope");
    if !scope.is_empty() && !scope.iter().any(|code| code == "VERIFY") {
        found.problem("content.consent.scope", "too narrow", advice::CONSENT_SCOPE);
    }
}

fn suspect_alert(written: &Written<'_>, found: &mut Findings<'_>) {
    if NOT_ABOUT_SUSPECTS.contains(&written.text("alert_type").as_str()) {
        found.problem("content.alert_type", "not about a suspect", advice::ALERT_TYPE);
    }
    let told_by_identity = written.object.get("identity").is_some_and(|identity| {
        ["name", "documents"].iter().any(|field| identity.get(*field).is_some_and(|value| !is_empty(value)))
    });
    let told_by_means = ["vehicles", "phones", "accounts"].iter().any(|field| written.has(field));
    if written.has("identity") && !told_by_identity && !told_by_means {
        found.problem("content.identity", "identifies nobody", advice::IDENTITY);
    }
}
