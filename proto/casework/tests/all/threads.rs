//! Threads: where they stand follows from their messages alone, nothing is dropped, nothing is overwritten silently.

use liaison_casework::{
    act::{Act, BestInterests, Details, HitResult, Onward, Scopes, SignedRecord, steps},
    tables::Tables,
    thread::{
        Mark, Thread,
        control::{self, ControlBreach},
        event::{Digest, Event},
        out_of_step::OutOfStep,
    },
};
use liaison_proto::{
    clock::{DAY_MS, HOUR_MS, UnixMillis},
    entropy::Entropy,
    ids::{MessageId, OfficeId},
    wire::{DataClass, Handling, Kind, Priority, Step, Tlp},
};

pub(crate) const HOST: &str = "TH-CCP-BKK";
pub(crate) const ORIGIN: &str = "VN-CCP-HAN";
/// 2026-11-20T00:00Z, a Friday.
pub(crate) const START: i64 = 1_795_132_800_000;

struct Counting(std::sync::atomic::AtomicU8);

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        let next = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        buffer.fill(next);
    }
}

/// A content that does something, and no more.
pub(crate) fn digest(act: Act) -> Digest {
    Digest { act, details: Details::default(), data_class: DataClass::P0, countersigned: false }
}

/// A thread that is written message by message.
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
    entropy: Counting,
    pub(crate) now: i64,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self { events: Vec::new(), entropy: Counting(0.into()), now: START }
    }

    pub(crate) fn event(&self, from: &str, kind: Kind, act: Act) -> Event {
        let at = UnixMillis(self.now);
        let root = self.events.first();
        let other = if from == HOST { ORIGIN } else { HOST };
        Event {
            id: MessageId::new(at, &self.entropy),
            from: from.parse().unwrap(),
            to: vec![other.parse().unwrap()],
            kind,
            step: steps(&act)[0],
            in_reply_to: root.and(self.events.last()).map(|event| event.id),
            supersedes: None,
            entry: None,
            created_at: at,
            due_at: None,
            retain_until: None,
            priority: Priority::Urgent,
            handling: Handling::H2,
            tlp: Tlp::AmberStrict,
            data_class: DataClass::P3,
            digest: Some(digest(act)),
            breaks_agreement: false,
        }
    }

    pub(crate) fn thread(&self) -> Thread {
        let root = self.events.first().map(|event| event.id).unwrap();
        Thread::replay(root, self.events.iter().cloned(), &[]).unwrap()
    }

    pub(crate) fn state(&self) -> Step {
        self.thread().state(UnixMillis(self.now))
    }

    /// Sends what fits.
    pub(crate) fn does(&mut self, from: &str, kind: Kind, act: Act) -> MessageId {
        let event = self.event(from, kind, act);
        let id = event.id;
        if let Some(root) = self.events.first() {
            assert_eq!(Thread::check(root.id, self.events.iter().cloned(), event.clone()), Ok(()), "{event:?}");
        }
        self.events.push(event);
        self.now += HOUR_MS;
        id
    }

    /// What composition says of what does not fit; nothing is sent.
    pub(crate) fn may_not(&self, from: &str, kind: Kind, act: Act) -> OutOfStep {
        self.refuses(self.event(from, kind, act))
    }

    /// The same of a message as it is.
    pub(crate) fn refuses(&self, event: Event) -> OutOfStep {
        Thread::check(self.events[0].id, self.events.iter().cloned(), event).unwrap_err()
    }

    pub(crate) fn expects(&self) -> Vec<(&'static str, String)> {
        let expected = self.thread().expected(Tables::built_in(), UnixMillis(self.now));
        expected.into_iter().map(|expected| (expected.what, expected.from[0].to_string())).collect()
    }

    /// A return up to its papers.
    pub(crate) fn return_with_papers(child: bool) -> Self {
        let mut story = Self::new();
        story.does(HOST, Kind::ReturnRequest, Act::RequestReturn { child });
        story.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnVerifying));
        story.does(ORIGIN, Kind::VerifyReply, Act::Verify { receivable: true, safe: true });
        story.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnDocsReady));
        story
    }
}

pub(crate) const fn update(to: Step) -> Act {
    Act::UpdateReturn { to, best_interests: None }
}

