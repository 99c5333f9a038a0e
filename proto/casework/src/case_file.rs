//! The file an officer writes: the envelope's codes and the content, as YAML or JSON.

use liaison_proto::{
    clock::UnixMillis,
    ids::{MessageId, OfficeId},
    limits,
    wire::{DataClass, Handling, Kind, LegalBasis, Priority, Purpose, Step, Tlp},
};
use prost_reflect::DynamicMessage;
use serde_json::{Map, Value as Json};

use crate::{
    act,
    advice::{self, Advice},
    catalogue, forms, kind_rules,
    tables::Tables,
    validate::{Findings, Problem, is_empty, message},
};

/// Largest case file, bytes: a body holds 1 MiB, and text in files is no denser.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The keys of a case file beside `content`.
pub const KEYS: [&str; 14] = [
    "kind",
    "to",
    "priority",
    "handling",
    "tlp",
    "legal_basis",
    "purpose",
    "language",
    "exercise",
    "due",
    "retain_until",
    "in_reply_to",
    "supersedes",
    "content",
];

/// A validated case file.
#[derive(Clone)]
pub struct CaseFile {
    /// Kind of the message.
    pub kind: Kind,
    /// Step it takes, unless its thread makes it another ([`crate::act::steps`]).
    pub step: Step,
    /// Recipients.
    pub to: Vec<OfficeId>,
    /// Priority.
    pub priority: Priority,
    /// Handling code.
    pub handling: Handling,
    /// TLP.
    pub tlp: Tlp,
    /// Legal bases.
    pub legal_basis: Vec<LegalBasis>,
    /// Purpose.
    pub purpose: Purpose,
    /// ISO 639-3.
    pub language: String,
    /// A drill.
    pub exercise: bool,
    /// When an answer is due.
    pub due_at: Option<UnixMillis>,
    /// When the message may be erased; none when only the charter's rule applies.
    pub retain_until: Option<UnixMillis>,
    /// The message answered.
    pub in_reply_to: Option<MessageId>,
    /// The own earlier message that this one replaces.
    pub supersedes: Option<MessageId>,
    /// Highest class of the fields that are set.
    pub data_class: DataClass,
    /// The kind's message.
    pub content: DynamicMessage,
}

impl std::fmt::Debug for CaseFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaseFile({}, redacted)", catalogue::kind_name(self.kind))
    }
}

/// Reads a case file, by what is built in.
///
/// # Errors
/// Every problem at once; none repeats what was written.
pub fn parse(text: &str) -> Result<CaseFile, Vec<Problem>> {
    parse_by(text, Tables::built_in())
}

/// Reads a case file, by what the countries have agreed on.
///
/// # Errors
/// Every problem at once; none repeats what was written.
pub fn parse_by(text: &str, tables: &Tables) -> Result<CaseFile, Vec<Problem>> {
    let whole = |rule, advice: Advice| vec![Problem { field: "file".to_owned(), rule, advice }];
    if text.len() > MAX_BYTES {
        return Err(whole("too long", advice::MOST_BYTES.with(MAX_BYTES)));
    }
    // YAML 1.2 reads JSON, too.
    let value: Json = serde_saphyr::from_str(text).map_err(|e| {
        let line = e.location().map_or(0, |location| location.line());
        whole("not YAML or JSON", advice::WELL_FORMED.with(line))
    })?;
    from_json(&value, tables)
}

