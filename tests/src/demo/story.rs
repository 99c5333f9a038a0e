//! The story the demo tells.

use std::{fs, io, path::Path};

use liaison_link::charter_files;
use serde_json::{Value, json};

use super::Teller;
use crate::{
    samples,
    world::{OFFICES, World, eventually},
};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
/// Words of the sample notice that must never be readable at the broker.
const SECRETS: [&str; 3] = ["Giang Thi My", "Bản Phiệt", "+84912000017"];

/// Tells it; what does not hold is a failed step, what cannot go on is an error.
///
/// # Errors
/// When a process does not start or answer.
pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    set_up(world, teller)?;
    let notice = first_notice(world, teller)?;
    let (second, third) = broker_dies(world, teller)?;
    let (fourth, waited) = node_is_away(world, teller)?;
    let sent = [notice.clone(), second, third, fourth];
    super::region::tell(world, teller)?;
    let refused = bad_input(world, teller)?;
    let replay = audit(world, teller, &notice)?;
    promises(world, teller, &sent, &replay, waited, refused)
}

fn set_up(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("A charter of five countries, a broker, and a node per office");
    let charter = charter_files::load(Path::new(&world.path("charter/charter.toml")), Some(&world.charter_sha256()?));
    let countries = charter.map_or(0, |charter| charter.countries().len());
    teller
        .step("development charter no. 1 made and signed by the authorities of VN, KH, LA, CN and TH", countries == 5);
    world.start_broker()?;
    let status = broker_status(world)?;
    teller.step(format!("broker runs on {}", world.broker_address()?), status["exchange_entries"] == 0);
    for (office, _) in OFFICES {
        world.create_node(office)?;
        world.start_node(office)?;
    }
    let whole = OFFICES.iter().all(|(office, _)| {
        let node = world.office(office).ask(&json!({"op": "status"})).unwrap_or_default();
        node["office"] == *office && node["directory_entries"] == status["directory_entries"]
    });
    teller.step(
        format!("{} nodes run, each a process of its own, each with the whole directory log verified", OFFICES.len()),
        whole,
    );
    Ok(())
}

fn broker_status(world: &World) -> io::Result<Value> {
    let status = world.run("broker", &["status", "--json", "--config", &world.path("broker.toml")])?;
    serde_json::from_str(&status).map_err(io::Error::other)
}

/// Whether neither node has an alarm, or a number missing.
fn at_peace(world: &World) -> bool {
    [LAO_CAI, HEKOU].iter().all(|office| {
        let node = world.office(office).ask(&json!({"op": "status"})).unwrap_or_default();
        node["alarms"] == 0 && node["missing_numbers"] == json!([])
    })
}

fn first_notice(world: &World, teller: &mut Teller) -> io::Result<String> {
    teller.chapter("A case notice from Lao Cai to Hekou");
    let (lao_cai, hekou) = (world.office(LAO_CAI), world.office(HEKOU));
    let locked = lao_cai.sends(samples::CASE_NOTICE);
    let refused = locked.is_err_and(|e| e.to_string().contains("\"locked\""));
    teller.step("while locked, the node signs nothing", refused && lao_cai.outbox()?.is_empty());
    lao_cai.unlocks()?;
    let notice = lao_cai.sends(samples::CASE_NOTICE)?;
    teller.step(
        format!("Nguyễn Thị Lan unlocks her key and sends deploy/samples/case-notice.yaml: {notice}"),
        lao_cai.outbox()?.len() == 1,
    );
    teller
        .step("Hekou's node, still locked, has it durably and signed DELIVERED", lao_cai.sees(&notice, &["DELIVERED"]));
    let shown = hekou.shows(&notice)?;
    teller.step("nothing of it can be read there yet", shown["content"].is_null());
    hekou.unlocks()?;
    teller.step("Wang Fang unlocks; Hekou opens and signs RETRIEVED", lao_cai.sees(&notice, &["RETRIEVED"]));
    let shown = hekou.shows(&notice)?;
    let name = shown["content"]["persons"][0]["name"]["latin"].as_str();
    teller.step(
        "she reads it, and sees that Nguyễn Thị Lan of Lao Cai wrote it",
        name == Some("Giang Thi My") && shown["officer"]["name"] == "Nguyễn Thị Lan",
    );
    hekou.acknowledges(&notice)?;
    teller.step("she acknowledges: a signed message of her own", lao_cai.sees(&notice, &["ACKED"]));
    let answer = eventually(|| acknowledged_by(world, &notice).is_some());
    let by = acknowledged_by(world, &notice).unwrap_or_default();
    teller.step(format!("Lao Cai reads that {by} of Hekou has it"), answer && by == "王芳");
    teller.way(world.office(LAO_CAI).shows(&notice)?["history"].as_array().cloned().unwrap_or_default());
    Ok(notice)
}

