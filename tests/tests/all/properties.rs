//! Properties against the plainest thing that could be right: trees as RFC 6962 writes them down, numbers counted by hand.

use std::{collections::HashMap, sync::Arc};

use liaison_log::{
    disk::memory::MemoryDisk,
    exchange::{ExchangeState, Violation},
    leaf::{Event, ExchangeLeaf},
    tree::Tree,
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::UnixMillis,
    entropy::OsEntropy,
    header::Header,
    ids::{LogIndex, MessageId},
    seal::Suite,
    sha256, wire,
};
use proptest::prelude::*;

use crate::support::from_environment;

type Hash = [u8; 32];

fn leaf(number: u64) -> Hash {
    sha256(&[&[0], &number.to_be_bytes()])
}

/// Where RFC 6962 splits: the largest power of two below the length.
fn split(length: usize) -> usize {
    length.next_power_of_two() / 2
}

/// MTH (RFC 6962, section 2.1).
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            sha256(&[&[1], &root(left), &root(right)])
        }
    }
}

/// PATH (section 2.1.1).
fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut below, other) = if index < left.len() {
        (path(index, left), root(right))
    } else {
        (path(index - left.len(), right), root(left))
    };
    below.push(other);
    below
}

/// SUBPROOF (section 2.1.2).
fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut below, other) = if old <= left.len() {
        (subproof(old, left, whole), root(right))
    } else {
        (subproof(old - left.len(), right, false), root(left))
    };
    below.push(other);
    below
}

const OFFICES: [&str; 4] = ["VN-BLO-LCA", "CN-BLO-HKO", "VN-CCP-HAN", "CN-CCP-PEK"];

/// A message as an entry would hold it; its signature is nobody's.
fn accepted(id: MessageId, from: usize, to: &[usize], priority: wire::Priority, numbers: Vec<u64>) -> ExchangeLeaf {
    let id = Bytes::copy_from_slice(id.as_bytes());
    let core = wire::Core {
        version: 1,
        message_id: id.clone(),
        thread_id: id,
        kind: wire::Kind::Test.into(),
        step: wire::Step::Sent.into(),
        schema_version: 1,
        from: OFFICES[from].to_owned(),
        to: to.iter().map(|&to| OFFICES[to].to_owned()).collect(),
        corridor: "VN-CN".to_owned(),
        created_at_ms: 1_800_000_000_000,
        priority: priority.into(),
        handling: wire::Handling::H0.into(),
        tlp: wire::Tlp::Green.into(),
        data_class: wire::DataClass::P0.into(),
        legal_basis: vec![wire::LegalBasis::Commit.into()],
        purpose: wire::Purpose::Prevent.into(),
        language: "eng".to_owned(),
        suite: Suite::XWing.to_wire(),
        ..wire::Core::default()
    };
    let hash = || Bytes::from_static(&[7; 32]);
    let commitments = wire::Commitments {
        body_sha256: hash(),
        body_size: 1,
        key_commitment: hash(),
        recipients: to.iter().map(|_| wire::RecipientCommitment { key_sha256: hash(), wrap_sha256: hash() }).collect(),
        ..wire::Commitments::default()
    };
    let header = wire::Header { core: core.encode_to_vec().into(), commitments: Some(commitments) };
    let header = Box::new(Header::parse(header.encode_to_vec().into()).unwrap());
    let event = Event::Accepted { header, signature: None, numbers };
    ExchangeLeaf { time: UnixMillis(1_800_000_000_000), directory_size: 1, marks: Vec::new(), event }
}

