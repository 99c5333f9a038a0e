//! The words that officers read are there in all six languages, for everything that has a name.

use std::collections::BTreeSet;

use liaison_casework::{
    catalogue::{self, rule},
    codes,
    labels::{self, Language},
    thread::{STATES, expected},
};
use liaison_proto::{refusal::RefusalCode, wire};
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// Names of the rules that validation reports, as they stand in its sources.
fn rules() -> BTreeSet<String> {
    let sources = [
        include_str!("../../src/case_file.rs"),
        include_str!("../../src/kind_rules.rs"),
        include_str!("../../src/validate.rs"),
    ];
    let labelled: BTreeSet<&str> =
        labels::keys(Language::English).filter_map(|key| key.strip_prefix("rule-")).collect();
    let used = |name: &&&str| {
        let words = format!("\"{}\"", name.replace('-', " "));
        sources.iter().any(|source| source.contains(&words))
    };
    labelled.iter().filter(used).map(|name| format!("rule-{name}")).collect()
}

fn fields(message: &MessageDescriptor, into: &mut BTreeSet<String>) {
    for field in message.fields() {
        let rule = rule(&field);
        into.insert(format!("field-{}", rule.label.as_deref().unwrap_or(field.name())));
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
    needed.extend(rules());
    needed
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