/// The officer who acknowledged, as the sender's node verified it.
fn acknowledged_by(world: &World, message: &str) -> Option<String> {
    let office = world.office(LAO_CAI);
    let outbox = office.outbox().ok()?;
    let entry = outbox.iter().find(|entry| entry["message"] == message)?;
    let answer = office.shows(entry["recipients"][0]["answer"].as_str()?).ok()?;
    answer["officer"]["name"].as_str().map(str::to_owned)
}

fn broker_dies(world: &mut World, teller: &mut Teller) -> io::Result<(String, String)> {
    teller.chapter("The broker is killed (-9) in the middle, and started again");
    let second = world.office(LAO_CAI).sends(samples::FOLLOW_UP)?;
    world.kill_broker()?;
    let dead = broker_status(world).is_err();
    teller.step(format!("a second notice is sent, and the broker killed: {second}"), dead);
    let third = world.office(LAO_CAI).sends(samples::ROUTINE)?;
    let queued = world.office(LAO_CAI).state_of(&third) == "QUEUED";
    teller.step("a third is written without a broker: durable in the outbox, truthfully QUEUED", queued);
    world.start_broker()?;
    let lao_cai = world.office(LAO_CAI);
    let arrived = lao_cai.sees(&second, &["RETRIEVED"]) && lao_cai.sees(&third, &["RETRIEVED"]);
    teller.step("the broker is back; both arrive and are opened", arrived);
    let once = [&second, &third].iter().all(|id| world.office(HEKOU).times_received(id) == 1);
    teller.step("each is in Hekou's inbox exactly once", once);
    Ok((second, third))
}

fn node_is_away(world: &mut World, teller: &mut Teller) -> io::Result<(String, bool)> {
    teller.chapter("Hekou's node is stopped, and comes back later");
    world.stop_node(HEKOU)?;
    let fourth = world.office(LAO_CAI).sends(samples::FOLLOW_UP)?;
    let accepted = world.office(LAO_CAI).sees(&fourth, &["ACCEPTED"]);
    teller.step("a fourth notice is sent: the broker has it and says no more than that (ACCEPTED)", accepted);
    let waits = broker_status(world)?["waiting"][HEKOU]["URGENT"] == 1;
    teller.step("the broker's status shows one message waiting for Hekou", waits);
    world.start_node(HEKOU)?;
    let delivered = world.office(LAO_CAI).sees(&fourth, &["DELIVERED"]);
    teller.step("Hekou is back, locked after its restart: DELIVERED", delivered);
    world.office(HEKOU).unlocks()?;
    teller.step("unlocked: RETRIEVED", world.office(LAO_CAI).sees(&fourth, &["RETRIEVED"]));
    Ok((fourth, accepted && waits && delivered))
}

fn bad_input(world: &World, teller: &mut Teller) -> io::Result<bool> {
    teller.chapter("What is wrong is refused, with the reason, and changes nothing");
    let before = world.office(LAO_CAI).outbox()?.len();
    let bad = samples::CASE_NOTICE.replace("source: B", "source: Q").replace("tlp: AMBER+STRICT", "tlp: GREEN");
    let refusal = world.office(LAO_CAI).sends(&bad).err().map(|e| e.to_string()).unwrap_or_default();
    let named = refusal.contains("content.evaluation.source") && refusal.contains("\"tlp\"");
    let unchanged = world.office(LAO_CAI).outbox()?.len() == before;
    teller.step(
        "a notice with two mistakes is refused with both, each with its field and what would be right",
        named && unchanged,
    );
    Ok(named && unchanged)
}

fn audit(world: &World, teller: &mut Teller, notice: &str) -> io::Result<Value> {
    teller.chapter("The auditor, with nothing but the charter, a certificate and the tool");
    let copy = world.path("audit");
    let settled = eventually(|| match world.audit(&["mirror", "--copy", &copy]) {
        // The last statements may still be on their way.
        Ok((0, _)) => {
            world.audit(&["verify", "--copy", &copy]).is_ok_and(|(_, verdict)| super::region::is_delivered(&verdict))
        }
        _ => false,
    });
    teller.step("mirrors both logs into plain C2SP tile directories", settled);
    let (code, verdict) = world.audit(&["verify", "--copy", &copy])?;
    let clean = code == 0 && verdict["findings"].as_array().is_some_and(Vec::is_empty);
    let entries = &verdict["report"]["exchange_entries"];
    teller.step(
        format!("verifies {entries} entries: checkpoints, trees, every signature, every rule: nothing found"),
        clean,
    );
    let (code, life) = world.audit(&["inspect", "--copy", &copy, notice])?;
    let names: Vec<&str> = life["events"].as_array().into_iter().flatten().filter_map(|e| e["what"].as_str()).collect();
    let whole = code == 0 && names == ["ACCEPTED", "DELIVERED", "RETRIEVED", "ANSWERED"];
    teller.step(format!("replays the notice's life: {}", names.join(", ")), whole);
    let receipt = world.path("notice.tlog-proof");
    let socket = world.socket(LAO_CAI).display().to_string();
    world.run("liaison", &["--socket", &socket, "receipt", notice, "--output", &receipt])?;
    let (code, proven) = world.audit(&["receipt", &receipt])?;
    let good = code == 0 && proven["about"]["message"] == notice;
    teller.step("checks offline the receipt that Lao Cai hands over", good);
    Ok(json!({"clean": clean, "verdict": verdict, "life": whole, "receipt": good}))
}

