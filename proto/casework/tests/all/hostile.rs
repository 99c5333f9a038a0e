//! What an office with good keys can sign, and cannot do with it to a thread.

use liaison_casework::{
    act::Act,
    thread::{Mark, Thread, out_of_step::OutOfStep},
};
use liaison_proto::{
    clock::UnixMillis,
    ids::LogIndex,
    wire::{Kind, Step},
};

use crate::threads::{HOST, ORIGIN, START, Story, WITHDRAWS};

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
