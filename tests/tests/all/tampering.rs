//! A broker's operator who cheats, with the real log keys and every file of the broker in hand.

use std::{fs, path::Path, process::Command, sync::Arc};

use liaison_log::{
    checkpoint::CheckpointSigner,
    commit::{ApplyError, Log, Logged, Moment, Sequenced, Sequencer},
    disk::OsDisk,
    leaf::{Event, ExchangeLeaf},
    open::{self, LogConfig},
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{Clock as _, DAY_MS, SystemClock, UnixMillis},
    entropy::OsEntropy,
    header::Header,
    ids::{LogIndex, MessageId},
    key_file::PrivateKey,
    officer::{SignedCredential, sign_content},
    sign::{PayloadType, SigningKey},
    wire::{self, exchange_client::ExchangeClient},
};
use liaison_tests::{
    samples, scenarios,
    world::{World, eventually},
};
use serde_json::{Value, json};

mod rewritten;

use crate::support::{Forger, charter, connect, copy_directory, world, world_holding};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const ARANYAPRATHET: &str = "TH-BLO-ARN";

/// Enters whatever it is given.
struct Anything;

impl Sequencer for Anything {
    type Event = (Bytes, Option<Bytes>);

    fn sequence(&mut self, (leaf, body): Self::Event, _: Moment) -> Sequenced {
        Sequenced::Append { leaf, body }
    }

    fn apply(&mut self, _: LogIndex, _: &Bytes) -> Result<(), ApplyError> {
        Ok(())
    }

    fn last_time(&self) -> UnixMillis {
        UnixMillis(0)
    }

    fn body_matches(&self, _: &Bytes, _: Option<&Bytes>) -> bool {
        true
    }

    fn logged(&mut self, _: &Logged) {}
}

/// The exchange log of a stopped broker, opened with its real key and no rules.
fn cheat(world: &World) -> Log<Anything> {
    let origin = charter(world).exchange_log().origin.clone();
    let key = PrivateKey::read_signing(Path::new(&world.path("charter/broker/log-exchange.key"))).unwrap();
    let disk = Arc::new(OsDisk::new(world.path("broker/exchange")));
    let config =
        LogConfig { disk, signer: CheckpointSigner::new(origin, key), segment_bytes: 4 << 20, reserve_bytes: 0 };
    open::open(config, Anything).unwrap().0
}

/// Enters an envelope as accepted, with this number, as a cheating operator would: signed into the tree and all.
fn enter(world: &World, envelope: &wire::Envelope, number: u64) {
    let leaf = ExchangeLeaf {
        time: SystemClock.now(),
        directory_size: charter_size(world),
        marks: Vec::new(),
        event: Event::Accepted {
            header: Box::new(Header::parse(envelope.header.clone()).unwrap()),
            signature: envelope.office_signature.clone(),
            numbers: vec![number],
        },
    };
    let body =
        wire::Envelope { erasable: envelope.erasable.clone(), body: envelope.body.clone(), ..Default::default() };
    let mut log = cheat(world);
    log.commit(vec![(leaf.encode(), Some(body.encode_to_vec().into()))], SystemClock.now()).unwrap();
    log.record_signed().unwrap();
}

fn charter_size(world: &World) -> u64 {
    fs::read_dir(world.path("charter/records")).unwrap().count() as u64
}

fn alarms(world: &World, office: &str) -> String {
    let answer = world.office(office).ask(&json!({"op": "alarms"})).unwrap_or(Value::Null);
    answer["alarms"].to_string()
}

