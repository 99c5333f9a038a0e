//! What officers rely on in a matter, with real processes: two persons where two are needed, what was corrected, whom to call, and
//! the tables that their countries agree on.

use std::{fs, path::Path};

use liaison_casework::forms;
use liaison_proto::{clock::HOUR_MS, refusal::RefusalCode};
use liaison_tests::{
    samples, scenarios,
    world::{PASSPHRASE, World, eventually},
};
use serde_json::{Value, json};

use crate::support::{connect, copy_directory, revoke, world};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const BANGKOK: &str = "TH-CCP-BKK";
const HA_NOI: &str = "VN-CCP-HAN";

fn unlock(world: &World, officer: &str) {
    let request = json!({"op": "unlock", "officer": officer, "passphrase": PASSPHRASE});
    world.office(LAO_CAI).ask(&request).unwrap();
}

fn sample(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples").join(name)).unwrap()
}

fn thread(world: &World, office: &str, message: &str) -> Value {
    world.office(office).ask(&json!({"op": "thread", "message": message})).unwrap_or_default()
}

fn refused(world: &World, request: &Value, code: RefusalCode) -> bool {
    world.office(LAO_CAI).ask(request).is_err_and(|error| error.to_string().contains(code.as_str()))
}

/// Victims are not suspects: who is named as both needs a supervisor, who is another person than the one who wrote it.
#[test]
fn a_second_person_signs_before_a_victim_is_called_a_suspect() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(HEKOU).unlocks().unwrap();
    unlock(&world, "nguyen.lan");
    let suspect = "persons:\n    - {key: P9, role: SUSPECT, suspect_role: BROKER, name: {original: Giàng Thị Mỷ, latin: Giang Thi My}}\n";
    let notice = samples::CASE_NOTICE.replacen("persons:\n", suspect, 1);
    assert!(notice.contains("P9") && notice.contains("role: VICTIM"));
    let answer = world.office(LAO_CAI).ask(&json!({"op": "send", "file": notice})).unwrap();
    assert_eq!(answer["state"], "WAITS", "{answer}");
    let message = answer["message"].as_str().unwrap().to_owned();
    let countersign = json!({"op": "countersign", "message": message});
    assert!(refused(&world, &countersign, RefusalCode::NotPermitted), "an officer is no supervisor");
    // It is durable, and nobody has it yet.
    world.kill_node(LAO_CAI).unwrap();
    world.start_node(LAO_CAI).unwrap();
    unlock(&world, "tran.hung");
    assert_eq!(world.office(LAO_CAI).ask(&json!({"op": "status"})).unwrap()["to_countersign"], 1);
    assert!(world.office(HEKOU).inbox().unwrap().is_empty());
    let shown = world.office(LAO_CAI).shows(&message).unwrap();
    assert!(shown["text"].as_str().unwrap().contains("Giang Thi My"), "a supervisor reads what is to be signed");
    // Signed twice at the same moment it is sealed once: two bodies under one key would give both away.
    let answers = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| world.office(LAO_CAI).ask(&countersign)));
        both.map(|one| one.join().unwrap())
    });
    let signed: Vec<&Value> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(signed.len(), 1, "{answers:?}");
    assert_eq!(signed[0]["message"], message.as_str(), "the same message");
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    let there = world.office(HEKOU).shows(&message).unwrap();
    assert_eq!(
        (&there["officer"]["name"], &there["countersigned_by"]),
        (&json!("Nguyễn Thị Lan"), &json!(["Trần Văn Hùng"]))
    );
    let seen = thread(&world, HEKOU, &message);
    assert_eq!((&seen["messages"][0]["mark"], &seen["messages"][0]["countersigned"]), (&json!("TAKEN"), &json!(true)));
    assert!(refused(&world, &countersign, RefusalCode::UnknownMessage), "it waits no more");
    // A supervisor is no second person for what the supervisor wrote; and what waits can be taken back unseen.
    let own = world.office(LAO_CAI).ask(&json!({"op": "send", "file": notice})).unwrap();
    let own = own["message"].as_str().unwrap();
    assert!(refused(&world, &json!({"op": "countersign", "message": own}), RefusalCode::NotPermitted));
    let back = json!({"op": "take-back", "message": own, "kind": "WITHDRAW", "reason": "ERROR"});
    assert_eq!(world.office(LAO_CAI).ask(&back).unwrap()["taken_back"], "BEFORE_IT_LEFT");
    // Where nothing asks for it an officer may ask.
    let asked = json!({"op": "send", "file": samples::ROUTINE, "countersign": true});
    assert_eq!(world.office(LAO_CAI).ask(&asked).unwrap()["state"], "WAITS");
}

