//! What becomes of messages between offices: streams and their order, several recipients, what is taken back, what
//! expires, what cannot be opened at first, and keys that rotate on the way.

use std::time::Duration;

use liaison_log::leaf::{Event, ExchangeLeaf, Statement};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{Clock as _, DAY_MS, SystemClock},
    entropy::OsEntropy,
    evidence::is_signed_refusal,
    ids::{LogIndex, MessageId},
    key_file::PrivateKey,
    limits,
    refusal::RefusalCode,
    seal::{DecryptionKey, Suite},
    sha256,
    sign::PayloadType,
    wire::{
        self, StatementKind, directory_client::DirectoryClient, exchange_client::ExchangeClient, submit_answer::Answer,
    },
};
use liaison_tests::{
    samples,
    world::{PASSPHRASE, World, eventually},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Forger, alarms, charter, code, connect, copy_directory, missing_numbers, world, world_holding};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const HA_NOI: &str = "VN-CCP-HAN";

fn submit(envelope: wire::Envelope) -> wire::SubmitRequest {
    wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 }
}

fn exchange(world: &World, office: &str) -> ExchangeClient<tonic::transport::Channel> {
    ExchangeClient::new(connect(world, &format!("offices/{office}"))).max_encoding_message_size(limits::GRPC_BYTES)
}

