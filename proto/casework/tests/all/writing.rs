//! What helps officers to write and to read: questions in their language, corrections beside what they correct, who is on duty.

use liaison_casework::{
    amend, case_file, catalogue,
    contacts::Contacts,
    labels::Language,
    print::Reader,
    prompt::{self, Question},
    tables::Tables,
    template,
};
use liaison_proto::{
    clock::UnixMillis,
    wire::{DataClass, Kind},
};

use crate::kinds::sample;

fn reader(highest: DataClass) -> Reader<'static> {
    Reader { highest, tables: Tables::built_in(), language: Language::English }
}

/// An officer who answers what is asked, and nothing that may be left out.
fn patient(question: &Question) -> Option<String> {
    assert!(question.problem.is_none(), "{question:?}");
    let answer = match question.field.as_str() {
        "to" => "CN-BLO-HKO".to_owned(),
        "legal_basis" => "VNCN10".to_owned(),
        "language" => "vie".to_owned(),
        "in_reply_to" => String::new(),
        _ if !question.required => String::new(),
        _ if question.usual.is_some() => String::new(),
        _ => match question.codes.first() {
            Some((code, _)) => code.clone(),
            None if question.hint.contains("RFC 3339") => "2026-11-20T08:30:00+07:00".to_owned(),
            None if question.hint.contains("2026-11") => "2026-11-20".to_owned(),
            None if question.hint.contains("3166-1") => "VN".to_owned(),
            None => "An".to_owned(),
        },
    };
    Some(answer)
}

#[test]
fn a_case_file_is_written_by_question_and_answer() {
    let mut asked = Vec::new();
    let written = prompt::write(Kind::CaseNotice, Language::Vietnamese, Tables::built_in(), &mut |question| {
        asked.push(question.label.clone());
        patient(question)
    });
    let (file, problems) = written.unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(case_file::from_json(&file, Tables::built_in()).unwrap().kind, Kind::CaseNotice);
    assert!(asked.iter().all(|label| !label.is_empty()));
    assert!(asked.iter().any(|label| !label.is_ascii()), "in the officer's language: {asked:?}");
}

#[test]
fn a_wrong_answer_is_asked_again_with_what_would_be_right() {
    let mut answers = vec!["HKO", "CN-BLO-HKO"].into_iter();
    let mut second = None;
    let written = prompt::write(Kind::Test, Language::English, Tables::built_in(), &mut |question| {
        if question.field != "to" {
            return None;
        }
        second.clone_from(&question.problem);
        answers.next().map(str::to_owned)
    });
    assert!(written.is_none(), "the answers ended");
    assert!(second.unwrap().contains("CN-BLO-HKO"));
}

#[test]
fn a_template_speaks_the_officers_language_and_keeps_its_keys() {
    for entry in catalogue::kinds() {
        let keys = |language| {
            let text = template::template(entry.kind, language).unwrap();
            let key =
                |line: &str| line.trim_start_matches(['#', ' ', '-']).split(':').next().unwrap_or_default().to_owned();
            text.lines().skip(3).map(key).collect::<Vec<_>>()
        };
        assert_eq!(keys(Language::English), keys(Language::Thai), "{}", catalogue::kind_name(entry.kind));
    }
    let khmer = template::template(Kind::ReturnRequest, Language::Khmer).unwrap();
    assert!(khmer.chars().filter(|c| ('\u{1780}'..='\u{17ff}').contains(c)).count() > 500);
}

fn case_file_of(sample: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(crate::kinds::path(&format!("deploy/samples/{sample}.yaml"))).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn a_correction_stands_beside_what_it_corrects() {
    let request = sample("return-request").content;
    let correction = |field: &str| {
        let mut case = case_file_of("correction");
        case["content"]["corrections"] = serde_json::json!([{"field": field, "value": "2009"}]);
        case_file::from_json(&case, Tables::built_in()).unwrap().content
    };
    let right = amend::corrected(&correction("birth_date.value"), &request, reader(DataClass::P3));
    assert_eq!(right.len(), 1);
    assert_eq!(right[0].value, "2009");
    assert!(right[0].was.as_deref().is_some_and(|was| was.starts_with("20")), "{right:?}");
    let hidden = amend::corrected(&correction("birth_date.value"), &request, reader(DataClass::P2));
    assert_eq!((hidden[0].value.as_str(), hidden[0].was.as_deref()), ("(redacted)", Some("(redacted)")));
    assert!(amend::check(&correction("name.latin"), &[&request]).is_empty());
    // A counterpart that names one long text a hundred times makes nobody's node hold it a hundred times.
    let mut long = case_file_of("case-notice");
    long["content"]["summary"] = serde_json::json!("x".repeat(3_900));
    let long = case_file::from_json(&long, Tables::built_in()).unwrap().content;
    let mut often = case_file_of("correction");
    often["content"]["corrections"] =
        serde_json::json!(vec![serde_json::json!({"field": "summary", "value": "y"}); 20]);
    let often = case_file::from_json(&often, Tables::built_in()).unwrap().content;
    let shown = amend::corrected(&often, &long, reader(DataClass::P3));
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].size() < 2_200, "{}", shown[0].size());
    for nowhere in ["height", "documents_held[40].number", "name.latin.more", "documents_held.number", "name[0]"] {
        assert_eq!(amend::check(&correction(nowhere), &[&request]).len(), 1, "{nowhere}");
        assert!(amend::corrected(&correction(nowhere), &request, reader(DataClass::P3)).is_empty());
    }
}

#[test]
fn who_is_on_duty_follows_the_offices_own_clock() {
    let text = "kind: CONTACT_UPDATE\nto: [VN-BLO-LCA]\npriority: ROUTINE\nhandling: H0\ntlp: AMBER\nlegal_basis: [VNCN10]\npurpose: PREVENT\n\
                language: cmn\ncontent:\n  office: CN-BLO-HKO\n  valid_from: 2026-11-20T00:00:00+08:00\n  contacts:\n    \
                - {officer: Li, role: DUTY_OFFICER, number: \"+8613800000001\", languages: [cmn], hours: \"22:00-06:00\", days: [\"5\"]}\n    \
                - {officer: Wang, role: DUTY_OFFICER, number: \"+8613800000002\", languages: [vie], hours: \"06:00-22:00\"}\n";
    let contacts = Contacts::of(&case_file::parse(text).unwrap().content).unwrap();
    let on_duty = |time: &str| {
        let at = UnixMillis(time.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let names = contacts.officers.iter().filter(|officer| officer.is_on_duty(contacts.office, at));
        names.map(|officer| officer.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(on_duty("2026-11-20T06:00:00+07:00"), ["Wang"], "seven in China");
    assert_eq!(on_duty("2026-11-20T21:30:00+07:00"), ["Li"], "half past ten in the night of Friday, in China");
    assert_eq!(on_duty("2026-11-21T04:30:00+07:00"), ["Li"], "the night that began on Friday");
    assert!(on_duty("2026-11-21T21:30:00+07:00").is_empty(), "nobody in the night of Saturday");
}