/// Reads a case file from its parsed form.
///
/// # Errors
/// Every problem at once; none repeats what was written.
pub fn from_json(value: &Json, tables: &Tables) -> Result<CaseFile, Vec<Problem>> {
    let mut found = Findings::new(tables);
    let Json::Object(file) = value else {
        found.problem("file", "wrong type", advice::CASE_FILE);
        return Err(found.problems);
    };
    for key in file.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        found.problem(key, "unknown field", advice::ONE_OF.with(KEYS.join(", ")));
    }
    let Some(kind) = read_kind(file, &mut found) else { return Err(found.problems) };
    let Some(entry) = catalogue::kind(kind) else {
        found.problem("kind", "unknown kind", kind_advice());
        return Err(found.problems);
    };
    let empty = Map::new();
    let object = match file.get("content") {
        Some(Json::Object(object)) => object,
        _ => {
            found.problem("content", "required", advice::CONTENT);
            &empty
        }
    };
    let content = message(&entry.message, object, "content", &mut found);
    kind_rules::check(kind, object, &content, &mut found);
    let data_class = found.class.unwrap_or(DataClass::P0);
    let read = (
        read_offices(file, &mut found),
        code(file, "priority", "PRIORITY_", Priority::from_str_name, &mut found),
        code(file, "handling", "HANDLING_", Handling::from_str_name, &mut found),
        code(file, "tlp", "TLP_", Tlp::from_str_name, &mut found),
        read_bases(file, &mut found),
        code(file, "purpose", "PURPOSE_", Purpose::from_str_name, &mut found),
        read_language(file, &mut found),
    );
    let due_at = read_instant(file, "due", &mut found);
    let retain_until = read_instant(file, "retain_until", &mut found);
    if let (Some(due), Some(retain)) = (due_at, retain_until)
        && retain <= due
    {
        found.problem("retain_until", "too early", advice::AFTER_DUE);
    }
    let supersedes = read_id(file, "supersedes", &mut found);
    // What replaces a message is in its thread.
    let in_reply_to = read_id(file, "in_reply_to", &mut found).or(supersedes);
    kind_rules::check_thread(kind, file, &content, in_reply_to, &mut found);
    let exercise = match file.get("exercise") {
        None | Some(Json::Null) => false,
        Some(Json::Bool(exercise)) => *exercise,
        Some(_) => {
            found.problem("exercise", "wrong type", advice::TRUE_OR_FALSE);
            false
        }
    };
    let (to, priority, handling, tlp, legal_basis, purpose, language) = read;
    kind_rules::check_priority(kind, priority, object, &mut found);
    let victim = data_class == DataClass::P3 || catalogue::is_about_a_victim(kind);
    check_protection(victim, handling, tlp, &mut found);
    if handling == Some(Handling::H3)
        && entry.message.get_field_by_name("handling_text").is_some()
        && object.get("handling_text").is_none_or(is_empty)
    {
        found.problem("content.handling_text", "required here", advice::HANDLING_IN_WORDS);
    }
    let (true, Some(priority), Some(handling), Some(tlp), Some(purpose), Some(language)) =
        (found.problems.is_empty(), priority, handling, tlp, purpose, language)
    else {
        return Err(found.problems);
    };
    let step = act::steps(&act::act(kind, &content))[0];
    Ok(CaseFile {
        kind,
        step,
        to,
        priority,
        handling,
        tlp,
        legal_basis,
        purpose,
        language,
        exercise,
        due_at,
        retain_until,
        in_reply_to,
        supersedes,
        data_class,
        content,
    })
}

/// Messages about a victim travel at least at H2 and AMBER+STRICT. A code that was not read has its own problem.
fn check_protection(victim: bool, handling: Option<Handling>, tlp: Option<Tlp>, found: &mut Findings<'_>) {
    if !victim {
        return;
    }
    if !matches!(handling, None | Some(Handling::H2 | Handling::H3)) {
        found.problem("handling", "too open for what it holds", advice::VICTIM_HANDLING);
    }
    if !matches!(tlp, None | Some(Tlp::AmberStrict | Tlp::Red)) {
        found.problem("tlp", "too open for what it holds", advice::VICTIM_TLP);
    }
}

fn string<'a>(file: &'a Map<String, Json>, key: &str) -> Option<&'a str> {
    file.get(key).and_then(Json::as_str).filter(|text| !text.is_empty())
}

fn kind_advice() -> Advice {
    let names: Vec<&str> = catalogue::kinds().iter().map(|entry| catalogue::kind_name(entry.kind)).collect();
    advice::ONE_OF.with(names.join(", "))
}

fn read_kind(file: &Map<String, Json>, found: &mut Findings<'_>) -> Option<Kind> {
    let kind = string(file, "kind").and_then(catalogue::kind_by_name);
    if kind.is_none() {
        let rule = if file.contains_key("kind") { "unknown kind" } else { "required" };
        found.problem("kind", rule, kind_advice());
    }
    kind
}

/// Codes as officers write them: `AMBER+STRICT` for `TLP_AMBER_STRICT`.
fn wire_name(prefix: &str, code: &str) -> String {
    format!("{prefix}{}", code.replace('+', "_"))
}

