//! Commented YAML templates of case files, from the catalogue.

use std::fmt::Write as _;

use liaison_proto::wire::Kind;
use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};

use crate::{
    catalogue::{self, rule},
    codes,
    labels::{self, Language},
};

/// Nested messages deeper than this are not spelled out.
const MAX_DEPTH: usize = 6;

/// A template that says of every field what it is and whether it is required. Optional fields are commented out.
#[must_use]
pub fn template(kind: Kind, language: Language) -> Option<String> {
    let entry = catalogue::kind(kind)?;
    let name = catalogue::kind_name(kind);
    let usual = Usual::of(kind);
    let label = labels::text(language, &format!("kind-{name}"));
    let mut text = format!(
        "# {label}\n\
         # {name}: fill in, then: liaison send FILE\n\
         # Lines that begin with # are optional or explain. Codes are in capitals; UNK means not known.\n\
         kind: {name}\n"
    );
    let to = format!("to: [{}]", usual.to);
    let priority = format!("priority: {}", usual.priority);
    let legal_basis = format!("legal_basis: [{}]", usual.legal_basis);
    let purpose = format!("purpose: {}", usual.purpose);
    let envelope = [
        (to.as_str(), "recipients", "recipient offices"),
        (&priority, "priority", "FLASH (life at risk), URGENT, ROUTINE, PERIODIC"),
        ("handling: H2", "handling", "H0 crime prevention only, H1 not in court, H2 no onward dissemination, H3 other"),
        ("tlp: AMBER+STRICT", "tlp", "RED, AMBER+STRICT, AMBER, GREEN, CLEAR"),
        (&legal_basis, "legal-basis", "one or more; the agreement this rests on"),
        (&purpose, "purpose", "PREVENT, INVEST, RESCUE, IDENTIFY, RETURN, REINTEG, STATS"),
        ("language: vie", "language", "of the free text, ISO 639-3"),
        ("# exercise: true", "exercise", "a drill: never counts in statistics"),
    ];
    for (line, word, english) in envelope {
        let note = match language {
            Language::English => english,
            _ => labels::text(language, &format!("word-{word}")),
        };
        let _ = writeln!(text, "{line:<27} # {note}");
    }
    text.push_str("# due: 2026-11-20T17:00:00+07:00\n");
    text.push_str("# retain_until: 2031-11-20T17:00:00+07:00  # may be erased then; after due\n");
    text.push_str(if catalogue::needs_thread(kind) {
        "in_reply_to: \"\"             # required; id of the message that this is about\n"
    } else {
        "# in_reply_to: id of the message answered\n"
    });
    text.push_str("# supersedes: id of an own earlier message that this one replaces\n");
    text.push_str("content:\n");
    fields(&entry.message, language, 1, false, &mut text);
    Some(text)
}

/// What the envelope of a kind usually says: a suggestion that the officer looks at, not a rule.
pub(crate) struct Usual {
    to: &'static str,
    pub(crate) priority: &'static str,
    legal_basis: &'static str,
    pub(crate) purpose: &'static str,
}

impl Usual {
    pub(crate) const fn of(kind: Kind) -> Self {
        let usual = Self { to: "CN-BLO-HKO", priority: "ROUTINE", legal_basis: "VNCN10", purpose: "RESCUE" };
        match kind {
            Kind::HotlineCall => Self { priority: "FLASH", ..usual },
            Kind::HotlineClose | Kind::Withdraw | Kind::Recall => Self { priority: "URGENT", ..usual },
            Kind::ReturnRequest => Self { to: "TH-CCP-BKK", legal_basis: "VNTH08", purpose: "RETURN", ..usual },
            Kind::SuspectAlert => Self {
                to: "CN-CCP-PEK, LA-CCP-VTE, KH-CCP-PNH",
                priority: "URGENT",
                legal_basis: "COMMIT",
                purpose: "INVEST",
            },
            _ => usual,
        }
    }
}

fn fields(message: &MessageDescriptor, language: Language, depth: usize, commented: bool, text: &mut String) {
    for field in message.fields() {
        let rule = rule(&field);
        let optional = commented || !rule.required;
        let mark = if optional { "# " } else { "" };
        let indent = "  ".repeat(depth);
        let note = note(&field, language);
        if let FieldKind::Message(inner) = field.kind() {
            let _ = writeln!(text, "{indent}{mark}{}:{note}", field.name());
            if depth >= MAX_DEPTH {
                continue;
            }
            let start = text.len();
            fields(&inner, language, depth + if field.is_list() { 2 } else { 1 }, optional, text);
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

fn note(field: &FieldDescriptor, language: Language) -> String {
    let rule = rule(field);
    let mut parts = Vec::new();
    // In English the field's name says it.
    if language != Language::English {
        parts.push(labels::field(language, field.name(), rule.label.as_deref()).to_owned());
    }
    let required = labels::text(language, "word-required");
    if rule.required {
        parts.push(required.to_owned());
    }
    if let Some((other, values)) = &rule.required_when {
        parts.push(format!("{required} ({other} = {})", values.join(" | ")));
    }
    if let Some(hint) = rule.hint {
        parts.push(labels::hint(language, &hint).to_owned());
    }
    if let Some(name) = rule.code_list {
        let list = codes::list(&name);
        match list.map_or(0, Vec::len) {
            0..=14 => {
                let meant = |code: &str| codes::meaning_in(language, &name, code).unwrap_or_default();
                let codes = list.into_iter().flatten().map(|(code, _)| format!("{code} {}", meant(code)));
                parts.push(codes.collect::<Vec<_>>().join(" | "));
            }
            n => parts.push(format!("one of {n} codes; liaison codes {name}")),
        }
    }
    if parts.is_empty() { String::new() } else { format!("  # {}", parts.join("; ")) }
}
