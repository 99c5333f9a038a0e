//! Entries that nobody holds any more: the log is closed at its last provable size, the countries name a successor, and
//! everything that somebody has goes on there.

use std::fs;

use liaison_link::local;
use liaison_proto::wire::{self, exchange_client::ExchangeClient};
use liaison_tests::{
    samples,
    world::{World, eventually},
};
use serde_json::json;

use crate::{
    charters::next_charter_with,
    restored::{back_up, entries, is_unproven, restore, sends_a_file},
    support::{Forger, alarms, connect, missing_numbers, world},
};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const MONG_CAI: &str = "VN-BLO-MBA";
const ARANYAPRATHET: &str = "TH-BLO-ARN";

fn is_closed(world: &World) -> bool {
    world.broker_problems().iter().any(|line| line.contains("nothing new"))
}

/// The auditor finds nothing but these entries, whose messages are lost.
fn audited(world: &World, copy: &str, lost: &[u64]) -> serde_json::Value {
    let (code, said) = world.audit(&["mirror", "--copy", copy]).unwrap();
    assert_eq!(code, 0, "{said:#}");
    let (_, verdict) = world.audit(&["verify", "--copy", copy]).unwrap();
    let findings = verdict["findings"].as_array().unwrap();
    let found: Vec<_> = findings.iter().map(|finding| (&finding["code"], &finding["entry"])).collect();
    let expected: Vec<_> = lost.iter().map(|entry| (json!("MESSAGE_LOST"), json!(entry))).collect();
    assert_eq!(found, expected.iter().map(|(code, entry)| (code, entry)).collect::<Vec<_>>(), "{verdict:#}");
    said
}

