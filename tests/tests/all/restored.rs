//! A broker that was restored from an older backup: noticed, made whole again from what the offices hold, nothing
//! doubled, and no second history begun.

use std::{fs, io::Read as _};

use liaison_link::local;
use liaison_log::checkpoint::CheckpointSigner;
use liaison_proto::{
    key_file::PrivateKey,
    refusal::{Refusal, RefusalCode},
    wire::{self, exchange_client::ExchangeClient, repair_client::RepairClient},
};
use liaison_tests::{
    roles::CLOCK_OFFSET,
    samples,
    world::{OFFICES, World, eventually},
};
use serde_json::json;

use crate::support::{Forger, alarms, charter, code, connect, copy_directory, missing_numbers, world, world_with};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const ARANYAPRATHET: &str = "TH-BLO-ARN";

/// Keeps a backup of a broker that goes on.
pub(crate) fn back_up(world: &mut World) {
    world.stop_broker().unwrap();
    copy_directory(world.path("broker").as_ref(), world.path("backup").as_ref());
    world.start_broker().unwrap();
}

/// The broker's disk is lost, and the backup is put in its place.
pub(crate) fn restore(world: &mut World) {
    let address = world.broker_address().unwrap();
    world.kill_broker().unwrap();
    fs::remove_dir_all(world.path("broker")).unwrap();
    copy_directory(world.path("backup").as_ref(), world.path("broker").as_ref());
    fs::write(world.path("broker/address"), address).unwrap();
    world.start_broker().unwrap();
}

pub(crate) fn entries(world: &World) -> (u64, u64) {
    let status = world.broker_status().unwrap();
    (status["exchange_entries"].as_u64().unwrap(), status["directory_entries"].as_u64().unwrap())
}