pub(crate) fn record(sha256: &str, quotes: &str) -> Act {
    Act::HandOver(SignedRecord { sha256: sha256.to_owned(), quotes: quotes.to_owned() })
}

pub(crate) const RETURN: Scopes = Scopes { verify: false, returns: true };
pub(crate) const WITHDRAWS: Act = Act::Consent { withdrawn: true, scopes: RETURN };

#[test]
fn a_return_goes_from_r1_to_r9_and_never_leaps() {
    let mut story = Story::new();
    story.does(HOST, Kind::ReturnRequest, Act::RequestReturn { child: false });
    assert_eq!(story.may_not(HOST, Kind::ReturnUpdate, update(Step::ReturnVerifying)), OutOfStep::OtherSide);
    let verified = Act::Verify { receivable: true, safe: true };
    assert_eq!(story.may_not(ORIGIN, Kind::VerifyReply, verified.clone()), OutOfStep::NotVerifying);
    assert!(story.expects().contains(&("verification", ORIGIN.to_owned())));
    story.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnVerifying));
    assert_eq!(story.may_not(HOST, Kind::VerifyReply, verified.clone()), OutOfStep::OtherSide);
    assert_eq!(story.may_not(HOST, Kind::HandoverProposal, Act::ProposeHandover), OutOfStep::NotVerified);
    story.does(ORIGIN, Kind::VerifyReply, verified);
    assert_eq!(story.may_not(HOST, Kind::HandoverProposal, Act::ProposeHandover), OutOfStep::NotReady);
    story.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnDocsReady));
    assert_eq!(story.may_not(HOST, Kind::HandoverReceipt, record("a", "")), OutOfStep::NotAgreed);
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    assert!(story.expects().contains(&("handover-answer", ORIGIN.to_owned())));
    let agreed = Act::AnswerHandover { agreed: true };
    assert_eq!(story.may_not(HOST, Kind::HandoverAnswer, agreed.clone()), OutOfStep::OwnProposal);
    story.does(ORIGIN, Kind::HandoverProposal, Act::ProposeHandover);
    assert_eq!(story.state(), Step::ReturnCountered);
    story.does(HOST, Kind::HandoverAnswer, agreed);
    story.does(HOST, Kind::HandoverReceipt, record("a", ""));
    assert_eq!(story.may_not(HOST, Kind::HandoverReceipt, record("a", "a")), OutOfStep::SignedBefore);
    assert_eq!(story.may_not(ORIGIN, Kind::HandoverReceipt, record("b", "a")), OutOfStep::RecordsDiffer);
    assert!(story.expects().contains(&("handover-receipt", ORIGIN.to_owned())));
    story.does(ORIGIN, Kind::HandoverReceipt, record("a", "a"));
    assert!(!story.expects().iter().any(|(what, _)| *what == "handover-receipt"));
    story.does(ORIGIN, Kind::ReintegFeedback, Act::Feedback { closes: false });
    assert_eq!(story.state(), Step::ReturnReintegrating);
    story.does(ORIGIN, Kind::ReintegFeedback, Act::Feedback { closes: true });
    assert_eq!(story.state(), Step::ReturnClosed);
    assert_eq!(story.may_not(HOST, Kind::ReturnUpdate, update(Step::ReturnFailed)), OutOfStep::Closed);
}

#[test]
fn a_child_is_not_handed_over_before_its_best_interests_and_a_guardian_are_recorded() {
    let mut story = Story::return_with_papers(true);
    assert!(story.thread().victim_return().unwrap().is_held());
    assert!(story.expects().contains(&("best-interests", HOST.to_owned())));
    assert_eq!(story.may_not(HOST, Kind::HandoverProposal, Act::ProposeHandover), OutOfStep::ChildHeld);
    let decided = |decision| Act::UpdateReturn { to: Step::ReturnDocsReady, best_interests: Some(decision) };
    story.does(HOST, Kind::ReturnUpdate, decided(BestInterests::Other));
    assert_eq!(story.may_not(HOST, Kind::HandoverProposal, Act::ProposeHandover), OutOfStep::ChildStays);
    story.does(HOST, Kind::ReturnUpdate, decided(BestInterests::Return));
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    // A new doubt after the proposal holds it again, and nobody can agree.
    story.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnBiaHold));
    assert_eq!(story.may_not(ORIGIN, Kind::HandoverAnswer, Act::AnswerHandover { agreed: true }), OutOfStep::ChildHeld);
}

