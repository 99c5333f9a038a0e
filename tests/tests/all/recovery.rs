//! The log on a simulated disk that loses what was not synced, in any combination of sectors.

use std::sync::{Arc, Mutex};

use liaison_log::{
    check::check as check_log,
    checkpoint::{CheckpointSigner, VerifiedCheckpoint},
    commit::{ApplyError, Log, Logged, Moment, Sequenced, Sequencer},
    disk::{Disk, memory::MemoryDisk},
    open::{self, LogConfig, OpenError},
    verify::{verify_consistency, verify_receipt},
};
use liaison_proto::{Bytes, clock::UnixMillis, entropy::OsEntropy, ids::LogIndex, sha256, sign::SigningKey, wire};
use proptest::prelude::*;

use crate::support::from_environment;

/// Small, so that segments roll while power is cut.
const SEGMENT: u32 = 8 * 1024;

/// Leaves are the hash of their body, or bare text; the state is the list of leaves.
#[derive(Default)]
struct Plain {
    leaves: Arc<Mutex<Vec<Bytes>>>,
}

impl Sequencer for Plain {
    type Event = (Vec<u8>, bool);

    fn sequence(&mut self, (bytes, with_body): Self::Event, _: Moment) -> Sequenced {
        let body = Bytes::from(bytes);
        if with_body {
            let leaf = [b"body".as_slice(), &sha256(&[&body])].concat().into();
            Sequenced::Append { leaf, body: Some(body) }
        } else {
            Sequenced::Append { leaf: [b"bare".as_slice(), &body].concat().into(), body: None }
        }
    }

    fn apply(&mut self, _: LogIndex, _: &Bytes) -> Result<(), ApplyError> {
        Ok(())
    }

    fn last_time(&self) -> UnixMillis {
        UnixMillis(0)
    }

    fn body_matches(&self, leaf: &Bytes, body: Option<&Bytes>) -> bool {
        match (leaf.starts_with(b"body"), body) {
            (true, Some(body)) => leaf[4..] == sha256(&[body]),
            (with_body, body) => !with_body && body.is_none(),
        }
    }

    fn logged(&mut self, logged: &Logged) {
        self.leaves.lock().unwrap().push(logged.leaf().clone());
    }
}

fn signer() -> CheckpointSigner {
    CheckpointSigner::new("test.example/log".to_owned(), SigningKey::from_seed(&[7; 32]))
}

fn try_open(disk: &MemoryDisk) -> Result<Log<Plain>, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    open::open(LogConfig { disk, signer: signer(), segment_bytes: SEGMENT, reserve_bytes: 0 }, Plain::default())
        .map(|(log, _)| log)
}

fn new_disk() -> MemoryDisk {
    let disk = MemoryDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    open::create(&shared, SEGMENT, &OsEntropy).unwrap();
    disk
}

/// A receipt that was handed out.
struct Handed {
    index: LogIndex,
    leaf: Bytes,
    checkpoint: VerifiedCheckpoint,
}

fn hand_out(receipt: &wire::Receipt) -> Handed {
    let verified = verify_receipt(receipt, &signer().identity()).unwrap();
    Handed { index: verified.index, leaf: verified.leaf, checkpoint: verified.checkpoint }
}

/// Every receipt ever handed out still holds in the log as it is now.
fn check(log: &Log<Plain>, handed: &[Handed]) {
    let reader = log.reader();
    let now = reader.checkpoint();
    for receipt in handed {
        assert_eq!(reader.leaf(receipt.index).unwrap(), receipt.leaf, "a receipted leaf changed or is gone");
        if receipt.leaf.starts_with(b"body") {
            assert_eq!(sha256(&[&reader.body(receipt.index).unwrap()])[..], receipt.leaf[4..], "its body is gone");
        }
        let proof = match receipt.checkpoint.size() {
            size if size == now.size() => Vec::new(),
            size => reader.consistency(size, now.size()).expect("the log is shorter than a checkpoint it signed"),
        };
        verify_consistency(&receipt.checkpoint, &now, &proof).expect("the log was forked by a restart");
    }
}