/// The codes that a key of the envelope takes, and the prefix of their labels.
#[must_use]
pub fn codes(key: &str) -> Option<(&'static str, &'static [&'static str])> {
    match key {
        "priority" => Some(("priority", &["FLASH", "URGENT", "ROUTINE", "PERIODIC"])),
        "handling" => Some(("handling", &["H0", "H1", "H2", "H3"])),
        "tlp" => Some(("tlp", &["RED", "AMBER+STRICT", "AMBER", "GREEN", "CLEAR"])),
        "legal_basis" => Some((
            "legal-basis",
            &[
                "VNKH05",
                "VNTH08",
                "VNCN10",
                "VNLA10",
                "THLA05",
                "THKH03",
                "COMMIT",
                "ACTIP",
                "UNTOC",
                "PALERMO",
                "MLA",
                "INTERPOL",
                "ASEANAPOL",
                "DOMESTIC",
            ],
        )),
        "purpose" => Some(("purpose", &["PREVENT", "INVEST", "RESCUE", "IDENTIFY", "RETURN", "REINTEG", "STATS"])),
        _ => None,
    }
}

/// What a key of the envelope takes that has no codes.
#[must_use]
pub fn hint(key: &str) -> Option<Advice> {
    match key {
        "to" => Some(advice::OFFICES),
        "language" => Some(advice::LANGUAGE),
        "in_reply_to" | "supersedes" => Some(advice::ID),
        "due" | "retain_until" => Some(advice::INSTANT),
        _ => None,
    }
}

fn codes_of(key: &str) -> Advice {
    let codes = codes(key).map_or(&[][..], |(_, codes)| codes).join(", ");
    if key == "legal_basis" { advice::A_LIST_OF.with(codes) } else { advice::ONE_OF.with(codes) }
}

fn code<T>(
    file: &Map<String, Json>,
    key: &str,
    prefix: &str,
    parse: impl Fn(&str) -> Option<T>,
    found: &mut Findings<'_>,
) -> Option<T> {
    let Some(text) = string(file, key) else {
        found.problem(key, "required", codes_of(key));
        return None;
    };
    let code = Some(text).filter(|text| *text != "UNSPECIFIED").and_then(|text| parse(&wire_name(prefix, text)));
    if code.is_none() {
        found.problem(key, "unknown code", codes_of(key));
    }
    code
}

fn read_offices(file: &Map<String, Json>, found: &mut Findings<'_>) -> Vec<OfficeId> {
    let items = match file.get("to") {
        Some(Json::Array(items)) if !items.is_empty() => items,
        _ => {
            found.problem("to", "required", advice::OFFICES);
            return Vec::new();
        }
    };
    if items.len() > limits::RECIPIENTS {
        found.problem("to", "too many", advice::MOST_ENTRIES.with(limits::RECIPIENTS));
    }
    let mut offices = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match item.as_str().map(str::parse) {
            Some(Ok(office)) if !offices.contains(&office) => offices.push(office),
            Some(Ok(_)) => found.problem(&format!("to[{i}]"), "named twice", advice::EACH_ONCE),
            _ => found.problem(&format!("to[{i}]"), "not of its form", advice::OFFICE),
        }
    }
    offices
}

fn read_bases(file: &Map<String, Json>, found: &mut Findings<'_>) -> Vec<LegalBasis> {
    let mut bases = Vec::new();
    for item in file.get("legal_basis").and_then(Json::as_array).into_iter().flatten() {
        let basis = item.as_str().and_then(|text| LegalBasis::from_str_name(&wire_name("LEGAL_BASIS_", text)));
        match basis.filter(|basis| *basis != LegalBasis::Unspecified && !bases.contains(basis)) {
            Some(basis) => bases.push(basis),
            None => found.problem("legal_basis", "unknown or repeated code", codes_of("legal_basis")),
        }
    }
    let given = file.get("legal_basis").and_then(Json::as_array).is_some_and(|items| !items.is_empty());
    if bases.is_empty() && !given {
        found.problem("legal_basis", "required", codes_of("legal_basis"));
    }
    bases
}

fn read_language(file: &Map<String, Json>, found: &mut Findings<'_>) -> Option<String> {
    match string(file, "language") {
        Some(text) if forms::check("language", text).is_none() => Some(text.to_owned()),
        Some(_) => {
            found.problem("language", "not of its form", advice::LANGUAGE);
            None
        }
        None => {
            found.problem("language", "required", advice::LANGUAGE);
            None
        }
    }
}

fn read_instant(file: &Map<String, Json>, key: &str, found: &mut Findings<'_>) -> Option<UnixMillis> {
    let text = match file.get(key) {
        None | Some(Json::Null) => return None,
        Some(value) => value.as_str().unwrap_or_default(),
    };
    let instant = forms::instant(text).map(|(millis, _)| UnixMillis(millis)).filter(|instant| instant.0 > 0);
    if instant.is_none() {
        found.problem(key, "not of its form", advice::INSTANT);
    }
    instant
}

fn read_id(file: &Map<String, Json>, key: &str, found: &mut Findings<'_>) -> Option<MessageId> {
    let text = match file.get(key) {
        None | Some(Json::Null) => return None,
        Some(value) => value.as_str().unwrap_or_default(),
    };
    let id = text.parse().ok();
    if id.is_none() {
        found.problem(key, "not of its form", advice::ID);
    }
    id
}
