//! A device that fails under the programs as they are shipped: no receipt for what may not be durable, an end, and a start
//! that recovers. `tests/faults/device.c` stands between them and the system.

use std::fs::{self, File};

use liaison_tests::{
    samples,
    world::{World, eventually},
};
use serde_json::json;

use super::{HEKOU, LAO_CAI};
use crate::support::{alarms, faulty_device, missing_numbers, world};

/// Processes started from now on have a device below `part` that fails on demand.
fn fragile(world: &mut World, part: &str) -> String {
    let under = world.path(part);
    world.environment = vec![("LD_PRELOAD".into(), faulty_device(world)), ("FAULT_UNDER".into(), under.clone())];
    under
}

fn flag(under: &str, fault: &str) -> String {
    let path = format!("{under}.{fault}");
    File::create(&path).unwrap();
    path
}

/// Promises 1 and 6: when the broker's device fails to sync, or tears a write, no receipt goes out and the broker ends;
/// the next start recovers, and the message is accepted once.
#[test]
fn promise_6_a_broker_whose_device_fails_gives_no_receipt_and_recovers() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    for fault in ["sync", "write", "sync"] {
        let under = fragile(&mut world, "broker/exchange");
        world.stop_broker().unwrap();
        world.start_broker().unwrap();
        let before = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
        assert!(world.office(LAO_CAI).sees(&before, &["RETRIEVED"]));
        let fault = flag(&under, fault);
        let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
        assert!(
            eventually(|| world.broker_has_ended()),
            "a broker goes on whose device fails: {}",
            world.log("broker.log")
        );
        assert_eq!(world.office(LAO_CAI).state_of(&message), "QUEUED", "a receipt for what may not be durable");
        fs::remove_file(fault).unwrap();
        world.environment.clear();
        world.kill_broker().unwrap();
        world.start_broker().unwrap();
        assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]), "{}", world.log("broker.log"));
        assert_eq!(world.office(HEKOU).times_received(&message), 1);
    }
    for office in [LAO_CAI, HEKOU] {
        assert_eq!((alarms(&world, office), missing_numbers(&world, office)), (json!([]), json!([])), "{office}");
    }
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (found, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
}

/// Promises 3 and 6: a node whose device fails confirms nothing, neither to its officer nor to the broker, and ends; after
/// its next start everything is there once.
#[test]
fn promise_6_a_node_whose_device_fails_confirms_nothing_and_recovers() {
    let (_directory, mut world) = world(&[HEKOU]);
    world.create_node(LAO_CAI).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let mut sent = Vec::new();
    for (number, fault) in ["sync", "write"].into_iter().enumerate() {
        let under = fragile(&mut world, "VN-BLO-LCA/store");
        world.start_node(LAO_CAI).unwrap();
        world.office(LAO_CAI).unlocks().unwrap();
        let fault = flag(&under, fault);
        // From its officer, the first time; from a counterpart, the second time.
        if number == 0 {
            assert!(world.office(LAO_CAI).sends(samples::ROUTINE).is_err(), "an officer was told that it is saved");
        } else {
            sent.push(world.office(HEKOU).sends(&samples::ROUTINE.replace(HEKOU, LAO_CAI)).unwrap());
        }
        assert!(eventually(|| world.node_has_ended(LAO_CAI)), "a node goes on whose device fails");
        for message in &sent {
            assert_eq!(
                world.office(HEKOU).state_of(message),
                "ACCEPTED",
                "DELIVERED was signed for what may not be durable"
            );
        }
        fs::remove_file(fault).unwrap();
        world.environment.clear();
        world.kill_node(LAO_CAI).unwrap();
    }
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    // What the officer was not told to be saved may have been: then it is sent, once.
    let saved = world.office(LAO_CAI).outbox().unwrap();
    assert!(saved.len() <= 1, "{saved:?}");
    for message in &sent {
        assert!(world.office(HEKOU).sees(message, &["RETRIEVED"]), "{}", world.office(HEKOU).state_of(message));
        assert_eq!(world.office(LAO_CAI).times_received(message), 1);
    }
    let after = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&after, &["RETRIEVED"]));
    assert!(eventually(|| world.office(HEKOU).inbox().unwrap().len() == saved.len() + 1));
    for office in [LAO_CAI, HEKOU] {
        assert_eq!((alarms(&world, office), missing_numbers(&world, office)), (json!([]), json!([])), "{office}");
    }
}
