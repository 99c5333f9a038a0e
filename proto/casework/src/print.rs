//! Content as text for a terminal, and as JSON; redacted where the reader may not see a class.

use std::fmt::Write as _;

use liaison_proto::wire::DataClass;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use serde_json::{Map, Value as Json};

use crate::{
    age,
    catalogue::{FieldRule, rule},
    codes, forms,
    labels::{self, Language},
    tables::Tables,
};

/// Shown in place of what the reader may not see.
pub const REDACTED: &str = "(redacted)";

/// Content as JSON with the field names of the catalogue. Fields above `highest` are redacted.
#[must_use]
pub fn to_json(message: &DynamicMessage, highest: DataClass) -> Json {
    let mut object = Map::new();
    for field in message.descriptor().fields().filter(|field| message.has_field(field)) {
        let rule = rule(&field);
        let value = if rule.class as i32 > highest as i32 {
            Json::from(REDACTED)
        } else {
            json_value(&message.get_field(&field), highest)
        };
        object.insert(field.name().to_owned(), value);
    }
    Json::Object(object)
}

fn json_value(value: &Value, highest: DataClass) -> Json {
    match value {
        Value::Bool(truth) => Json::from(*truth),
        Value::U32(number) => Json::from(*number),
        Value::U64(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_str()),
        Value::Message(message) => to_json(message, highest),
        Value::List(items) => items.iter().map(|item| json_value(item, highest)).collect(),
        _ => Json::Null,
    }
}

/// How content is written for a reader.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'t> {
    /// Fields above it are redacted.
    pub highest: DataClass,
    /// What the countries have agreed on: names of gates that are not built in.
    pub tables: &'t Tables,
    /// Of the labels. What an officer wrote in words stays in the officer's language.
    pub language: Language,
}

/// Content as indented text, codes with their meanings. What a counterpart wrote cannot move the cursor or
/// colour the terminal: control characters are shown as spaces.
#[must_use]
pub fn to_text(message: &DynamicMessage, reader: Reader<'_>) -> String {
    let mut text = String::new();
    write_message(message, reader, 0, &mut text);
    // Derived, never written: from the birth date as far as it is known, at the day when the person was found.
    if let Some(age) = age::when_found(message).filter(|_| reader.highest == DataClass::P3) {
        let label = labels::text(reader.language, "word-age-when-found");
        let _ = match age.youngest == age.oldest {
            true => writeln!(text, "{label}: {}", age.youngest),
            false => writeln!(text, "{label}: {}-{}", age.youngest, age.oldest),
        };
    }
    text
}

fn write_message(message: &DynamicMessage, reader: Reader<'_>, depth: usize, text: &mut String) {
    for field in message.descriptor().fields().filter(|field| message.has_field(field)) {
        let rule = rule(&field);
        let label = labels::field(reader.language, field.name(), rule.label.as_deref());
        let indent = "  ".repeat(depth);
        if rule.class as i32 > reader.highest as i32 {
            let _ = writeln!(text, "{indent}{label}: {REDACTED}");
            continue;
        }
        match message.get_field(&field).as_ref() {
            Value::List(items) => {
                for item in items {
                    write_value(&rule, item, reader, depth, label, text);
                }
            }
            value => write_value(&rule, value, reader, depth, label, text),
        }
    }
}

fn write_value(rule: &FieldRule, value: &Value, reader: Reader<'_>, depth: usize, label: &str, text: &mut String) {
    let indent = "  ".repeat(depth);
    let list = rule.code_list.as_deref();
    let _ = match value {
        Value::Message(inner) => {
            let written = writeln!(text, "{indent}{label}:");
            write_message(inner, reader, depth + 1, text);
            written
        }
        Value::String(code) => match list.map(|list| meaning(list, code, reader)) {
            Some(Some(meaning)) => writeln!(text, "{indent}{label}: {code} ({meaning})"),
            Some(None) => writeln!(text, "{indent}{label}: {} (a code of a newer version)", plain(code)),
            None => {
                match rule.form.as_deref().filter(|form| *form == "instant").and_then(|_| forms::wall_times(code)) {
                    Some(times) => writeln!(text, "{indent}{label}: {} ({times})", plain(code)),
                    None => writeln!(text, "{indent}{label}: {}", plain(code)),
                }
            }
        },
        Value::Bool(truth) => {
            let word = codes::meaning_in(reader.language, "yes_no", if *truth { "YES" } else { "NO" });
            writeln!(text, "{indent}{label}: {}", word.unwrap_or_default())
        }
        Value::U32(number) => writeln!(text, "{indent}{label}: {number}"),
        _ => Ok(()),
    };
}

fn meaning(list: &str, code: &str, reader: Reader<'_>) -> Option<String> {
    let named = || reader.tables.named_gate(code).filter(|_| list == "gate").map(plain);
    codes::meaning_in(reader.language, list, code).map(str::to_owned).or_else(named)
}

/// A text without control characters, and without the marks that reverse the writing direction.
#[must_use]
pub fn plain(text: &str) -> String {
    let forbidden = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    text.chars().map(|c| if forbidden(c) { ' ' } else { c }).collect()
}
