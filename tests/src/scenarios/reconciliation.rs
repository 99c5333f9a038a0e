//! Lao Cai and Hekou sign that they hold the same; then Lao Cai claims what it does not hold, and the exact difference comes back.

use std::io;

use serde_json::{Value, json};

use super::{both_stand, expects, sample, sends, thread};
use crate::{
    demo::Teller,
    samples,
    world::{World, eventually},
};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
pub(super) const OFFICES: [&str; 2] = [LAO_CAI, HEKOU];

/// Hekou compares, and Lao Cai reads the signed answer.
fn answered(world: &World, claim: &str) -> io::Result<(Value, Value)> {
    let told = world.office(HEKOU).ask(&json!({"op": "reconcile-answer", "message": claim}))?;
    let answer = told["message"].as_str().unwrap_or_default().to_owned();
    let read = || world.office(LAO_CAI).shows(&answer).unwrap_or_default();
    let there = eventually(|| read()["content"].is_object());
    if there { Ok((told, read())) } else { Err(io::Error::other("the answer did not arrive")) }
}

pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("Three routine notices, one of them withdrawn");
    for _ in 0..2 {
        sends(world, LAO_CAI, HEKOU, samples::ROUTINE)?;
    }
    world.stop_node(HEKOU)?;
    let withdrawn = world.office(LAO_CAI).sends(samples::ROUTINE)?;
    let accepted = world.office(LAO_CAI).sees(&withdrawn, &["ACCEPTED"]);
    let request = json!({"op": "take-back", "message": withdrawn, "kind": "WITHDRAW", "reason": "DUPLICATE"});
    world.office(LAO_CAI).ask(&request)?;
    let given_up = world.office(LAO_CAI).sees(&withdrawn, &["WITHDRAWN"]);
    world.start_node(HEKOU)?;
    world.office(HEKOU).unlocks()?;
    teller.step("the third never reaches Hekou: its number is a NON_DELIVERY on both sides", accepted && given_up);

    teller.chapter("Lao Cai signs what it holds of the channel");
    let request = json!({"op": "reconcile", "office": HEKOU, "lane": "BULK", "legal_basis": "VNCN10"});
    let claim = world.office(LAO_CAI).ask(&request)?;
    let id = claim["message"].as_str().unwrap_or_default().to_owned();
    let arrived = both_stand(world, OFFICES, &id, "SENT");
    let waits = eventually(|| expects(&thread(world, HEKOU, &id), "reconciliation", HEKOU));
    teller.step(format!("{} numbers, each with the hash of its entry: {id}", claim["numbers"]), arrived && waits);
    let (told, answer) = answered(world, &id)?;
    let same = told["differing"] == json!([]) && answer["content"]["result"] == "SAME";
    teller.step("Hekou compares, and signs that it holds the same", same && answer["officer"]["name"].is_string());

    teller.chapter("A claim of what nobody holds");
    let invented = sample("reconciliation", "")?.replace("lane: URGENT", "lane: BULK");
    let invented = sends(world, LAO_CAI, HEKOU, &invented)?;
    let (_, answer) = answered(world, &invented)?;
    let content = &answer["content"];
    let exact = content["result"] == "DIFFERENT" && content["differing"] == json!([1, 2, 3]);
    teller.step("Hekou's signed answer names each number that differs, with what it holds", exact);
    Ok(())
}