/// A node that is restored from a backup in which a message still waited finds that it has left: it is not sealed a second time, and
/// whoever takes it back hears that others have it.
#[test]
fn what_was_countersigned_since_the_backup_waits_no_more() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(HEKOU).unlocks().unwrap();
    unlock(&world, "nguyen.lan");
    let asked = json!({"op": "send", "file": samples::ROUTINE, "countersign": true});
    let message = world.office(LAO_CAI).ask(&asked).unwrap()["message"].as_str().unwrap().to_owned();
    world.stop_node(LAO_CAI).unwrap();
    let (data, backup) = (world.path(LAO_CAI), world.path("backup"));
    copy_directory(data.as_ref(), backup.as_ref());
    world.start_node(LAO_CAI).unwrap();
    unlock(&world, "tran.hung");
    let countersign = json!({"op": "countersign", "message": message});
    world.office(LAO_CAI).ask(&countersign).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    world.stop_node(LAO_CAI).unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy_directory(backup.as_ref(), data.as_ref());
    world.start_node(LAO_CAI).unwrap();
    unlock(&world, "tran.hung");
    assert!(eventually(|| world.office(LAO_CAI).state_of(&message) == "RETRIEVED"), "it was not found again");
    assert_eq!(world.office(LAO_CAI).ask(&json!({"op": "status"})).unwrap()["to_countersign"], 0);
    assert!(refused(&world, &countersign, RefusalCode::UnknownMessage), "it would be sealed twice under one key");
    let back = json!({"op": "take-back", "message": message, "kind": "WITHDRAW", "reason": "ERROR"});
    assert_eq!(world.office(LAO_CAI).ask(&back).unwrap()["taken_back"], "RECIPIENTS_ARE_TOLD");
    assert_eq!(world.office(HEKOU).times_received(&message), 1);
}

#[test]
fn what_was_corrected_or_replaced_is_seen_by_whoever_reads_it() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(HEKOU).unlocks().unwrap();
    unlock(&world, "nguyen.lan");
    let notice = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    let correction = sample("correction.yaml").replace("01a1eec2-df58-7c1e-9b52-4a6f0d83e21b", &notice);
    let nowhere = correction.replace("vehicles[0].plate", "vehicles[7].plate");
    let refusal = world.office(LAO_CAI).sends(&nowhere).unwrap_err().to_string();
    assert!(refusal.contains("content.corrections[0].field"), "{refusal}");
    let correction = world.office(LAO_CAI).sends(&correction).unwrap();
    assert!(world.office(LAO_CAI).sees(&correction, &["RETRIEVED"]));
    let shown = world.office(HEKOU).shows(&notice).unwrap();
    let fields = &shown["corrections"][0]["fields"][0];
    assert_eq!((&fields["field"], &fields["value"]), (&json!("vehicles[0].plate"), &json!("24B1-123.54")), "{shown}");
    assert!(fields["was"].as_str().is_some_and(|was| was != "24B1-123.54"));
    // A message in its place: both are there, and which one counts.
    let again = samples::CASE_NOTICE.replacen("language: vie\n", &format!("language: vie\nsupersedes: {notice}\n"), 1);
    let again = world.office(LAO_CAI).sends(&again).unwrap();
    assert!(world.office(LAO_CAI).sees(&again, &["RETRIEVED"]));
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(world.office(office).shows(&notice).unwrap()["superseded_by"], again.as_str(), "{office}");
        let messages = thread(&world, office, &notice)["messages"].clone();
        assert_eq!(messages[0]["replaced_by"], again.as_str(), "{messages}");
    }
    let foreign = samples::CASE_NOTICE
        .replacen("language: vie\n", &format!("language: vie\nsupersedes: {again}\n"), 1)
        .replace("to: [CN-BLO-HKO]", "to: [VN-BLO-LCA]");
    let refusal = world.office(HEKOU).sends(&foreign).unwrap_err().to_string();
    assert!(refusal.contains(RefusalCode::OutOfStep.as_str()), "nobody replaces what others wrote: {refusal}");
}

