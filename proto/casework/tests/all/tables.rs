//! The tables that countries agree on: dated, of whoever signed them, the particular before the general.

use std::collections::BTreeSet;

use liaison_casework::{
    act::{Act, Availability},
    case_file,
    tables::{GateStatus, TableError, Tables, deadlines::Asked},
    thread::Thread,
};
use liaison_proto::{
    clock::{DAY_MS, HOUR_MS, UnixMillis},
    ids::Country,
    policy_text::PolicyText,
    wire::{Kind, Priority, Step},
};

use crate::threads::{HOST, ORIGIN, START, Story, update};

fn tables(texts: &[&str]) -> Tables {
    let texts: Vec<PolicyText> = texts.iter().map(|text| PolicyText::parse(text.as_bytes()).unwrap()).collect();
    Tables::read(&texts)
}

fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn between(countries: &[&str]) -> BTreeSet<Country> {
    countries.iter().map(|country| country.parse().unwrap()).collect()
}

fn day(at: UnixMillis) -> String {
    at.to_string()[..10].to_owned()
}

/// 2026-11-20T00:00Z, a Friday.
const SENT: UnixMillis = UnixMillis(START);

#[test]
fn of_two_tables_the_one_of_fewer_countries_counts_and_says_only_what_it_says() {
    let region = "# table DEADLINES serial 1 countries CN KH LA TH VN\npapers_days = 9\nhotline_minutes = 20\n";
    let pair = "# table DEADLINES serial 1 countries TH VN\npapers_days = 3\n";
    let tables = tables(&[region, pair]);
    let days = |countries: &[&str]| (tables.deadlines(&between(countries), SENT).papers(SENT).0 - SENT.0) / DAY_MS;
    assert_eq!((days(&["TH", "VN"]), days(&["CN", "VN"]), days(&["LA", "TH", "VN"])), (3, 9, 9));
    let own = tables.deadlines(&between(&["TH", "VN"]), SENT);
    assert_eq!(own.hotline(SENT), SENT.plus(20 * HOUR_MS / 60), "what the pair leaves open the region says");
    assert_eq!(own.arrival_notice(SENT), SENT.plus(-3 * DAY_MS), "and what nobody says is built in");
}

#[test]
fn a_table_counts_from_its_day_on_and_the_one_before_until_then() {
    let first = "# table DEADLINES serial 1 countries CN VN\npapers_days = 4\n";
    let second = "# table DEADLINES serial 2 countries CN VN\nvalid_from = 2026-12-01\npapers_days = 8\n";
    let tables = tables(&[first, second]);
    let papers =
        |began: UnixMillis| (tables.deadlines(&between(&["CN", "VN"]), began).papers(began).0 - began.0) / DAY_MS;
    assert_eq!(papers(SENT), 4);
    assert_eq!(papers(at("2026-11-30T16:59:59Z")), 4, "the day begins by the clock of UTC+7");
    assert_eq!(papers(at("2026-11-30T17:00:00Z")), 8);
}

#[test]
fn an_answer_is_due_by_how_the_other_office_can_come_by_it() {
    let deadlines = Tables::built_in().deadlines(&between(&["TH", "VN"]), SENT);
    let asked = |priority, availability| Asked {
        kind: Kind::InfoRequest,
        priority,
        at: SENT,
        availability,
        country: "VN".parse().unwrap(),
    };
    let hours = |asked: &Asked| (deadlines.answer(asked).0 - SENT.0) / HOUR_MS;
    assert_eq!(hours(&asked(Priority::Urgent, Some(Availability::Direct))), 8);
    assert_eq!(hours(&asked(Priority::Urgent, Some(Availability::Obtainable))), 72);
    assert_eq!(hours(&asked(Priority::Urgent, None)), 8);
    assert_eq!(hours(&asked(Priority::Routine, Some(Availability::Obtainable))), 7 * 24);
    assert_eq!(day(deadlines.acknowledgement(&asked(Priority::Routine, None))), "2026-11-23", "a working day");
}

