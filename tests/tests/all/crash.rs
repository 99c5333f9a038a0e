//! `kill -9` of broker and nodes at random instants under load. The seed is printed; LIAISON_CRASH_CYCLES and
//! LIAISON_CRASH_SEED choose others.

use std::{thread, time::Duration};

use liaison_tests::{
    samples,
    world::{World, eventually},
};
use serde_json::json;

use crate::support::{from_environment, world};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

/// xorshift: enough to spread kills over time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Sends until the node stops answering; whatever was answered with an id must never be lost.
fn send_some(world: &World, promised: &mut Vec<String>, count: u64) {
    for _ in 0..count {
        match world.office(LAO_CAI).sends(samples::ROUTINE) {
            Ok(message) => promised.push(message),
            Err(_) => break,
        }
    }
}

/// Promises 1 and 3, and with them 2, 4 and 8: after many kills every message that a node took is in the counterpart's
/// inbox once, its numbers have no gaps, no node has an alarm, and the auditor finds nothing.
#[test]
fn promise_1_nothing_accepted_is_lost_by_kill_9_at_random_instants_under_load() {
    let cycles = from_environment("LIAISON_CRASH_CYCLES", 10);
    let seed = from_environment("LIAISON_CRASH_SEED", std::process::id());
    println!("{cycles} cycles, LIAISON_CRASH_SEED={seed}");
    let mut dice = Dice(u64::from(seed) | 1 << 40);
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let mut promised = Vec::new();
    for _ in 0..cycles {
        let (count, pause) = (1 + dice.roll(6), Duration::from_millis(dice.roll(25)));
        send_some(&world, &mut promised, count);
        thread::sleep(pause);
        match dice.roll(4) {
            0 | 1 => {
                world.kill_broker().unwrap();
                let more = dice.roll(3);
                send_some(&world, &mut promised, more);
                world.start_broker().unwrap();
            }
            2 => {
                world.kill_node(LAO_CAI).unwrap();
                world.start_node(LAO_CAI).unwrap();
                world.office(LAO_CAI).unlocks().unwrap();
            }
            _ => {
                world.kill_node(HEKOU).unwrap();
                world.start_node(HEKOU).unwrap();
                world.office(HEKOU).unlocks().unwrap();
            }
        }
    }
    assert!(promised.len() as u32 >= cycles, "there was no load");
    let arrived = eventually(|| {
        let outbox = world.office(LAO_CAI).outbox().unwrap_or_default();
        outbox.len() >= promised.len() && outbox.iter().all(|m| m["recipients"][0]["state"] == "RETRIEVED")
    });
    let inbox = world.office(HEKOU).inbox().unwrap();
    for message in &promised {
        let times = inbox.iter().filter(|entry| entry["message"] == message.as_str()).count();
        assert_eq!(times, 1, "{message}: {}", world.office(LAO_CAI).state_of(message));
    }
    assert!(arrived, "not everything was retrieved:\n{}", world.log(&format!("{HEKOU}.log")));
    // A send that was cut by a kill may have been durable without an answer; it is then delivered like any other.
    let mut numbers: Vec<u64> = inbox.iter().map(|message| message["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=inbox.len() as u64).collect::<Vec<u64>>(), "a number is missing or doubled");
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(world.office(office).ask(&json!({"op": "alarms"})).unwrap()["alarms"], json!([]), "{office}");
    }
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (code, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((code, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
    assert_eq!(verdict["report"]["undelivered"], json!([]));
}