/// A message with a file.
pub(crate) fn sends_a_file(world: &World, office: &str, file: &str, text: &[u8]) -> String {
    let attachments = json!([{"name": "list.txt", "size": text.len()}]);
    let request = json!({"op": "send", "file": file, "attachments": attachments});
    let mut body = text.take(text.len() as u64);
    let sent = local::call_with(&world.socket(office), &request, &mut body, &mut std::io::sink()).unwrap();
    sent["message"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned()
}

fn take_back(world: &World, office: &str, message: &str) -> String {
    let request =
        json!({"op": "take-back", "message": message, "kind": "WITHDRAW", "reason": "OTHER", "text": "a drill"});
    world.office(office).ask(&request).unwrap()["message"].as_str().unwrap().to_owned()
}

/// Promises 1, 3 and 4: everything that was entered after the backup is there again as it was, in both logs, with bodies
/// and attachments; the auditor's copy of before the loss fits; nothing is doubled, and no number is missing.
#[test]
fn promise_1_a_restored_broker_is_made_whole_from_the_offices_copies_with_nothing_doubled() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU, ARANYAPRATHET]);
    for office in [LAO_CAI, HEKOU, ARANYAPRATHET] {
        world.office(office).unlocks().unwrap();
    }
    let mut to_hekou = vec![world.office(LAO_CAI).sends(samples::ROUTINE).unwrap()];
    assert!(world.office(LAO_CAI).sees(&to_hekou[0], &["RETRIEVED"]));
    back_up(&mut world);

    // Delivered and answered; with a file; new keys; withdrawn before it was delivered; still waiting.
    to_hekou.push(world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap());
    assert!(world.office(LAO_CAI).sees(&to_hekou[1], &["RETRIEVED"]));
    let answer = world.office(HEKOU).acknowledges(&to_hekou[1]).unwrap();
    assert!(world.office(HEKOU).sees(&answer, &["RETRIEVED"]));
    let directory_before = entries(&world).1;
    world.office(HEKOU).ask(&json!({"op": "rotate-keys"})).unwrap();
    assert!(eventually(|| entries(&world).1 == directory_before + 2));
    world.stop_node(HEKOU).unwrap();
    let withdrawn = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&withdrawn, &["ACCEPTED"]));
    take_back(&world, LAO_CAI, &withdrawn);
    assert!(world.office(LAO_CAI).sees(&withdrawn, &["WITHDRAWN"]), "{}", world.office(LAO_CAI).state_of(&withdrawn));
    let text = b"what is on the list".repeat(5_000);
    to_hekou.push(sends_a_file(&world, LAO_CAI, samples::ROUTINE, &text));
    assert!(world.office(LAO_CAI).sees(&to_hekou[2], &["ACCEPTED"]));
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let before = entries(&world);

    restore(&mut world);
    assert!(
        eventually(|| entries(&world) == before),
        "{:?} of {before:?}: {:?}",
        entries(&world),
        world.broker_problems()
    );
    assert!(
        eventually(|| !world.broker_problems().iter().any(|line| line.contains("nothing new"))),
        "{:?}",
        world.broker_problems()
    );
    // It is the same log: what the auditor had copied before fits.
    let (found, verdict) = world.audit(&["mirror", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");

    // It goes on, also for an office that was away.
    to_hekou.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    for message in &to_hekou {
        assert!(
            world.office(LAO_CAI).sees(message, &["RETRIEVED", "ACKED"]),
            "{}",
            world.office(LAO_CAI).state_of(message)
        );
        assert_eq!(world.office(HEKOU).times_received(message), 1);
    }
    assert_eq!(world.office(LAO_CAI).times_received(&answer), 1);
    assert_eq!(world.office(HEKOU).times_received(&withdrawn), 0);
    let read = || {
        let request = json!({"op": "attachment", "message": to_hekou[2], "number": 1});
        let mut bytes = Vec::new();
        let _ = local::call_with(&world.socket(HEKOU), &request, &mut std::io::empty(), &mut bytes);
        bytes
    };
    assert!(eventually(|| read() == text), "the file was lost");
    for office in [LAO_CAI, HEKOU, ARANYAPRATHET] {
        assert_eq!(missing_numbers(&world, office), json!([]), "{office}");
    }
    // Every office that saw it says so, once per log, and says nothing else.
    let told = alarms(&world, LAO_CAI).as_array().cloned().unwrap_or_default();
    assert!(!told.is_empty(), "nobody was told");
    for alarm in &told {
        assert!(alarm["what"].as_str().unwrap().contains("rolled back"), "{alarm}");
    }
    assert_eq!(alarms(&world, HEKOU), json!([]), "an office that was away was alarmed by a log that is whole");
    let (found, verdict) = world.audit(&["mirror", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
    let (found, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
    world.stop_broker().unwrap();
    let checked = world.run("broker", &["check", "--config", &world.path("broker.toml")]).unwrap();
    assert!(checked.contains("no problems"), "{checked}");
}

/// Promise 1: a message that was sealed anew is opened after the broker lost the new wrap and its recipient had not fetched
/// it: its sender kept it.
#[test]
fn promise_1_a_wrap_that_the_broker_lost_comes_back_from_the_sender() {
    let (_directory, mut world) = world(&[LAO_CAI]);
    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["ACCEPTED"]));
    crate::flow::publish_new_keys(&world, HEKOU);
    back_up(&mut world);
    world.create_node(HEKOU).unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(LAO_CAI).ask(&json!({"op": "lock"})).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["CANNOT_OPEN"]));
    world.stop_node(HEKOU).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    let happened = |what: &str| {
        let history = world.office(LAO_CAI).shows(&message).unwrap_or_default()["history"].clone();
        history.as_array().into_iter().flatten().any(|event| event["what"] == what)
    };
    assert!(eventually(|| happened("REWRAPPED")));
    let before = entries(&world);
    restore(&mut world);
    assert!(eventually(|| entries(&world) == before), "{:?}", world.broker_problems());
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(&message));
    assert_eq!(world.office(HEKOU).times_received(&message), 1);
}