/// Every answer of a stream is in the order of its envelopes; a refusal, signed where the envelope's own signature was
/// good, ends nothing but its envelope; and the numbers have no gap.
#[tokio::test]
async fn a_stream_of_envelopes_is_answered_in_order_and_a_refusal_ends_only_its_own() {
    let (_directory, world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let good: Vec<wire::Envelope> = (0..40).map(|_| forger.envelope(HEKOU)).collect();
    let late = forger.changed(HEKOU, |p| p.core.created_at_ms -= 61 * DAY_MS);
    let forged = wire::Envelope { office_signature: None, ..good[0].clone() };
    let mut all = good.clone();
    all.insert(20, late.clone());
    all.insert(30, forged);
    let (sender, requests) = mpsc::channel(64);
    let mut client = exchange(&world, LAO_CAI);
    let mut answers = client.submit_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
    for envelope in &all {
        sender.send(submit(envelope.clone())).await.unwrap();
    }
    drop(sender);
    let (mut receipts, mut refusals) = (Vec::new(), Vec::new());
    for position in 0..all.len() as u64 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.position, position);
        match answer.answer.unwrap() {
            Answer::Receipt(receipt) => receipts.push(receipt),
            Answer::Refusal(refusal) => refusals.push((position, refusal)),
        }
    }
    assert!(answers.message().await.unwrap().is_none(), "an answer to nothing");
    let numbers: Vec<u64> = receipts
        .iter()
        .map(|receipt| match ExchangeLeaf::parse(&receipt.leaf).unwrap().event {
            Event::Accepted { numbers, .. } => numbers[0],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    let [(20, old), (30, unsigned)] = refusals.as_slice() else { panic!("{refusals:?}") };
    assert_eq!((old.code.as_str(), old.retry_after_ms), ("TOO_OLD", 0));
    assert_eq!(unsigned.code, "BAD_SIGNATURE");
    // What the office validly signed is refused over the broker's signature; what anybody may have made is not.
    assert!(unsigned.signed.is_none(), "the broker signed a refusal of what nobody signed");
    let header = liaison_proto::header::Header::parse(late.header).unwrap();
    let (signed, evidence) = (old.signed.clone().unwrap(), *charter(&world).evidence_key());
    assert!(is_signed_refusal(&signed, &header, "TOO_OLD", &evidence.into()));
    assert!(!is_signed_refusal(&signed, &header, "BAD_SIGNATURE", &evidence.into()));
    // A retry of the whole, one by one, gets the same leaves.
    for (envelope, receipt) in good.iter().zip(&receipts) {
        let again = client.submit(submit(envelope.clone())).await.unwrap().into_inner().receipt.unwrap();
        assert_eq!(again.leaf, receipt.leaf);
    }
}

/// A lane's stream gives as much as was granted, no more; what was not signed for comes again on the next stream.
#[tokio::test]
async fn deliveries_go_as_far_as_the_credit_and_come_again_until_signed_for() {
    let (_directory, world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let mut from = exchange(&world, LAO_CAI);
    for _ in 0..5 {
        from.submit(submit(forger.envelope(HEKOU))).await.unwrap();
    }
    let mut to = exchange(&world, HEKOU);
    for round in 0..2 {
        let (requests, stream) = mpsc::channel(4);
        let request = |credit| wire::ReceiveRequest { lane: wire::Lane::Bulk.into(), credit };
        requests.send(request(2)).await.unwrap();
        let mut deliveries = to.receive(ReceiverStream::new(stream)).await.unwrap().into_inner();
        let mut numbers = Vec::new();
        while numbers.len() < 2 {
            numbers.push(number(&deliveries.message().await.unwrap().unwrap()));
        }
        let more = tokio::time::timeout(Duration::from_millis(300), deliveries.message()).await;
        assert!(more.is_err(), "more was delivered than was granted");
        requests.send(request(3)).await.unwrap();
        while numbers.len() < 5 {
            numbers.push(number(&deliveries.message().await.unwrap().unwrap()));
        }
        assert_eq!(numbers, [1, 2, 3, 4, 5], "round {round}");
    }
    let nothing = exchange(&world, HEKOU).receive(tokio_stream::iter([wire::ReceiveRequest::default()])).await;
    assert_eq!(code(nothing), RefusalCode::MalformedEnvelope, "a stream without a lane");
}

fn number(delivery: &wire::Delivery) -> u64 {
    match ExchangeLeaf::parse(&delivery.receipt.as_ref().unwrap().leaf).unwrap().event {
        Event::Accepted { numbers, .. } => numbers[0],
        other => panic!("{other:?}"),
    }
}

/// Several recipients: all or none. One that is unknown refuses the message for every one, and no number is consumed.
#[tokio::test]
async fn a_message_to_several_offices_is_accepted_for_all_or_for_none() {
    let (_directory, world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let mut client = exchange(&world, LAO_CAI);
    let to_both = |second: &str| {
        let mut core = forger.core(HEKOU);
        core.to = vec![HEKOU.into(), second.into()];
        core.corridor = "REGION".into();
        core
    };
    let known = |core| forger.sign(forger.parts(core, b"sealed"));
    let with_unknown = {
        let mut parts = forger.parts(to_both("LA-CCP-VTE"), b"sealed");
        parts.core.to[1] = "LA-BLO-ZZZ".into();
        forger.sign(parts)
    };
    assert_eq!(code(client.submit(submit(with_unknown)).await), RefusalCode::UnknownRecipient);
    let receipt = client.submit(submit(known(to_both("LA-CCP-VTE")))).await.unwrap().into_inner().receipt.unwrap();
    match ExchangeLeaf::parse(&receipt.leaf).unwrap().event {
        Event::Accepted { numbers, .. } => assert_eq!(numbers, [1, 1], "the refused one consumed a number"),
        other => panic!("{other:?}"),
    }
}

/// Before it leaves nobody ever sees it: a hold in which a wrong recipient can be taken back; FLASH and
/// acknowledgements do not wait.
#[test]
fn a_message_can_be_taken_back_before_it_leaves_and_flash_does_not_wait() {
    let (_directory, world) = world_holding(5, &[LAO_CAI, HEKOU]);
    let lao_cai = world.office(LAO_CAI);
    let wrong = lao_cai.sends(samples::ROUTINE).unwrap();
    let kept = lao_cai.sends(samples::ROUTINE).unwrap();
    let answer = take_back(&world, LAO_CAI, &wrong, "WITHDRAW", "WRONG_CONTENT");
    assert_eq!(answer["taken_back"], "BEFORE_IT_LEFT", "{answer}");
    assert_eq!(lao_cai.state_of(&wrong), "TAKEN_BACK");
    let flash = lao_cai.sends(samples::HOTLINE_CALL).unwrap();
    assert!(lao_cai.sees(&flash, &["RETRIEVED"]));
    assert_eq!(lao_cai.state_of(&kept), "QUEUED", "it left before its time, or FLASH waited for it");
    assert!(lao_cai.sees(&kept, &["RETRIEVED"]));
    assert_eq!(world.office(HEKOU).times_received(&wrong), 0);
    let refused = lao_cai.ask(&json!({"op": "take-back", "message": wrong, "kind": "WITHDRAW", "reason": "OTHER"}));
    assert!(refused.unwrap_err().to_string().contains("ALREADY_ANSWERED"));
    // Nothing follows what never left: it would be read in a thread that is not there, by no rule of the one that is.
    let follows = lao_cai.sends(&format!("in_reply_to: {wrong}\n{}", samples::CASE_NOTICE));
    assert!(follows.unwrap_err().to_string().contains("UNKNOWN_MESSAGE"));
}

fn take_back(world: &World, office: &str, message: &str, kind: &str, reason: &str) -> Value {
    let reasons = liaison_casework::codes::list(if kind == "RECALL" { "recall_reason" } else { "withdraw_reason" });
    let known = reasons.unwrap().iter().map(|(code, _)| *code).find(|code| *code == reason);
    let reason = known.unwrap_or("OTHER");
    let text = (kind == "WITHDRAW").then_some("a drill");
    let request = json!({"op": "take-back", "message": message, "kind": kind, "reason": reason, "text": text});
    world.office(office).ask(&request).unwrap()
}

/// Promises 4 and 6: what is withdrawn while the recipient is away is never delivered, its number is accounted for by a
/// NON_DELIVERY, and the same after a restart of the broker; what was delivered already stays delivered.
#[test]
fn promise_4_what_is_withdrawn_before_delivery_stands_as_its_leaf() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let delivered = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&delivered, &["RETRIEVED"]));
    world.stop_node(HEKOU).unwrap();
    let withdrawn = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&withdrawn, &["ACCEPTED"]));
    for message in [&withdrawn, &delivered] {
        let answer = take_back(&world, LAO_CAI, message, "WITHDRAW", "OTHER");
        assert_eq!(answer["taken_back"], "RECIPIENTS_ARE_TOLD", "{answer}");
    }
    assert!(world.office(LAO_CAI).sees(&withdrawn, &["WITHDRAWN"]), "{}", world.office(LAO_CAI).state_of(&withdrawn));
    world.kill_broker().unwrap();
    world.start_broker().unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let told = || world.office(HEKOU).inbox().unwrap().iter().filter(|m| m["kind"] == "WITHDRAW").count() == 2;
    assert!(eventually(told));
    assert_eq!(world.office(HEKOU).times_received(&withdrawn), 0, "delivered after its non-delivery");
    assert!(eventually(|| missing_numbers(&world, HEKOU) == json!([])), "{}", missing_numbers(&world, HEKOU));
    let state = |message: &str| {
        let inbox = world.office(HEKOU).inbox().unwrap();
        inbox.iter().find(|m| m["message"] == message).map(|m| m["state"].clone()).unwrap_or_default()
    };
    assert!(eventually(|| state(&delivered) == "WITHDRAWN"), "{}", state(&delivered));
    assert_eq!(world.office(LAO_CAI).state_of(&delivered), "RETRIEVED");
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(alarms(&world, office), json!([]));
    }
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (found, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
    let (_, life) = world.audit(&["inspect", "--copy", &copy, &withdrawn]).unwrap();
    let events: Vec<&str> = life["events"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(events, ["ACCEPTED", "ANSWERED", "NON_DELIVERY"]);
}

/// What went to the wrong office is recalled: its node shows the content no more.
#[test]
fn a_recalled_message_is_not_shown_any_more() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    assert!(world.office(HEKOU).shows(&message).unwrap()["text"].is_string());
    take_back(&world, LAO_CAI, &message, "RECALL", "WRONG_OFFICE");
    assert!(eventually(|| world.office(HEKOU).shows(&message).unwrap()["state"] == "RECALLED"));
    let shown = world.office(HEKOU).shows(&message).unwrap();
    assert!(shown["text"].is_null() && shown["content"].is_null(), "{shown:#}");
    assert!(shown["content_missing"].as_str().unwrap().contains("recalled"));
}

