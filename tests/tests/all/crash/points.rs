//! `kill -9` at named points: before or after the Nth write, sync, creation, renaming or removal of a file, of which
//! `tests/faults/device.c` counts each. The program is the one that is shipped.

use std::{fs, path::Path, thread, time::Duration};

use super::{Exchange, HEKOU, LAO_CAI, seeded};
use crate::support::{faulty_device, from_environment};

/// A point on the way to the disk: what it is, whose, in which file, and by which operation.
struct Point {
    name: &'static str,
    whose: &'static str,
    part: &'static str,
    operation: &'static str,
    /// How often a cycle comes to it: a kill is at one of so many times.
    times: u64,
}

const BROKER: &str = "broker";

const fn point(name: &'static str, whose: &'static str, part: &'static str, operation: &'static str) -> Point {
    Point { name, whose, part, operation, times: 6 }
}

/// Every point that a message, or a start, comes by.
const POINTS: [Point; 19] = [
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
            self.sends(2);
        }
        let died = || Path::new(&killed).exists();
        for _ in 0..LOOKS {
            if died() {
                break;
            }
            thread::sleep(LOOK);
        }
        died()
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
