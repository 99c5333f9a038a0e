//! What must hold for one kind beyond each field by itself: rules that join fields, or content and envelope.

use liaison_proto::{ids::MessageId, wire::Kind};
use prost_reflect::{DynamicMessage, Value};
use serde_json::{Map, Value as Json};

use crate::{
    age::{ADULT, when_found},
    catalogue, codes,
    validate::{Findings, is_empty},
};

/// Alert types that are about no suspect. A missing person is a victim, whose name must not go to a whole corridor.
const NOT_ABOUT_SUSPECTS: [&str; 2] = ["YELLOW", "BLACK"];

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
        let value = self.content.has_field_by_name(field).then(|| self.content.get_field_by_name(field)).flatten()?;
        value.as_message().cloned()
    }
}

fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn texts(message: &DynamicMessage, field: &str) -> Vec<String> {
    match message.get_field_by_name(field).as_deref() {
        Some(Value::List(items)) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Checks the rules of a kind, adding to the findings.
pub(crate) fn check(kind: Kind, object: &Map<String, Json>, content: &DynamicMessage, found: &mut Findings) {
    let written = Written { object, content };
    match kind {
        Kind::HotlineCall => hotline_call(&written, found),
        Kind::ReturnRequest => return_request(&written, found),
        Kind::SuspectAlert => suspect_alert(&written, found),
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
    found: &mut Findings,
) {
    let ids = texts(content, "message_ids");
    for (i, id) in ids.iter().enumerate() {
        if ids[..i].contains(id) {
            found.problem(&format!("content.message_ids[{i}]"), "named twice", "each message once");
        }
    }
    if !catalogue::needs_thread(kind) {
        return;
    }
    let advice = match kind {
        Kind::HotlineClose => "the id of the HOTLINE_CALL that is closed",
        _ => "one of content.message_ids",
    };
    match reply {
        None if file.get("in_reply_to").is_none_or(is_empty) => found.problem("in_reply_to", "required here", advice),
        Some(id) if !ids.is_empty() && !ids.contains(&id.to_string()) => {
            found.problem("in_reply_to", "not among the messages named", advice);
        }
        _ => {}
    }
}

fn hotline_call(written: &Written<'_>, found: &mut Findings) {
    if written.object.get("persons_count").and_then(Json::as_u64) == Some(0) {
        found.problem("content.persons_count", "out of range", "1 or more: the fewest that are known of");
    }
}

fn return_request(written: &Written<'_>, found: &mut Findings) {
    if let Some(Json::Object(name)) = written.object.get("name")
        && name.get("latin").is_none_or(is_empty)
    {
        found.problem("content.name.latin", "required here", "the name in Latin letters, too: others search by it");
    }
    if !written.has("birth_date") && !written.has("age") {
        found.problem("content.birth_date", "required here", "the birth date as far as it is known, or else age");
    }
    check_child(written, found);
    check_consent(written, found);
}

/// A child needs a guardian, or the reason why none is known.
fn check_child(written: &Written<'_>, found: &mut Findings) {
    let age = when_found(written.content);
    let certainly_child = age.is_some_and(|age| age.oldest < ADULT);
    let maybe_child = age.is_none_or(|age| age.youngest < ADULT);
    let is_child = match written.text("age_group").as_str() {
        "CHILD" => true,
        "ADULT" => {
            if certainly_child {
                found.problem("content.age_group", "contradicts the age", "CHILD: under 18 when found");
            }
            certainly_child
        }
        // Who may be a child is protected as one.
        codes::UNKNOWN => maybe_child,
        _ => age.is_some() && maybe_child,
    };
    if is_child && !written.has("guardian") {
        found.problem("content.guardian", "required here", "a child's guardian, or relation UNK with unknown_reason");
    }
}

/// Consent to verification at least, unless the person was rescued from danger, with the reason.
fn check_consent(written: &Written<'_>, found: &mut Findings) {
    let reason = written.text("rescued_without_consent_reason");
    if reason == codes::UNKNOWN {
        found.problem("content.rescued_without_consent_reason", "no reason", "a code that is a reason; not UNK");
    }
    if !written.has("consent") && !written.has("rescued_without_consent_reason") {
        found.problem("content.consent", "required here", "the consent, or rescued_without_consent_reason");
    }
    let Some(consent) = written.inner("consent") else { return };
    let scope = texts(&consent, "scope");
    if !scope.is_empty() && !scope.iter().any(|code| code == "VERIFY") {
        found.problem("content.consent.scope", "too narrow", "with VERIFY: the request hands over the identity");
    }
}

fn suspect_alert(written: &Written<'_>, found: &mut Findings) {
    if NOT_ABOUT_SUSPECTS.contains(&written.text("alert_type").as_str()) {
        found.problem("content.alert_type", "not about a suspect", "RED, BLUE, GREEN, ORANGE, PURPLE or UNK");
    }
    let told_by_identity = written.object.get("identity").is_some_and(|identity| {
        ["name", "documents"].iter().any(|field| identity.get(*field).is_some_and(|value| !is_empty(value)))
    });
    let told_by_means = ["vehicles", "phones", "accounts"].iter().any(|field| written.has(field));
    if written.has("identity") && !told_by_identity && !told_by_means {
        found.problem(
            "content.identity",
            "identifies nobody",
            "a name or a document; else a vehicle, a phone or an account",
        );
    }
}
