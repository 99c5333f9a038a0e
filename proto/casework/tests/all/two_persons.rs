//! Where two persons are needed, what was said since to be wrong, and what its originator did not allow: everybody marks the same.

use liaison_casework::{
    act::{Act, Details},
    case_file,
    persons::Persons,
    thread::{Mark, Thread, event::Event, out_of_step::OutOfStep},
};
use liaison_proto::wire::{Handling, Kind, Tlp};
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use crate::threads::{HOST, ORIGIN, Story, WITHDRAWS};

/// A notice about persons, as an officer writes it.
fn content(persons: &str) -> DynamicMessage {
    let text = format!(
        "kind: CASE_NOTICE\nto: [CN-BLO-HKO]\npriority: ROUTINE\nhandling: H2\ntlp: AMBER+STRICT\nlegal_basis: [VNCN10]\n\
         purpose: RESCUE\nlanguage: vie\ncontent:\n  summary: s\n  evaluation: {{source: B, information: \"2\"}}\n  \
         event_type: TRAFFICKING\n  place: {{country: VN}}\n  date: {{value: 2026-11-19}}\n  trafficking_status: POSS\n  persons:\n{persons}"
    );
    case_file::parse(&text).unwrap_or_else(|found| panic!("{found:?}")).content
}

pub(crate) fn notice(persons: &str) -> Persons {
    Details::of(Kind::CaseNotice, &content(persons)).persons
}

pub(crate) fn about(story: &Story, from: &str, persons: &str) -> Event {
    let mut event = story.event(from, Kind::CaseNotice, Act::Tell);
    event.digest.as_mut().unwrap().details.persons = notice(persons);
    event
}

pub(crate) const VICTIM: &str =
    "    - {key: P1, role: VICTIM, name: {original: \"Nguyễn Thị  An\", latin: Nguyen Thi An}}\n";
pub(crate) const SUSPECT: &str =
    "    - {key: P7, role: SUSPECT, suspect_role: BROKER, name: {original: nguyễn thị an}}\n";
pub(crate) const OTHER: &str =
    "    - {key: P2, role: SUSPECT, suspect_role: BROKER, name: {original: Trần Văn Bình}}\n";

fn fits(story: &Story, event: &Event) -> Result<(), OutOfStep> {
    Thread::check(story.events.first().map_or(event.id, |root| root.id), story.events.iter().cloned(), event.clone())
}

/// More persons than any honest notice has: nobody can say who is both, so a second person signs.
#[test]
fn more_persons_than_can_be_compared_need_a_second_signature() {
    let mut crowd = content(VICTIM);
    let field = crowd.descriptor().get_field_by_name("persons").unwrap();
    let Value::List(persons) = crowd.get_field(&field).into_owned() else { panic!("persons are a list") };
    let named = |number: usize| {
        let mut person = persons[0].as_message().unwrap().clone();
        person.set_field_by_name("key", Value::String(format!("P{number}")));
        Value::Message(person)
    };
    let mut signed_by_one = |count: usize| {
        crowd.set_field(&field, Value::List((0..count).map(named).collect()));
        let mut event = Story::new().event(HOST, Kind::CaseNotice, Act::Tell);
        event.digest.as_mut().unwrap().details.persons = Details::of(Kind::CaseNotice, &crowd).persons;
        Thread::check(event.id, [], event)
    };
    assert_eq!(signed_by_one(50), Ok(()));
    assert_eq!(signed_by_one(20_000), Err(OutOfStep::NotCountersigned));
}

#[test]
fn a_victim_who_is_a_suspect_too_needs_the_signature_of_a_supervisor() {
    let mut story = Story::new();
    let root = about(&story, HOST, VICTIM);
    assert_eq!(fits(&story, &root), Ok(()));
    story.events.push(root);
    assert_eq!(fits(&story, &about(&story, HOST, OTHER)), Ok(()), "another person");
    // The same name, however it is spaced, capitalised and its marks are typed, from either side.
    let decomposed = SUSPECT.replace('ễ', "e\u{302}\u{303}");
    for (from, suspect) in [(HOST, SUSPECT), (ORIGIN, SUSPECT), (ORIGIN, &decomposed)] {
        assert_eq!(fits(&story, &about(&story, from, suspect)), Err(OutOfStep::NotCountersigned), "{from}");
    }
    // Whoever sends it all the same is answered; it makes nobody a suspect.
    let stray = about(&story, ORIGIN, SUSPECT);
    story.events.push(stray);
    let marked = story.thread().taken().last().unwrap().mark;
    assert_eq!(marked, Mark::OutOfStep(OutOfStep::NotCountersigned));
    assert_eq!(fits(&story, &about(&story, HOST, VICTIM)), Ok(()));
    // With two signatures it counts, and what follows about the same person needs no more.
    let mut signed = about(&story, HOST, SUSPECT);
    signed.digest.as_mut().unwrap().countersigned = true;
    assert_eq!(fits(&story, &signed), Ok(()));
    story.events.push(signed);
    assert_eq!(story.thread().taken().last().unwrap().mark, Mark::Noted);
    assert_eq!(fits(&story, &about(&story, ORIGIN, SUSPECT)), Ok(()));
}

