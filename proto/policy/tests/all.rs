//! The example agreements, and what holds for any agreement.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{fs, path::PathBuf};

use liaison_policy::{Agreement, AgreementError, Agreements, Question, Remedy, table};
use liaison_proto::{
    ids::OfficeId,
    policy_text::{HeadingError, PolicyText},
    wire::{DataClass, Handling, Kind, LegalBasis, Priority, Purpose, Tlp},
};

fn here(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

fn examples() -> Agreements {
    let files = fs::read_dir(here("deploy/policies")).unwrap().map(|entry| entry.unwrap().path());
    Agreements::new(files.filter(|path| path.extension().is_some_and(|extension| extension == "cedar")).map(|path| {
        Agreement::parse(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }))
}

const HEADING: AgreementError = AgreementError::Heading(HeadingError::Heading);

fn office(id: &str) -> OfficeId {
    id.parse().unwrap()
}

fn notice(from: &str, to: &str, basis: LegalBasis) -> Question {
    Question {
        from: office(from),
        to: office(to),
        kind: Kind::CaseNotice,
        basis: vec![basis],
        purpose: Purpose::Rescue,
        priority: Priority::Urgent,
        handling: Handling::H2,
        tlp: Tlp::AmberStrict,
        data_class: DataClass::P3,
        retain_days: 0,
        exercise: false,
    }
}

/// Cedar's parser descends by calls, and a full stack would end the process of every party: no country does that to the others.
#[test]
fn an_agreement_cannot_be_nested_without_end() {
    let with = |condition: &str| {
        format!(
            "// agreement DEEP serial 1 countries VN\n@id(\"deep\") permit (principal, action, resource) when {{ {condition} }};"
        )
    };
    let nested =
        |depth: usize, open: &str, close: &str| with(&format!("{}true{}", open.repeat(depth), close.repeat(depth)));
    assert!(Agreement::parse(&nested(20, "(", ")")).is_ok());
    for (open, close) in
        [("(", ")"), ("[", "]"), ("!(", ")"), ("{a: ", "}"), ("(\")\" == \")\" && ", ")"), ("( // )\n", ")")]
    {
        let found = Agreement::parse(&nested(100, open, close));
        assert!(matches!(found, Err(AgreementError::Syntax(ref why)) if why.contains("nested")), "{open}");
    }
    let deep = PolicyText::parse(nested(4_000, "(", ")").as_bytes());
    assert!(deep.is_ok_and(|text| {
        !Agreements::read(&[text]).decide(&notice("VN-BLO-LCA", "VN-CCP-HAN", LegalBasis::Domestic)).is_allowed()
    }));
}

/// An older program that meets an agreement of a newer schema does not take its countries for ones that agreed on nothing.
#[test]
fn an_agreement_that_cannot_be_read_binds_and_permits_nothing() {
    let newer = "// agreement VNCN10 serial 2 countries VN CN\n\
                 @id(\"newer\") permit (principal, action, resource) when { context.not_known_yet };";
    assert!(matches!(Agreement::parse(newer), Err(AgreementError::Schema(_))));
    let agreements = Agreements::read(&[PolicyText::parse(newer.as_bytes()).unwrap()]);
    let decision = agreements.decide(&notice("VN-BLO-LCA", "CN-BLO-HKO", LegalBasis::Vncn10));
    assert!(!decision.is_allowed() && decision.is_judged);
    assert!(agreements.decide(&notice("VN-BLO-LCA", "TH-BLO-ARN", LegalBasis::Vnth08)).is_allowed(), "binds others");
}

#[test]
fn nothing_is_allowed_that_no_agreement_permits() {
    let question = notice("VN-BLO-LCA", "CN-BLO-HKO", LegalBasis::Vncn10);
    assert!(examples().decide(&question).is_allowed());
    let silent = "// agreement NONE serial 1 countries VN CN\n@id(\"none\") permit (principal, action, resource) when { false };";
    let none = Agreements::new([Agreement::parse(silent).unwrap()]).decide(&question);
    assert!(!none.is_allowed() && none.forbidden_by.is_empty());
    for (from, to, basis) in [
        ("VN-BLO-LCA", "CN-BLO-HKO", LegalBasis::Vnth08),
        ("VN-BLO-LCA", "TH-BLO-ARN", LegalBasis::Vncn10),
        ("VN-CCP-HAN", "CN-CCP-PEK", LegalBasis::Actip),
        ("VN-CCP-HAN", "TH-OBS-UNX", LegalBasis::Vnth08),
        ("VN-CCP-HAN", "TH-SHE-BKK", LegalBasis::Vnth08),
        ("VN-BLO-LCA", "CN-BLO-HKO", LegalBasis::Domestic),
        ("VN-BLO-LCA", "TH-BLO-ARN", LegalBasis::Untoc),
    ] {
        assert!(!examples().decide(&notice(from, to, basis)).is_allowed(), "{from} -> {to} on {basis:?}");
    }
}

#[test]
fn a_refusal_says_who_forbids_it_and_what_would_be_right() {
    let open = Question { tlp: Tlp::Amber, ..notice("VN-BLO-LCA", "CN-BLO-HKO", LegalBasis::Vncn10) };
    let decision = examples().decide(&open);
    assert_eq!(decision.forbidden_by, ["about a victim: at least H2 and AMBER+STRICT"]);
    assert_eq!(examples().remedies(&open), [Remedy::Tlp(Tlp::AmberStrict)]);
    let other = notice("VN-CCP-HAN", "TH-CCP-BKK", LegalBasis::Vncn10);
    let remedies = examples().remedies(&other);
    assert!(remedies.contains(&Remedy::Basis(LegalBasis::Vnth08)), "{remedies:?}");
    assert_eq!(Remedy::Both(Handling::H2, Tlp::AmberStrict).to_string(), "handling H2 with tlp AMBER+STRICT");
    // Nothing makes it right to send a case to an observer.
    assert!(examples().remedies(&notice("VN-CCP-HAN", "TH-OBS-UNX", LegalBasis::Vnth08)).is_empty());
}

/// Promise 9: no country speaks for another. An agreement that names other countries permits and forbids nothing.
#[test]
fn promise_9_an_agreement_binds_only_the_countries_that_it_names() {
    let anything = |countries: &str| {
        let text = format!(
            "// agreement ANY serial 1 countries {countries}\n@id(\"any\") permit (principal, action, resource);"
        );
        Agreement::parse(&text).unwrap()
    };
    let nothing = |countries: &str| {
        let text = format!(
            "// agreement NO serial 1 countries {countries}\n@id(\"no\") forbid (principal, action, resource);"
        );
        Agreement::parse(&text).unwrap()
    };
    let question = notice("VN-BLO-LCA", "CN-BLO-HKO", LegalBasis::Vncn10);
    let allowed = |agreements: Vec<Agreement>| Agreements::new(agreements).decide(&question).is_allowed();
    assert!(allowed(vec![anything("VN CN")]));
    for others in ["TH KH", "VN TH", "CN", "LA CN TH KH"] {
        // Not even by being the first: between VN and CN nothing is judged then.
        let decided = Agreements::new(vec![nothing(others)]).decide(&question);
        assert!(!decided.is_judged && decided.is_allowed(), "{others} forbid something between VN and CN");
        let unpermitted = vec![nothing("VN CN"), anything(others)];
        assert!(!allowed(unpermitted), "{others} permit something between VN and CN");
        assert!(allowed(vec![anything("VN CN"), nothing(others)]), "{others} forbid something between VN and CN");
    }
    assert!(!allowed(vec![anything("VN CN"), nothing("VN KH LA CN TH")]));
}

#[test]
fn what_is_no_agreement_is_refused_whole() {
    let parse = |text: &str| Agreement::parse(text).unwrap_err();
    assert_eq!(parse("permit (principal, action, resource);"), HEADING);
    assert_eq!(parse("// agreement A serial 1 countries VN VN\n"), HEADING);
    assert_eq!(parse("// agreement A serial 01 countries VN\n"), HEADING);
    assert_eq!(parse("// agreement a/b serial 1 countries VN\n"), HEADING);
    let body = |body: &str| parse(&format!("// agreement A serial 1 countries VN CN\n{body}"));
    assert!(matches!(body("permit (principal"), AgreementError::Syntax(_)));
    assert_eq!(body("permit (principal, action, resource);"), AgreementError::Unnamed);
    let twice = "@id(\"a\") permit (principal, action, resource);\n".repeat(2);
    assert_eq!(body(&twice), AgreementError::Unnamed);
    let foreign = "@id(\"a\") permit (principal, action, resource) when { context.colour == \"red\" };";
    assert!(matches!(body(foreign), AgreementError::Schema(_)));
    let kind = "@id(\"a\") permit (principal, action == Action::\"GOSSIP\", resource);";
    assert!(matches!(body(kind), AgreementError::Schema(_)));
    assert_eq!(parse(&" ".repeat(40_000)), AgreementError::Heading(HeadingError::TooLarge));
}

/// The page of all decisions is the one that the example agreements give.
#[test]
fn the_documented_decisions_are_those_of_the_example_agreements() {
    let directions = [
        ("VN-BLO-LCA", "CN-BLO-HKO"),
        ("VN-CCP-HAN", "CN-CCP-PEK"),
        ("VN-BLO-MBA", "KH-BLO-BVT"),
        ("VN-CCP-HAN", "LA-CCP-VTE"),
        ("TH-CCP-BKK", "VN-CCP-HAN"),
        ("TH-BLO-ARN", "KH-BLO-BVT"),
        ("TH-CCP-BKK", "LA-CCP-VTE"),
        ("CN-CCP-PEK", "TH-CCP-BKK"),
        ("VN-BLO-LCA", "TH-OBS-UNX"),
    ];
    let directions = directions.map(|(from, to)| (office(from), office(to)));
    let table = table::markdown(&examples(), &directions);
    let path = here("docs/agreements.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, written) = page.split_once("| kind |").map_or((page.as_str(), ""), |(head, rest)| (head, rest));
    if std::env::var_os("LIAISON_UPDATE").is_some() {
        fs::write(path, format!("{head}{table}")).unwrap();
    } else {
        assert_eq!(format!("| kind |{written}"), table, "LIAISON_UPDATE=1 writes it anew");
    }
}
