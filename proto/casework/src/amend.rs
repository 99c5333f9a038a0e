//! Corrections and translations: what they say of fields of other messages, shown beside what stands there.

use std::collections::BTreeSet;

use liaison_proto::{ids::MessageId, wire::DataClass};
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};

use crate::{
    advice,
    catalogue::rule,
    fields::{inner_list, text, texts},
    labels,
    print::{REDACTED, Reader, plain},
    validate::Problem,
};

/// A field of a message as a path names it: `persons[0].birth_date.value`.
struct Found {
    /// From the outermost to the innermost.
    fields: Vec<FieldDescriptor>,
    value: Option<Value>,
}

fn find(message: &DynamicMessage, path: &str) -> Option<Found> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, index) = match first.split_once('[') {
        Some((name, index)) => (name, Some(index.strip_suffix(']')?.parse::<usize>().ok()?)),
        None => (first, None),
    };
    let field = message.descriptor().get_field_by_name(name)?;
    let set = message.has_field(&field).then(|| message.get_field(&field).into_owned());
    let value = match (index, set) {
        (None, set) => set,
        (Some(index), Some(Value::List(items))) if field.is_list() => Some(items.get(index)?.clone()),
        (Some(_), _) => return None,
    };
    let Some(rest) = rest else { return Some(Found { fields: vec![field], value }) };
    let within = match value {
        Some(Value::Message(within)) => within,
        None if index.is_none() && !field.is_list() => DynamicMessage::new(field.kind().as_message()?.clone()),
        _ => return None,
    };
    let mut found = find(&within, rest)?;
    found.fields.insert(0, field);
    Some(found)
}

/// The messages that a correction or translation is about.
#[must_use]
pub fn messages(content: &DynamicMessage) -> Vec<MessageId> {
    let named = texts(content, "message_ids").into_iter().chain([text(content, "message_id")]);
    named.filter_map(|id| id.parse().ok()).collect()
}

/// Fields that are looked at: no honest message names more.
const FIELDS: usize = 100;

/// The fields that a correction or translation names, with what it says of each.
#[must_use]
pub fn named(content: &DynamicMessage) -> Vec<(String, String)> {
    let list = |field: &str, value: &str| {
        let items = inner_list(content, field);
        items.iter().map(|item| (text(item, "field"), text(item, value))).collect::<Vec<_>>()
    };
    let (corrections, translated) = (list("corrections", "value"), list("fields", "text"));
    corrections.into_iter().chain(translated).take(FIELDS).collect()
}

/// What a correction or translation says of fields that the messages it is about do not have.
#[must_use]
pub fn check(content: &DynamicMessage, about: &[&DynamicMessage]) -> Vec<Problem> {
    let list = if inner_list(content, "corrections").is_empty() { "fields" } else { "corrections" };
    let unknown = |(i, (field, _)): (usize, (String, String))| {
        let known = about.iter().any(|message| find(message, &field).is_some());
        (!known).then(|| Problem {
            field: format!("content.{list}[{i}].field"),
            rule: "unknown field",
            advice: advice::FIELD_PATH,
        })
    };
    named(content).into_iter().enumerate().filter_map(unknown).collect()
}

/// Characters of a value that are shown beside its correction; the whole is in the message.
const SHOWN: usize = 2_000;

fn shortened(text: &str) -> String {
    let cut = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
    let rest = if cut < text.len() { " ..." } else { "" };
    format!("{}{rest}", &text[..cut])
}

/// A field that was corrected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Corrected {
    /// As the correction names it.
    pub field: String,
    /// Its label, from the outermost message to it.
    pub label: String,
    /// What stands in the message; none where nothing does.
    pub was: Option<String>,
    /// What is right.
    pub value: String,
}

impl Corrected {
    /// Bytes that it takes to show it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.field.len() + self.label.len() + self.was.as_ref().map_or(0, String::len) + self.value.len()
    }
}

/// What a correction says of a message, field by field; what the message does not have is left out.
#[must_use]
pub fn corrected(correction: &DynamicMessage, message: &DynamicMessage, reader: Reader<'_>) -> Vec<Corrected> {
    let mut seen = BTreeSet::new();
    let one = |(field, value): (String, String)| {
        // What names a field twice says nothing more, and costs as much again.
        if !seen.insert(field.clone()) {
            return None;
        }
        let found = find(message, &field)?;
        let label =
            |field: &FieldDescriptor| labels::field(reader.language, field.name(), rule(field).label.as_deref());
        let class = found.fields.iter().map(|field| rule(field).class).max_by_key(|class| *class as i32);
        let hidden = class.unwrap_or(DataClass::P3) as i32 > reader.highest as i32;
        let shown = |text: &str| if hidden { REDACTED.to_owned() } else { plain(&shortened(text)) };
        let was = found.value.as_ref().and_then(|value| match value {
            Value::String(text) => Some(shown(text)),
            Value::Bool(truth) => Some(shown(&truth.to_string())),
            Value::U32(number) => Some(shown(&number.to_string())),
            _ => None,
        });
        let label = found.fields.iter().map(label).collect::<Vec<_>>().join(", ");
        Some(Corrected { label, was, value: shown(&value), field })
    };
    named(correction).into_iter().filter_map(one).collect()
}