/// Promise 8: a restored broker begins no second history. Whoever has seen less of the log than others cannot enter
/// anything in the place of what is lost; what it sends waits, and is entered behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_8_nothing_is_entered_in_the_place_of_what_was_lost() {
    let (_directory, mut world) = world_with(&["restored_grace_seconds = 600"], &[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    back_up(&mut world);
    let lost = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&lost, &["DELIVERED"]));
    let before = entries(&world).0;
    world.stop_node(LAO_CAI).unwrap();
    world.stop_node(HEKOU).unwrap();
    restore(&mut world);
    // Nobody who knows has come, and the grace is long.
    let mut aranyaprathet = ExchangeClient::new(connect(&world, "offices/TH-BLO-ARN"));
    let envelope = Forger::new(&world, ARANYAPRATHET).envelope(HEKOU);
    let submit = |seen_size| wire::SubmitRequest { envelope: Some(envelope.clone()), seen_size };
    let refused = aranyaprathet.submit(submit(0)).await.unwrap_err();
    assert!(Refusal::from_status(&refused).unwrap().retry_after.is_some(), "{refused:?}");
    assert_eq!(code(Err::<(), _>(refused)), RefusalCode::Repairing);
    assert_eq!(entries(&world).0, 0);
    assert!(world.broker_problems().iter().any(|line| line.contains("is a copy") && line.contains(LAO_CAI)));
    // One that knows shows it; the other one has the rest.
    world.start_node(LAO_CAI).unwrap();
    assert!(eventually(|| entries(&world).0 == before), "{:?}", world.broker_problems());
    assert!(aranyaprathet.submit(submit(0)).await.is_err(), "not every office was heard");
    world.start_node(HEKOU).unwrap();
    for office in OFFICES.map(|(office, _)| office).iter().filter(|office| ![LAO_CAI, HEKOU].contains(office)) {
        present(&world, office).await;
    }
    let receipt = async || aranyaprathet.clone().submit(submit(0)).await.ok();
    let mut entered = None;
    for _ in 0..200 {
        entered = receipt().await;
        if entered.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let receipt = entered.unwrap_or_else(|| panic!("{:?}", world.broker_problems())).into_inner().receipt.unwrap();
    let proof = String::from_utf8(receipt.proof.to_vec()).unwrap();
    assert!(proof.contains(&format!("\nindex {before}\n")), "{proof}");
    // A broker that has less than its caller saw enters nothing of it, whatever it believes itself.
    let ahead = aranyaprathet.submit(submit(before + 100)).await;
    assert_eq!(code(ahead), RefusalCode::Repairing);
}

