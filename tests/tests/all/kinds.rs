//! The kinds of the catalogue through the whole chain: an officer's samples arrive with their step, corridor and content.

use liaison_proto::ids::MessageId;
use liaison_tests::{samples, world::eventually};
use serde_json::{Value, json};

use crate::support::world;

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const HA_NOI: &str = "VN-CCP-HAN";
const BANGKOK: &str = "TH-CCP-BKK";
const ALERTED: [&str; 3] = ["CN-CCP-PEK", "LA-CCP-VTE", "KH-CCP-PNH"];

/// The sample with another message id for the ones in it.
fn about(sample: &str, message: &str) -> String {
    let ids = sample.split([' ', '[', ']', '\n']).filter(|word| word.parse::<MessageId>().is_ok());
    ids.fold(sample.to_owned(), |text, id| text.replace(id, message))
}

/// A hot-line call is answered in its thread and a notice is taken back; an alert goes to three countries at once.
#[test]
fn every_kind_arrives_with_its_step_and_in_its_thread() {
    let offices = [LAO_CAI, HEKOU, HA_NOI, BANGKOK, ALERTED[0], ALERTED[1], ALERTED[2]];
    let (_directory, world) = world(&offices);
    for office in offices {
        world.office(office).unlocks().unwrap();
    }
    let arrives = |from: &str, to: &str, file: &str| -> (String, Value) {
        let message = world.office(from).sends(file).unwrap();
        assert!(world.office(from).sees(&message, &["RETRIEVED"]), "{}", world.office(from).state_of(&message));
        let shown = world.office(to).shows(&message).unwrap();
        (message, shown)
    };
    let (call, shown) = arrives(LAO_CAI, HEKOU, samples::HOTLINE_CALL);
    assert_eq!((&shown["step"], &shown["priority"]), (&json!("HOTLINE_RAISED"), &json!("FLASH")), "{shown:#}");
    assert_eq!(shown["content"]["nature"], json!(["IN_TRANSIT", "CHILD"]));
    let (_, closed) = arrives(HEKOU, LAO_CAI, &about(samples::HOTLINE_CLOSE, &call));
    assert_eq!((&closed["step"], &closed["thread"]), (&json!("HOTLINE_CLOSED"), &shown["thread"]), "{closed:#}");

    let (notice, _) = arrives(LAO_CAI, HEKOU, samples::ROUTINE);
    let (_, withdrawn) = arrives(LAO_CAI, HEKOU, &about(samples::WITHDRAW, &notice));
    assert_eq!(withdrawn["step"], "WITHDRAWN");
    assert_eq!(withdrawn["content"]["message_ids"], json!([notice]));

    let (_, requested) = arrives(BANGKOK, HA_NOI, samples::RETURN_REQUEST);
    assert_eq!((&requested["step"], &requested["corridor"]), (&json!("RETURN_REQUESTED"), &json!("TH-VN")));
    assert_eq!(requested["content"]["needs"][0], "INTERPRETER");

    let (alert, shown) = arrives(HA_NOI, ALERTED[0], samples::SUSPECT_ALERT);
    assert_eq!((&shown["step"], &shown["corridor"]), (&json!("ALERT_ACTIVE"), &json!("REGION")), "{shown:#}");
    for office in ALERTED {
        assert!(eventually(|| world.office(office).times_received(&alert) == 1), "{office}");
    }
}
