//! The node's store on a simulated disk that loses what was not synced.

use std::sync::Arc;

use liaison_log::disk::{Disk, memory::MemoryDisk};
use liaison_node::{
    record::{Arrived, Checkpoint, NodeRecord, Queued, Stated},
    store::{self, Store, StoreError, Write},
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::UnixMillis,
    entropy::OsEntropy,
    header::Header,
    ids::{MessageId, OfficeId},
    seal::Suite,
    wire,
};
use proptest::prelude::*;

use crate::support::from_environment;

/// Small, so that segments roll.
const SEGMENT: u32 = 16 * 1024;

fn office() -> OfficeId {
    "VN-BLO-LCA".parse().unwrap()
}

fn open(disk: &MemoryDisk) -> Result<Store, StoreError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&shared, SEGMENT, 0, office())
}

fn new_disk() -> MemoryDisk {
    let disk = MemoryDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    store::create(&shared, SEGMENT, &OsEntropy).unwrap();
    disk
}

/// A message for the outbox with a body of this size.
fn queued(body: usize) -> (MessageId, Write) {
    let id = MessageId::new(UnixMillis(1_795_500_000_000), &OsEntropy);
    let bytes = Bytes::copy_from_slice(id.as_bytes());
    let core = wire::Core {
        version: 1,
        message_id: bytes.clone(),
        thread_id: bytes,
        kind: 1,
        step: 1,
        schema_version: 1,
        from: office().to_string(),
        to: vec!["CN-BLO-HKO".into()],
        corridor: "VN-CN".into(),
        created_at_ms: 1,
        priority: 3,
        handling: 3,
        tlp: 4,
        data_class: 4,
        legal_basis: vec![3],
        purpose: 3,
        language: "vie".into(),
        suite: Suite::XWing.to_wire(),
        ..wire::Core::default()
    };
    let hash = Bytes::from_static(&[1; 32]);
    let commitments = wire::Commitments {
        body_sha256: hash.clone(),
        body_size: 1,
        key_commitment: hash.clone(),
        recipients: vec![wire::RecipientCommitment { key_sha256: hash.clone(), wrap_sha256: hash }],
        ..wire::Commitments::default()
    };
    let header = wire::Header { core: core.encode_to_vec().into(), commitments: Some(commitments) };
    let header = Bytes::from(header.encode_to_vec());
    Header::parse(header.clone()).unwrap();
    let body = wire::Envelope { body: vec![7; body].into(), ..wire::Envelope::default() };
    let record = NodeRecord::Queued(Queued { header, office_signature: None, not_before_ms: 0 });
    (id, Write { record, body: Some(body) })
}

fn body_of(store: &Store, id: MessageId) -> Option<usize> {
    let state = store.state();
    let outgoing = state.outgoing.get(&id)?;
    store.envelope(&outgoing.header, None, outgoing.body?).ok().map(|envelope| envelope.body.len())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: from_environment("LIAISON_PROPERTY_CASES", 64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Promise 1, for the node: what was answered as durable survives power loss at any write, with its body.
    #[test]
    fn promise_1_the_outbox_survives_power_cuts_at_any_write(
        rounds in prop::collection::vec(
            (prop::collection::vec(1_usize..6000, 1..12), 0_u64..30, prop::collection::vec(any::<bool>(), 1..64)),
            1..4,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut disk = new_disk();
        let mut kept: Vec<(MessageId, usize)> = Vec::new();
        for (bodies, operations, keep) in rounds {
            let store = open(&disk).expect("a store must open after any power cut");
            for (id, body) in &kept {
                assert_eq!(body_of(&store, *id), Some(*body), "a durable message lost its body");
            }
            disk.fail_after(operations);
            runtime.block_on(async {
                // Up to three messages a request, so that a batch has bodies in several segments.
                for part in bodies.chunks(3) {
                    let (ids, writes): (Vec<MessageId>, Vec<Write>) = part.iter().map(|body| queued(*body)).unzip();
                    if store.write(writes).await.is_err() {
                        break;
                    }
                    kept.extend(ids.into_iter().zip(part.iter().copied()));
                }
            });
            let mut keep = keep.iter().cycle();
            disk = disk.after_power_cut(|| *keep.next().unwrap());
        }
        let store = open(&disk).expect("a store must open after any power cut");
        for (id, body) in &kept {
            assert_eq!(body_of(&store, *id), Some(*body), "a durable message lost its body");
        }
    }
}

/// One damaged old body is one message's trouble: the store opens, and every other message is whole.
#[test]
fn one_damaged_body_takes_no_other_with_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let disk = new_disk();
    let store = open(&disk).unwrap();
    let ids: Vec<MessageId> = (0..12)
        .map(|_| {
            let (id, write) = queued(3000);
            assert!(runtime.block_on(store.write(vec![write])).unwrap());
            id
        })
        .collect();
    runtime.block_on(store.close());
    runtime.block_on(open(&disk).unwrap().close());
    disk.flip_bit("bodies/00000000.segment", 4000, 2);
    for _ in 0..2 {
        let store = open(&disk).unwrap();
        let whole = ids.iter().filter(|id| body_of(&store, **id) == Some(3000)).count();
        assert_eq!(whole, 11, "a damaged body took others with it");
        let (id, write) = queued(100);
        assert!(runtime.block_on(store.write(vec![write])).unwrap());
        assert_eq!(body_of(&store, id), Some(100));
        runtime.block_on(store.close());
    }
}

/// A damaged record before the last synced point is a finding: the store refuses to open rather than lose what follows.
#[test]
fn a_damaged_record_is_refused_not_cut() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let disk = new_disk();
    let store = open(&disk).unwrap();
    for _ in 0..3 {
        assert!(runtime.block_on(store.write(vec![queued(10).1])).unwrap());
    }
    runtime.block_on(store.close());
    runtime.block_on(open(&disk).unwrap().close());
    disk.flip_bit("records/00000000.segment", 200, 1);
    assert!(matches!(open(&disk), Err(StoreError::Damaged(_))));
}