/// Whether any file below a directory holds one of the secrets.
fn leaks(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if leaks(&path)? {
                return Ok(true);
            }
        } else if path.is_file() {
            let bytes = fs::read(&path)?;
            let found = SECRETS.iter().any(|secret| bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
            if found {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn promises(
    world: &World,
    teller: &mut Teller,
    sent: &[String],
    replay: &Value,
    waited: bool,
    refused: bool,
) -> io::Result<()> {
    let hekou = world.office(HEKOU);
    let received: Vec<usize> = sent.iter().map(|id| hekou.times_received(id)).collect();
    let clean = replay["clean"] == true;
    teller.promise(
        1,
        "Nothing accepted is lost",
        received.iter().all(|n| *n > 0),
        "every notice receipted before or after kill -9 is in Hekou's inbox",
    );
    let delivered = replay["verdict"]["report"]["delivered"].as_u64().unwrap_or(0);
    teller.promise(
        2,
        "Nothing is delivered that was not logged",
        clean && delivered > 0,
        format!("{delivered} deliveries, each after its ACCEPTED entry in the auditor's replay"),
    );
    teller.promise(
        3,
        "Exactly once into the inbox",
        received.iter().all(|n| *n == 1),
        "each of the four notices is in Hekou's inbox once, after two restarts",
    );
    let mut numbers: Vec<(u64, String)> = hekou
        .inbox()?
        .iter()
        .filter_map(|m| Some((m["number"].as_u64()?, m["priority"].as_str()?.to_owned())))
        .collect();
    numbers.sort();
    let urgent: Vec<u64> = numbers.iter().filter(|(_, p)| p == "URGENT").map(|(n, _)| *n).collect();
    teller.promise(
        4,
        "Nothing is missing silently",
        clean && at_peace(world) && urgent == [1, 2, 3],
        "numbers 1, 2, 3 in the urgent lane, and every one in the others, checked by both nodes and the auditor",
    );
    teller.promise(
        6,
        "Never a false receipt",
        waited,
        "while Hekou was away the state was ACCEPTED, and DELIVERED only after its signature",
    );
    let at_broker = leaks(&world.directory().join("broker"))?;
    teller.promise(
        7,
        "The broker cannot read",
        !at_broker,
        "no name, place or number of the notice in any file of the broker",
    );
    let at_node = leaks(&world.directory().join(HEKOU))?;
    teller.promise(7, "Content is encrypted at rest", !at_node, "nor in any file of Hekou's node");
    teller.promise(
        8,
        "The log cannot be rewritten unseen",
        clean && at_peace(world) && replay["receipt"] == true,
        "trees recomputed from the entries; nodes checked every checkpoint against the one before",
    );
    let imposter = imposter_is_refused(world)?;
    teller.promise(
        9,
        "No country can speak for another",
        imposter,
        "a certificate by Viet Nam's CA in the name of Hekou gets no connection",
    );
    teller.promise(12, "Bad input changes nothing", refused, "a case file with two mistakes: both named, nothing sent");
    Ok(())
}

/// A certificate of another country's office, issued by the own CA, must not get as far as a call.
fn imposter_is_refused(world: &World) -> io::Result<bool> {
    let (charter, address) = (world.path("charter/charter.toml"), world.broker_address()?);
    let (certificate, key) =
        (world.path("charter/bad/other-country/tls.pem"), world.path("charter/bad/other-country/tls.key"));
    let copy = world.path("imposter");
    let output = world.output(
        "audit",
        &[
            "--charter",
            &charter,
            "mirror",
            "--broker",
            &address,
            "--certificate",
            &certificate,
            "--key",
            &key,
            "--copy",
            &copy,
        ],
    )?;
    Ok(output.status.code() == Some(i32::from(liaison_link::process::exit::UNREACHABLE)))
}