fn finding_codes(world: &World, command: &str, copy: &str) -> (i32, Vec<String>) {
    let (code, verdict) = world.audit(&[command, "--copy", copy]).unwrap();
    let codes = verdict["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned());
    (code, codes.collect())
}

/// Promise 7: the broker cannot read. No word of a notice is in any of its files.
#[test]
fn promise_7_the_broker_cannot_read() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["DELIVERED"]));
    let searched = |directory: &str, words: &str| {
        let found =
            Command::new("grep").args(["-r", "-l", "-a", "-F", words, &world.path(directory)]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    for words in ["Giang Thi My", "Bản Phiệt", "+84912000017", "nguyen.lan", "24B1"] {
        for place in ["broker", "logs", LAO_CAI, HEKOU] {
            assert_eq!(searched(place, words), "", "{words} is readable in {place}");
        }
    }
    // What the broker must know is there: the search would find words.
    assert_ne!(searched("broker", HEKOU), "");
}

/// Promise 7: the broker cannot forge. An entry that no office signed is taken by no node and found by the auditor,
/// though it is in the tree and signed with the log's real key; and the gap it makes in the numbers is seen.
#[test]
fn promise_7_the_broker_cannot_forge() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let first = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&first, &["DELIVERED"]));
    world.stop_broker().unwrap();
    let mut forger = Forger::new(&world, LAO_CAI);
    forger.signing = SigningKey::generate(&OsEntropy);
    enter(&world, &forger.envelope(HEKOU), 2);
    world.start_broker().unwrap();
    assert!(eventually(|| alarms(&world, HEKOU).contains("a delivery was not taken")), "{}", alarms(&world, HEKOU));
    let second = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&second, &["DELIVERED"]), "a forged message must not block honest ones");
    assert_eq!(world.office(HEKOU).inbox().unwrap().len(), 2, "a forged message reached the inbox");
    let seen = || alarms(&world, LAO_CAI).contains("given to no message that this node knows");
    assert!(eventually(seen), "the sender did not see that a number was taken");
    let copy = world.path("audit");
    world.audit(&["mirror", "--copy", &copy]).unwrap();
    let (code, findings) = finding_codes(&world, "verify", &copy);
    assert_eq!((code, findings), (5, vec!["SIGNATURE_BAD".to_owned()]));
}

/// Promise 9: a broker that enters what the agreements forbid is found out: the recipient's node asks them again, and so does
/// the auditor.
#[test]
fn promise_9_what_the_agreements_forbid_and_a_broker_enters_is_marked_and_found() {
    let directory = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_demo"));
    let mut world = World::create_under(directory.path(), program, Some(&scenarios::agreements())).unwrap();
    world.start_broker().unwrap();
    world.create_node(HEKOU).unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    world.stop_broker().unwrap();
    // Signed by its office, on a basis that the two countries never agreed on.
    let forged = Forger::new(&world, LAO_CAI).changed(HEKOU, |parts| {
        parts.core.legal_basis = vec![wire::LegalBasis::Vnth08.into()];
    });
    enter(&world, &forged, 1);
    world.start_broker().unwrap();
    assert!(eventually(|| world.office(HEKOU).inbox().is_ok_and(|inbox| inbox.len() == 1)));
    let message = world.office(HEKOU).inbox().unwrap()[0]["message"].as_str().unwrap().to_owned();
    let thread = world.office(HEKOU).ask(&json!({"op": "thread", "message": message})).unwrap();
    assert_eq!(thread["messages"][0]["reason"], "NOT_IN_AGREEMENT", "{thread}");
    let copy = world.path("audit");
    world.audit(&["mirror", "--copy", &copy]).unwrap();
    assert_eq!(finding_codes(&world, "verify", &copy), (5, vec!["NOT_AGREED".to_owned()]));
}

/// Promise 7: the broker cannot alter. A body that differs from what the originator signed is taken by no node.
#[test]
fn promise_7_the_broker_cannot_alter() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.stop_broker().unwrap();
    let mut envelope = Forger::new(&world, LAO_CAI).envelope(HEKOU);
    let mut body = envelope.body.to_vec();
    body[100] ^= 1;
    envelope.body = body.into();
    enter(&world, &envelope, 1);
    world.start_broker().unwrap();
    assert!(
        eventually(|| alarms(&world, HEKOU).contains("not what the header commits to")),
        "{}",
        alarms(&world, HEKOU)
    );
    assert_eq!(world.office(HEKOU).inbox().unwrap().len(), 0);
}