/// A crash between an arrival and its DELIVERED leaves nothing to open: RETRIEVED never overtakes DELIVERED.
#[test]
fn nothing_is_opened_before_its_delivered_is_stated() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let vector = |file: &str, field: &str| {
        let path = format!("{}/../proto/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        let values: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        values[field].as_str().unwrap().to_owned()
    };
    let unhex = |text: String| -> Bytes {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect::<Vec<u8>>().into()
    };
    let header = unhex(vector("envelope.json", "header"));
    let id = Header::parse(header.clone()).unwrap().core().message_id;
    let leaf = unhex(vector("log.json", "accepted_leaf"));
    let receipt = wire::Receipt { leaf, proof: vector("log.json", "proof").into_bytes().into() };
    let disk = new_disk();
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let store = Store::open(&shared, SEGMENT, 0, "CN-BLO-HKO".parse().unwrap()).unwrap();
    let arrived = Arrived { header, office_signature: None, receipt: Some(receipt), at_ms: 1 };
    let arrival = || Write {
        record: NodeRecord::Arrived(arrived.clone()),
        body: Some(wire::Envelope { body: Bytes::from_static(b"x"), ..wire::Envelope::default() }),
    };
    assert!(runtime.block_on(store.write(vec![arrival()])).unwrap());
    assert!(store.state().to_open.is_empty(), "a message would be opened before its DELIVERED is stated");
    assert!(!runtime.block_on(store.write(vec![arrival()])).unwrap(), "a message arrived twice");
    let stated = Stated {
        message_id: Bytes::copy_from_slice(id.as_bytes()),
        kind: wire::StatementKind::Delivered.into(),
        attested: Some(wire::Attested::default()),
    };
    assert!(runtime.block_on(store.write(vec![NodeRecord::Stated(stated).into()])).unwrap());
    assert_eq!(store.state().to_open.len(), 1);
}

/// Promise 8: what the node has seen of the log is not forgotten because the disk was full just then: nobody waits for that
/// record, and it is durable before whatever is written after it.
#[tokio::test]
async fn promise_8_the_newest_checkpoint_waits_for_room_on_a_full_disk() {
    let disk = new_disk();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = Store::open(&shared, SEGMENT, 1, office()).unwrap();
    let note = |size: u64| Bytes::from(format!("test.example/log\n{size}\n"));
    let checkpoint = |size| NodeRecord::Checkpoint(Checkpoint { note: note(size) }).into();
    disk.say_available(Some(0));
    for size in [3, 4, 7] {
        store.write_behind(checkpoint(size)).await.unwrap();
    }
    let full = store.try_write(vec![queued(10).1]).await;
    assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
    assert_eq!(store.state().checkpoint, None);
    disk.say_available(None);
    store.write(vec![queued(10).1]).await.unwrap();
    assert_eq!(store.state().checkpoint, Some(note(7)));
    store.close().await;
    assert_eq!(open(&disk).unwrap().state().checkpoint, Some(note(7)), "it is not durable");
}