#[test]
fn every_thread_says_whom_to_call() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(HEKOU).unlocks().unwrap();
    unlock(&world, "nguyen.lan");
    let contacts = sample("contact-update.yaml")
        .replace("[CN-BLO-HKO]", "[VN-BLO-LCA]")
        .replace("VN-BLO-LCA\n  valid_from: 2026-12-01", "CN-BLO-HKO\n  valid_from: 2026-01-01")
        .replace("07:30-19:30", "00:00-24:00");
    let first_update = world.office(HEKOU).sends(&contacts).unwrap();
    // From a later day on somebody else answers; and nobody says it for an office of another country.
    let later = contacts.replace("2026-01-01", "2099-01-01").replace("+84912000031", "+8613800000009");
    let update = world.office(HEKOU).sends(&later).unwrap();
    assert!(world.office(HEKOU).sees(&update, &["RETRIEVED"]));
    let notice = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    let seen = thread(&world, LAO_CAI, &notice)["contacts"].clone();
    assert_eq!((&seen[0]["office"], seen.as_array().unwrap().len()), (&json!(HEKOU), 1), "{seen}");
    let first = &seen[0]["officers"][0];
    assert_eq!((&first["number"], &first["on_duty"]), (&json!("+84912000031"), &json!(true)), "{seen}");
    // A station does not say where its country's contact point is called; nor does what was taken back say anything.
    let captured = world.office(HEKOU).sends(&contacts.replace("office: CN-BLO-HKO", "office: CN-CCP-PEK")).unwrap();
    assert!(world.office(HEKOU).sees(&captured, &["RETRIEVED"]));
    let wide = samples::CASE_NOTICE.replace("[CN-BLO-HKO]", "[CN-BLO-HKO, CN-CCP-PEK]");
    let notice = world.office(LAO_CAI).sends(&wide).unwrap();
    let offices = || thread(&world, LAO_CAI, &notice)["contacts"].as_array().map_or(0, Vec::len);
    assert_eq!(offices(), 1, "{}", thread(&world, LAO_CAI, &notice)["contacts"]);
    let back = json!({"op": "take-back", "message": first_update, "kind": "WITHDRAW", "reason": "ERROR"});
    world.office(HEKOU).ask(&back).unwrap();
    assert!(eventually(|| offices() == 0), "a number that was taken back is called");
}

