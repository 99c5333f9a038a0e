//! The words that officers read are there in all six languages, for everything that has a name.

use std::collections::BTreeSet;

use liaison_casework::{
    advice,
    catalogue::{self, rule},
    codes,
    labels::{self, Language},
    thread::{STATES, expected, out_of_step::OutOfStep},
};
use liaison_proto::{refusal::RefusalCode, wire};
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// Sources that report rules that do not hold.
const RULES: [&str; 5] = [
    include_str!("../../src/amend.rs"),
    include_str!("../../src/case_file.rs"),
    include_str!("../../src/kind_rules.rs"),
    include_str!("../../src/validate.rs"),
    include_str!("../../../../node/src/local_api/sending.rs"),
];

/// Sources that show words beside the content.
const WORDS: [&str; 9] = [
    include_str!("../../src/print.rs"),
    include_str!("../../src/prompt.rs"),
    include_str!("../../src/template.rs"),
    include_str!("../../../../node/src/officer/answer.rs"),
    include_str!("../../../../node/src/officer/cli.rs"),
    include_str!("../../../../node/src/officer/offline.rs"),
    include_str!("../../../../node/src/officer/output.rs"),
    include_str!("../../../../node/src/officer/policy.rs"),
    include_str!("../../../../node/src/officer/threads.rs"),
];

/// The text literals of a call's arguments, each with the position that it has among them.
fn literals(arguments: &str) -> Vec<(usize, String)> {
    let (mut depth, mut position, mut found) = (0_i32, 0, Vec::new());
    let mut characters = arguments.chars();
    while let Some(character) = characters.next() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => position += 1,
            '"' => {
                let text: String = characters.by_ref().take_while(|c| *c != '"').collect();
                if depth == 0 {
                    found.push((position, text));
                }
            }
            _ => {}
        }
    }
    found
}