#[test]
fn one_message_alone_can_need_two_persons() {
    let both = format!("{VICTIM}{SUSPECT}");
    let story = Story::new();
    assert_eq!(fits(&story, &about(&story, HOST, &both)), Err(OutOfStep::NotCountersigned));
    let same_key = format!("{VICTIM}{}", OTHER.replace("P2", "P1"));
    assert_eq!(fits(&story, &about(&story, HOST, &same_key)), Err(OutOfStep::NotCountersigned), "the same key");
    assert_eq!(fits(&story, &about(&story, HOST, &format!("{VICTIM}{OTHER}"))), Ok(()));
    assert!(!format!("{:?}", notice(VICTIM)).contains("guy"), "no name in what is kept of it");
}

#[test]
fn promise_9_what_is_passed_on_without_leave_is_marked_by_everybody_who_gets_it() {
    let new = "VN-BLO-LCA".parse().unwrap();
    let mut story = Story::new();
    story.does(HOST, Kind::CaseNotice, Act::Tell);
    let mut forward = story.event(ORIGIN, Kind::CaseUpdate, Act::Update { closed: false });
    forward.to = vec![HOST.parse().unwrap(), new];
    story.events.push(forward);
    assert_eq!(story.thread().taken()[1].mark, Mark::OutOfStep(OutOfStep::OnwardNotGranted));
    let mut wider = story.event(ORIGIN, Kind::CaseUpdate, Act::Update { closed: false });
    (wider.tlp, wider.handling) = (Tlp::Amber, Handling::H2);
    story.events.push(wider);
    assert_eq!(story.thread().taken()[2].mark, Mark::OutOfStep(OutOfStep::TlpWider));
}

#[test]
fn what_the_agreements_forbid_is_marked_also_where_a_broker_let_it_pass() {
    let mut story = Story::new();
    story.does(HOST, Kind::InfoRequest, Act::Tell);
    let mut answer = story.event(ORIGIN, Kind::InfoReply, Act::Answer { partial: false });
    answer.breaks_agreement = true;
    story.events.push(answer);
    assert_eq!(story.thread().taken()[1].mark, Mark::OutOfStep(OutOfStep::NotInAgreement));
    assert!(story.expects().iter().any(|(what, from)| *what == "response-out-of-step" && from == HOST));
}

#[test]
fn only_whoever_said_it_says_that_it_was_wrong() {
    let mut story = Story::new();
    let notice = story.does(HOST, Kind::CaseNotice, Act::Tell);
    assert_eq!(story.may_not(ORIGIN, Kind::Correction, Act::Amend(vec![notice])), OutOfStep::NotYours);
    assert_eq!(story.may_not(ORIGIN, Kind::EraseNotice, Act::Amend(vec![notice])), OutOfStep::NotYours);
    story.does(HOST, Kind::Correction, Act::Amend(vec![notice]));
}

#[test]
fn a_message_replaces_an_earlier_one_of_its_own_only() {
    let mut story = Story::new();
    let request = story.does(HOST, Kind::InfoRequest, Act::Tell);
    story.does(ORIGIN, Kind::Decline, Act::Decline { fixable: true });
    let mut again = story.event(HOST, Kind::InfoRequest, Act::Tell);
    again.supersedes = Some(request);
    let mut foreign = story.event(ORIGIN, Kind::InfoRequest, Act::Tell);
    foreign.supersedes = Some(request);
    assert_eq!(fits(&story, &foreign), Err(OutOfStep::SupersedesOther));
    assert_eq!(fits(&story, &again), Ok(()));
    story.events.push(again.clone());
    assert_eq!(story.thread().superseded_by(request), Some(again.id), "both are there, and which counts");
}

#[test]
fn a_consent_that_is_withdrawn_is_passed_on_to_whoever_was_told_by_others() {
    let mut story = Story::return_with_papers(false);
    let mut told = story.event(ORIGIN, Kind::CaseUpdate, Act::Update { closed: false });
    told.to = vec!["VN-PRV-LCI".parse().unwrap()];
    // In answer to its own message: the host's H2 is not passed on.
    (told.in_reply_to, told.handling) = (Some(story.events[2].id), Handling::H2);
    story.events[0].handling = Handling::H1;
    story.events.push(told);
    story.does(HOST, Kind::ConsentChange, WITHDRAWS);
    let expected = |story: &Story| story.expects().into_iter().find(|(what, _)| *what == "consent-passed-on");
    assert_eq!(
        expected(&story).map(|(_, from)| from),
        Some(ORIGIN.to_owned()),
        "who told the province tells it this, too"
    );
    let mut on = story.event(ORIGIN, Kind::ConsentChange, WITHDRAWS);
    on.to = vec!["VN-PRV-LCI".parse().unwrap(), HOST.parse().unwrap()];
    story.events.push(on);
    assert_eq!(expected(&story), None);
}