/// The countries sign a table; from then on it counts at every node, and a node refuses what does not read.
#[test]
fn a_table_that_its_countries_have_signed_counts() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    unlock(&world, "nguyen.lan");
    let publish = |text: &str| {
        let (policy, output) = (world.path("table.toml"), world.path("table.record"));
        let _ = fs::remove_file(&output);
        fs::write(&policy, text).unwrap();
        let arguments = ["--out", &world.path("charter"), "sign-agreement", "--policy", &policy, "--output", &output];
        world.run("certs-dev", &arguments).unwrap();
        let record = fs::read_to_string(output).unwrap();
        world.office(LAO_CAI).ask(&json!({"op": "publish", "record": record})).map_err(|e| e.to_string())
    };
    for bad in [
        "# table TARIFFS serial 1 countries CN VN\n",
        "# table DEADLINES serial 2 countries CN VN\npapers_days = 3\n",
        "# table DEADLINES serial 1 countries TH LA\npapers_days = 3\n",
        "# table DEADLINES serial 1 countries CN VN\npapers_days = \"three\"\n",
    ] {
        assert!(publish(bad).unwrap_err().contains(RefusalCode::BadRecord.as_str()), "{bad}");
    }
    let briefing = sample("briefing-plan.yaml");
    let closes = |line: &str| line.trim_start().starts_with("begins_at:");
    let begins = briefing.lines().find(|line| closes(line)).unwrap().trim().to_owned();
    let day = begins.split(['T', ' ']).nth(1).unwrap().to_owned();
    let gate = briefing.lines().find(|line| line.trim_start().starts_with("gate:")).unwrap();
    let gate = gate.split(' ').next_back().unwrap().to_owned();
    let closure = format!(
        "# table GATES serial 1 countries CN VN\n[[closure]]\ngate = \"{gate}\"\nfrom = {day}\nuntil = {day}\nreason = \"works\"\n"
    );
    publish(&closure).unwrap();
    publish("# table DEADLINES serial 1 countries CN VN\n[[acknowledgement]]\nhours = 5\n").unwrap();
    let refusal = || world.office(LAO_CAI).sends(&briefing).map_err(|e| e.to_string()).err();
    assert!(eventually(|| refusal().is_some_and(|error| error.contains("gate is closed"))), "{:?}", refusal());
    let tables = || world.office(HEKOU).ask(&json!({"op": "tables"})).unwrap()["tables"].as_array().map_or(0, Vec::len);
    assert!(eventually(|| tables() == 2), "the other side has them, too");
    let notice = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    let seen = thread(&world, LAO_CAI, &notice);
    let instant = |value: &Value| forms::instant(value.as_str().unwrap()).unwrap().0;
    let given = instant(&seen["expected"][0]["due"]) - instant(&seen["messages"][0]["at"]);
    assert_eq!(given, 5 * HOUR_MS, "{seen}");
}

/// A withdrawal of consent reaches every holder who can be reached: one that is gone keeps nobody else from hearing it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_is_withdrawn_also_when_one_holder_is_gone() {
    let (_directory, world) = world(&[BANGKOK, HA_NOI]);
    let bangkok = world.office(BANGKOK);
    bangkok.unlocks().unwrap();
    let request = bangkok.sends(&samples::RETURN_REQUEST.replace("[VN-CCP-HAN]", "[VN-CCP-HAN, VN-BLO-LCA]")).unwrap();
    let withdraws = |to: &str| {
        let text = sample("consent-change.yaml").replace("[VN-CCP-HAN]", to);
        let answers = text.lines().find(|line| line.starts_with("in_reply_to:")).unwrap().to_owned();
        bangkok.sends(&text.replace(&answers, &format!("in_reply_to: {request}"))).map_err(|error| error.to_string())
    };
    let missing = withdraws("[VN-CCP-HAN]").unwrap_err();
    assert!(missing.contains("OUT_OF_STEP") && missing.contains(LAO_CAI), "{missing}");
    let size = || bangkok.ask(&json!({"op": "status"})).unwrap()["directory_entries"].as_u64();
    let before = size();
    revoke(&world, LAO_CAI, connect(&world, "offices/TH-CCP-BKK")).await;
    assert!(eventually(|| size() > before));
    let change = withdraws("[VN-CCP-HAN]").unwrap();
    assert!(bangkok.sees(&change, &["DELIVERED", "RETRIEVED"]));
    assert_eq!(thread(&world, BANGKOK, &request)["state"], "RETURN_SUSPENDED");
}

/// Every example reads, as its countries would sign it.
#[test]
fn the_example_agreements_and_tables_are_sound() {
    let (_directory, world) = world(&[]);
    let policies = scenarios::agreements().display().to_string();
    let output = world.output("liaison", &["policy", "test", &policies]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains(" 0 wrong"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
