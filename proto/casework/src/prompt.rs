//! A case file written by question and answer, in the officer's language. Whoever calls puts the questions; here is what is
//! asked, and whether an answer will do.

use liaison_proto::wire::Kind;
use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};
use serde_json::{Map, Value as Json, json};

use crate::{
    advice, case_file,
    catalogue::{self, FieldRule, rule},
    codes,
    labels::{self, Language},
    tables::Tables,
    template::Usual,
    validate::{Findings, Problem, message},
};

/// One question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Path of the field, as problems name it.
    pub field: String,
    /// What is asked.
    pub label: String,
    /// What would be right.
    pub hint: String,
    /// The codes that will do, with their meanings.
    pub codes: Vec<(String, String)>,
    /// An empty answer will not do.
    pub required: bool,
    /// What an empty answer means.
    pub usual: Option<String>,
    /// What was wrong with the answer before.
    pub problem: Option<String>,
}

/// Puts a question; none when nobody answers any more.
pub type Ask<'a> = dyn FnMut(&Question) -> Option<String> + 'a;

/// Codes that are listed with a question; longer lists are looked up.
const CODES_LISTED: usize = 30;

/// Writes a case file by questions. None when the answers ended before.
#[must_use]
pub fn write(kind: Kind, language: Language, tables: &Tables, ask: &mut Ask<'_>) -> Option<(Json, Vec<Problem>)> {
    let entry = catalogue::kind(kind)?;
    let mut writer = Writer { language, tables, ask };
    let mut file = writer.envelope(kind)?;
    let content = writer.message(&entry.message, "content")?;
    file.insert("content".to_owned(), Json::Object(content));
    let file = Json::Object(file);
    let problems = case_file::from_json(&file, tables).err().unwrap_or_default();
    Some((file, problems))
}

struct Writer<'a, 'b> {
    language: Language,
    tables: &'a Tables,
    ask: &'a mut Ask<'b>,
}

impl Writer<'_, '_> {
    fn word(&self, word: &str) -> String {
        labels::text(self.language, &format!("word-{word}")).to_owned()
    }

    /// Asks until the answer will do.
    fn until(&mut self, mut question: Question, check: impl Fn(&str) -> Result<Json, String>) -> Option<Json> {
        loop {
            let answer = (self.ask)(&question)?;
            let answer = answer.trim();
            let answer = match (answer.is_empty(), &question.usual) {
                (true, Some(usual)) => usual.clone(),
                (true, None) if !question.required => return Some(Json::Null),
                _ => answer.to_owned(),
            };
            match check(&answer) {
                Ok(value) => return Some(value),
                Err(problem) => question.problem = Some(problem),
            }
        }
    }

    /// The envelope's codes, each with what is usual for the kind.
    fn envelope(&mut self, kind: Kind) -> Option<Map<String, Json>> {
        let (usual, language) = (Usual::of(kind), self.language);
        let needs_thread = catalogue::needs_thread(kind);
        let asked = [
            ("to", "recipients", None, true),
            ("priority", "priority", Some(usual.priority), true),
            ("handling", "handling", Some("H2"), true),
            ("tlp", "tlp", Some("AMBER+STRICT"), true),
            ("legal_basis", "legal-basis", None, true),
            ("purpose", "purpose", Some(usual.purpose), true),
            ("language", "language", None, true),
            ("in_reply_to", "in-reply-to", None, needs_thread),
        ];
        let mut file = Map::from_iter([("kind".to_owned(), json!(catalogue::kind_name(kind)))]);
        for (key, word, usual, required) in asked {
            let list = matches!(key, "to" | "legal_basis");
            let codes = self.envelope_codes(key);
            let question = Question {
                field: key.to_owned(),
                label: self.word(word),
                hint: case_file::hint(key).map(|hint| hint.in_language(language)).unwrap_or_default(),
                codes,
                required,
                usual: usual.map(str::to_owned),
                problem: None,
            };
            let (tables, file_so_far) = (self.tables, file.clone());
            let value = self.until(question, |answer| {
                let value = match list {
                    true => json!(answer.split([',', ' ']).filter(|item| !item.is_empty()).collect::<Vec<_>>()),
                    false => json!(answer),
                };
                let mut file = file_so_far.clone();
                file.insert(key.to_owned(), value.clone());
                let problems = case_file::from_json(&Json::Object(file), tables).err().unwrap_or_default();
                problem_of(&problems, key, language).map_or(Ok(value), Err)
            })?;
            if !value.is_null() {
                file.insert(key.to_owned(), value);
            }
        }
        Some(file)
    }

    fn envelope_codes(&self, key: &str) -> Vec<(String, String)> {
        let Some((prefix, codes)) = case_file::codes(key) else { return Vec::new() };
        let meant = |code: &&str| {
            let label = labels::text(self.language, &format!("{prefix}-{}", code.replace('+', "_")));
            ((*code).to_owned(), label.to_owned())
        };
        codes.iter().map(meant).collect()
    }

