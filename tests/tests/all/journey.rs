//! The whole chain with real processes: what officers, operator and auditor do.

use std::{fs, path::Path};

use liaison_tests::{
    demo::Teller,
    samples, scenarios,
    world::{World, eventually},
};
use serde_json::{Value, json};

use crate::support::world;

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

/// The demo tells the whole story, every step holds, and its exit code says so.
#[test]
fn the_demo_holds_every_step() {
    let directory = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--once", "--json", "--dir"])
        .arg(directory.path().join("demo"))
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["held"], true, "{told:#}");
    assert!(output.status.success());
    assert!(told["steps"].as_array().unwrap().len() > 20);
    assert!(directory.path().join("demo/charter/charter.toml").exists(), "--dir keeps what was made");
}

/// Each case from beginning to end, as `demo --scenario NAME` tells it.
#[test]
fn every_case_holds_every_step() {
    for (name, _, offices, tell) in scenarios::ALL {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::create_under(
            directory.path(),
            Path::new(env!("CARGO_BIN_EXE_demo")),
            Some(&scenarios::agreements()),
        )
        .unwrap();
        let mut teller = Teller::new(true, false);
        let told = scenarios::run(offices, tell, &mut world, &mut teller);
        let steps = teller.to_json(teller.held(), &Value::Null);
        assert!(told.is_ok() && teller.held(), "{name}: {told:?} {steps:#}");
    }
}

/// Promises 2 and 3: nothing is delivered that was not logged, and each message arrives once, whatever is restarted.
#[test]
fn promises_2_and_3_what_is_delivered_was_logged_and_arrives_once() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let mut sent = Vec::new();
    for round in 0..3 {
        for _ in 0..5 {
            sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
        }
        match round {
            0 => {
                world.kill_broker().unwrap();
                world.start_broker().unwrap();
            }
            1 => {
                world.kill_node(HEKOU).unwrap();
                world.start_node(HEKOU).unwrap();
                world.office(HEKOU).unlocks().unwrap();
            }
            _ => {
                world.stop_broker().unwrap();
                world.start_broker().unwrap();
            }
        }
    }
    for message in &sent {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(message));
        assert_eq!(world.office(HEKOU).times_received(message), 1);
    }
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (code, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((code, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
    for message in &sent {
        let (_, life) = world.audit(&["inspect", "--copy", &copy, message]).unwrap();
        let events: Vec<&str> =
            life["events"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
        assert_eq!(events, ["ACCEPTED", "DELIVERED", "RETRIEVED"]);
    }
    let mut numbers: Vec<u64> =
        world.office(HEKOU).inbox().unwrap().iter().map(|message| message["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=15).collect::<Vec<u64>>(), "a number is missing or doubled");
    assert_eq!(world.office(LAO_CAI).ask(&json!({"op": "alarms"})).unwrap()["alarms"], json!([]));
    assert_eq!(world.office(HEKOU).ask(&json!({"op": "alarms"})).unwrap()["alarms"], json!([]));
}

/// An officer's day with the command line: template, check, send, read, decline; with exit codes.
#[test]
fn an_officer_writes_sends_reads_and_declines_with_the_command_line() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    let socket = |office: &str| world.socket(office).display().to_string();
    let (lao_cai, hekou, passphrase) = (socket(LAO_CAI), socket(HEKOU), world.path("passphrase"));
    let liaison = |socket: &str, arguments: &[&str]| {
        let mut all = vec!["--json", "--socket", socket];
        all.extend(arguments);
        let output = world.output("liaison", &all).unwrap();
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null))
    };
    let template = world.run("liaison", &["new", "CASE_NOTICE"]).unwrap();
    fs::write(world.path("empty.yaml"), &template).unwrap();
    let (code, refused) = liaison(&lao_cai, &["check", &world.path("empty.yaml")]);
    let fields: Vec<&str> =
        refused["problems"].as_array().unwrap().iter().filter_map(|p| p["field"].as_str()).collect();
    assert_eq!(code, 3);
    assert!(fields.contains(&"content.summary") && fields.contains(&"content.date.value"), "{fields:?}");

    fs::write(world.path("notice.yaml"), samples::CASE_NOTICE).unwrap();
    assert_eq!(liaison(&lao_cai, &["send", &world.path("notice.yaml")]).0, 6, "a locked node signs nothing");
    assert_eq!(liaison(&lao_cai, &["unlock", "nobody", "--passphrase-file", &passphrase]).0, 6);
    assert_eq!(liaison(&lao_cai, &["unlock", "nguyen.lan", "--passphrase-file", &passphrase]).0, 0);
    let (code, sent) = liaison(&lao_cai, &["send", &world.path("notice.yaml")]);
    let message = sent["message"].as_str().unwrap().to_owned();
    assert_eq!(code, 0);

    // A date that no header can carry is refused before anything is kept, and the node goes on.
    fs::write(world.path("past.yaml"), format!("due: 1960-01-01T00:00:00Z\n{}", samples::CASE_NOTICE)).unwrap();
    let (code, refused) = liaison(&lao_cai, &["send", &world.path("past.yaml")]);
    assert_eq!((code, &refused["problems"][0]["field"]), (3, &json!("due")));

    assert_eq!(liaison(&hekou, &["unlock", "wang.fang", "--passphrase-file", &passphrase]).0, 0);
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    let shown = world.run("liaison", &["--socket", &hekou, "show", &message]).unwrap();
    for words in ["Giàng Thị Mỷ", "Nguyễn Thị Lan", "FM (forced marriage)", "ACCEPTED", "proven in a log of"] {
        assert!(shown.contains(words), "{words} is not in:\n{shown}");
    }
    // Each side reads the times on its own wall; China is an hour ahead.
    for (socket, ahead) in [(&lao_cai, "+07 "), (&hekou, "+08 ")] {
        let lines = world.run("liaison", &["--socket", socket, "--language", "zh", "thread", &message]).unwrap();
        assert!(lines.contains(ahead) && lines.contains("案件通报"), "{lines}");
    }
    assert_eq!(liaison(&hekou, &["decline", &message, "--reason", "TIRED"]).0, 3, "not a reason code");
    assert_eq!(
        liaison(&hekou, &["decline", &message, "--reason", "INCOMPLETE", "--fixable"]).0,
        3,
        "says not what is missing"
    );
    let arguments = ["decline", &message, "--reason", "INCOMPLETE", "--fixable", "--text", "no photo"];
    assert_eq!(liaison(&hekou, &arguments).0, 0);
    assert!(world.office(LAO_CAI).sees(&message, &["DECLINED"]));
    let (_, outbox) = liaison(&lao_cai, &["outbox"]);
    let answer = outbox["messages"][0]["recipients"][0]["answer"].as_str().unwrap().to_owned();
    assert!(eventually(|| liaison(&lao_cai, &["show", &answer]).1["content"]["reason"] == "INCOMPLETE"));
    let gone = world.path("nobody.sock");
    assert_eq!(liaison(&gone, &["inbox"]).0, 4, "no node answers there");
}

/// An auditor checks a receipt offline with the charter alone, and sees when it was altered.
#[test]
fn a_receipt_handed_over_is_checked_offline() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["DELIVERED"]));
    let proof = world.office(LAO_CAI).ask(&json!({"op": "receipt", "message": message})).unwrap();
    let proof = proof["proof"].as_str().unwrap();
    world.stop_broker().unwrap();
    let file = world.path("receipt.tlog-proof");
    fs::write(&file, proof).unwrap();
    let (code, proven) = world.audit(&["receipt", &file]).unwrap();
    assert_eq!((code, &proven["about"]["message"]), (0, &json!(message)));
    // Any other index, leaf, hash or checkpoint, and it proves nothing.
    for (number, line) in proof.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let last = line.trim_end_matches('=').len().saturating_sub(2);
        let other = if line.as_bytes()[last] == b'A' { "B" } else { "A" };
        let changed: Vec<String> = proof
            .lines()
            .enumerate()
            .map(|(n, l)| if n == number { format!("{}{other}{}", &l[..last], &l[last + 1..]) } else { l.to_owned() })
            .collect();
        fs::write(&file, changed.join("\n") + "\n").unwrap();
        let (code, verdict) = world.audit(&["receipt", &file]).unwrap();
        assert_eq!(code, 5, "line {number} was changed and nobody noticed: {line}");
        assert_eq!(verdict["findings"][0]["code"], "RECEIPT_BAD");
    }
}