#[test]
fn a_table_of_one_kind_and_priority_is_for_these_only() {
    let text =
        "# table DEADLINES serial 1 countries TH VN\n[[acknowledgement]]\nkind = [\"RETURN_REQUEST\"]\nhours = 4\n";
    let tables = tables(&[text]);
    let deadlines = tables.deadlines(&between(&["TH", "VN"]), SENT);
    let asked =
        |kind| Asked { kind, priority: Priority::Urgent, at: SENT, availability: None, country: "VN".parse().unwrap() };
    assert_eq!(deadlines.acknowledgement(&asked(Kind::ReturnRequest)), SENT.plus(4 * HOUR_MS));
    assert_eq!(deadlines.acknowledgement(&asked(Kind::CaseNotice)), SENT.plus(HOUR_MS));
}

/// Found by the fuzzer: a time beyond the calendar was taken for 1970, and its deadline lay before it.
#[test]
fn no_deadline_lies_before_what_it_is_about_whatever_a_clock_says() {
    let tables = tables(&["# table DEADLINES serial 1 countries CN KH LA TH VN\n[[answer]]\nworking_days = 1\n"]);
    let deadlines = tables.deadlines(&between(&["TH", "VN"]), SENT);
    let (kind, priority, availability) = (Kind::InfoRequest, Priority::Routine, None);
    for at in [i64::MIN, i64::MIN / 2, 0, SENT.0, i64::MAX / 2, i64::MAX].map(UnixMillis) {
        let due = deadlines.answer(&Asked { kind, priority, at, availability, country: "VN".parse().unwrap() });
        assert!(due >= at, "due at {due:?}, asked at {at:?}");
    }
}

#[test]
fn a_country_says_itself_when_its_offices_are_closed() {
    let text = "# table HOLIDAYS serial 1 countries VN\nyears = [2026]\n\
                [[holiday]]\ndate = 2026-11-23\nname = \"Flood\"\n[[working]]\ndate = 2026-11-21\nname = \"made up for\"\n";
    let tables = tables(&[text]);
    let end = |days, country: &str| day(tables.after_working_days(SENT, days, country.parse().unwrap()));
    assert_eq!(end(1, "VN"), "2026-11-21", "a Saturday on which offices work");
    assert_eq!(end(2, "VN"), "2026-11-24", "closed on Monday; the built-in day of culture counts no more");
    assert_eq!(end(1, "CN"), "2026-11-23", "nobody says it for others");
}

#[test]
fn nobody_is_brought_to_a_gate_that_is_closed() {
    let text = "# table GATES serial 1 countries CN VN\n[[gate]]\ncode = \"CN-HKO\"\nopen = \"08:00-18:00\"\ndays = [1, 2, 3, 4, 5]\n\
                [[gate]]\ncode = \"VN-QQQ\"\nname = \"New Bridge\"\n[[closure]]\ngate = \"VN-LCA\"\nfrom = 2026-12-24\n\
                until = 2026-12-25\nreason = \"works on the bridge\"\n";
    let tables = tables(&[text]);
    let closed = |code: &str, time: &str| matches!(tables.gate(code, at(time)), GateStatus::Closed(_));
    assert!(!closed("CN-HKO", "2026-12-01T09:59:00Z"), "17:59 in China, a Tuesday");
    assert!(closed("CN-HKO", "2026-12-01T10:01:00Z"), "18:01 in China");
    assert!(closed("CN-HKO", "2026-12-05T04:00:00Z"), "a Saturday");
    assert!(
        closed("VN-LCA", "2026-12-25T16:59:00Z") && !closed("VN-LCA", "2026-12-25T17:00:00Z"),
        "the last day is over"
    );
    assert_eq!(tables.gate("VN-QQQ", SENT), GateStatus::Open, "a gate that is not built in");
    assert_eq!(tables.gate("VN-ZZZ", SENT), GateStatus::Unknown);
    assert_eq!(Tables::built_in().gate("VN-LCA", SENT), GateStatus::Open, "nothing says that it is closed");
    let proposal = std::fs::read_to_string(crate::kinds::path("deploy/samples/handover-proposal.yaml")).unwrap();
    let proposal =
        proposal.replace("2026-12-15T10:00:00+07:00", "2026-12-24T10:00:00+07:00").replace("VN-LBA", "VN-LCA");
    let found = case_file::parse_by(&proposal, &tables).unwrap_err();
    let shown: Vec<(&str, &str)> = found.iter().map(|problem| (problem.field.as_str(), problem.rule)).collect();
    assert_eq!(shown, [("content.appointment.gate", "gate is closed")], "{found:?}");
    assert!(found[0].advice.to_string().contains("works on the bridge"));
    let new = proposal.replace("VN-LCA", "VN-QQQ");
    assert!(case_file::parse_by(&new, &tables).is_ok() && case_file::parse(&new).is_err());
}

