//! Commented YAML templates of case files, from the catalogue.

use std::fmt::Write as _;

use liaison_proto::wire::Kind;
use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};

use crate::{
    catalogue::{self, rule},
    codes,
};

/// Nested messages deeper than this are not spelled out.
const MAX_DEPTH: usize = 6;

/// A template that says of every field what it is and whether it is required. Optional fields are commented out.
#[must_use]
pub fn template(kind: Kind) -> Option<String> {
    let entry = catalogue::kind(kind)?;
    let name = catalogue::kind_name(kind);
    let mut text = format!(
        "# {name}: fill in, then: liaison send FILE\n\
         # Lines that begin with # are optional or explain. Codes are in capitals; UNK means not known.\n\
         kind: {name}\n\
         to: [CN-BLO-HKO]            # recipient offices\n\
         priority: ROUTINE           # FLASH (life at risk), URGENT, ROUTINE, PERIODIC\n\
         handling: H2                # H0 crime prevention only, H1 not in court, H2 no onward dissemination, H3 other\n\
         tlp: AMBER+STRICT           # RED, AMBER+STRICT, AMBER, GREEN, CLEAR\n\
         legal_basis: [VNCN10]       # one or more; the agreement this rests on\n\
         purpose: RESCUE             # PREVENT, INVEST, RESCUE, IDENTIFY, RETURN, REINTEG, STATS\n\
         language: vie               # of the free text, ISO 639-3\n\
         # exercise: true            # a drill: never counts in statistics\n\
         # due: 2026-11-20T17:00:00+07:00\n\
         # in_reply_to: id of the message answered\n\
         content:\n"
    );
    fields(&entry.message, 1, false, &mut text);
    Some(text)
}

fn fields(message: &MessageDescriptor, depth: usize, commented: bool, text: &mut String) {
    for field in message.fields() {
        let rule = rule(&field);
        let optional = commented || !rule.required;
        let mark = if optional { "# " } else { "" };
        let indent = "  ".repeat(depth);
        let note = note(&field);
        if let FieldKind::Message(inner) = field.kind() {
            let _ = writeln!(text, "{indent}{mark}{}:{note}", field.name());
            if depth >= MAX_DEPTH {
                continue;
            }
            let start = text.len();
            fields(&inner, depth + if field.is_list() { 2 } else { 1 }, optional, text);
            if field.is_list() {
                list_item(text, start, depth, optional);
            }
        } else {
            let value = if field.is_list() {
                "[]"
            } else if rule.required && !commented {
                example(&field)
            } else {
                ""
            };
            let _ = writeln!(text, "{indent}{mark}{}: {value}{note}", field.name());
        }
    }
}

/// Puts the dash of a list item before the first field written since `start`.
fn list_item(text: &mut String, start: usize, depth: usize, commented: bool) {
    let indent = "  ".repeat(depth + 2);
    let dashed = "  ".repeat(depth + 1);
    let mark = if commented { "# " } else { "" };
    let first = format!("{indent}{mark}");
    if text[start..].starts_with(&first) {
        text.replace_range(start..start + first.len(), &format!("{dashed}{mark}- "));
    }
}

fn example(field: &FieldDescriptor) -> &'static str {
    match (field.kind(), rule(field).code_list) {
        (FieldKind::Bool, _) => "false",
        (FieldKind::Uint32, _) => "0",
        (_, Some(_)) => codes::UNKNOWN,
        _ => "\"\"",
    }
}

fn note(field: &FieldDescriptor) -> String {
    let rule = rule(field);
    let mut parts = Vec::new();
    if rule.required {
        parts.push("required".to_owned());
    }
    if let Some((other, values)) = &rule.required_when {
        parts.push(format!("required when {other} is {}", values.join(" or ")));
    }
    if let Some(hint) = rule.hint {
        parts.push(hint);
    }
    if let Some(name) = rule.code_list {
        let list = codes::list(&name);
        match list.map_or(0, std::collections::BTreeMap::len) {
            0..=14 => {
                let codes: Vec<String> =
                    list.into_iter().flatten().map(|(code, meaning)| format!("{code} {meaning}")).collect();
                parts.push(codes.join(" | "));
            }
            n => parts.push(format!("one of {n} codes; liaison codes {name}")),
        }
    }
    if parts.is_empty() { String::new() } else { format!("  # {}", parts.join("; ")) }
}
