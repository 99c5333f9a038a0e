//! From what an officer wrote to a message of the catalogue, with every problem at once.

use liaison_proto::wire::DataClass;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind as FieldKind, MessageDescriptor, Value};
use serde_json::{Map, Value as Json};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::{
    advice::{self, Advice},
    catalogue::{FieldRule, rule},
    codes, forms,
    tables::Tables,
};

/// One thing that is wrong, without repeating what was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Path of the field: `persons[0].name.latin`.
    pub field: String,
    /// The rule that does not hold.
    pub rule: &'static str,
    /// What would be right.
    #[serde(flatten)]
    pub advice: Advice,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.field, self.rule, self.advice)
    }
}

/// What validation found.
pub struct Findings<'t> {
    /// What the countries have agreed on: gates that are not built in.
    pub(crate) tables: &'t Tables,
    /// Every problem.
    pub problems: Vec<Problem>,
    /// Highest class of the fields that are set.
    pub class: Option<DataClass>,
}

impl<'t> Findings<'t> {
    /// Nothing found yet.
    #[must_use]
    pub const fn new(tables: &'t Tables) -> Self {
        Self { tables, problems: Vec::new(), class: None }
    }

    /// Adds a problem.
    pub fn problem(&mut self, field: &str, rule: &'static str, advice: Advice) {
        self.problems.push(Problem { field: field.to_owned(), rule, advice });
    }

    fn saw(&mut self, class: DataClass) {
        self.class = Some(self.class.map_or(class, |known| if known as i32 >= class as i32 { known } else { class }));
    }
}

/// Builds a message of the catalogue from an object, adding to the findings.
pub fn message(
    descriptor: &MessageDescriptor,
    object: &Map<String, Json>,
    path: &str,
    found: &mut Findings<'_>,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (key, value) in object {
        let path = join(path, key);
        let Some(field) = descriptor.get_field_by_name(key) else {
            let names: Vec<String> = descriptor.fields().map(|field| field.name().to_owned()).collect();
            found.problem(&path, "unknown field", advice::ONE_OF.with(names.join(", ")));
            continue;
        };
        if value.is_null() {
            continue;
        }
        let rule = rule(&field);
        if let Some(value) = field_value(&field, &rule, value, &path, found) {
            found.saw(rule.class);
            message.set_field(&field, value);
        }
    }
    for field in descriptor.fields() {
        let rule = rule(&field);
        let given = object.get(field.name()).is_some_and(|value| !is_empty(value));
        if given {
            continue;
        }
        let conditional = rule.required_when.as_ref().filter(|(other, codes)| {
            object.get(other).is_some_and(|value| codes.iter().any(|code| text_of(value).as_deref() == Some(code)))
        });
        if rule.required {
            found.problem(&join(path, field.name()), "required", expectation(&rule));
        } else if let Some((other, _)) = conditional {
            found.problem(&join(path, field.name()), "required here", advice::NEEDED_FOR.with(other));
        }
    }
    message
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether nothing was written for a field.
pub(crate) fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Codes may be written bare: YAML reads `1` as a number and `NO` as a word or a truth value.
fn text_of(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn expectation(rule: &FieldRule) -> Advice {
    if let Some(hint) = &rule.hint {
        return Advice::hint(hint.clone());
    }
    match &rule.code_list {
        Some(list) => one_of(list),
        None => advice::A_VALUE,
    }
}

fn one_of(list: &str) -> Advice {
    let codes: Vec<&str> = codes::list(list).into_iter().flatten().map(|(code, _)| *code).collect();
    match codes.len() {
        0..=30 => advice::ONE_OF.with(codes.join(", ")),
        _ => advice::ONE_OF_MANY.with(list),
    }
}

fn field_value(
    field: &FieldDescriptor,
    rule: &FieldRule,
    value: &Json,
    path: &str,
    found: &mut Findings<'_>,
) -> Option<Value> {
    if !field.is_list() {
        return single(field, rule, value, path, found);
    }
    let Json::Array(items) = value else {
        found.problem(path, "wrong type", advice::A_LIST);
        return None;
    };
    if items.len() > rule.max_items {
        found.problem(path, "too many", advice::MOST_ENTRIES.with(rule.max_items));
        return None;
    }
    let values = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| single(field, rule, item, &format!("{path}[{i}]"), found))
        .collect();
    Some(Value::List(values))
}

fn single(
    field: &FieldDescriptor,
    rule: &FieldRule,
    value: &Json,
    path: &str,
    found: &mut Findings<'_>,
) -> Option<Value> {
    match (field.kind(), value) {
        (FieldKind::Message(descriptor), Json::Object(object)) => {
            Some(Value::Message(message(&descriptor, object, path, found)))
        }
        (FieldKind::Message(_), _) => {
            found.problem(path, "wrong type", advice::FIELDS);
            None
        }
        (FieldKind::Bool, Json::Bool(truth)) => Some(Value::Bool(*truth)),
        (FieldKind::Bool, _) => {
            found.problem(path, "wrong type", advice::TRUE_OR_FALSE);
            None
        }
        (FieldKind::Uint32, Json::Number(number)) => {
            let number = number.as_u64().and_then(|n| u32::try_from(n).ok());
            if number.is_none() {
                found.problem(path, "out of range", advice::A_WHOLE_NUMBER);
            }
            number.map(Value::U32)
        }
        (FieldKind::String, value) => text(rule, value, path, found).map(Value::String),
        _ => {
            found.problem(path, "wrong type", advice::OF_THE_TYPE);
            None
        }
    }
}

fn text(rule: &FieldRule, value: &Json, path: &str, found: &mut Findings<'_>) -> Option<String> {
    let wanted = if rule.code_list.is_some() { advice::A_CODE } else { advice::A_TEXT };
    let says = |code: &str| rule.code_list.as_deref().is_some_and(|list| codes::meaning(list, code).is_some());
    let text = match value {
        // YAML reads the codes YES and NO as truth values.
        Json::Bool(true) if says("YES") => "YES".to_owned(),
        Json::Bool(false) if says("NO") => "NO".to_owned(),
        Json::String(text) => text.clone(),
        _ if rule.code_list.is_some() || rule.form.is_some() => match text_of(value) {
            Some(text) => text,
            None => {
                found.problem(path, "wrong type", wanted);
                return None;
            }
        },
        _ => {
            found.problem(path, "wrong type", wanted);
            return None;
        }
    };
    if text.is_empty() {
        return None;
    }
    if let Some(list) = &rule.code_list {
        let agreed = list == "gate" && found.tables.knows_gate(&text);
        if codes::meaning(list, &text).is_none() && !agreed {
            found.problem(path, "unknown code", one_of(list));
            return None;
        }
        return Some(text);
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        found.problem(path, "control character", advice::PLAIN_TEXT);
        return None;
    }
    if text.graphemes(true).take(rule.max_graphemes + 1).count() > rule.max_graphemes {
        found.problem(path, "too long", advice::MOST_CHARACTERS.with(rule.max_graphemes));
        return None;
    }
    if let Some(advice) = rule.form.as_deref().and_then(|form| forms::check(form, &text)) {
        found.problem(path, "not of its form", advice);
        return None;
    }
    Some(text)
}
