//! `kill -9` of broker and nodes under load: at random instants here, and at named points of the way to the disk in
//! [`points`]; with the power cut in [`power`]. The seed is printed; LIAISON_CRASH_CYCLES and LIAISON_CRASH_SEED choose others.

mod points;
mod power;

use std::{thread, time::Duration};

use liaison_tests::{
    dice::Dice,
    samples,
    world::{World, eventually},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    attachments::{reads, states},
    support::{alarms, from_environment, world},
};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

/// Dice by the seed of the environment, which is printed.
pub(crate) fn seeded(cycles: u32) -> Dice {
    let seed = from_environment("LIAISON_CRASH_SEED", std::process::id());
    println!("{cycles} cycles, LIAISON_CRASH_SEED={seed}");
    Dice::new(u64::from(seed))
}

/// Two offices, and what their nodes have promised to send.
struct Exchange {
    _directory: Option<TempDir>,
    world: World,
    promised: Vec<String>,
    /// Of them, those with a file, and what is in it.
    files: Vec<(String, Vec<u8>)>,
}

impl Exchange {
    fn new() -> Self {
        let (directory, world) = world(&[LAO_CAI, HEKOU]);
        Self::of(Some(directory), world)
    }

    fn of(directory: Option<TempDir>, world: World) -> Self {
        for office in [LAO_CAI, HEKOU] {
            world.office(office).unlocks().unwrap();
        }
        Self { _directory: directory, world, promised: Vec::new(), files: Vec::new() }
    }

    /// Sends until the node stops answering; whatever was answered with an id must never be lost.
    fn sends(&mut self, count: u64) {
        for _ in 0..count {
            match self.world.office(LAO_CAI).sends(samples::ROUTINE) {
                Ok(message) => self.promised.push(message),
                Err(_) => break,
            }
        }
    }

    fn restarts_node(&mut self, office: &str) {
        self.world.kill_node(office).unwrap();
        self.world.start_node(office).unwrap();
        self.world.office(office).unlocks().unwrap();
    }

    /// Promises 1 to 4 and 8 hold: every message that a node took is in the counterpart's inbox once, its numbers have no
    /// gaps, no node has an alarm, and the auditor finds nothing.
    fn holds(&self) {
        let world = &self.world;
        let arrived = eventually(|| {
            let outbox = world.office(LAO_CAI).outbox().unwrap_or_default();
            outbox.len() >= self.promised.len() && outbox.iter().all(|m| m["recipients"][0]["state"] == "RETRIEVED")
        });
        let inbox = world.office(HEKOU).inbox().unwrap();
        for message in &self.promised {
            let times = inbox.iter().filter(|entry| entry["message"] == message.as_str()).count();
            assert_eq!(times, 1, "{message}: {}", world.office(LAO_CAI).state_of(message));
        }
        assert!(arrived, "not everything was retrieved:\n{}", world.log(&format!("{HEKOU}.log")));
        // A send that was cut by a kill may have been durable without an answer; it is then delivered like any other.
        let own = inbox.iter().filter(|message| message["from"] == LAO_CAI);
        let mut numbers: Vec<u64> = own.map(|message| message["number"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<u64>>(), "a number is missing or doubled");
        for (message, bytes) in &self.files {
            assert!(eventually(|| states(world, HEKOU, message) == ["HERE"]), "the file of {message} did not arrive");
            assert!(reads(world, HEKOU, message, 1).1 == *bytes, "the file of {message} is another");
        }
        for office in [LAO_CAI, HEKOU] {
            assert_eq!(alarms(world, office), json!([]), "{office}");
        }
        let copy = world.path("audit");
        assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
        let (code, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
        assert_eq!((code, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
        assert_eq!(verdict["report"]["undelivered"], json!([]));
    }
}

/// Promises 1 and 3, and with them 2, 4 and 8.
#[test]
fn promise_1_nothing_accepted_is_lost_by_kill_9_at_random_instants_under_load() {
    let cycles = from_environment("LIAISON_CRASH_CYCLES", 10);
    let mut dice = seeded(cycles);
    let mut exchange = Exchange::new();
    for _ in 0..cycles {
        let (count, pause) = (1 + dice.roll(6), Duration::from_millis(dice.roll(25)));
        exchange.sends(count);
        thread::sleep(pause);
        match dice.roll(4) {
            0 | 1 => {
                exchange.world.kill_broker().unwrap();
                let more = dice.roll(3);
                exchange.sends(more);
                exchange.world.start_broker().unwrap();
            }
            2 => exchange.restarts_node(LAO_CAI),
            _ => exchange.restarts_node(HEKOU),
        }
    }
    assert!(exchange.promised.len() as u32 >= cycles, "there was no load");
    exchange.holds();
}