/// Promise 7: nobody can reassign. What an officer of one office signed opens in no other envelope, even when a
/// recipient lifts it into one of its own.
#[test]
fn promise_7_content_cannot_be_reassigned_to_another_envelope() {
    let (_directory, world) = world(&[ARANYAPRATHET]);
    world.office(ARANYAPRATHET).unlocks().unwrap();
    let (lao_cai, hekou) = (Forger::new(&world, LAO_CAI), Forger::new(&world, HEKOU));
    let now = SystemClock.now();
    let content = {
        use liaison_casework::{
            case_file,
            content::{Content, Gossip},
        };
        let case = case_file::parse(samples::CHAIN_TEST).unwrap();
        Content::new(case.kind, case.content, Gossip::default(), Vec::new(), Bytes::new()).encode().unwrap()
    };
    let officer_of = |forger: &Forger| {
        let key = SigningKey::generate(&OsEntropy);
        let credential = wire::OfficerCredential {
            version: 1,
            office: forger.office.to_string(),
            officer_id: "some.one".into(),
            display_name: "Some One".into(),
            role: wire::Role::Officer.into(),
            public_key: Bytes::copy_from_slice(key.verifying_key().as_bytes()),
            not_before_ms: now.0 - DAY_MS,
            not_after_ms: now.0 + DAY_MS,
            serial: 1,
        };
        (SignedCredential::issue(&credential, &forger.signing), key)
    };
    let plaintext = |core: &wire::Core, (credential, key): &(SignedCredential, SigningKey)| {
        let officer = Some(sign_content(&core.encode_to_vec(), &content, credential, key));
        wire::Plaintext { content: content.clone().into(), officer, countersigners: Vec::new() }.encode_to_vec()
    };
    let (lan, fang) = (officer_of(&lao_cai), officer_of(&hekou));
    // Not even an officer's own content moves to another envelope of the same office.
    let (first, moved) = (hekou.core(ARANYAPRATHET), hekou.core(ARANYAPRATHET));
    let replayed = hekou.sign(hekou.parts(moved, &plaintext(&first, &fang)));
    let (original, core) = (lao_cai.core(HEKOU), hekou.core(ARANYAPRATHET));
    let own = hekou.core(ARANYAPRATHET);
    let lifted = hekou.sign(hekou.parts(core, &plaintext(&original, &lan)));
    let honest = hekou.sign(hekou.parts(own.clone(), &plaintext(&own, &fang)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut exchange = ExchangeClient::new(connect(&world, "offices/CN-BLO-HKO"));
        for envelope in [lifted, replayed, honest] {
            exchange.submit(wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 }).await.unwrap();
        }
    });
    let states = || -> Vec<String> {
        let inbox = world.office(ARANYAPRATHET).inbox().unwrap_or_default();
        inbox.iter().filter_map(|message| message["state"].as_str().map(str::to_owned)).collect()
    };
    assert!(eventually(|| states() == ["CANNOT_OPEN", "CANNOT_OPEN", "OPENED"]), "{:?}", states());
}

/// Promise 8: a log that is rolled back to an older copy is noticed by the auditor, and by the node that has seen more;
/// nothing is receipted before it is whole again.
#[test]
fn promise_8_a_rolled_back_log_is_noticed() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let first = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&first, &["DELIVERED"]));
    world.stop_broker().unwrap();
    let (data, kept) = (world.path("broker"), world.path("older"));
    copy_directory(data.as_ref(), kept.as_ref());
    world.start_broker().unwrap();
    let second = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&second, &["DELIVERED"]));
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let address = world.broker_address().unwrap();
    for office in [LAO_CAI, HEKOU] {
        world.stop_node(office).unwrap();
    }
    world.stop_broker().unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy_directory(kept.as_ref(), data.as_ref());
    fs::write(world.path("broker/address"), address).unwrap();
    // The operator waits for nobody.
    world.broker_keys = vec!["restored_grace_seconds = 0".to_owned()];
    world.start_broker().unwrap();
    let (code, findings) = finding_codes(&world, "mirror", &copy);
    assert!(code == 5 && (findings == ["ROLLED_BACK"] || findings == ["TREE_DIFFERS"]), "{code} {findings:?}");
    world.start_node(LAO_CAI).unwrap();
    assert!(eventually(|| alarms(&world, LAO_CAI).contains("rolled back")), "{}", alarms(&world, LAO_CAI));
    world.office(LAO_CAI).unlocks().unwrap();
    let third = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&third, &["ACCEPTED", "DELIVERED"]), "{:?}", world.broker_problems());
    let index = world.office(LAO_CAI).shows(&third).unwrap()["history"][1]["entry"].as_u64();
    assert!(index >= Some(4), "a receipt of a rolled-back log was believed: {index:?}");
    assert_eq!(finding_codes(&world, "mirror", &copy), (0, vec![]), "the auditor's copy does not fit any longer");
}