/// A message that somebody wants to enter: from whom, to whom, in which lane, and how wrong its numbers are.
#[derive(Clone, Debug)]
struct Wanted {
    from: usize,
    to: Vec<usize>,
    priority: wire::Priority,
    off_by: i64,
    again: bool,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let priorities = [wire::Priority::Flash, wire::Priority::Urgent, wire::Priority::Routine, wire::Priority::Periodic];
    let to = proptest::sample::subsequence(vec![0_usize, 1, 2, 3], 1..=3);
    (0_usize..4, to, 0_usize..4, prop_oneof![6 => Just(0_i64), 1 => -2_i64..3], prop::bool::weighted(0.1))
        .prop_filter_map("nobody writes to itself alone", move |(from, to, priority, off_by, again)| {
            let to: Vec<usize> = to.into_iter().filter(|&to| to != from).collect();
            (!to.is_empty()).then_some(Wanted { from, to, priority: priorities[priority], off_by, again })
        })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: from_environment("LIAISON_PROPERTY_CASES", 64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Promise 8: every root and every proof, at every size, is the one that RFC 6962 gives.
    #[test]
    fn promise_8_roots_and_proofs_are_those_of_the_plainest_tree(size in 1_usize..1100, at in any::<[u16; 3]>()) {
        let leaves: Vec<Hash> = (0..size as u64).map(leaf).collect();
        let mut tree = Tree::new(Arc::new(MemoryDisk::default()));
        for leaf in &leaves {
            tree.append(liaison_log::Hash(*leaf)).unwrap();
        }
        let signed = 1 + usize::from(at[0]) % size;
        let leaves = &leaves[..signed];
        prop_assert_eq!(tree.root(signed as u64).unwrap().0, root(leaves));
        let index = usize::from(at[1]) % signed;
        let found: Vec<Hash> = tree.prove_inclusion(signed as u64, index as u64).unwrap().iter().map(|h| h.0).collect();
        prop_assert_eq!(found, path(index, leaves));
        let old = 1 + usize::from(at[2]) % signed;
        let found: Vec<Hash> = tree.prove_consistency(old as u64, signed as u64).unwrap().iter().map(|h| h.0).collect();
        prop_assert_eq!(found, subproof(old, leaves, true));
    }

    /// Promise 4: a number is the next one of its originator, recipient and lane, for every recipient, or the entry breaks the
    /// rules and changes nothing; a message enters once.
    #[test]
    fn promise_4_numbers_are_the_next_ones_or_nothing_changes(wanted in prop::collection::vec(wanted(), 1..60)) {
        let mut state = ExchangeState::default();
        let (mut counted, mut entered) = (HashMap::<(usize, usize, usize), u64>::new(), Vec::new());
        let mut index = 0;
        for Wanted { from, to, priority, off_by, again } in wanted {
            let lane = match priority {
                wire::Priority::Flash => 0,
                wire::Priority::Urgent => 1,
                _ => 2,
            };
            let next = |to: &usize| counted.get(&(from, *to, lane)).copied().unwrap_or(0) + 1;
            let mut numbers: Vec<u64> = to.iter().map(next).collect();
            let last = numbers.last_mut().unwrap();
            *last = last.saturating_add_signed(off_by);
            let right = numbers == to.iter().map(next).collect::<Vec<u64>>();
            let known = again.then(|| entered.last().copied()).flatten();
            let id = known.unwrap_or_else(|| MessageId::new(UnixMillis(1_800_000_000_000), &OsEntropy));
            let leaf = accepted(id, from, &to, priority, numbers.clone());
            let before = *state.applied();
            let applied = state.apply(LogIndex(index), &leaf, sha256(&[&leaf.encode()]));
            match applied {
                Ok(()) => {
                    prop_assert!(right && known.is_none(), "a wrong number, or a message twice, was taken");
                    for (to, number) in to.iter().zip(numbers) {
                        counted.insert((from, *to, lane), number);
                    }
                    entered.push(id);
                    index += 1;
                }
                Err(violation) => {
                    prop_assert!(!right || known.is_some(), "the next numbers were refused: {violation}");
                    prop_assert!(known.is_some() || matches!(violation, Violation::NumberOutOfTurn { .. }), "{violation}");
                    prop_assert_eq!(*state.applied(), before, "a refused entry changed the state");
                }
            }
        }
        let mut found: Vec<u64> = state.channels().unwrap().into_iter().map(|(_, number)| number).collect();
        let mut expected: Vec<u64> = counted.into_values().collect();
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