#[derive(Clone, Debug)]
struct Cut {
    batches: Vec<Vec<(Vec<u8>, bool)>>,
    /// Writes and syncs until the device fails.
    operations: u64,
    /// Which unsynced sectors survive.
    keep: Vec<bool>,
    record_signed: bool,
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let event = (prop::collection::vec(any::<u8>(), 1..3000), any::<bool>());
    let batch = prop::collection::vec(event, 1..5);
    let cut =
        (prop::collection::vec(batch, 1..6), 0_u64..40, prop::collection::vec(any::<bool>(), 1..64), any::<bool>())
            .prop_map(|(batches, operations, keep, record_signed)| Cut { batches, operations, keep, record_signed });
    prop::collection::vec(cut, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: from_environment("LIAISON_PROPERTY_CASES", 64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Promise 1: once a receipt was returned, the entry survives power loss at any instant, whatever the disk kept of
    /// the rest; and the log never forks.
    #[test]
    fn promise_1_nothing_receipted_is_lost_by_power_cuts_at_any_write(cuts in cuts()) {
        let mut disk = new_disk();
        let mut handed: Vec<Handed> = Vec::new();
        for cut in cuts {
            let mut log = try_open(&disk).expect("a log must open after any power cut");
            check(&log, &handed);
            disk.fail_after(cut.operations);
            for batch in cut.batches {
                let Ok(answers) = log.commit(batch, UnixMillis(1)) else { break };
                handed.extend(answers.iter().map(|answer| hand_out(answer.as_ref().unwrap())));
                if cut.record_signed && log.record_signed().is_err() {
                    break;
                }
            }
            let mut keep = cut.keep.iter().cycle();
            disk = disk.after_power_cut(|| *keep.next().unwrap());
        }
        check(&try_open(&disk).expect("a log must open after any power cut"), &handed);
    }

    /// Power may also fail while a log recovers.
    #[test]
    fn recovery_survives_power_cuts_during_recovery(operations in 0_u64..60, keep in prop::collection::vec(any::<bool>(), 1..64)) {
        let disk = new_disk();
        let mut log = try_open(&disk).unwrap();
        let answers = log.commit(vec![(vec![1; 900], true), (vec![2; 40], false)], UnixMillis(1)).unwrap();
        let handed: Vec<Handed> = answers.iter().map(|answer| hand_out(answer.as_ref().unwrap())).collect();
        disk.fail_after(3);
        let _ = log.commit(vec![(vec![3; 2000], true)], UnixMillis(2));
        let mut keep = keep.iter().cycle();
        let disk = disk.after_power_cut(|| *keep.next().unwrap());
        disk.fail_after(operations);
        let _ = try_open(&disk);
        let disk = disk.after_power_cut(|| *keep.next().unwrap());
        check(&try_open(&disk).expect("a log must open after a power cut during recovery"), &handed);
    }
}

/// A failed write or sync is final: no receipt goes out after it, whatever the device does later.
#[test]
fn promise_6_no_receipt_after_a_failed_sync() {
    for operations in 0..12 {
        let disk = new_disk();
        let mut log = try_open(&disk).unwrap();
        disk.fail_after(operations);
        let mut receipts = 0;
        let failed = (0..20).find(|_| match log.commit(vec![(vec![1; 100], true)], UnixMillis(1)) {
            Ok(answers) => {
                receipts += answers.len();
                false
            }
            Err(_) => true,
        });
        assert!(failed.is_some(), "the device failed and the log went on");
        disk.fail_after(u64::MAX);
        assert!(log.commit(vec![(vec![2; 100], true)], UnixMillis(2)).is_err(), "a receipt after a failed sync");
        assert!(log.record_signed().is_ok(), "recording must be harmless on a stopped log");
        let reopened = try_open(&disk).unwrap();
        assert!(reopened.reader().checkpoint().size() >= receipts as u64);
    }
}

/// Damage before the signed size is a finding: the log refuses to open rather than cut what it signed.
#[test]
fn damage_before_the_signed_size_is_refused_not_cut() {
    let fresh = || {
        let disk = new_disk();
        let mut log = try_open(&disk).unwrap();
        for n in 0..3_u8 {
            log.commit(vec![(vec![n; 700], true)], UnixMillis(1)).unwrap();
        }
        log.record_signed().unwrap();
        disk
    };
    // The first leaf record starts behind the segment header and the first mark.
    for byte in (32..1200).step_by(7) {
        let disk = fresh();
        disk.flip_bit("leaves/00000000.segment", byte, 3);
        match try_open(&disk) {
            Err(OpenError::Damaged(_)) => {}
            Err(other) => panic!("byte {byte}: {other}"),
            // Behind the last record there is nothing to damage but zeros, which are cut.
            Ok(log) => assert_eq!(log.reader().checkpoint().size(), 3, "byte {byte}: a signed entry was cut"),
        }
    }
}

/// A full tile on disk that was changed is noticed when it is read, and made again at the next start.
#[test]
fn a_damaged_tile_is_named_and_made_again() {
    let disk = new_disk();
    let mut log = try_open(&disk).unwrap();
    for batch in 0..3_u8 {
        log.commit((0..200).map(|n: u8| (vec![batch, n], false)).collect(), UnixMillis(1)).unwrap();
    }
    drop(log);
    let log = try_open(&disk).unwrap();
    disk.flip_bit("tile/0/000", 40, 0);
    assert!(log.reader().receipt(LogIndex(3)).is_err(), "a proof was made from a damaged tile");
    drop(log);
    let log = try_open(&disk).unwrap();
    let receipt = log.reader().receipt(LogIndex(3)).unwrap();
    assert_eq!(hand_out(&receipt).index, LogIndex(3));
}

/// Promise 10: a broker whose clock is an hour behind after a restart goes on; its log's time stands still meanwhile.
#[test]
fn promise_10_a_clock_that_went_back_stops_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let members = liaison_certs_dev::members::Members::built_in().unwrap();
    let out = directory.path().join("dev");
    liaison_certs_dev::roles::make(&out, &members, UnixMillis(1_800_000_000_000), &OsEntropy).unwrap();
    let charter = liaison_link::charter_files::load(&out.join("charter.toml"), None).unwrap();
    let record = |n: u32| {
        let bytes = std::fs::read(out.join(format!("records/{n:04}.record"))).unwrap();
        let record = <wire::DirectoryRecord as liaison_proto::ProtoMessage>::decode(bytes.as_slice()).unwrap();
        liaison_broker::directory_log::DirectoryEvent::Publish(Box::new(record))
    };
    let disk = new_disk();
    let open_directory = || {
        let (sequencer, published) =
            liaison_broker::directory_log::DirectorySequencer::new(charter.clone(), Arc::default());
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let config = LogConfig { disk: shared, signer: signer(), segment_bytes: 256 * 1024, reserve_bytes: 0 };
        (open::open(config, sequencer).unwrap().0, published)
    };
    let noon = UnixMillis(1_800_000_000_000);
    let (mut log, _) = open_directory();
    assert!(log.commit(vec![record(1)], noon).unwrap()[0].is_ok());
    drop(log);
    let (mut log, published) = open_directory();
    assert!(log.commit(vec![record(2)], noon.plus(-3_600_000)).unwrap()[0].is_ok());
    assert_eq!(published.read().unwrap().time(), noon);
}

/// A revoked office stays revoked until its authority enrols it again; then neither its old keys nor the old revocation
/// come back.
#[test]
fn a_revocation_holds_until_the_office_is_enrolled_anew_and_is_not_replayed() {
    use liaison_proto::{
        ProtoMessage as _, directory::Directory, key_file::PrivateKey, office::RecordError, seal::Suite,
        sign::PayloadType,
    };
    use wire::directory_record::Record;
    let directory = tempfile::tempdir().unwrap();
    let members = liaison_certs_dev::members::Members::built_in().unwrap();
    let (out, now) = (directory.path().join("dev"), UnixMillis(1_800_000_000_000));
    liaison_certs_dev::roles::make(&out, &members, now, &OsEntropy).unwrap();
    let charter = liaison_link::charter_files::load(&out.join("charter.toml"), None).unwrap();
    let authority = PrivateKey::read_signing(&out.join("countries/VN/authority.key")).unwrap();
    let noon = UnixMillis(1_800_000_000_000);
    let mut state = Directory::new(charter);
    let mut first_office = None;
    for n in 1..=7 {
        let bytes = std::fs::read(out.join(format!("records/{n:04}.record"))).unwrap();
        let record = wire::DirectoryRecord::decode(bytes.as_slice()).unwrap();
        state.apply(&record, noon).unwrap();
        if let Some(Record::Office(office)) = record.record {
            first_office.get_or_insert(office.office);
        }
    }
    let first_office: Bytes = first_office.unwrap();
    let mut office = wire::Office::decode(first_office.clone()).unwrap();
    let id = office.office.parse().unwrap();
    let key = |state: &Directory| state.newest_key(id, Suite::XWing, now, state.size()).map(|key| key.sha256);
    assert!(state.office(id, state.size()).is_some() && key(&state).is_some());
    let revocation =
        wire::Revocation { version: 1, office: office.office.clone(), key_sha256: Bytes::new(), at_ms: now.0 };
    let revocation = Bytes::from(revocation.encode_to_vec());
    let authority_signature = Some(authority.sign(PayloadType::Revocation, &revocation));
    let revoked = Record::Revoked(wire::RevocationRecord { revocation, authority_signature });
    let revoked = wire::DirectoryRecord { record: Some(revoked) };
    let before = state.size();
    state.apply(&revoked, noon).unwrap();
    assert!(state.office(id, state.size()).is_none() && key(&state).is_none());
    assert!(state.office(id, before).is_some(), "what was judged before the revocation stays judged");
    office.serial = 2;
    office.previous_sha256 = Bytes::copy_from_slice(&sha256(&[&first_office]));
    let bytes = Bytes::from(office.encode_to_vec());
    let authority_signature = Some(authority.sign(PayloadType::OfficeRecord, &bytes));
    let enrolled = Record::Office(wire::OfficeRecord { office: bytes, authority_signature });
    state.apply(&wire::DirectoryRecord { record: Some(enrolled) }, noon).unwrap();
    assert!(state.office(id, state.size()).is_some());
    assert!(key(&state).is_none(), "a key from before the revocation came back");
    assert_eq!(state.apply(&revoked, noon), Err(RecordError::Repeated), "an old revocation was entered again");
}

/// What a crash leaves behind the signed size is no damage: the tile that the kept entries fill is made by the next start.
#[test]
fn what_a_crash_left_unfinished_is_a_note_to_a_check_not_a_problem() {
    let mut unwritten = 0;
    for operations in 0..12 {
        let disk = new_disk();
        let mut log = try_open(&disk).unwrap();
        log.commit((0..255).map(|n: u8| (vec![n], false)).collect(), UnixMillis(1)).unwrap();
        log.record_signed().unwrap();
        disk.fail_after(operations);
        let _ = log.commit(vec![(vec![1; 40], true); 3], UnixMillis(2));
        let disk: Arc<dyn Disk> = Arc::new(disk.after_power_cut(|| true));
        let config = LogConfig { disk, signer: signer(), segment_bytes: SEGMENT, reserve_bytes: 0 };
        let checked = check_log(config, Plain::default());
        assert_eq!(checked.problems, Vec::<String>::new(), "after {operations} operations");
        unwritten += usize::from(checked.notes.iter().any(|note| note.contains("was not written yet")));
    }
    assert!(unwritten > 0, "no crash came between the entries and their tile");
}

/// State is never created silently.
#[test]
fn a_missing_log_is_an_error_that_names_the_command() {
    let error = try_open(&MemoryDisk::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("init"), "{error}");
}