/// Promise 8: a log that is shown differently to two offices is noticed by the office that hears from the other: what
/// Lao Cai had verified travels inside its message, and does not fit the log that Hekou is shown.
#[test]
fn promise_8_a_log_shown_differently_to_two_offices_is_noticed() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.stop_node(HEKOU).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    world.stop_broker().unwrap();
    let (data, other) = (world.path("broker"), world.path("other"));
    let copy = |from: &str, to: &str| assert!(Command::new("cp").args(["-a", from, to]).status().unwrap().success());
    copy(&data, &other);
    world.start_broker().unwrap();
    for _ in 0..2 {
        let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
        assert!(world.office(LAO_CAI).sees(&message, &["ACCEPTED"]));
    }
    world.stop_node(LAO_CAI).unwrap();
    world.stop_broker().unwrap();
    // The second message, as the broker has it. In the log for Hekou the first one is kept back, another stands there.
    let log = cheat(&world);
    let accepted = ExchangeLeaf::parse(&log.reader().leaf(LogIndex(1)).unwrap()).unwrap();
    let Event::Accepted { header, signature, .. } = accepted.event else { panic!("not an ACCEPTED entry") };
    let body = wire::Envelope::decode(log.reader().body(LogIndex(1)).unwrap()).unwrap();
    let second = wire::Envelope { header: header.bytes().clone(), office_signature: signature, ..body };
    drop(log);
    let address = world.broker_address().unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy(&other, &data);
    fs::write(world.path("broker/address"), address).unwrap();
    let filler = Forger::new(&world, "LA-BLO-DSV").envelope(HEKOU);
    enter(&world, &filler, 1);
    enter(&world, &second, 1);
    world.start_broker().unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    assert!(eventually(|| alarms(&world, HEKOU).contains("shown differently")), "{}", alarms(&world, HEKOU));
}

/// Promise 8: an auditor sees an entry dropped, changed or reordered in the copy, whoever did it.
#[test]
fn promise_8_the_auditor_sees_every_changed_byte() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["DELIVERED"]));
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (code, clean) = finding_codes(&world, "verify", &copy);
    assert_eq!((code, clean), (0, vec![]));
    let files = ["exchange/checkpoint", "exchange/tile/entries/000.p/2", "directory/checkpoint"];
    for file in files {
        let path = Path::new(&copy).join(file);
        let good = fs::read(&path).unwrap();
        for byte in (0..good.len()).step_by(good.len() / 7) {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            fs::write(&path, &bad).unwrap();
            let (code, findings) = finding_codes(&world, "verify", &copy);
            assert!(code == 5 && findings.contains(&"COPY_DAMAGED".to_owned()), "{file}, byte {byte}: {findings:?}");
        }
        fs::write(&path, good).unwrap();
    }
}

/// Promise 10: after a restart that cut a torn tail messages go on, marked, and the officer sees the mark.
#[test]
fn promise_10_after_a_cut_tail_messages_go_on_marked() {
    let (_directory, mut world) = world(&[LAO_CAI]);
    world.office(LAO_CAI).unlocks().unwrap();
    let first = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&first, &["ACCEPTED"]));
    world.stop_broker().unwrap();
    let segment = world.path("broker/exchange/leaves/00000000.segment");
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end + 40..end + 60].fill(7);
    fs::write(&segment, bytes).unwrap();
    world.start_broker().unwrap();
    let second = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&second, &["ACCEPTED"]));
    assert_eq!(world.office(LAO_CAI).shows(&first).unwrap()["marks"], json!([]));
    assert_eq!(world.office(LAO_CAI).shows(&second).unwrap()["marks"], json!(["UNWITNESSED"]));
}