/// Promise 6: a message whose time has passed is given up; a delivery that comes after all is logged, marked LATE, and
/// no office can take back another's message.
#[tokio::test]
async fn promise_6_an_expired_message_is_given_up_and_a_later_delivery_is_marked_late() {
    let (_directory, world) = world(&[]);
    let (lao_cai, hekou) = (Forger::new(&world, LAO_CAI), Forger::new(&world, HEKOU));
    let (mut from, mut to) = (exchange(&world, LAO_CAI), exchange(&world, HEKOU));
    let expired = lao_cai.changed(HEKOU, |p| p.core.retain_until_ms = SystemClock.now().0 - 1);
    assert_eq!(code(from.submit(submit(expired)).await), RefusalCode::TooOld);
    let brief = lao_cai.changed(HEKOU, |p| p.core.retain_until_ms = SystemClock.now().0 + 1500);
    from.submit(submit(brief.clone())).await.unwrap();
    // Nobody but its originator takes it back.
    let core = wire::Core::decode(wire::Header::decode(brief.header.clone()).unwrap().core).unwrap();
    let foreign = hekou.changed(LAO_CAI, |p| {
        p.core.kind = wire::Kind::Withdraw.into();
        p.core.step = wire::Step::Withdrawn.into();
        p.core.in_reply_to = core.message_id.clone();
    });
    assert_eq!(code(to.submit(submit(foreign)).await), RefusalCode::NotYourOffice);
    let mut evidence = from.evidence(wire::EvidenceRequest { from_index: 0 }).await.unwrap().into_inner();
    let given_up = evidence.message().await.unwrap().unwrap();
    let leaf = ExchangeLeaf::parse(&given_up.receipt.unwrap().leaf).unwrap();
    let Event::NonDelivery(given_up) = leaf.event else { panic!("{leaf:?}") };
    assert_eq!((given_up.reason, given_up.number), (wire::NonDeliveryReason::Expired, 1));
    // It was on its way when it expired.
    let statement = Statement {
        message_id: MessageId::from_wire(&core.message_id).unwrap(),
        office: hekou.office,
        accepted: LogIndex(0),
        header_sha256: sha256(&[&brief.header]),
        number: 1,
        at: SystemClock.now(),
        reason: wire::CannotOpenReason::Unspecified,
    }
    .encode();
    let signature = Some(hekou.receipt.sign(PayloadType::Delivered, &statement));
    let attested = Some(wire::Attested { statement, signature });
    let request = wire::AttestRequest { kind: StatementKind::Delivered.into(), attested, seen_size: 0 };
    let receipt = to.attest(request).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!(ExchangeLeaf::parse(&receipt.leaf).unwrap().marks, [wire::Mark::Late]);
}

