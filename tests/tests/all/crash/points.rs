//! `kill -9` at named points: before or after the Nth write, sync, creation, renaming or removal of a file, of which
//! `tests/faults/device.c` counts each. The program is the one that is shipped.

use std::{fs, path::Path, thread, time::Duration};

use liaison_proto::{
    limits,
    wire::{self, exchange_client::ExchangeClient},
};
use serde_json::json;

use super::{Exchange, HEKOU, LAO_CAI, seeded};
use crate::{
    attachments::sends_with,
    support::{Forger, connect, faulty_device, from_environment},
};

/// A point on the way to the disk: what it is, whose, in which file, and by which operation.
struct Point {
    name: &'static str,
    whose: &'static str,
    part: &'static str,
    operation: &'static str,
    /// How often a cycle comes to it: a kill is at one of so many times.
    times: u64,
    /// What leads there.
    load: Load,
}

/// What is done until the party is killed.
#[derive(Clone, Copy)]
enum Load {
    /// So many messages.
    Messages(u64),
    /// A message with a file.
    File,
    /// New keys, which are published.
    Keys,
    /// As many bytes, from a third office, as a segment of a journal has.
    Segment,
}

const BROKER: &str = "broker";
/// A third office, without a node.
const MONG_CAI: &str = "VN-BLO-MBA";

const fn point(name: &'static str, whose: &'static str, part: &'static str, operation: &'static str) -> Point {
    Point { name, whose, part, operation, times: 6, load: Load::Messages(2) }
}

/// The same, to which a cycle comes once, and what leads there.
const fn once(
    name: &'static str,
    whose: &'static str,
    part: &'static str,
    operation: &'static str,
    load: Load,
) -> Point {
    Point { times: 1, load, ..point(name, whose, part, operation) }
}

/// Every point that a message, a file, a key, or a start, comes by.
const POINTS: [Point; 30] = [
    point("entries are written", BROKER, "exchange/leaves/", "write"),
    point("entries are synced", BROKER, "exchange/leaves/", "sync"),
    point("bodies are written", BROKER, "exchange/bodies/", "write"),
    point("bodies are synced", BROKER, "exchange/bodies/", "sync"),
    Point { times: 2, ..point("the index is made anew", BROKER, "/index/", "create") },
    Point { times: 1, ..point("the index's note is removed", BROKER, "/index/", "remove") },
    Point { times: 1, ..point("the address is told", BROKER, "broker/address", "rename") },
    Point { times: 2, ..point("the sender's content key is written", LAO_CAI, "keys.table", "write") },
    Point { times: 2, ..point("the sender's content key is synced", LAO_CAI, "keys.table", "sync") },
    point("the outbox is written", LAO_CAI, "store/records/", "write"),
    point("the outbox is synced", LAO_CAI, "store/records/", "sync"),
    Point { times: 2, ..point("the outbox's bodies are written", LAO_CAI, "store/bodies/", "write") },
    Point { times: 2, ..point("the outbox's bodies are synced", LAO_CAI, "store/bodies/", "sync") },
    Point { times: 2, ..point("the inbox's bodies are written", HEKOU, "store/bodies/", "write") },
    Point { times: 2, ..point("the inbox's bodies are synced", HEKOU, "store/bodies/", "sync") },
    point("the inbox is written", HEKOU, "store/records/", "write"),
    point("the inbox is synced", HEKOU, "store/records/", "sync"),
    Point { times: 2, ..point("the opened key is written", HEKOU, "keys.table", "write") },
    Point { times: 2, ..point("the opened key is synced", HEKOU, "keys.table", "sync") },
    once("a tile of 256 entries is made", BROKER, "exchange/tile/", "create", Load::Messages(100)),
    once("the next segment of bodies is made", BROKER, "exchange/bodies/", "create", Load::Segment),
    once("the inbox's next segment of bodies is made", HEKOU, "store/bodies/", "create", Load::Segment),
    once("new keys are kept", LAO_CAI, "keystore/", "rename", Load::Keys),
    once("a directory entry is written", BROKER, "directory/leaves/", "write", Load::Keys),
    once("a directory entry is synced", BROKER, "directory/leaves/", "sync", Load::Keys),
    once("the copy of the directory is replaced", LAO_CAI, "directory/checkpoint", "rename", Load::Keys),
    once("a sealed file is synced", LAO_CAI, "/attachments/", "sync", Load::File),
    once("a file is synced at the broker", BROKER, "/attachments/", "sync", Load::File),
    once("a file is kept at the broker", BROKER, "/attachments/", "rename", Load::File),
    once("a file is kept at its recipient", HEKOU, "/attachments/", "rename", Load::File),
];

/// How long a point is waited for: a cycle that never comes to it ends in a kill all the same.
const LOOKS: usize = 60;
const LOOK: Duration = Duration::from_millis(10);