#[test]
fn a_table_that_does_not_read_is_left_out_whole_and_told() {
    for (text, why) in [
        ("# table DEADLINES serial 1 countries CN VN\npapers_days = -1\n", "a negative length"),
        ("# table DEADLINES serial 1 countries CN VN\npapers_days = 2\nwhatever = 1\n", "a key of nobody"),
        ("# table DEADLINES serial 1 countries CN VN\n[[answer]]\nhours = 1\ndays = 1\n", "two lengths"),
        ("# table DEADLINES serial 1 countries CN VN\n[[answer]]\nkind = [\"LETTER\"]\ndays = 1\n", "no such kind"),
        ("# table DEADLINES serial 1 countries CN VN\npapers_days = 99999999\n", "longer than anybody lives"),
        ("# table GATES serial 1 countries CN VN\n[[gate]]\ncode = \"TH-ABC\"\nname = \"x\"\n", "a gate of others"),
        ("# table GATES serial 1 countries CN VN\n[[gate]]\ncode = \"VN-LCA\"\nopen = \"7-22\"\n", "no hours"),
        (
            "# table HOLIDAYS serial 1 countries VN\nyears = [2026]\n[[holiday]]\ndate = 2027-01-01\nname = \"x\"\n",
            "another year",
        ),
    ] {
        let text = PolicyText::parse(text.as_bytes()).unwrap();
        assert!(matches!(Tables::check(&text), Err(TableError::Content(_))), "{why}");
        let read = Tables::read([&text]);
        assert_eq!(read.unreadable().len(), 1, "{why}");
        let papers = read.deadlines(&between(&["CN", "VN"]), SENT).papers(SENT);
        assert_eq!(papers, SENT.plus(5 * DAY_MS), "{why}");
    }
    let unknown = PolicyText::parse(b"# table TARIFFS serial 1 countries CN VN\n").unwrap();
    assert_eq!(Tables::check(&unknown), Err(TableError::Unknown("TARIFFS".to_owned())));
    let agreement = PolicyText::parse(b"// agreement VNCN10 serial 1 countries CN VN\n").unwrap();
    assert_eq!(Tables::check(&agreement), Err(TableError::Agreement));
}

#[test]
fn the_country_of_origin_can_take_the_longer_time_and_ask_for_more() {
    let mut story = Story::new();
    story.does(HOST, Kind::ReturnRequest, Act::RequestReturn { child: false });
    let due = |thread: &Thread| {
        let expected = thread.expected(Tables::built_in(), SENT);
        let found = expected.iter().find(|expected| expected.what == "verification").unwrap();
        (day(found.due.unwrap()), expected.iter().any(|expected| expected.what == "more-information"))
    };
    // Twenty working days of Viet Nam, with the holiday on 24 November.
    assert_eq!(due(&story.thread()), ("2026-12-21".to_owned(), false));
    story.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnVerifying));
    let mut longer = story.event(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnVerifying));
    let details = &mut longer.digest.as_mut().unwrap().details;
    (details.takes_longer, details.asks_more) = (true, true);
    story.events.push(longer);
    assert_eq!(due(&story.thread()), ("2027-01-05".to_owned(), true), "ten more, over New Year");
    story.does(HOST, Kind::ReturnUpdate, update(Step::ReturnVerifying));
    assert!(!due(&story.thread()).1, "the host has told more");
}

#[test]
fn a_proposal_is_answered_before_the_receiving_province_must_know() {
    let mut story = Story::return_with_papers(false);
    let mut proposal = story.event(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    let appointment = at("2026-12-15T03:00:00Z");
    proposal.digest.as_mut().unwrap().details.appointment = Some(appointment);
    story.events.push(proposal);
    let due = |what: &str| {
        story.thread().expected(Tables::built_in(), SENT).into_iter().find(|e| e.what == what).unwrap().due
    };
    assert_eq!(due("handover-answer"), Some(appointment.plus(-3 * DAY_MS)));
}