/// A recipient that lost the key that a message was sealed to says so; the sender's node seals the same content key to
/// the recipient's new one: id and number stay, and it is opened.
#[test]
fn a_message_that_cannot_be_opened_is_sealed_anew_to_the_recipients_new_key() {
    let (_directory, mut world) = world(&[LAO_CAI]);
    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["ACCEPTED"]));
    publish_new_keys(&world, HEKOU);
    world.create_node(HEKOU).unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(&message));
    let shown = world.office(HEKOU).shows(&message).unwrap();
    assert_eq!(shown["number"], 1);
    assert!(shown["text"].as_str().unwrap().contains("Giang Thi My"));
    let history = world.office(LAO_CAI).shows(&message).unwrap()["history"].clone();
    let events: Vec<&str> = history.as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(events, ["SIGNED", "ACCEPTED", "DELIVERED", "CANNOT_OPEN", "REWRAPPED", "RETRIEVED"]);
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (found, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
}

/// Puts new encryption keys into an office's material and publishes them: the old private halves are gone.
pub(crate) fn publish_new_keys(world: &World, office: &str) {
    let forger = Forger::new(world, office);
    let material = std::path::PathBuf::from(world.path(&format!("charter/offices/{office}")));
    let now = SystemClock.now();
    for (suite, name) in [(Suite::XWing, "encryption-xwing.key"), (Suite::X25519, "encryption-x25519.key")] {
        let (key, public) = DecryptionKey::generate(suite, &OsEntropy);
        std::fs::remove_file(material.join(name)).unwrap();
        PrivateKey::Decryption(key).write(&material.join(name), "a test's").unwrap();
        let record = wire::EncryptionKey {
            version: 1,
            office: office.to_owned(),
            suite: suite.to_wire(),
            public_key: public.bytes().clone(),
            not_before_ms: now.0,
            not_after_ms: now.plus(30 * DAY_MS).0,
        };
        let key = Bytes::from(record.encode_to_vec());
        let office_signature = Some(forger.signing.sign(PayloadType::KeyRecord, &key));
        let record = wire::directory_record::Record::Key(wire::KeyRecord { key, office_signature });
        let request =
            wire::PublishRequest { record: Some(wire::DirectoryRecord { record: Some(record) }), seen_size: 0 };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            DirectoryClient::new(connect(world, &format!("offices/{office}"))).publish(request).await.unwrap();
        });
    }
}

