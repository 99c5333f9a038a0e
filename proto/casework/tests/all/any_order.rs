//! Whatever is sent, in whatever order it comes: both sides of a thread read the same.

use std::sync::LazyLock;

use liaison_casework::{
    act::{Act, BestInterests, HitResult, Scopes},
    persons::Persons,
    tables::Tables,
    thread::{Mark, Taken, Thread, event::Event},
};
use liaison_proto::{
    clock::{DAY_MS, UnixMillis},
    ids::LogIndex,
    wire::{Kind, Step, Tlp},
};
use proptest::{prelude::*, sample::Index};

use crate::{
    threads::{HOST, ORIGIN, START, Story, record},
    two_persons::{OTHER, SUSPECT, VICTIM, notice},
};

/// Acts that a party may send, sensible or not.
fn any_act() -> impl Strategy<Value = (Kind, Act)> {
    let step = prop::sample::select(vec![
        Step::ReturnVerifying,
        Step::ReturnBiaHold,
        Step::ReturnDocsReady,
        Step::ReturnFailed,
        Step::ReturnClosedRefused,
        Step::ReturnClosedNotReturned,
    ]);
    let decided = prop::option::of(prop::sample::select(vec![BestInterests::Return, BestInterests::Other]));
    let signed = ("[ab]", prop::sample::select(vec!["", "a", "b"]));
    prop_oneof![
        any::<bool>().prop_map(|child| (Kind::ReturnRequest, Act::RequestReturn { child })),
        (step, decided)
            .prop_map(|(to, best_interests)| { (Kind::ReturnUpdate, Act::UpdateReturn { to, best_interests }) }),
        (any::<bool>(), any::<bool>())
            .prop_map(|(receivable, safe)| (Kind::VerifyReply, Act::Verify { receivable, safe })),
        Just((Kind::HandoverProposal, Act::ProposeHandover)),
        any::<bool>().prop_map(|agreed| (Kind::HandoverAnswer, Act::AnswerHandover { agreed })),
        signed.prop_map(|(own, quoted)| (Kind::HandoverReceipt, record(&own, quoted))),
        any::<bool>().prop_map(|closes| (Kind::ReintegFeedback, Act::Feedback { closes })),
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(withdrawn, verify, returns)| {
            (Kind::ConsentChange, Act::Consent { withdrawn, scopes: Scopes { verify, returns } })
        }),
        any::<bool>().prop_map(|fixable| (Kind::Decline, Act::Decline { fixable })),
        any::<bool>().prop_map(|classified| (Kind::Ack, Act::Acknowledge { classified })),
        any::<bool>().prop_map(|closed| (Kind::CaseUpdate, Act::Update { closed })),
        any::<bool>().prop_map(|partial| (Kind::InfoReply, Act::Answer { partial })),
        Just((Kind::InfoRequest, Act::Tell)),
        prop::sample::select(vec![HitResult::Met, HitResult::Confirmed, HitResult::False])
            .prop_map(|result| (Kind::AlertHit, Act::Hit(result))),
        Just((Kind::AlertCancel, Act::CancelAlert)),
        Just((Kind::HotlineClose, Act::CloseCall)),
        any::<bool>().prop_map(|agreed| (Kind::BriefingPlan, Act::Brief { agreed })),
        Just((Kind::Withdraw, Act::TakeBack(Vec::new()))),
    ]
}

/// How a message is written beside what it does.
#[derive(Clone, Debug)]
struct Manner {
    host: bool,
    passes_on: bool,
    replaces: bool,
    widens: bool,
    breaks_agreement: bool,
    countersigned: bool,
    named: usize,
}

/// Nobody; a victim; the same person as a suspect; somebody else.
static NAMED: LazyLock<[Persons; 4]> =
    LazyLock::new(|| [Persons::default(), notice(VICTIM), notice(SUSPECT), notice(OTHER)]);

fn any_manner() -> impl Strategy<Value = Manner> {
    // Mostly sensible: what is never taken says little about the rest.
    let seldom = || prop::bool::weighted(0.1);
    (any::<bool>(), seldom(), seldom(), seldom(), seldom(), any::<bool>(), 0..4_usize).prop_map(
        |(host, passes_on, replaces, widens, breaks_agreement, countersigned, named)| Manner {
            host,
            passes_on,
            replaces,
            widens,
            breaks_agreement,
            countersigned,
            named,
        },
    )
}

