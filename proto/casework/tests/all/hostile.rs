//! What an office with good keys can sign, and cannot do with it to a thread.

use liaison_casework::{
    act::{Act, BestInterests},
    thread::{Mark, Thread, out_of_step::OutOfStep},
};
use liaison_proto::{
    clock::UnixMillis,
    ids::LogIndex,
    wire::{DataClass, Kind, Step},
};

use crate::{
    threads::{HOST, ORIGIN, RETURN, START, Story, WITHDRAWS, record, update},
    two_persons::{SUSPECT, VICTIM, about},
};

/// An answer to a message that nobody has sent yet cannot be moved behind it when it comes.
#[test]
fn nobody_undoes_a_step_by_naming_a_message_that_does_not_exist_yet() {
    let mut story = Story::return_with_papers(false);
    let mut later = story.event(ORIGIN, Kind::ConsentChange, WITHDRAWS);
    story.events.last_mut().unwrap().in_reply_to = Some(later.id);
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    story.does(ORIGIN, Kind::HandoverAnswer, Act::AnswerHandover { agreed: true });
    later.in_reply_to = None;
    story.events.push(later);
    for (index, event) in (0..).zip(&mut story.events) {
        event.entry = Some(LogIndex(index));
    }
    let read = story.thread();
    let marks: Vec<Mark> = read.taken().iter().map(|taken| taken.mark).collect();
    assert!(marks.iter().all(|mark| *mark == Mark::Taken), "{marks:?}");
    assert_eq!(read.taken().last().unwrap().kind, Kind::ConsentChange, "it is read where the log has it");
}

/// Promise 9: an office of a third country takes no step in a matter that nobody has written to it about, whatever it knows of it.
#[test]
fn promise_9_nobody_else_takes_a_step_in_a_thread() {
    let mut story = Story::return_with_papers(false);
    for (kind, act) in [
        (Kind::ConsentChange, WITHDRAWS),
        (Kind::Decline, Act::Decline { fixable: false }),
        (Kind::HandoverProposal, Act::ProposeHandover),
        (Kind::Ack, Act::Acknowledge { classified: true }),
    ] {
        assert_eq!(story.may_not("KH-BLO-BVT", kind, act.clone()), OutOfStep::NotAParty);
        let stray = story.event("KH-BLO-BVT", kind, act);
        let mut events = story.events.clone();
        events.push(stray);
        let read = Thread::replay(story.events[0].id, events, &[]).unwrap();
        assert_eq!(read.state(UnixMillis(story.now)), Step::ReturnDocsReady);
    }
    // Nor does it become one by what cannot be read, or by what declares too little.
    let mut garbage = story.event("KH-BLO-BVT", Kind::ConsentChange, WITHDRAWS);
    (garbage.digest, garbage.to) = (None, vec!["KH-CCP-PNH".parse().unwrap(), ORIGIN.parse().unwrap()]);
    let mut events = story.events.clone();
    events.extend([garbage, story.event("KH-CCP-PNH", Kind::ConsentChange, WITHDRAWS)]);
    let read = Thread::replay(story.events[0].id, events, &[]).unwrap();
    assert_eq!(read.state(UnixMillis(story.now)), Step::ReturnDocsReady);
    // A country of transit that was told hears of it, and may tell that the person said no; it verifies nothing.
    story.does(HOST, Kind::CallNote, Act::Note);
    let request = story.events[0].id;
    let note = story.events.last_mut().unwrap();
    // In answer to its own request: what the other side wrote is the other side's to pass on.
    (note.in_reply_to, note.to) = (Some(request), vec![ORIGIN.parse().unwrap(), "LA-CCP-VTE".parse().unwrap()]);
    assert_eq!(story.may_not("LA-CCP-VTE", Kind::HandoverProposal, Act::ProposeHandover), OutOfStep::OtherSide);
    story.does("LA-CCP-VTE", Kind::ConsentChange, WITHDRAWS);
    assert_eq!(story.state(), Step::ReturnSuspended);
}

/// A clock that is set back changes nothing about what was read before: the log's order counts.
#[test]
fn nobody_undoes_a_step_by_setting_a_clock_back() {
    let mut story = Story::return_with_papers(false);
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    for (index, event) in (0..).zip(&mut story.events) {
        event.entry = Some(LogIndex(index));
    }
    let mut late = story.event(ORIGIN, Kind::Decline, Act::Decline { fixable: false });
    (late.in_reply_to, late.created_at) = (Some(story.events[0].id), UnixMillis(START + 1));
    late.entry = Some(LogIndex(99));
    story.events.push(late);
    assert_eq!(story.state(), Step::ReturnProposed);
    assert_eq!(story.thread().taken().last().unwrap().mark, Mark::OutOfStep(OutOfStep::Answered));
}

