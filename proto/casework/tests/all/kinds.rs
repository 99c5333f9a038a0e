//! What each kind of the catalogue demands, on the samples and on bad files that people can read.

use std::{fs, path::PathBuf};

use liaison_casework::{
    case_file::{self, CaseFile},
    catalogue::{self, rule},
    codes,
    content::{Content, Gossip},
    labels::Language,
    statistics, template,
    validate::Problem,
};
use liaison_proto::{
    Bytes,
    wire::{DataClass, Kind, Priority, Purpose, Step},
};
use prost_reflect::MessageDescriptor;

/// A file of the repository.
pub(crate) fn path(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

fn text(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn sample(name: &str) -> CaseFile {
    case_file::parse(&text(&format!("deploy/samples/{name}.yaml"))).unwrap_or_else(|found| panic!("{name}: {found:?}"))
}

/// A sample with one text put for another.
fn changed(name: &str, from: &str, to: &str) -> Result<CaseFile, Vec<Problem>> {
    let written = text(&format!("deploy/samples/{name}.yaml"));
    assert!(written.contains(from), "{name} does not say {from}");
    case_file::parse(&written.replace(from, to))
}

/// The fields of the problems that a change brings, in their order.
fn problems(name: &str, from: &str, to: &str) -> Vec<String> {
    changed(name, from, to)
        .map_or_else(|found| found.into_iter().map(|problem| problem.field).collect(), |_| Vec::new())
}

fn without(name: &str, from: &str) -> Vec<String> {
    problems(name, from, "")
}

const GUARDIAN: &str = r#"  guardian:
    relation: PARENT
    name: {original: Nguyễn Thị Hường, latin: Nguyen Thi Huong}
    phones:
      - {number: "+84912000046"}
"#;
const CONSENT: &str = r"  consent:
    reference: กต-2569-0417
    scope: [VERIFY, RETURN, SERVICES]
    giver: GUARDIAN
    date: {value: 2026-11-12}
    language: vie
    interpreter: true
";

#[test]
fn each_kind_takes_its_step() {
    for (name, step, class, purpose) in [
        ("case-notice", Step::Sent, DataClass::P3, Purpose::Rescue),
        ("hotline-call", Step::HotlineRaised, DataClass::P3, Purpose::Rescue),
        ("hotline-close", Step::HotlineClosed, DataClass::P3, Purpose::Rescue),
        ("return-request", Step::ReturnRequested, DataClass::P3, Purpose::Return),
        ("suspect-alert", Step::AlertActive, DataClass::P2, Purpose::Invest),
        ("withdraw", Step::Withdrawn, DataClass::P0, Purpose::Rescue),
    ] {
        let case = sample(name);
        assert_eq!((case.step, case.data_class, case.purpose), (step, class, purpose), "{name}");
    }
    let recall = changed("withdraw", "kind: WITHDRAW", "kind: RECALL").unwrap_err();
    assert_eq!(recall.len(), 1, "a recall has reasons of its own: {recall:?}");
    let recall =
        text("deploy/samples/withdraw.yaml").replace("WITHDRAW", "RECALL").replace("DUPLICATE", "WRONG_OFFICE");
    assert_eq!(case_file::parse(&recall).unwrap().step, Step::Withdrawn);
    assert_eq!(sample("hotline-call").priority, Priority::Flash);
}

/// Every kind travels as content and comes back as it was.
#[test]
fn content_of_each_kind_survives_encoding() {
    for name in ["hotline-call", "hotline-close", "return-request", "suspect-alert", "withdraw"] {
        let case = sample(name);
        let content = Content::new(case.kind, case.content, Gossip::default(), Vec::new(), Bytes::new());
        let read = Content::decode(&content.encode().unwrap(), case.kind, &[], &Bytes::new()).unwrap();
        assert!(read == content, "{name}");
    }
}

/// What a bad file of each kind is told, all at once.
#[test]
fn every_problem_of_a_bad_file_is_listed_at_once() {
    for (name, fields) in [
        (
            "hotline-call",
            &[
                "content.nature[1]",
                "content.place.country",
                "content.callback.number",
                "content.observed_at",
                "content.vehicles[0].plate",
                "content.persons_count",
                "retain_until",
                "handling",
            ][..],
        ),
        ("hotline-close", &["content.followup", "content.follow_up", "in_reply_to", "tlp", "content.handling_text"]),
        (
            "return-request",
            &[
                "content.summary",
                "content.sex",
                "content.claimed_citizenship",
                "content.family_contact.phones[0].number",
                "content.family_contact.relation",
                "content.consent.date.value",
                "content.consent.language",
                "content.needs[0]",
                "content.documents_held",
                "content.deciding_body",
                "content.urgency",
                "content.name.latin",
                "content.age_group",
                "content.guardian",
                "content.rescued_without_consent_reason",
                "content.consent.scope",
                "handling",
                "tlp",
            ],
        ),
        (
            "suspect-alert",
            &[
                "content.identity.role",
                "content.identity.suspect_role",
                "content.persons",
                "content.action_on_hit",
                "content.last_seen.text",
                "content.valid_until",
                "content.interpol_ref",
                "content.alert_type",
                "content.identity",
                "to[2]",
                "purpose",
            ],
        ),
        ("withdraw", &["content.message_ids[2]", "content.text", "content.message_ids[1]", "in_reply_to"]),
    ] {
        let found = case_file::parse(&text(&format!("tests/data/bad-{name}.yaml"))).unwrap_err();
        let found: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(found, fields, "{name}");
    }
}

#[test]
fn a_child_needs_a_guardian_or_the_reason_why_none_is_known() {
    let request = "return-request";
    assert_eq!(without(request, GUARDIAN), ["content.guardian"]);
    let unknown = |extra: &str| problems(request, GUARDIAN, &format!("  guardian: {{relation: UNK{extra}}}\n"));
    assert_eq!(unknown(""), ["content.guardian.unknown_reason"]);
    assert!(unknown(", unknown_reason: parents not found yet").is_empty());
    // An adult needs none; who may be a child is protected as one.
    let aged = |age: &str, group: &str| {
        let written = text("deploy/samples/return-request.yaml").replace(GUARDIAN, "");
        let written = written.replace("birth_date: {value: 2009-07}", age).replace("group: CHILD", group);
        case_file::parse(&written).map_or_else(|found| found.into_iter().map(|p| p.field).collect(), |_| Vec::new())
    };
    let none: [&str; 0] = [];
    assert_eq!(aged("age: 24", "group: ADULT"), none);
    assert_eq!(aged("age: 17", "group: ADULT"), ["content.age_group", "content.guardian"]);
    assert_eq!(aged("age: 24", "group: UNK"), none);
    assert_eq!(aged("birth_date: {value: 2008-11-09}", "group: UNK"), none);
    assert_eq!(aged("birth_date: {value: 2008-11-10}", "group: UNK"), ["content.guardian"]);
    assert_eq!(aged("birth_date: {value: 2008}", "group: UNK"), ["content.guardian"]);
    assert_eq!(aged("birth_date: {value: 2008}", "group: ADULT"), none, "the officer knows more than the year says");
    assert_eq!(aged("birth_date: {value: 2007, approximate: true}", "group: UNK"), ["content.guardian"]);
    let neither = without(request, "  birth_date: {value: 2009-07}\n");
    assert_eq!(neither, ["content.birth_date"]);
}

#[test]
fn consent_is_there_or_the_reason_why_it_is_not() {
    assert_eq!(without("return-request", CONSENT), ["content.consent"]);
    let rescued =
        |reason: &str| problems("return-request", CONSENT, &format!("  rescued_without_consent_reason: {reason}\n"));
    assert!(rescued("LIFE_DANGER").is_empty());
    assert_eq!(rescued("UNK"), ["content.rescued_without_consent_reason"], "not known is no reason");
}

/// Also when nothing in it is of class P3 yet.
#[test]
fn a_message_about_a_victim_is_never_too_open() {
    for (from, to, field) in [
        ("handling: H2", "handling: H1", "handling"),
        ("tlp: AMBER+STRICT", "tlp: AMBER", "tlp"),
        ("tlp: AMBER+STRICT", "tlp: CLEAR", "tlp"),
    ] {
        assert_eq!(problems("return-request", from, to), [field]);
    }
    let empty = "kind: RETURN_REQUEST\nhandling: H0\ntlp: GREEN\ncontent: {}\n";
    let found = case_file::parse(empty).unwrap_err();
    for field in ["handling", "tlp", "content.guardian"] {
        let expected = field != "content.guardian";
        assert_eq!(found.iter().any(|problem| problem.field == field), expected, "{field} in {found:?}");
    }
}

/// Every field of a kind, at any depth, with its path.
fn fields_of(message: &MessageDescriptor, path: &str, visit: &mut impl FnMut(&str, &prost_reflect::FieldDescriptor)) {
    for field in message.fields() {
        let path = format!("{path}.{}", field.name());
        visit(&path, &field);
        if let Some(inner) = field.kind().as_message() {
            fields_of(inner, &path, visit);
        }
    }
}

/// SUSPECT_ALERT has no field for a victim: nothing in it is of class P3.
#[test]
fn an_alert_has_no_room_for_a_victim() {
    let alert = catalogue::kind(Kind::SuspectAlert).unwrap();
    fields_of(&alert.message, "alert", &mut |path, field| {
        assert_ne!(rule(field).class, DataClass::P3, "{path}");
        assert!(!path.contains("victim"), "{path}");
    });
}

/// RETURN_REQUEST says who and what they need, never what was done: its texts are names, addresses and references.
#[test]
fn a_return_request_has_no_room_for_the_account() {
    let request = catalogue::kind(Kind::ReturnRequest).unwrap();
    fields_of(&request.message, "request", &mut |path, field| {
        for word in ["summary", "note", "exploitation", "means", "story", "medical"] {
            assert!(!path.contains(word), "{path}");
        }
        let rule = rule(field);
        let texts = field.kind() == prost_reflect::Kind::String && rule.code_list.is_none() && rule.form.is_none();
        assert!(!texts || rule.max_graphemes <= 300 || path == "request.handling_text", "{path} has room for a story");
    });
}

#[test]
fn every_field_has_a_class_and_every_list_exists() {
    for entry in catalogue::kinds() {
        fields_of(&entry.message, catalogue::kind_name(entry.kind), &mut |path, field| {
            let options = field.options();
            let written = options.extensions().next().map(|(_, value)| value.clone());
            let class =
                written.as_ref().and_then(|rule| rule.as_message()?.get_field_by_name("class")?.as_enum_number());
            assert!(class.is_some_and(|class| class > 0), "{path} has no class");
            let rule = rule(field);
            if let Some(list) = rule.code_list {
                assert!(codes::meaning(&list, codes::UNKNOWN).is_some(), "{path}: no list {list}");
            }
            if let Some((other, wanted)) = rule.required_when {
                let other =
                    field.parent_message().get_field_by_name(&other).unwrap_or_else(|| panic!("{path}: {other}"));
                let list = catalogue::rule(&other).code_list;
                for code in wanted {
                    assert!(list.as_ref().is_none_or(|list| codes::meaning(list, &code).is_some()), "{path}: {code}");
                }
            }
        });
    }
}

#[test]
fn a_kind_that_closes_or_takes_back_says_what() {
    let id = "01a1ef07-fac0-7c1e-9b52-4a6f0d83e21b";
    assert_eq!(without("withdraw", &format!("in_reply_to: {id}\n")), ["in_reply_to"]);
    assert_eq!(problems("withdraw", &format!("in_reply_to: {id}"), "in_reply_to: that one"), ["in_reply_to"]);
    let upper = format!("message_ids: [{}]", id.to_uppercase());
    assert_eq!(problems("withdraw", &format!("message_ids: [{id}]"), &upper), ["content.message_ids[0]"]);
    let call = "in_reply_to: 01a1eec2-df58-7c1e-9b52-4a6f0d83e21b\n";
    assert_eq!(without("hotline-close", call), ["in_reply_to"]);
}

#[test]
fn retention_ends_after_the_answer_is_due() {
    let request = sample("return-request");
    assert!(request.retain_until.unwrap() > request.due_at.unwrap());
    assert_eq!(sample("withdraw").retain_until, None);
    let retain = "retain_until: 2031-12-31T00:00:00+07:00";
    assert_eq!(problems("return-request", retain, "retain_until: 2026-12-16T17:00:00+07:00"), ["retain_until"]);
    assert_eq!(problems("return-request", retain, "retain_until: 2031-12-31"), ["retain_until"]);
    let alone = text("deploy/samples/return-request.yaml").replace("due: 2026-12-16T17:00:00+07:00\n", "");
    assert!(case_file::parse(&alone).unwrap().retain_until.is_some());
}

#[test]
fn an_alert_names_somebody_and_ends() {
    let alert = "suspect-alert";
    assert_eq!(without(alert, "  valid_until: 2027-02-16T00:00:00+07:00\n"), ["content.valid_until"]);
    assert_eq!(without(alert, "  warrant_ref: 417/LTN, Lao Cai\n"), ["content.warrant_ref"]);
    for kind in ["YELLOW", "BLACK"] {
        assert_eq!(problems(alert, "alert_type: RED", &format!("alert_type: {kind}")), ["content.alert_type"]);
    }
    let nameless = text("deploy/samples/suspect-alert.yaml");
    let nameless: String = nameless
        .lines()
        .filter(|line| {
            !["    name:", "    documents:", "      - {type: PP"].iter().any(|start| line.starts_with(start))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(case_file::parse(&nameless).is_ok(), "a phone tells who it is");
    let nobody = nameless.split("  phones:").next().unwrap();
    let found = case_file::parse(nobody).unwrap_err();
    assert_eq!((found.len(), found[0].rule), (1, "identifies nobody"));
}

#[test]
fn counts_are_those_of_the_content() {
    let block = |case: &CaseFile| statistics::stat_block(case.kind, &case.content);
    let request = block(&sample("return-request")).unwrap();
    assert_eq!((request.cases, request.subjects, request.victims), (1, 0, 1));
    let cell = &request.cells[0];
    assert_eq!((cell.sex, cell.age_band.as_str(), cell.purpose(), cell.count), (2, "9-17", Purpose::Return, 1));
    for (age, band) in [("8", "0-8"), ("9", "9-17"), ("18", "18-20"), ("29", "27-29"), ("47", "39-47"), ("90", "48+")] {
        let aged =
            text("deploy/samples/return-request.yaml").replace("birth_date: {value: 2009-07}", &format!("age: {age}"));
        let aged = aged.replace("age_group: CHILD", "age_group: UNK");
        assert_eq!(block(&case_file::parse(&aged).unwrap()).unwrap().cells[0].age_band, band);
    }
    let unknown = changed("return-request", "sex: 2", "sex: UNK").unwrap();
    assert_eq!(block(&unknown).unwrap().cells[0].sex, 0);
    let alert = block(&sample("suspect-alert")).unwrap();
    assert_eq!((alert.cases, alert.subjects, alert.victims), (0, 1, 0));
    assert!(block(&sample("hotline-call")).is_none());
}

#[test]
fn templates_suggest_what_is_usual_for_the_kind() {
    let lines = |kind| template::template(kind, Language::English).unwrap();
    for (kind, priority, purpose) in [
        (Kind::CaseNotice, "ROUTINE", "RESCUE"),
        (Kind::HotlineCall, "FLASH", "RESCUE"),
        (Kind::HotlineClose, "URGENT", "RESCUE"),
        (Kind::ReturnRequest, "ROUTINE", "RETURN"),
        (Kind::SuspectAlert, "URGENT", "INVEST"),
    ] {
        let text = lines(kind);
        assert!(text.contains(&format!("\npriority: {priority} ")), "{text}");
        assert!(text.contains(&format!("\npurpose: {purpose} ")), "{text}");
        assert!(text.contains("\n# retain_until: "), "{text}");
    }
    // What a template leaves open is a problem of a field, never of the form of the file.
    for entry in catalogue::kinds() {
        let found = case_file::parse(&lines(entry.kind)).err().unwrap_or_default();
        assert!(found.iter().all(|problem| problem.field != "file" && problem.rule != "unknown field"), "{found:?}");
    }
}