/// Promises 1, 3, 4, 8 and 10: an entry is lost for good, and others behind it cannot be proven any more. Calls go on
/// meanwhile; then the log is closed where it can be proven, and its successor has everything that any office holds, once,
/// with no number missing, and nothing of a node's history contradicts it; the auditor has both, and finds nothing wrong.
/// A broker that is restored after that to before it is made whole as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_a_log_whose_entries_nobody_holds_goes_on_as_its_successor() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU, MONG_CAI]);
    for office in [LAO_CAI, HEKOU, MONG_CAI] {
        world.office(office).unlocks().unwrap();
    }
    let before = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&before, &["RETRIEVED"]));
    back_up(&mut world);
    let backed_up = entries(&world).0;
    // Provable, behind the backup; then one that no office keeps; then what is behind that gap.
    let answer = world.office(HEKOU).acknowledges(&before).unwrap();
    assert!(world.office(HEKOU).sees(&answer, &["RETRIEVED"]));
    // Accepted before the end, and proven to its recipient by a tree beyond it.
    world.stop_node(LAO_CAI).unwrap();
    let early = world.office(HEKOU).sends(&samples::ROUTINE.replace(HEKOU, LAO_CAI)).unwrap();
    assert!(world.office(HEKOU).sees(&early, &["ACCEPTED"]));
    let end = entries(&world).0;
    let envelope = Forger::new(&world, ARANYAPRATHET).envelope("KH-BLO-BVT");
    let request = wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 };
    ExchangeClient::new(connect(&world, "offices/TH-BLO-ARN")).submit(request).await.unwrap();
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    assert!(world.office(HEKOU).sees(&early, &["RETRIEVED"]));
    let mut sent = vec![world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap()];
    assert!(world.office(LAO_CAI).sees(&sent[0], &["RETRIEVED"]));
    let acknowledged = world.office(HEKOU).acknowledges(&sent[0]).unwrap();
    assert!(
        world.office(LAO_CAI).sees(&sent[0], &["ACKED"]) && world.office(HEKOU).sees(&acknowledged, &["RETRIEVED"])
    );
    let text = b"what is on the list".repeat(5_000);
    sent.push(sends_a_file(&world, LAO_CAI, samples::ROUTINE, &text));
    let with_file = sent[1].clone();
    let read = |world: &World| {
        let request = json!({"op": "attachment", "message": with_file, "number": 1});
        let mut bytes = Vec::new();
        let _ = local::call_with(&world.socket(HEKOU), &request, &mut std::io::empty(), &mut bytes);
        bytes
    };
    assert!(eventually(|| read(&world) == text));
    let copy = world.path("audit");
    audited(&world, &copy, &[]);
    world.stop_node(HEKOU).unwrap();
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    assert!(world.office(LAO_CAI).sees(&sent[2], &["ACCEPTED"]));
    sent.push(world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap());
    assert!(world.office(LAO_CAI).sees(&sent[3], &["ACCEPTED"]));

    restore(&mut world);
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let lost = format!("the first is entry {end}");
    assert!(
        eventually(|| world.broker_problems().iter().any(|line| line.contains(&lost))),
        "{:?}",
        world.broker_problems()
    );
    let call = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(eventually(|| is_unproven(&world, &call)), "a call waits for the countries");
    assert!(eventually(|| is_unproven(&world, &sent[3])), "a call that was accepted before the loss waits for them");
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());

    // The operator closes it; what is provable is entered, and no more.
    let file = world.path("end.toml");
    for _ in 0..2 {
        world.run("broker", &["close-log", "--config", &world.path("broker.toml"), "--output", &file]).unwrap();
    }
    assert_eq!(entries(&world).0, end);
    assert!(fs::read_to_string(&file).unwrap().starts_with(&format!("size = {end}\n")) && end > backed_up);
    next_charter_with(&world, &["--replace", "evidence", "--closed", &file]);
    // A node that was away all the while learns of it, too.
    world.stop_node(MONG_CAI).unwrap();
    world.stop_node(LAO_CAI).unwrap();
    world.stop_broker().unwrap();
    world.start_broker().unwrap();
    assert!(eventually(|| !is_closed(&world) && entries(&world).0 > end), "{:?}", world.broker_problems());
    // A call that was held is entered without its sender; what came behind the end is read as before, and stays here.
    let unproven = || world.office(HEKOU).ask(&json!({"op": "status"})).unwrap()["unproven"].clone();
    assert!(eventually(|| unproven() == 2 && !is_unproven(&world, &call)), "{}", unproven());
    assert!(world.office(HEKOU).shows(&sent[0]).unwrap()["text"].is_string());
    world.kill_node(HEKOU).unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();

    for message in sent.iter().chain([&call]) {
        let seen = world.office(LAO_CAI).sees(message, &["RETRIEVED", "ACKED"]);
        assert!(seen, "{}\n{}", world.office(LAO_CAI).state_of(message), world.log("VN-BLO-LCA.log"));
        assert!(eventually(|| world.office(HEKOU).times_received(message) == 1));
        assert!(world.office(HEKOU).shows(message).unwrap()["text"].is_string());
    }
    assert!(eventually(|| read(&world) == text), "a file was lost");
    assert!(world.office(LAO_CAI).sees(&sent[0], &["ACKED"]), "an answer was lost");
    assert!(
        world.office(HEKOU).sees(&acknowledged, &["RETRIEVED"]) && world.office(HEKOU).sees(&answer, &["RETRIEVED"])
    );
    assert_eq!(world.office(LAO_CAI).times_received(&acknowledged), 1);
    assert_eq!(world.office(LAO_CAI).times_received(&answer), 1);
    assert_eq!(world.office(LAO_CAI).state_of(&before), "ACKED");
    let status = world.office(HEKOU).ask(&json!({"op": "status"})).unwrap();
    assert_eq!((&status["unproven"], &status["charter"]), (&json!(0), &json!(2)), "{status:#}");
    world.start_node(MONG_CAI).unwrap();
    for office in [LAO_CAI, HEKOU, MONG_CAI] {
        assert_eq!(missing_numbers(&world, office), json!([]), "{office}");
        let told = || alarms(&world, office).to_string();
        assert!(eventually(|| told().contains("closed it at")), "{office} was not told: {}", told());
        for bad in ["forked", "not good", "not taken", "differently", "does not verify", "refuse"] {
            assert!(!told().contains(bad), "{office}: {}", told());
        }
    }
    let said = audited(&world, &copy, &[end]);
    let aside = said["logs"][1]["closed"].as_str().unwrap_or_default().to_owned();
    assert!(fs::metadata(aside).unwrap().is_dir(), "{said:#}");

    assert!(world.office(HEKOU).sees(&early, &["RETRIEVED"]));
    let receipt = world.path("receipt");
    let socket = world.socket(LAO_CAI).display().to_string();
    let proven = || {
        world.run("liaison", &["--socket", &socket, "receipt", &early, "--output", &receipt]).unwrap();
        world.audit(&["receipt", &receipt, "--copy", &copy]).unwrap()
    };
    assert!(eventually(|| proven().0 == 0), "{:#}", proven().1);

    // After a restart everybody goes on; and the successor is made whole like any log.
    let whole = entries(&world);
    for office in [LAO_CAI, HEKOU] {
        world.kill_node(office).unwrap();
        world.start_node(office).unwrap();
        world.office(office).unlocks().unwrap();
    }
    restore(&mut world);
    assert!(eventually(|| !is_closed(&world) && entries(&world).0 >= whole.0), "{:?}", world.broker_problems());
    let last = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&last, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(&last));
    audited(&world, &copy, &[end]);
    for office in [LAO_CAI, HEKOU, MONG_CAI] {
        assert_eq!(missing_numbers(&world, office), json!([]), "{office}");
    }
}