/// Keys rotate while messages are on their way in both directions, and with a node that is away: everything is opened,
/// and what is sent afterwards is sealed to the new key.
#[test]
fn encryption_keys_rotate_with_messages_in_flight() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let directory_size = |world: &World| {
        world.office(LAO_CAI).ask(&json!({"op": "status"})).unwrap()["directory_entries"].as_u64().unwrap()
    };
    let before = directory_size(&world);
    world.office(HEKOU).ask(&json!({"op": "lock"})).unwrap();
    let mut sent = vec![world.office(LAO_CAI).sends(samples::ROUTINE).unwrap()];
    assert!(world.office(LAO_CAI).sees(&sent[0], &["DELIVERED"]));
    world.office(HEKOU).unlocks().unwrap();
    for round in 0..3 {
        sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
        assert_eq!(world.office(HEKOU).ask(&json!({"op": "rotate-keys"})).unwrap()["new_keys"], 2);
        assert!(
            eventually(|| directory_size(&world) == before + 2 * (round + 1)),
            "the new keys are not in the directory"
        );
    }
    // The newest key is the one sealed to; the older ones open after a restart, too.
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    world.stop_node(HEKOU).unwrap();
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    for message in &sent {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(message));
    }
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(alarms(&world, office), json!([]), "an office was alarmed by its own keys");
    }
}

/// One process serves several offices, each with its own keys, store and socket.
#[test]
fn one_node_process_serves_several_offices() {
    let (_directory, mut world) = world(&[HEKOU]);
    for office in [LAO_CAI, HA_NOI] {
        world.create_node(office).unwrap();
    }
    world.start_nodes(&[LAO_CAI, HA_NOI]).unwrap();
    for office in [LAO_CAI, HA_NOI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let message = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    assert_eq!(world.office(HA_NOI).outbox().unwrap(), Vec::<Value>::new(), "an office sees the other's messages");
    let wrong = world.office(HA_NOI).ask(&json!({"op": "unlock", "officer": "nguyen.lan", "passphrase": PASSPHRASE}));
    assert!(wrong.is_err(), "an officer of one office unlocked the other");
}

/// Promises 1 and 3: a node that is restored from a backup gets back what it had received, once, and finds again in the
/// log what it had sent; nothing is doubled, and nobody is alarmed.
#[test]
fn promise_3_a_node_restored_from_a_backup_is_made_whole_from_the_others() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let mut received = vec![world.office(LAO_CAI).sends(samples::ROUTINE).unwrap()];
    assert!(world.office(LAO_CAI).sees(&received[0], &["RETRIEVED"]));
    world.stop_node(HEKOU).unwrap();
    let (data, backup) = (world.path(HEKOU), world.path("backup"));
    copy_directory(data.as_ref(), backup.as_ref());
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    received.push(world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap());
    received.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    for message in &received {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]));
    }
    let answer = world.office(HEKOU).acknowledges(&received[1]).unwrap();
    assert!(world.office(HEKOU).sees(&answer, &["RETRIEVED"]));
    world.stop_node(HEKOU).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    copy_directory(backup.as_ref(), data.as_ref());
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    for message in &received {
        let opened = || {
            let inbox = world.office(HEKOU).inbox().unwrap();
            inbox.iter().any(|m| m["message"] == *message && m["state"] != "LOCKED")
        };
        assert!(eventually(opened), "{message} did not come back");
        assert_eq!(world.office(HEKOU).times_received(message), 1);
    }
    assert!(
        eventually(|| world.office(HEKOU).state_of(&answer) == "RETRIEVED"),
        "what it had sent was not found again"
    );
    assert_eq!(missing_numbers(&world, HEKOU), json!([]));
    assert_eq!(alarms(&world, HEKOU), json!([]));
    let next = world.office(HEKOU).acknowledges(&received[2]).unwrap();
    assert!(world.office(HEKOU).sees(&next, &["RETRIEVED"]), "it cannot send any more");
    assert_eq!(alarms(&world, LAO_CAI), json!([]));
}

/// Promise 5: what waits for an officer to unlock is opened in the order of its urgency: a call for help that came last is
/// readable first.
#[test]
fn promise_5_a_call_for_help_is_opened_before_the_notices_that_came_before_it() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let notices: Vec<String> = (0..24).map(|_| world.office(LAO_CAI).sends(samples::ROUTINE).unwrap()).collect();
    assert!(notices.iter().all(|notice| world.office(LAO_CAI).sees(notice, &["DELIVERED"])));
    let call = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(world.office(LAO_CAI).sees(&call, &["DELIVERED"]));
    world.office(HEKOU).unlocks().unwrap();
    let opened = |message: &String| {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]));
        let shown = world.office(LAO_CAI).shows(message).unwrap();
        let history = shown["history"].as_array().unwrap().iter().find(|event| event["what"] == "RETRIEVED").cloned();
        history.unwrap_or_else(|| panic!("{shown:#}"))["entry"].as_u64().unwrap()
    };
    let first = opened(&call);
    for notice in &notices {
        assert!(first < opened(notice), "a notice was opened before the call for help");
    }
}