#[test]
fn a_consent_that_is_withdrawn_stops_a_return_wherever_it_stands() {
    for with_proposal in [false, true] {
        let mut story = Story::return_with_papers(false);
        if with_proposal {
            story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
        }
        let before = story.state();
        story.does(HOST, Kind::ConsentChange, WITHDRAWS);
        assert_eq!(story.state(), Step::ReturnSuspended);
        assert_eq!(story.may_not(HOST, Kind::HandoverProposal, Act::ProposeHandover), OutOfStep::Suspended);
        let mut again = Story { events: story.events.clone(), entropy: Counting(99.into()), now: story.now };
        again.does(HOST, Kind::ConsentChange, Act::Consent { withdrawn: false, scopes: RETURN });
        assert_eq!(again.state(), before, "a person may think again");
        story.does(HOST, Kind::ReturnUpdate, update(Step::ReturnClosedNotReturned));
        assert_eq!(story.state(), Step::ReturnClosedNotReturned);
    }
}

#[test]
fn a_handover_that_failed_is_proposed_again() {
    let mut story = Story::return_with_papers(false);
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    story.does(ORIGIN, Kind::HandoverAnswer, Act::AnswerHandover { agreed: true });
    story.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnFailed));
    assert_eq!(story.state(), Step::ReturnFailed);
    story.does(ORIGIN, Kind::HandoverProposal, Act::ProposeHandover);
    assert_eq!(story.state(), Step::ReturnProposed);
}

/// Both propose before either has heard of the other: both are shown, one rule says which stands.
#[test]
fn steps_sent_at_the_same_time_are_both_shown() {
    let mut story = Story::return_with_papers(false);
    let mut first = story.event(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    story.now += 60_000;
    let mut second = story.event(ORIGIN, Kind::HandoverProposal, Act::ProposeHandover);
    let seen = story.events.last().map(|event| event.id);
    (first.in_reply_to, second.in_reply_to) = (seen, seen);
    for events in [[&first, &second], [&second, &first]] {
        let both = story.events.iter().chain(events).cloned();
        let thread = Thread::replay(story.events[0].id, both, &[]).unwrap();
        let taken = thread.taken();
        let found: Vec<_> = taken[taken.len() - 2..].iter().map(|t| (t.id, t.mark, t.concurrent_with)).collect();
        assert_eq!(found, [(first.id, Mark::Taken, None), (second.id, Mark::Taken, Some(first.id))]);
        assert_eq!(thread.state(UnixMillis(story.now)), Step::ReturnCountered);
    }
}

#[test]
fn what_does_not_fit_is_kept_marked_and_to_be_answered() {
    let mut story = Story::new();
    story.does(HOST, Kind::ReturnRequest, Act::RequestReturn { child: false });
    let leap = story.event(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    let stray = leap.id;
    story.events.push(leap);
    let taken = story.thread().taken().last().cloned().unwrap();
    assert_eq!((taken.id, taken.mark), (stray, Mark::OutOfStep(OutOfStep::NotVerified)));
    assert_eq!(story.state(), Step::ReturnRequested);
    assert!(story.expects().contains(&("response-out-of-step", ORIGIN.to_owned())));
    // A header that says another step than its content is one, too.
    let mut lying = story.event(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnVerifying));
    lying.step = Step::ReturnClosed;
    story.events.push(lying);
    assert_eq!(story.thread().taken().last().unwrap().mark, Mark::OutOfStep(OutOfStep::StepDisagrees));
    // So is one whose header declared less than it holds: agreements were asked about something else.
    story.now += HOUR_MS;
    let mut hiding = story.event(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnVerifying));
    hiding.data_class = DataClass::P0;
    hiding.digest.as_mut().unwrap().data_class = DataClass::P3;
    story.events.push(hiding);
    assert_eq!(story.thread().taken().last().unwrap().mark, Mark::OutOfStep(OutOfStep::DeclaresTooLittle));
    assert_eq!(story.state(), Step::ReturnRequested);
}