impl Exchange {
    /// Starts a party that will be killed at a point, and sends until it is, or nothing more happens. Says whether it was.
    fn is_killed_at(&mut self, point: &Point, number: u64, side: &str) -> bool {
        let killed = format!("{}.killed", self.world.path(point.whose));
        let _ = fs::remove_file(&killed);
        self.kill(point.whose);
        self.world.environment = vec![
            ("LD_PRELOAD".into(), faulty_device(&self.world)),
            ("FAULT_UNDER".into(), self.world.path(point.whose)),
            ("FAULT_KILL".into(), format!("{} {} {number} {side}", point.part, point.operation)),
        ];
        let started = match point.whose {
            BROKER => self.world.start_broker(),
            office => self.world.start_node(office).and_then(|()| self.world.office(office).unlocks()),
        };
        self.world.environment.clear();
        if started.is_ok() {
            self.does(point.load);
        }
        let died = || Path::new(&killed).exists();
        // New keys are published when their time comes, every two seconds.
        let looks = if matches!(point.load, Load::Keys) { 8 * LOOKS } else { LOOKS };
        for _ in 0..looks {
            if died() {
                break;
            }
            thread::sleep(LOOK);
        }
        died()
    }

    /// What is promised in it, and not cut off, is remembered.
    fn does(&mut self, load: Load) {
        match load {
            Load::Messages(count) => self.sends(count),
            Load::Keys => drop(self.world.office(LAO_CAI).ask(&json!({"op": "rotate-keys"}))),
            Load::File => {
                let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n ^ self.promised.len() as u32) as u8).collect();
                let files = [("note.txt", bytes.len() as u64)];
                let answer = sends_with(&self.world, LAO_CAI, &files, &mut bytes.as_slice(), false);
                if let Some(message) = answer.ok().and_then(|answer| answer["message"].as_str().map(str::to_owned)) {
                    self.promised.push(message.clone());
                    self.files.push((message, bytes));
                }
            }
            Load::Segment => {
                let forger = Forger::new(&self.world, MONG_CAI);
                let large = vec![7; limits::BODY_BYTES * 3 / 4];
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(async {
                    let mut exchange = ExchangeClient::new(connect(&self.world, &format!("offices/{MONG_CAI}")))
                        .max_encoding_message_size(limits::GRPC_BYTES);
                    for _ in 0..6 {
                        let envelope = forger.sign(forger.parts(forger.core(HEKOU), &large));
                        let request = wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 };
                        if exchange.submit(request).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    }

    fn kill(&mut self, whose: &str) {
        match whose {
            BROKER => self.world.kill_broker().unwrap(),
            office => self.world.kill_node(office).unwrap(),
        }
    }

    /// What the dead left is sound, by its own check, which changes nothing; then it goes on.
    fn recovers(&mut self, point: &Point, what: &str) {
        let (role, config) = match point.whose {
            BROKER => ("broker", "broker.toml".to_owned()),
            office => ("node", format!("{office}.toml")),
        };
        self.kill(point.whose);
        let checked = self.world.output(role, &["check", "--config", &self.world.path(&config)]).unwrap();
        assert!(checked.status.success(), "{what}: {}", String::from_utf8_lossy(&checked.stdout));
        match point.whose {
            BROKER => self.world.start_broker().unwrap(),
            office => {
                self.world.start_node(office).unwrap();
                self.world.office(office).unlocks().unwrap();
            }
        }
    }
}

/// Promises 1 and 3, and with them 2, 4 and 8. LIAISON_POINT_CYCLES kills so often; every point is reached in two rounds.
#[test]
fn promise_1_nothing_accepted_is_lost_by_kill_9_at_any_named_point() {
    let cycles = from_environment("LIAISON_POINT_CYCLES", 2 * POINTS.len() as u32);
    let mut dice = seeded(cycles);
    let mut exchange = Exchange::new();
    let mut reached = [0; POINTS.len()];
    for cycle in 0..cycles as usize {
        let (at, round) = (cycle % POINTS.len(), cycle / POINTS.len());
        let point = &POINTS[at];
        // The first time of each point comes in every life.
        let number = if round < 2 { 1 } else { 1 + dice.roll(point.times) };
        let side = if (round + at).is_multiple_of(2) { "before" } else { "after" };
        let what = format!("{side} {} (time {number})", point.name);
        reached[at] += u32::from(exchange.is_killed_at(point, number, side));
        exchange.recovers(point, &what);
        exchange.sends(1);
    }
    for (point, reached) in POINTS.iter().zip(reached) {
        assert!(reached > 0 || (cycles as usize) < 2 * POINTS.len(), "no kill when {}", point.name);
    }
    println!("killed at the point in {} of {cycles} cycles", reached.iter().sum::<u32>());
    exchange.holds();
}