/// Whoever wrote before it had seen what stands there now agrees to nothing, releases nobody and resumes nothing by it; it can say so
/// again once it has read that.
#[test]
fn nothing_that_protects_is_undone_by_what_was_written_before_it_was_seen() {
    let given = Act::Consent { withdrawn: false, scopes: RETURN };
    let child_returns = || Act::UpdateReturn { to: Step::ReturnDocsReady, best_interests: Some(BestInterests::Return) };
    let propose = || Act::ProposeHandover;
    let agree = || Act::AnswerHandover { agreed: true };
    // What stood there, what came since, and the step that had seen only the former.
    for (first, newer, stale) in [
        (
            Some((HOST, Kind::HandoverProposal, propose())),
            (HOST, Kind::HandoverProposal, propose()),
            (ORIGIN, Kind::HandoverAnswer, agree()),
        ),
        (None, (ORIGIN, Kind::ReturnUpdate, update(Step::ReturnBiaHold)), (HOST, Kind::ReturnUpdate, child_returns())),
        (
            Some((ORIGIN, Kind::ConsentChange, WITHDRAWS)),
            (ORIGIN, Kind::ConsentChange, WITHDRAWS),
            (HOST, Kind::ConsentChange, given),
        ),
    ] {
        let mut story = Story::return_with_papers(false);
        if let Some((from, kind, act)) = first {
            story.does(from, kind, act);
        }
        let mut unaware = story.event(stale.0, stale.1, stale.2.clone());
        story.does(newer.0, newer.1, newer.2);
        let before = story.thread();
        unaware.created_at = UnixMillis(story.now);
        let mut events = story.events.clone();
        events.push(unaware.clone());
        let read = Thread::replay(story.events[0].id, events, &[]).unwrap();
        assert_eq!(read.taken_of(unaware.id).unwrap().mark, Mark::OutOfStep(OutOfStep::NotSeen), "{:?}", stale.1);
        assert_eq!(
            (read.state(unaware.created_at), read.victim_return().unwrap().is_held()),
            (before.state(unaware.created_at), before.victim_return().unwrap().is_held())
        );
        story.does(stale.0, stale.1, stale.2);
    }
    let mut briefing = Story::new();
    briefing.does(HOST, Kind::BriefingPlan, Act::Brief { agreed: false });
    let mut unaware = briefing.event(ORIGIN, Kind::BriefingPlan, Act::Brief { agreed: true });
    briefing.does(HOST, Kind::BriefingPlan, Act::Brief { agreed: false });
    unaware.created_at = UnixMillis(briefing.now);
    assert_eq!(briefing.refuses(unaware), OutOfStep::NotSeen);
}

/// A side that has signed for a person does not unsign it, to close the return as one that never was.
#[test]
fn a_signature_that_both_sides_gave_is_not_taken_back() {
    let mut story = Story::return_with_papers(false);
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    story.does(ORIGIN, Kind::HandoverAnswer, Act::AnswerHandover { agreed: true });
    story.does(HOST, Kind::HandoverReceipt, record("minutes", ""));
    let second = story.does(ORIGIN, Kind::HandoverReceipt, record("minutes", "minutes"));
    assert_eq!(story.may_not(ORIGIN, Kind::Withdraw, Act::TakeBack(vec![second])), OutOfStep::TooLateToWithdraw);
}

/// A message that was out of step names its victim all the same: nobody calls the person a suspect alone.
#[test]
fn a_victim_of_a_message_that_does_not_fit_is_protected_as_one() {
    let mut story = Story::new();
    let mut root = about(&story, HOST, VICTIM);
    root.digest.as_mut().unwrap().data_class = DataClass::P3;
    root.data_class = DataClass::P1;
    story.events.push(root);
    assert_eq!(story.thread().taken()[0].mark, Mark::OutOfStep(OutOfStep::DeclaresTooLittle));
    assert_eq!(story.refuses(about(&story, ORIGIN, SUSPECT)), OutOfStep::NotCountersigned);
}

/// Who came later cannot judge where the thread stands, and judges what needs no history like everybody else.
#[test]
fn who_comes_later_is_bound_by_two_persons_too() {
    let story = Story::return_with_papers(false);
    let (root, came) = (story.events[0].id, story.event(HOST, Kind::CallNote, Act::Note));
    let both = about(&story, ORIGIN, &format!("{VICTIM}{SUSPECT}"));
    assert_eq!(Thread::check(root, [came.clone()], both), Err(OutOfStep::NotCountersigned));
    let mut replaces = story.event(ORIGIN, Kind::CallNote, Act::Note);
    replaces.supersedes = Some(came.id);
    assert_eq!(Thread::check(root, [came], replaces), Err(OutOfStep::SupersedesOther));
}