fn any_root() -> impl Strategy<Value = (Kind, Act)> {
    prop_oneof![
        any::<bool>().prop_map(|child| (Kind::ReturnRequest, Act::RequestReturn { child })),
        Just((Kind::InfoRequest, Act::Tell)),
        Just((Kind::SuspectAlert, Act::Alert { valid_until: Some(UnixMillis(START + DAY_MS)) })),
        Just((Kind::HotlineCall, Act::Call)),
        Just((Kind::BriefingPlan, Act::Brief { agreed: false })),
    ]
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("LIAISON_PROPERTY_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(128);
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// Both sides compute the same from the same messages, in whatever order and however often they came; no message is
    /// dropped; what composition refuses is what everybody marks.
    #[test]
    fn any_order_and_any_repetition_reads_the_same(
        root in any_root(),
        written in prop::collection::vec(
            (any_act(), any_manner(), any::<Index>(), any::<Index>(), -600_000_i64..600_000),
            0..14,
        ),
        order in any::<u64>(),
        repeated in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let mut story = Story::new();
        let (kind, act) = root;
        story.events.push(story.event(HOST, kind, act));
        for ((kind, act), manner, answers, takes_back, skew) in written {
            story.now += 60_000;
            // What came before has its entry by now, or waits for it.
            if let (Some(last), true) = (story.events.last_mut(), skew > -300_000) {
                last.entry = Some(LogIndex(u64::try_from(story.now).unwrap()));
            }
            let act = match act {
                Act::TakeBack(_) => Act::TakeBack(vec![takes_back.get(&story.events).id]),
                act => act,
            };
            let mut event = story.event(if manner.host { HOST } else { ORIGIN }, kind, act);
            event.in_reply_to = Some(answers.get(&story.events).id);
            if manner.passes_on {
                event.to.push("LA-CCP-VTE".parse().unwrap());
            }
            event.supersedes = manner.replaces.then(|| takes_back.get(&story.events).id);
            event.tlp = if manner.widens { Tlp::Amber } else { Tlp::AmberStrict };
            event.breaks_agreement = manner.breaks_agreement;
            let digest = event.digest.as_mut().unwrap();
            digest.countersigned = manner.countersigned;
            digest.details.persons = NAMED[manner.named].clone();
            event.created_at = UnixMillis(story.now + skew);
            let root = story.events[0].id;
            let fits = Thread::check(root, story.events.iter().cloned(), event.clone());
            story.events.push(event.clone());
            let read = story.thread();
            let taken = read.taken().iter().find(|taken| taken.id == event.id).unwrap();
            prop_assert_eq!(fits.err(), match taken.mark { Mark::OutOfStep(reason) => Some(reason), _ => None });
        }
        let read = story.thread();
        prop_assert_eq!(read.taken().len(), story.events.len());
        let mut shuffled = story.events.clone();
        for again in repeated {
            shuffled.push(again.get(&story.events).clone());
        }
        // A seeded shuffle.
        let mut state = order | 1;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, usize::try_from(state >> 33).unwrap() % (i + 1));
        }
        let other = Thread::replay(story.events[0].id, shuffled, &[]).unwrap();
        let now = UnixMillis(story.now);
        prop_assert_eq!(other.taken(), read.taken());
        prop_assert_eq!(other.state(now), read.state(now));
        prop_assert_eq!(other.expected(Tables::built_in(), now), read.expected(Tables::built_in(), now));
        // Nobody is a victim and a suspect by one signature.
        let both = |taken: &Taken, event: &Event| {
            matches!(taken.mark, Mark::Taken | Mark::Noted) && !event.digest.as_ref().unwrap().countersigned
        };
        let single: Vec<&Event> =
            read.taken().iter().zip(read.events()).filter(|(taken, event)| both(taken, event)).map(|(_, event)| event).collect();
        let names = |event: &&&Event, persons: &Persons| event.digest.as_ref().unwrap().details.persons == *persons;
        if !read.events().iter().any(|event| event.digest.as_ref().unwrap().countersigned) {
            let (victims, suspects) =
                (single.iter().filter(|e| names(e, &NAMED[1])).count(), single.iter().filter(|e| names(e, &NAMED[2])).count());
            prop_assert!(victims == 0 || suspects == 0);
        }
        // A child is never agreed to be handed over, let alone handed over, without the decision.
        if let Some(found) = read.victim_return() {
            let agreed = matches!(read.state(now), Step::ReturnAgreed | Step::ReturnProposed | Step::ReturnCountered);
            let held_later = story.events.iter().any(|event| {
                matches!(event.act(), Some(Act::UpdateReturn { to: Step::ReturnBiaHold, .. }))
            });
            prop_assert!(!found.is_held() || !agreed || held_later);
        }
    }
}