    fn message(&mut self, descriptor: &MessageDescriptor, path: &str) -> Option<Map<String, Json>> {
        let mut object = Map::new();
        for field in descriptor.fields() {
            let rule = rule(&field);
            let conditional = rule.required_when.as_ref().is_some_and(|(other, codes)| {
                let says = |value: &Json, code: &str| {
                    value == code || value.as_bool().is_some_and(|truth| code.parse() == Ok(truth))
                };
                object.get(other).is_some_and(|value| codes.iter().any(|code| says(value, code)))
            });
            let required = rule.required || conditional;
            let path = format!("{path}.{}", field.name());
            let value = if field.is_list() {
                self.list(descriptor, &field, &rule, &path, required)?
            } else {
                self.single(descriptor, &field, &rule, &path, required)?
            };
            if !value.is_null() {
                object.insert(field.name().to_owned(), value);
            }
        }
        Some(object)
    }

    fn list(
        &mut self,
        descriptor: &MessageDescriptor,
        field: &FieldDescriptor,
        rule: &FieldRule,
        path: &str,
        required: bool,
    ) -> Option<Json> {
        let mut items = Vec::new();
        while items.len() < rule.max_items {
            let path = format!("{path}[{}]", items.len());
            let required = required && items.is_empty();
            let item = self.single(descriptor, field, rule, &path, required)?;
            if item.is_null() {
                break;
            }
            items.push(item);
        }
        Some(if items.is_empty() { Json::Null } else { Json::Array(items) })
    }

    fn single(
        &mut self,
        descriptor: &MessageDescriptor,
        field: &FieldDescriptor,
        rule: &FieldRule,
        path: &str,
        required: bool,
    ) -> Option<Json> {
        if let FieldKind::Message(inner) = field.kind() {
            let written = required || self.begins(field, rule, path)?;
            return Some(if written { Json::Object(self.message(&inner, path)?) } else { Json::Null });
        }
        let question = self.question(field, rule, path, required);
        let (tables, language, is_list) = (self.tables, self.language, field.is_list());
        let whole_number = advice::A_WHOLE_NUMBER.in_language(language);
        self.until(question, |answer| {
            let value = match field.kind() {
                FieldKind::Bool => truth(answer)?,
                FieldKind::Uint32 => answer.parse::<u32>().map(Json::from).map_err(|_| whole_number.clone())?,
                _ => json!(answer),
            };
            let written = if is_list { json!([value]) } else { value.clone() };
            let mut found = Findings::new(tables);
            message(descriptor, &Map::from_iter([(field.name().to_owned(), written)]), "", &mut found);
            problem_of(&found.problems, field.name(), language).map_or(Ok(value), Err)
        })
    }

    /// Whether a part that may be left out is written.
    fn begins(&mut self, field: &FieldDescriptor, rule: &FieldRule, path: &str) -> Option<bool> {
        let mut question = self.question(field, rule, path, false);
        let word = if path.ends_with(']') && !path.ends_with("[0]") { "more-of-these" } else { "write-this-part" };
        question.hint = self.word(word);
        let answer = self.until(question, truth)?;
        Some(answer == json!(true))
    }

    fn question(&self, field: &FieldDescriptor, rule: &FieldRule, path: &str, required: bool) -> Question {
        let codes = rule.code_list.as_deref().and_then(|list| Some((list, codes::list(list)?)));
        let listed = codes.filter(|(_, codes)| codes.len() <= CODES_LISTED);
        let meant = |list: &str, code: &str| {
            (code.to_owned(), codes::meaning_in(self.language, list, code).unwrap_or_default().to_owned())
        };
        let hint = rule.hint.as_deref().map(|hint| labels::hint(self.language, hint).to_owned());
        let looked_up = codes.filter(|_| listed.is_none()).map(|(list, _)| format!("liaison codes {list}"));
        Question {
            field: path.to_owned(),
            label: labels::field(self.language, field.name(), rule.label.as_deref()).to_owned(),
            hint: hint.into_iter().chain(looked_up).collect::<Vec<_>>().join("; "),
            codes: listed
                .map_or_else(Vec::new, |(list, codes)| codes.iter().map(|(code, _)| meant(list, code)).collect()),
            required,
            usual: None,
            problem: None,
        }
    }
}

/// Yes and no as people type them.
fn truth(answer: &str) -> Result<Json, String> {
    match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" => Ok(json!(true)),
        "n" | "no" | "false" => Ok(json!(false)),
        _ => Err("y, n".to_owned()),
    }
}

/// What is wrong with one field.
fn problem_of(problems: &[Problem], field: &str, language: Language) -> Option<String> {
    let of_field = |problem: &&Problem| problem.field == field || problem.field.starts_with(&format!("{field}["));
    problems.iter().find(of_field).map(|problem| problem.advice.in_language(language))
}
