//! The kinds of the catalogue through the whole chain: an officer's samples arrive with their step, corridor and content.

use liaison_proto::refusal::RefusalCode;
use liaison_tests::{samples, scenarios::about, world::eventually};
use serde_json::{Value, json};

use crate::support::world;

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const HA_NOI: &str = "VN-CCP-HAN";
const BANGKOK: &str = "TH-CCP-BKK";
const ALERTED: [&str; 3] = ["CN-CCP-PEK", "LA-CCP-VTE", "KH-CCP-PNH"];

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

/// One's own node refuses what does not fit, before anything is signed or kept, with the code of the reason; and each side
/// of a thread sees it standing at the same place.
#[test]
fn a_node_refuses_what_does_not_fit_its_thread_or_goes_too_far() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let notice = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&notice, &["RETRIEVED"]));
    let refused = |file: &str| {
        let error = world.office(HEKOU).sends(file).unwrap_err().to_string();
        let answer: Value = serde_json::from_str(&error).unwrap();
        RefusalCode::parse(answer["code"].as_str().unwrap()).unwrap()
    };
    let sample = |name: &str| {
        let path = format!("{}/../deploy/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        about(&std::fs::read_to_string(path).unwrap(), &notice)
    };
    assert_eq!(refused(&sample("info-reply")), RefusalCode::OutOfStep, "nothing was asked");
    let onward = sample("case-update").replace(LAO_CAI, "CN-CCP-PEK");
    assert_eq!(refused(&onward), RefusalCode::OnwardNotGranted);
    assert_eq!(refused(&sample("classify").replace("AMBER+STRICT", "GREEN")), RefusalCode::OnwardNotGranted);
    assert!(world.office(HEKOU).outbox().unwrap().is_empty(), "what is refused is not kept");
    world.office(HEKOU).sends(&sample("classify")).unwrap();
    for office in [LAO_CAI, HEKOU] {
        let thread = || world.office(office).ask(&json!({"op": "thread", "message": notice})).unwrap();
        assert!(eventually(|| thread()["state"] == "CLASSIFIED"), "{office}: {:#}", thread());
    }
    // Locked, nobody can say what the messages do; that they are there is no secret.
    world.office(HEKOU).ask(&json!({"op": "lock"})).unwrap();
    let locked = world.office(HEKOU).ask(&json!({"op": "thread", "message": notice})).unwrap();
    assert_eq!((&locked["messages"][0]["mark"], locked["incomplete"].is_string()), (&json!("UNREADABLE"), true));
}

/// An agreement comes into force while everything runs: the countries that it binds sign it, one of their offices publishes it.
#[test]
fn an_agreement_comes_into_force_when_its_countries_have_signed_it() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let before = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&before, &["DELIVERED"]), "before any agreement nothing is judged by one");
    let publish = |text: &str| {
        let (policy, output) = (world.path("policy.cedar"), world.path("policy.record"));
        let _ = std::fs::remove_file(&output);
        std::fs::write(&policy, text).unwrap();
        let charter = world.path("charter");
        world
            .run("certs-dev", &["--out", &charter, "sign-agreement", "--policy", &policy, "--output", &output])
            .unwrap();
        let record = std::fs::read_to_string(output).unwrap();
        world.office(LAO_CAI).ask(&json!({"op": "publish", "record": record})).map_err(|e| e.to_string())
    };
    let text = |serial: u32, countries: &str, tlp: u32| {
        format!(
            "// agreement VNCN10 serial {serial} countries {countries}\n@id(\"notices\")\n\
             permit (principal, action == Action::\"CASE_NOTICE\", resource) when {{ context.tlp >= {tlp} }};\n"
        )
    };
    for bad in [text(2, "VN CN", 0), text(1, "KH TH", 0), text(1, "VN CN", 0).replace("context.tlp", "context.age")] {
        assert!(publish(&bad).unwrap_err().contains("BAD_RECORD"), "{bad}");
    }
    publish(&text(1, "VN CN", 4)).unwrap();
    let refused = || world.office(LAO_CAI).sends(samples::CASE_NOTICE).map_err(|e| e.to_string()).err();
    let code = RefusalCode::NotAgreed.as_str();
    assert!(eventually(|| refused().is_some_and(|error| error.contains(code))), "{:?}", refused());
    publish(&text(2, "VN CN", 3)).unwrap();
    assert!(eventually(|| refused().is_none()), "{:?}", refused());
    // Nobody is let go by others: the next one needs China's signature, too.
    let without_china = text(3, "VN", 0);
    assert!(publish(&without_china).unwrap_err().contains("BAD_RECORD"));
    let after = world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap();
    assert!(world.office(LAO_CAI).sees(&after, &["DELIVERED"]));
}