/// Names of the rules that are reported, as they stand in the sources: behind the field's path, as a text of the call.
fn rules() -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for source in RULES {
        for (call, position) in [(".problem(", 1), ("problem(field(), ", 0), ("whole(", 0), ("let rule = if", 0)] {
            for (at, _) in source.match_indices(call) {
                let arguments = &source[at + call.len()..];
                let named = literals(arguments).into_iter().filter(|(found, _)| *found == position);
                rules.extend(named.take(1).map(|(_, text)| text));
            }
        }
        let fields = source.match_indices("rule: \"").map(|(at, found)| &source[at + found.len()..]);
        rules.extend(fields.map(|rest| rest.split('"').next().unwrap().to_owned()));
        let calls = source.match_indices("problem(\"attachments\", \"").map(|(at, found)| &source[at + found.len()..]);
        rules.extend(calls.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    // One of two, by what was written.
    rules.extend(["unknown kind", "required"].map(str::to_owned));
    rules.into_iter().filter(|rule| !rule.is_empty()).map(|rule| format!("rule-{}", rule.replace(' ', "-"))).collect()
}

/// Words that the sources name, and those of the language file that any of them shows.
fn words() -> BTreeSet<String> {
    let named = WORDS.iter().flat_map(|source| {
        let calls = ["word(\"", "words.of(\""].into_iter().flat_map(|call| source.match_indices(call));
        let direct = calls.map(|(at, found)| &source[at + found.len()..]);
        direct.map(|rest| format!("word-{}", rest.split('"').next().unwrap()))
    });
    let shown = labels::keys(Language::English).filter(|key| {
        let name = key.strip_prefix("word-").unwrap_or("-");
        WORDS.iter().any(|source| source.contains(&format!("\"{name}\"")) || source.contains(&format!("\"{key}\"")))
    });
    named.chain(shown.map(str::to_owned)).collect()
}

fn fields(message: &MessageDescriptor, into: &mut BTreeSet<String>) {
    for field in message.fields() {
        let rule = rule(&field);
        into.insert(format!("field-{}", rule.label.as_deref().unwrap_or(field.name())));
        if let Some(hint) = &rule.hint {
            assert_eq!(labels::find(Language::English, &labels::hint_key(hint)), Some(hint.as_str()), "the same words");
            into.insert(labels::hint_key(hint));
        }
        if let Some(inner) = field.kind().as_message() {
            fields(inner, into);
        }
    }
}

/// Every value of an enum of the wire but the one that says nothing.
fn values(name: &str, prefix: &str, key: &str) -> Vec<String> {
    let pool = DescriptorPool::decode(wire::DESCRIPTORS).unwrap();
    let found = pool.get_enum_by_name(&format!("liaison.exchange.v1.{name}")).unwrap();
    let values = found.values().filter(|value| value.number() > 0);
    values.map(|value| format!("{key}-{}", value.name().strip_prefix(prefix).unwrap())).collect()
}

fn needed() -> BTreeSet<String> {
    let mut needed = BTreeSet::from(["code-UNK".to_owned()]);
    needed.extend(values("Kind", "KIND_", "kind"));
    needed.extend(values("Step", "STEP_", "step"));
    needed.extend(values("Priority", "PRIORITY_", "priority"));
    needed.extend(values("Handling", "HANDLING_", "handling"));
    needed.extend(values("Tlp", "TLP_", "tlp"));
    needed.extend(values("LegalBasis", "LEGAL_BASIS_", "legal-basis"));
    needed.extend(values("Purpose", "PURPOSE_", "purpose"));
    needed.extend(values("DataClass", "DATA_CLASS_", "data-class"));
    for entry in catalogue::kinds() {
        fields(&entry.message, &mut needed);
    }
    for list in codes::names().filter(|list| *list != "gate") {
        let codes = codes::list(list).unwrap().iter().filter(|(code, _)| *code != codes::UNKNOWN);
        needed.extend(codes.map(|(code, _)| labels::code_key(list, code)));
    }
    needed.extend(RefusalCode::ALL.iter().map(|code| format!("refusal-{code}")));
    needed.extend(expected::ALL.iter().map(|what| format!("expected-{what}")));
    needed.extend(STATES.iter().map(|state| format!("state-{state}")));
    needed.extend(RefusalCode::ALL.iter().map(|code| format!("advice-{code}")));
    needed.extend(OutOfStep::ALL.iter().map(|reason| format!("reason-{}", reason.code())));
    needed.extend(values("Mark", "MARK_", "mark"));
    needed.extend(labels::DELIVERY.iter().map(|state| format!("delivery-{state}")));
    needed.extend(advice::ALL.iter().map(|advice| labels::hint_key(advice.sentence())));
    needed.extend(rules());
    needed.extend(words());
    needed
}

/// The English file says what the program says in English where it has no language to speak in.
#[test]
fn reasons_and_advice_are_the_same_words_everywhere() {
    for reason in OutOfStep::ALL {
        assert_eq!(labels::text(Language::English, &format!("reason-{}", reason.code())), reason.advice());
    }
    for code in RefusalCode::ALL {
        assert_eq!(labels::text(Language::English, &format!("advice-{code}")), code.advice());
    }
    for advice in advice::ALL {
        assert_eq!(labels::hint(Language::English, advice.sentence()), advice.sentence());
    }
}

#[test]
fn everything_that_has_a_name_has_it_in_six_languages() {
    let needed = needed();
    for language in Language::ALL {
        let there: BTreeSet<String> = labels::keys(language).map(str::to_owned).collect();
        let missing: Vec<_> = needed.difference(&there).collect();
        let unused: Vec<_> = there.difference(&needed).collect();
        let few = |keys: &[&String]| keys.iter().take(10).map(|key| key.as_str()).collect::<Vec<_>>().join(", ");
        let (lacks, idle) = (missing.len(), unused.len());
        assert!(missing.is_empty(), "{} lacks {lacks}, such as {}", language.tag(), few(&missing));
        assert!(unused.is_empty(), "{} has {idle} for nothing, such as {}", language.tag(), few(&unused));
        for key in &needed {
            let text = labels::find(language, key).unwrap();
            assert!(!text.trim().is_empty() && text.trim() == text, "{} {key}", language.tag());
            let details = |language| labels::text(language, key).matches("{}").count();
            assert_eq!(details(language), details(Language::English), "{} {key}", language.tag());
        }
    }
}

/// A language file that was not translated would pass for one: its script says what it is.
#[test]
fn each_language_is_written_in_its_own_script() {
    let script = |language: Language| match language {
        Language::English => |c: char| c.is_ascii_alphabetic(),
        Language::Vietnamese => |c: char| c.is_alphabetic() && !c.is_ascii(),
        Language::Khmer => |c: char| ('\u{1780}'..='\u{17ff}').contains(&c),
        Language::Lao => |c: char| ('\u{0e80}'..='\u{0eff}').contains(&c),
        Language::Thai => |c: char| ('\u{0e00}'..='\u{0e7f}').contains(&c),
        Language::Chinese => |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c),
    };
    for language in Language::ALL {
        let keys: Vec<&str> = labels::keys(language).collect();
        let own = keys.iter().filter(|key| labels::text(language, key).chars().any(script(language))).count();
        assert!(own * 100 >= keys.len() * 90, "{}: {own} of {}", language.tag(), keys.len());
    }
    // Thai and Lao look alike to nobody who reads them: no letter of one stands in the other's file.
    for (language, foreign) in [(Language::Lao, '\u{0e00}'..='\u{0e7f}'), (Language::Thai, '\u{0e80}'..='\u{0eff}')] {
        for key in labels::keys(language) {
            let text = labels::text(language, key);
            assert!(!text.chars().any(|c| foreign.contains(&c)), "{} {key}: {text}", language.tag());
        }
    }
}

#[test]
fn codes_are_called_what_the_standards_call_them() {
    assert_eq!(codes::external("exploitation", "FM"), Some(("CTDC", "isForcedMarriage")));
    assert_eq!(codes::external("sex", "2"), Some(("ISO/IEC 5218:2022", "2")));
    assert_eq!(codes::external("age_band", "9-17"), Some(("CTDC", "9--17")));
    assert_eq!(codes::external("exploitation", codes::UNKNOWN), None, "not known has no name elsewhere");
    assert_eq!(codes::external("role", "OFFICER"), None, "a list of our own");
    for list in codes::external_lists() {
        let known = codes::list(list).unwrap_or_else(|| panic!("no list {list}"));
        let named = known.iter().filter(|(code, _)| codes::external(list, code).is_some()).count();
        assert!(named + 6 >= known.len() && named > 0, "{list}: {named} of {}", known.len());
    }
}