/// The operator's commands: nothing is created silently, nothing is overwritten, unknown keys are refused.
#[test]
fn an_operator_is_told_what_to_do() {
    let (_directory, mut world) = world(&[]);
    let (config, records) = (world.path("broker.toml"), world.path("charter/records"));
    let init = ["init", "--config", &config, "--records", &records];
    let again = world.output("broker", &init).unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "init must not touch an existing broker");
    let second = world.output("broker", &["run", "--config", &config]).unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"));
    world.stop_broker().unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\nlissten = \"127.0.0.1:1\"\n")).unwrap();
    let unknown = world.output("broker", &["run", "--config", &config]).unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("lissten"));
    fs::write(&config, text.replace("data = \"broker\"", "data = \"nowhere\"")).unwrap();
    let missing = world.output("broker", &["run", "--config", &config]).unwrap();
    assert!(String::from_utf8_lossy(&missing.stderr).contains("broker init"));
    let status = world.output("broker", &["status", "--config", &config]).unwrap();
    assert_eq!(status.status.code(), Some(4));
    // Anybody can make a charter that signs itself: the hash that was delivered by hand decides.
    fs::write(&config, text.replace(&world.charter_sha256().unwrap(), &"0".repeat(64))).unwrap();
    let other = world.output("broker", &["run", "--config", &config]).unwrap();
    assert!(String::from_utf8_lossy(&other.stderr).contains("delivered by hand"));
}