#[test]
fn a_child_that_is_to_stay_is_not_handed_over_whatever_was_agreed_before() {
    for agreed in [false, true] {
        let mut story = Story::return_with_papers(true);
        let decided = |to, decision| Act::UpdateReturn { to, best_interests: Some(decision) };
        // The child is where the host is: the other side does not decide for it.
        let other_side = decided(Step::ReturnDocsReady, BestInterests::Return);
        assert_eq!(story.may_not(ORIGIN, Kind::ReturnUpdate, other_side), OutOfStep::OtherSide);
        story.does(HOST, Kind::ReturnUpdate, decided(Step::ReturnDocsReady, BestInterests::Return));
        story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
        let answer = Act::AnswerHandover { agreed: true };
        if agreed {
            story.does(ORIGIN, Kind::HandoverAnswer, answer.clone());
        }
        story.does(HOST, Kind::ReturnUpdate, decided(Step::ReturnBiaHold, BestInterests::Other));
        let (kind, act) =
            if agreed { (Kind::HandoverReceipt, record("a", "")) } else { (Kind::HandoverAnswer, answer) };
        assert_eq!(story.may_not(ORIGIN, kind, act), OutOfStep::ChildStays);
    }
}

/// What one side alone has signed ends nobody's protection, and stops nobody from saying that it was not so.
#[test]
fn a_handover_is_one_when_both_sides_have_signed() {
    let mut story = Story::return_with_papers(false);
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    story.does(ORIGIN, Kind::HandoverAnswer, Act::AnswerHandover { agreed: true });
    story.does(ORIGIN, Kind::HandoverReceipt, record("invented", ""));
    assert_eq!(story.may_not(ORIGIN, Kind::ReintegFeedback, Act::Feedback { closes: true }), OutOfStep::NotHandedOver);
    let mut stopped = Story { events: story.events.clone(), entropy: Counting(88.into()), now: story.now };
    stopped.does(HOST, Kind::ConsentChange, WITHDRAWS);
    assert_eq!(stopped.state(), Step::ReturnSuspended);
    story.does(HOST, Kind::ReturnUpdate, update(Step::ReturnFailed));
    story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    assert_eq!(story.state(), Step::ReturnProposed);
    assert_eq!(story.may_not(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnClosedNotReturned)), OutOfStep::OtherSide);
}

#[test]
fn a_consent_comes_back_whole_and_from_where_the_person_is() {
    let mut story = Story::return_with_papers(false);
    let both = Scopes { verify: true, returns: true };
    story.does(HOST, Kind::ConsentChange, Act::Consent { withdrawn: true, scopes: both });
    let given = |scopes| Act::Consent { withdrawn: false, scopes };
    story.does(ORIGIN, Kind::ConsentChange, given(both));
    assert_eq!(story.state(), Step::ReturnSuspended, "the other side cannot give it");
    story.does(HOST, Kind::ConsentChange, given(Scopes { verify: true, returns: false }));
    assert_eq!(story.state(), Step::ReturnSuspended, "consent to be verified is none to return");
    story.does(HOST, Kind::ConsentChange, given(RETURN));
    assert_eq!(story.state(), Step::ReturnDocsReady);
}

#[test]
fn messages_are_taken_back_all_or_none_and_what_others_said_stays() {
    let mut story = Story::new();
    let asked = story.does(HOST, Kind::InfoRequest, Act::Tell);
    let answer = story.does(ORIGIN, Kind::InfoReply, Act::Answer { partial: false });
    assert_eq!(story.may_not(HOST, Kind::Withdraw, Act::TakeBack(vec![asked, answer])), OutOfStep::NotYours);
    let mut mixed = story.event(HOST, Kind::Withdraw, Act::TakeBack(vec![asked, answer]));
    mixed.created_at = UnixMillis(story.now);
    let read = Thread::replay(asked, story.events.iter().cloned().chain([mixed]), &[]).unwrap();
    assert_eq!(read.state(UnixMillis(story.now)), Step::Answered, "what does not fit changes nothing");
    // A child that was recognised while the other side verified stays recognised when that step is taken back.
    let mut child = Story::new();
    child.does(HOST, Kind::ReturnRequest, Act::RequestReturn { child: false });
    let verifying = child.does(ORIGIN, Kind::ReturnUpdate, update(Step::ReturnVerifying));
    child.does(HOST, Kind::ReturnRequest, Act::RequestReturn { child: true });
    assert_eq!(child.may_not(ORIGIN, Kind::Withdraw, Act::TakeBack(vec![verifying])), OutOfStep::BuiltUpon);
    // A grant that is taken back is none.
    let mut onward = Story::new();
    let notice = onward.does(HOST, Kind::CaseNotice, Act::Tell);
    let new: OfficeId = "KH-CCP-PNH".parse().unwrap();
    let about = Onward { messages: vec![notice], recipient: Some(new) };
    let decision = onward.does(HOST, Kind::OnwardDecision, Act::DecideOnward { about, granted: true });
    assert!(onward.thread().grants().allows(notice, new));
    onward.does(HOST, Kind::Withdraw, Act::TakeBack(vec![decision]));
    assert!(!onward.thread().grants().allows(notice, new));
}

