//! The index is never the truth: whatever happens to it, the broker starts, and what the journal says holds.
//!
//! Here: the index on the disk is the same as its twin in memory. Below: damage, and the horizon.

mod damage;
mod horizon;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use liaison_broker::index::SledIndex;
use liaison_log::index::{Applied, Batch, Index, MemoryIndex, MessageState, RecipientState};
use liaison_proto::{
    clock::UnixMillis,
    ids::{Channel, Lane, LogIndex, MessageId, OfficeId},
};
use proptest::prelude::*;

use crate::support::from_environment;

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

/// Everything that an index says.
type Said = (Applied, BTreeMap<MessageId, Vec<u8>>, BTreeSet<(String, u64)>);

fn said(index: &dyn Index) -> Said {
    let mut messages = BTreeMap::new();
    index
        .each_message(&mut |id, message| {
            assert_eq!(index.message(id).unwrap().as_ref(), Some(&message));
            messages.insert(id, message.encode());
        })
        .unwrap();
    let channels = index.channels().unwrap().into_iter().map(|(channel, number)| {
        assert_eq!(index.last_number(channel).unwrap(), Some(number));
        (format!("{} {} {:?}", channel.from, channel.to, channel.lane), number)
    });
    (index.applied().unwrap(), messages, channels.collect())
}

fn message_id(n: u16) -> MessageId {
    let mut bytes = [0x77; 16];
    (bytes[6], bytes[8]) = (0x70, 0x80);
    bytes[14..].copy_from_slice(&n.to_be_bytes());
    MessageId::from_wire(&bytes).unwrap()
}

fn office(n: u8) -> OfficeId {
    [LAO_CAI, HEKOU, "TH-BLO-ARN", "KH-BLO-BVT"][usize::from(n) % 4].parse().unwrap()
}

prop_compose! {
    fn state()(
        (accepted, header, times) in (any::<u64>(), any::<[u8; 32]>(), any::<[i64; 3]>()),
        (from, lane, attachments) in (any::<u8>(), 0_usize..3, prop::collection::vec(any::<[u8; 32]>(), 0..3)),
        recipients in prop::collection::vec(
            (any::<u8>(), any::<u64>(), any::<[Option<u64>; 5]>(), any::<u32>(), any::<bool>()), 0..4),
    ) -> MessageState {
        let recipient = |(to, number, [delivered, retrieved, cannot_open, non_delivery, rewrapped], rewraps, withdrawn): (u8, _, [Option<u64>; 5], _, _)| RecipientState {
            delivered: delivered.map(LogIndex),
            retrieved: retrieved.map(LogIndex),
            cannot_open: cannot_open.map(LogIndex),
            non_delivery: non_delivery.map(LogIndex),
            rewrapped: rewrapped.map(LogIndex),
            rewraps,
            withdrawn,
            ..RecipientState::new(office(to), number)
        };
        MessageState {
            accepted: LogIndex(accepted),
            header_sha256: header,
            from: office(from),
            lane: Lane::ALL[lane],
            created: UnixMillis(times[0]),
            admitted: UnixMillis(times[1]),
            expires: UnixMillis(times[2]),
            attachments,
            recipients: recipients.into_iter().map(recipient).collect(),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Batch),
    Reopen,
    Rebuild,
}

fn batch() -> impl Strategy<Value = Step> {
    let messages = prop::collection::vec((0_u16..12, prop::option::weighted(0.8, state())), 0..4);
    let channels = prop::collection::vec((any::<u8>(), any::<u8>(), 0_usize..3, any::<u64>()), 0..3);
    let applied = (1_u64.., any::<i64>(), any::<u64>(), any::<[u8; 32]>());
    (messages, channels, applied).prop_map(|(messages, channels, (size, time, directory_size, leaf_sha256))| {
        let channel = |(from, to, lane, number)| {
            let channel = Channel { from: office(from), to: office(to), lane: Lane::ALL[lane] };
            (channel, number)
        };
        Step::Write(Batch {
            messages: messages.into_iter().map(|(n, message)| (message_id(n), message)).collect(),
            channels: channels.into_iter().map(channel).collect(),
            applied: Applied { size, time: UnixMillis(time), directory_size, leaf_sha256 },
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: from_environment("LIAISON_PROPERTY_CASES", 32),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The index on the disk and its twin in memory say the same after every batch, after a clean stop and after being
    /// copied into a smaller directory.
    #[test]
    fn the_index_on_the_disk_and_the_one_in_memory_hold_the_same_rows(
        steps in prop::collection::vec(prop_oneof![8 => batch(), 1 => Just(Step::Reopen), 1 => Just(Step::Rebuild)], 1..24),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("index");
        let twin = MemoryIndex::default();
        let (mut index, empty) = SledIndex::open(&root).unwrap();
        prop_assert!(empty);
        for step in steps {
            match step {
                Step::Write(batch) => {
                    index.write(batch.clone()).unwrap();
                    twin.write(batch).unwrap();
                }
                Step::Reopen => {
                    index.close().unwrap();
                    drop(index);
                    let (opened, empty) = SledIndex::open(&root).unwrap();
                    prop_assert_eq!(empty, twin.applied().unwrap().size == 0);
                    index = opened;
                }
                Step::Rebuild => index.rebuild().unwrap(),
            }
            prop_assert_eq!(said(&index), said(&twin));
        }
    }
}

fn row(n: u64) -> Batch {
    let id = message_id((n % 20_000) as u16);
    let state = MessageState {
        accepted: LogIndex(n),
        header_sha256: [n as u8; 32],
        from: office(0),
        lane: Lane::Bulk,
        created: UnixMillis(0),
        admitted: UnixMillis(0),
        expires: UnixMillis(0),
        attachments: Vec::new(),
        recipients: vec![RecipientState::new(office(1), n)],
    };
    let channel = Channel { from: office(n as u8), to: office(1), lane: Lane::Bulk };
    Batch {
        // Some are forgotten again.
        messages: vec![(id, (!n.is_multiple_of(7)).then_some(state))],
        channels: vec![(channel, n)],
        applied: Applied { size: n, ..Applied::default() },
    }
}

/// The index is copied into a smaller directory while the log goes on and rows are written behind it: no row is lost, and
/// none comes back.
#[test]
fn an_index_that_is_copied_while_it_is_written_to_loses_no_row() {
    const ROWS: u64 = 150_000;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("index");
    let index = Arc::new(SledIndex::open(&root).unwrap().0);
    let writer = Arc::clone(&index);
    let writing = std::thread::spawn(move || (1..=ROWS).for_each(|n| writer.write(row(n)).unwrap()));
    let mut copies = 0;
    while !writing.is_finished() {
        index.rebuild().unwrap();
        copies += 1;
    }
    writing.join().unwrap();
    assert!(copies > 1, "it was never copied while it was written to");
    let twin = MemoryIndex::default();
    (1..=ROWS).for_each(|n| twin.write(row(n)).unwrap());
    for n in [1, ROWS - 5_000, ROWS] {
        let id = row(n).messages[0].0;
        assert_eq!(index.message(id).unwrap(), twin.message(id).unwrap(), "row {n} before it was settled");
    }
    assert_eq!(said(index.as_ref()), said(&twin));
    index.close().unwrap();
    drop(index);
    let (index, empty) = SledIndex::open(&root).unwrap();
    assert!(!empty, "a copied index that was closed cleanly was thrown away");
    assert_eq!(said(&index), said(&twin));
}