/// Promise 10: while the log is under repair FLASH and URGENT go on, marked; they are entered first when it is whole, and
/// nobody has them twice. What can wait waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_10_while_the_log_is_repaired_flash_goes_on_unproven() {
    let (_directory, mut world) = world_with(&["restored_grace_seconds = 600"], &[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    back_up(&mut world);
    let lost = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&lost, &["RETRIEVED"]));
    let before = entries(&world).0;
    restore(&mut world);
    // Whole again, but not every office was heard: nothing new is entered.
    assert!(eventually(|| entries(&world).0 == before), "{:?}", world.broker_problems());
    let waits = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    let calls = [samples::HOTLINE_CALL, samples::CASE_NOTICE].map(|file| world.office(LAO_CAI).sends(file).unwrap());
    for call in &calls {
        assert!(eventually(|| is_unproven(&world, call)), "{:?}", world.log("broker.log"));
        assert!(world.office(LAO_CAI).sees(call, &["HELD"]), "{}", world.office(LAO_CAI).state_of(call));
        let shown = world.office(HEKOU).shows(call).unwrap();
        assert!(shown["text"].is_string() && shown["marks"] == json!(["UNPROVEN"]), "{shown:#}");
    }
    let answer = world.office(HEKOU).acknowledges(&calls[0]).unwrap();
    assert!(world.office(LAO_CAI).sees(&calls[0], &["ANSWERED"]), "{}", world.office(LAO_CAI).state_of(&calls[0]));
    let says = |office: &str, part: &str| {
        world.office(office).ask(&json!({"op": "status"})).unwrap()["problems"].to_string().contains(part)
    };
    assert!(eventually(|| says(LAO_CAI, "waits until every office")), "an office is not told why it waits");
    // Over the wire it is a refusal that says what became of it, each time the same bytes come.
    let forger = Forger::new(&world, ARANYAPRATHET);
    let mut core = forger.core(HEKOU);
    core.priority = wire::Priority::Flash.into();
    let envelope = forger.sign(forger.parts(core, b"sealed"));
    let mut exchange = ExchangeClient::new(connect(&world, "offices/TH-BLO-ARN"));
    for _ in 0..2 {
        let request = wire::SubmitRequest { envelope: Some(envelope.clone()), seen_size: before };
        assert_eq!(code(exchange.submit(request).await), RefusalCode::HeldUnproven);
    }
    // Neither a crash of the broker nor of the recipient loses or doubles what is held.
    world.kill_broker().unwrap();
    world.kill_node(HEKOU).unwrap();
    world.start_broker().unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    assert!(world.broker_problems().iter().any(|line| line.contains("held for")), "{:?}", world.broker_problems());
    assert_eq!(world.office(LAO_CAI).state_of(&waits), "QUEUED");
    assert_eq!(entries(&world).0, before, "something was entered");

    for office in OFFICES.map(|(office, _)| office).iter().filter(|office| ![LAO_CAI, HEKOU].contains(office)) {
        present(&world, office).await;
    }
    assert!(world.office(LAO_CAI).sees(&waits, &["RETRIEVED"]), "{:?}", world.broker_problems());
    assert!(world.office(LAO_CAI).sees(&calls[0], &["ACKED"]) && world.office(HEKOU).sees(&answer, &["RETRIEVED"]));
    let entry = |message: &str| {
        let history = world.office(HEKOU).shows(message).unwrap()["history"].clone();
        let accepted = history.as_array().unwrap().iter().find(|event| event["what"] == "ACCEPTED").cloned();
        accepted.unwrap()["entry"].as_u64().unwrap()
    };
    for call in &calls {
        assert!(world.office(LAO_CAI).sees(call, &["RETRIEVED", "ACKED"]));
        assert_eq!(world.office(HEKOU).times_received(call), 1);
        assert_eq!(world.office(HEKOU).shows(call).unwrap()["marks"], json!(["UNPROVEN"]));
        assert!(entry(call) < entry(&waits), "what could wait was entered first");
    }
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(missing_numbers(&world, office), json!([]));
    }
    assert!(world.broker_problems().iter().all(|line| !line.contains("held for")), "{:?}", world.broker_problems());
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (found, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");

    // Closed once more in the same process, on the same streams: by a checkpoint that its key signed.
    let origin = charter(&world).exchange_log().origin.clone();
    let key = PrivateKey::read_signing(world.path("charter/broker/log-exchange.key").as_ref()).unwrap();
    let ahead = CheckpointSigner::new(origin, key).sign(entries(&world).0 + 7, liaison_log::Hash([7; 32])).unwrap();
    let shown = wire::PresentRequest { exchange: ahead.note().clone(), ..wire::PresentRequest::default() };
    let mut repair = RepairClient::new(connect(&world, "offices/KH-BLO-BVT"));
    let lost = repair.present(shown).await.unwrap().into_inner().lost;
    assert_eq!((lost.len(), lost[0].missing[0].to - lost[0].missing[0].from), (1, 7));
    let again = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(eventually(|| is_unproven(&world, &again)), "a later call was passed over");

    // Found by a simulated world: a node that has no directory yet gets it all the same, and the call.
    world.kill_node(HEKOU).unwrap();
    fs::remove_file(world.path("CN-BLO-HKO/directory/checkpoint")).unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let later = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(eventually(|| is_unproven(&world, &later)), "the directory is not given to who has none");
}

/// Promise 10, found by a simulated world: what cannot wait, was accepted before the loss and had not arrived, does not wait for
/// the repair either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_10_a_call_accepted_before_the_loss_is_not_kept_back_by_the_repair() {
    let (_directory, mut world) = world_with(&["restored_grace_seconds = 600"], &[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.stop_node(HEKOU).unwrap();
    let call = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(world.office(LAO_CAI).sees(&call, &["ACCEPTED"]));
    back_up(&mut world);
    restore(&mut world);
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    assert!(eventually(|| is_unproven(&world, &call)), "{:?}", world.broker_problems());
    for office in OFFICES.map(|(office, _)| office).iter().filter(|office| ![LAO_CAI, HEKOU].contains(office)) {
        present(&world, office).await;
    }
    assert!(world.office(LAO_CAI).sees(&call, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(&call));
    assert_eq!(world.office(HEKOU).times_received(&call), 1);
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(missing_numbers(&world, office), json!([]));
    }
}

/// Promise 1, found by a simulated world: entries that a broker made while its clock was ahead are entered again when its clock
/// is right, and new ones behind them: no entry's time is before another's.
#[test]
fn promise_1_a_restored_broker_goes_on_behind_entries_from_the_future() {
    let (_directory, mut world) = world_with(&["restored_grace_seconds = 2"], &[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    back_up(&mut world);
    world.stop_broker().unwrap();
    world.environment = vec![(CLOCK_OFFSET.into(), "600000".into())];
    world.start_broker().unwrap();
    let lost = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&lost, &["RETRIEVED"]));
    world.environment.clear();
    restore(&mut world);
    let next = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&next, &["RETRIEVED"]), "{}", world.log("broker.log"));
}