/// Who was written to later has no say about where the thread stands, and is held up by nothing that it cannot know.
#[test]
fn who_comes_later_reads_from_there_and_may_answer() {
    let story = Story::return_with_papers(false);
    let root = story.events[0].id;
    let proposal = story.event(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    let mut known = Story { events: vec![proposal], entropy: Counting(66.into()), now: story.now };
    let answer = known.event(ORIGIN, Kind::HandoverAnswer, Act::AnswerHandover { agreed: true });
    assert_eq!(Thread::check(root, known.events.iter().cloned(), answer.clone()), Ok(()));
    known.events.push(answer);
    let read = Thread::replay(root, known.events, &[]).unwrap();
    assert!(read.is_incomplete() && read.taken().iter().all(|taken| taken.mark == Mark::Noted));
}

#[test]
fn an_alert_is_hit_and_its_originator_says_whether_it_was_the_person() {
    let mut story = Story::new();
    let valid_until = Some(UnixMillis(START + 90 * DAY_MS));
    story.does(HOST, Kind::SuspectAlert, Act::Alert { valid_until });
    assert_eq!(story.may_not(HOST, Kind::AlertHit, Act::Hit(HitResult::Met)), OutOfStep::OtherSide);
    story.does(ORIGIN, Kind::AlertHit, Act::Hit(HitResult::Met));
    assert_eq!(story.state(), Step::AlertHit);
    assert_eq!(story.may_not(ORIGIN, Kind::AlertHit, Act::Hit(HitResult::Confirmed)), OutOfStep::OtherSide);
    story.does(HOST, Kind::AlertHit, Act::Hit(HitResult::False));
    assert_eq!(story.state(), Step::AlertActive, "a false hit leaves it in force");
    story.does(ORIGIN, Kind::AlertHit, Act::Hit(HitResult::Met));
    assert!(story.expects().contains(&("hit-check", HOST.to_owned())));
    story.does(HOST, Kind::AlertHit, Act::Hit(HitResult::Confirmed));
    assert_eq!(story.state(), Step::AlertConfirmed);
    let over = UnixMillis(START + 91 * DAY_MS);
    assert_eq!(story.thread().state(over), Step::AlertConfirmed);
    story.does(HOST, Kind::AlertCancel, Act::CancelAlert);
    assert_eq!(story.may_not(HOST, Kind::SuspectAlert, Act::Alert { valid_until }), OutOfStep::Closed);
}

#[test]
fn a_declined_request_is_mended_or_not() {
    let mut story = Story::new();
    story.does(HOST, Kind::InfoRequest, Act::Tell);
    assert_eq!(story.may_not(HOST, Kind::InfoReply, Act::Answer { partial: false }), OutOfStep::OtherSide);
    story.does(ORIGIN, Kind::Decline, Act::Decline { fixable: true });
    assert!(story.expects().contains(&("resubmission", HOST.to_owned())));
    story.does(HOST, Kind::InfoRequest, Act::Tell);
    assert_eq!(story.state(), Step::InProgress);
    story.does(ORIGIN, Kind::InfoReply, Act::Answer { partial: true });
    story.does(ORIGIN, Kind::InfoReply, Act::Answer { partial: false });
    assert_eq!(story.state(), Step::Answered);
    assert_eq!(story.may_not(ORIGIN, Kind::Decline, Act::Decline { fixable: true }), OutOfStep::Answered);
    story.does(HOST, Kind::CaseUpdate, Act::Update { closed: true });
    assert_eq!(story.may_not(ORIGIN, Kind::InfoReply, Act::Answer { partial: false }), OutOfStep::Closed);
    let mut refused = Story::new();
    refused.does(HOST, Kind::InfoRequest, Act::Tell);
    refused.does(ORIGIN, Kind::Decline, Act::Decline { fixable: false });
    assert_eq!(refused.may_not(HOST, Kind::InfoRequest, Act::Tell), OutOfStep::NotFixable);
}

#[test]
fn a_step_that_is_taken_back_counts_no_more_unless_others_built_on_it() {
    let mut story = Story::return_with_papers(false);
    let proposal = story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    story.does(HOST, Kind::Withdraw, Act::TakeBack(vec![proposal]));
    assert_eq!(story.state(), Step::ReturnDocsReady);
    let again = story.does(HOST, Kind::HandoverProposal, Act::ProposeHandover);
    story.does(ORIGIN, Kind::HandoverAnswer, Act::AnswerHandover { agreed: true });
    assert_eq!(story.may_not(HOST, Kind::Withdraw, Act::TakeBack(vec![again])), OutOfStep::BuiltUpon);
    assert_eq!(story.may_not(ORIGIN, Kind::Withdraw, Act::TakeBack(vec![again])), OutOfStep::NotYours);
    let root = story.events[0].id;
    story.does(HOST, Kind::Withdraw, Act::TakeBack(vec![root]));
    assert_eq!(story.state(), Step::Withdrawn);
    assert!(story.expects().is_empty());
}

#[test]
fn nobody_new_hears_of_what_the_originator_has_not_released() {
    let mut story = Story::new();
    story.does(HOST, Kind::CaseNotice, Act::Tell);
    let new: OfficeId = "KH-CCP-PNH".parse().unwrap();
    let forward = |story: &Story| {
        let mut forward = story.event(ORIGIN, Kind::CaseNotice, Act::Tell);
        forward.to = vec![new];
        forward.in_reply_to = Some(story.events[0].id);
        control::check(&forward, &story.thread())
    };
    assert_eq!(forward(&story), Err(ControlBreach::NotGranted(new)));
    let about = Onward { messages: vec![story.events[0].id], recipient: Some(new) };
    story.does(ORIGIN, Kind::OnwardRequest, Act::AskOnward(about.clone()));
    assert!(story.expects().contains(&("decision", HOST.to_owned())));
    let decides = |granted| Act::DecideOnward { about: about.clone(), granted };
    // Whoever asks does not decide.
    let mut own = Story { events: story.events.clone(), entropy: Counting(77.into()), now: story.now };
    own.does(ORIGIN, Kind::OnwardDecision, decides(true));
    assert_eq!(forward(&own), Err(ControlBreach::NotGranted(new)));
    story.does(HOST, Kind::OnwardDecision, decides(false));
    assert_eq!(forward(&story), Err(ControlBreach::NotGranted(new)));
    story.does(HOST, Kind::OnwardDecision, decides(true));
    assert_eq!(forward(&story), Ok(()));
    let mut wider = story.event(ORIGIN, Kind::CaseUpdate, Act::Update { closed: false });
    wider.tlp = Tlp::Amber;
    let breach = control::check(&wider, &story.thread());
    assert_eq!(breach, Err(ControlBreach::Wider { at_least: Tlp::AmberStrict }));
    // In answer to a message of one's own it is the same matter.
    let mut around = Story::new();
    around.does(HOST, Kind::CaseNotice, Act::Tell);
    around.does(ORIGIN, Kind::CaseUpdate, Act::Update { closed: false });
    let mut forward = around.event(ORIGIN, Kind::CaseUpdate, Act::Update { closed: false });
    forward.to = vec![new];
    let breach = control::check(&forward, &around.thread());
    assert_eq!(breach, Err(ControlBreach::NotGranted(new)));
}

#[test]
fn working_days_skip_weekends_and_holidays_of_the_country() {
    let friday = UnixMillis(START);
    let day = |days, country: &str| {
        let end = Tables::built_in().after_working_days(friday, days, country.parse().unwrap());
        end.to_string()[..10].to_owned()
    };
    assert_eq!(day(1, "VN"), "2026-11-23");
    // The water festival of Cambodia is on 23 to 25 November 2026.
    assert_eq!(day(1, "KH"), "2026-11-26");
    // Viet Nam's day of culture is on 24 November.
    assert_eq!(day(20, "VN"), "2026-12-21");
}