/// The directory's copy at a node is a cache: a damaged one is fetched and verified anew, and stops no officer.
#[test]
fn a_damaged_copy_of_the_directory_is_fetched_again() {
    let (_directory, mut world) = world(&[LAO_CAI]);
    world.stop_node(LAO_CAI).unwrap();
    let checkpoint = world.path(&format!("{LAO_CAI}/directory/checkpoint"));
    let mut bytes = fs::read(&checkpoint).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    fs::write(&checkpoint, bytes).unwrap();
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["ACCEPTED"]));
}

/// A statement signed by the wrong key, though in the tree, is found by the auditor.
#[test]
fn the_auditor_finds_a_delivery_that_the_recipient_never_stated() {
    let (_directory, mut world) = world(&[LAO_CAI]);
    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["ACCEPTED"]));
    world.stop_broker().unwrap();
    let mut log = cheat(&world);
    let accepted = ExchangeLeaf::parse(&log.reader().leaf(LogIndex(0)).unwrap()).unwrap();
    let Event::Accepted { header, .. } = accepted.event else { panic!("not an ACCEPTED entry") };
    let statement = liaison_log::leaf::Statement {
        message_id: header.core().message_id,
        office: HEKOU.parse().unwrap(),
        accepted: LogIndex(0),
        header_sha256: header.sha256(),
        number: 1,
        at: SystemClock.now(),
        reason: wire::CannotOpenReason::Unspecified,
    };
    let bytes = statement.encode();
    let signature = Some(SigningKey::generate(&OsEntropy).sign(PayloadType::Delivered, &bytes));
    let event = Event::Attested { kind: wire::StatementKind::Delivered, statement, bytes, signature };
    let leaf = ExchangeLeaf { time: SystemClock.now(), directory_size: charter_size(&world), marks: Vec::new(), event };
    log.commit(vec![(leaf.encode(), None)], SystemClock.now()).unwrap();
    log.record_signed().unwrap();
    drop(log);
    world.start_broker().unwrap();
    assert!(eventually(|| alarms(&world, LAO_CAI).contains("entry 1 does not verify")), "{}", alarms(&world, LAO_CAI));
    assert_eq!(world.office(LAO_CAI).state_of(&message), "ACCEPTED", "a false delivery was shown to the officer");
    let copy = world.path("audit");
    world.audit(&["mirror", "--copy", &copy]).unwrap();
    assert_eq!(finding_codes(&world, "verify", &copy), (5, vec!["SIGNATURE_BAD".to_owned()]));
}

/// Whoever has copied an office's keys sends under the id of a message that its officer took back before it left: the office
/// is told that the log speaks of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_6_what_never_left_and_is_in_the_log_all_the_same_is_told() {
    let (_directory, world) = world_holding(60, &[LAO_CAI, HEKOU]);
    let lao_cai = world.office(LAO_CAI);
    let message = lao_cai.sends(samples::ROUTINE).unwrap();
    let request = json!({"op": "take-back", "message": message, "kind": "WITHDRAW", "reason": "DUPLICATE"});
    assert_eq!(lao_cai.ask(&request).unwrap()["taken_back"], "BEFORE_IT_LEFT");
    let id: MessageId = message.parse().unwrap();
    let forged = Forger::new(&world, LAO_CAI).changed(HEKOU, |parts| {
        parts.core.message_id = Bytes::copy_from_slice(id.as_bytes());
        parts.core.thread_id = parts.core.message_id.clone();
    });
    let request = wire::SubmitRequest { envelope: Some(forged), seen_size: 0 };
    ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA")).submit(request).await.unwrap();
    let told = format!("message {message} was taken back before it left");
    assert!(eventually(|| alarms(&world, LAO_CAI).contains(&told)), "{}", alarms(&world, LAO_CAI));
    assert_eq!(lao_cai.state_of(&message), "TAKEN_BACK");
}