/// A holding journal that a crash left half-made stops no start: nothing in it has a receipt.
#[test]
fn a_holding_journal_that_was_never_finished_stops_no_start() {
    let (_directory, mut world) = world(&[LAO_CAI]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.stop_broker().unwrap();
    for bytes in [vec![0; 4096], b"not a journal".repeat(1000)] {
        fs::create_dir_all(world.path("broker/holding")).unwrap();
        fs::write(world.path("broker/holding/00000000.segment"), bytes).unwrap();
        world.start_broker().unwrap();
        let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
        assert!(world.office(LAO_CAI).sees(&message, &["ACCEPTED"]), "{:?}", world.broker_problems());
        world.stop_broker().unwrap();
    }
}

/// Promises 8 and 12: an entry that nobody hands back keeps the log closed, and is named; what is handed back in bad
/// faith changes nothing; its holder makes the log whole, whoever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_12_only_the_true_entries_make_a_log_whole() {
    let (_directory, mut world) = world_with(&[], &[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    back_up(&mut world);
    // Only a client that keeps no store has this one.
    let envelope = Forger::new(&world, ARANYAPRATHET).envelope("KH-BLO-BVT");
    let request = wire::SubmitRequest { envelope: Some(envelope.clone()), seen_size: 0 };
    let mut exchange = ExchangeClient::new(connect(&world, "offices/TH-BLO-ARN"));
    let receipt = exchange.submit(request).await.unwrap().into_inner().receipt.unwrap();
    let seen = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&seen, &["RETRIEVED"]));
    restore(&mut world);
    let line = |part: &str| world.broker_problems().into_iter().find(|line| line.contains(part));
    assert!(eventually(|| line("1 are missing, the first is entry 0").is_some()), "{:?}", world.broker_problems());
    assert_eq!(entries(&world).0, 0, "entries were entered behind a gap");

    let kept =
        wire::Envelope { erasable: envelope.erasable.clone(), body: envelope.body.clone(), ..Default::default() };
    let hand = async |receipt: wire::Receipt, kept: Option<wire::Envelope>| {
        let log = wire::LogName::Exchange.into();
        let request = wire::HandBackRequest { log, receipt: Some(receipt), kept };
        let mut repair = RepairClient::new(connect(&world, "offices/TH-BLO-ARN"));
        repair.hand_back(tokio_stream::once(request)).await.unwrap().into_inner().taken
    };
    let mut other_leaf = receipt.leaf.to_vec();
    let last = other_leaf.len() - 1;
    other_leaf[last] ^= 1;
    let forged = wire::Receipt { leaf: other_leaf.into(), ..receipt.clone() };
    let other_body = wire::Envelope { body: b"something else".as_slice().into(), ..kept.clone() };
    assert_eq!(hand(forged, Some(kept.clone())).await, 0, "a leaf that its proof does not fit was taken");
    assert_eq!(hand(receipt.clone(), Some(other_body)).await, 0, "another body was taken");
    assert_eq!(hand(receipt.clone(), None).await, 0, "an entry without its body was taken");
    let shown = wire::PresentRequest { exchange: b"not a note".as_slice().into(), ..Default::default() };
    let mut repair = RepairClient::new(connect(&world, "offices/TH-BLO-ARN"));
    assert_eq!(code(repair.present(shown).await), RefusalCode::MalformedEnvelope);
    assert!(line("1 are missing").is_some(), "bad faith changed something");
    assert_eq!(hand(receipt.clone(), Some(kept.clone())).await, 1);
    assert!(eventually(|| world.broker_problems().iter().all(|line| !line.contains("nothing new"))));
    assert_eq!(hand(receipt, Some(kept)).await, 0, "an entry was taken twice");
    let next = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&next, &["RETRIEVED"]));
}

/// Whether Hekou has a message without a receipt.
pub(crate) fn is_unproven(world: &World, message: &str) -> bool {
    let inbox = world.office(HEKOU).inbox().unwrap_or_default();
    inbox.iter().any(|line| line["message"] == *message && line["state"] == "UNPROVEN")
}

async fn present(world: &World, office: &str) {
    let mut repair = RepairClient::new(connect(world, &format!("offices/{office}")));
    repair.present(wire::PresentRequest::default()).await.unwrap();
}
