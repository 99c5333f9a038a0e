//! Promise 10 and promise 5 in bad times: a broker that is away, a line of 64 kbit/s, a clock that died, metrics and
//! revocation lists that are gone. Nothing of it stops a victim's case.

#![allow(clippy::disallowed_methods, reason = "ten seconds are measured")]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use liaison_link::local;
use liaison_proto::clock::{Clock as _, SystemClock};
use liaison_tests::{
    line::Line,
    roles::CLOCK_OFFSET,
    samples,
    world::{World, eventually},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{from_environment, world, world_holding};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const MINUTE: i64 = 60_000;
/// 64 kbit/s.
const SLOW: u64 = 8_000;
/// Half the way to a satellite and back.
const DELAY: Duration = Duration::from_millis(100);
/// How soon a FLASH message is in the recipient's inbox over the slowest line: the stated promise.
const FLASH_WITHIN: Duration = Duration::from_secs(10);

/// Processes started from now on have a clock that is so many milliseconds ahead.
fn set_clock(world: &mut World, offset: i64) {
    world.environment = vec![(CLOCK_OFFSET.into(), offset.to_string())];
}

/// The offset of a clock that says 1970-01-01T00:01Z.
fn dead() -> i64 {
    MINUTE - SystemClock.now().0
}

fn find(messages: &[Value], id: &str) -> Value {
    messages.iter().find(|message| message["message"] == id).cloned().unwrap_or_default()
}

fn marks(world: &World, office: &str, message: &str) -> Value {
    find(&world.office(office).inbox().unwrap(), message)["marks"].clone()
}

/// No office was alarmed or misses a number, and an auditor finds nothing wrong with the log.
fn nothing_is_wrong(world: &World) {
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(world.office(office).ask(&json!({"op": "alarms"})).unwrap()["alarms"], json!([]));
        assert_eq!(world.office(office).ask(&json!({"op": "status"})).unwrap()["missing_numbers"], json!([]));
    }
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (code, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((code, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
}

/// Promises 3, 4 and 10: the broker is away for a day. Officers go on writing; a day later everything arrives, once, in
/// the order of its numbers, and what waited is marked as older than it should be.
#[test]
fn promise_10_what_was_written_while_the_broker_was_away_for_a_day_arrives_once_and_in_order() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    let unlock = |world: &World| [LAO_CAI, HEKOU].map(|office| world.office(office).unlocks().unwrap());
    unlock(&world);
    let before = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&before, &["RETRIEVED"]));
    world.stop_broker().unwrap();
    let send = |office: &str, file: &str, count: usize| -> Vec<String> {
        (0..count).map(|_| world.office(office).sends(file).unwrap()).collect()
    };
    let (routine, flash) = (send(LAO_CAI, samples::ROUTINE, 8), send(LAO_CAI, samples::HOTLINE_CALL, 2));
    let acknowledged = world.office(HEKOU).acknowledges(&before).unwrap();
    for office in [LAO_CAI, HEKOU] {
        world.stop_node(office).unwrap();
    }
    set_clock(&mut world, 24 * 60 * MINUTE);
    world.start_broker().unwrap();
    for office in [LAO_CAI, HEKOU] {
        world.start_node(office).unwrap();
    }
    unlock(&world);
    let after = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    let all: Vec<&String> = routine.iter().chain(&flash).chain([&after]).collect();
    for message in &all {
        let state = world.office(LAO_CAI).state_of(message);
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{state}");
        assert_eq!(world.office(HEKOU).times_received(message), 1);
    }
    assert!(world.office(HEKOU).sees(&acknowledged, &["RETRIEVED"]));
    assert_eq!(world.office(LAO_CAI).times_received(&acknowledged), 1);
    let inbox = world.office(HEKOU).inbox().unwrap();
    let numbers = |messages: &[&String]| -> Vec<u64> {
        messages.iter().map(|message| find(&inbox, message)["number"].as_u64().unwrap()).collect()
    };
    let bulk: Vec<&String> = [&before].into_iter().chain(&routine).chain([&after]).collect();
    assert_eq!(numbers(&bulk), (1..=10).collect::<Vec<u64>>(), "not in the order in which they were written");
    assert_eq!(numbers(&flash.iter().collect::<Vec<_>>()), [1, 2]);
    for message in routine.iter().chain(&flash) {
        assert_eq!(marks(&world, HEKOU, message), json!(["CLOCK_SKEW"]));
    }
    assert_eq!(marks(&world, LAO_CAI, &acknowledged), json!(["CLOCK_SKEW"]));
    for message in [&before, &after] {
        assert_eq!(marks(&world, HEKOU, message), json!([]), "its clock was right");
    }
    nothing_is_wrong(&world);
}

/// The largest notice that the catalogue allows: 4,000 characters as a reader counts them, each of many code points.
fn largest_notice() -> String {
    let mut notice: Value = serde_json::from_str(samples::ROUTINE).unwrap();
    notice["content"]["summary"] = json!(format!("e{}", "\u{301}".repeat(120)).repeat(3_900));
    notice.to_string()
}

/// Two offices, one of them behind a line that is slow from now on; its connections are up.
fn behind_a_slow_line(slow: &str, other: &str) -> (TempDir, World, Line) {
    let (directory, mut world) = world(&[]);
    let line = Line::open(world.broker_address().unwrap().parse().unwrap()).unwrap();
    for (office, broker) in [(slow, Some(line.address())), (other, None)] {
        world.node_broker = broker;
        world.create_node(office).unwrap();
        world.start_node(office).unwrap();
        world.office(office).unlocks().unwrap();
        let lanes = || world.office(office).ask(&json!({"op": "status"})).unwrap()["broker"]["lanes"].clone();
        assert!(eventually(|| lanes().as_array().is_some_and(|lanes| lanes.len() == 3)), "{}", lanes());
    }
    line.becomes(SLOW, DELAY);
    (directory, world, line)
}

/// A notice with a file of noise.
fn sends_a_file(world: &World, bytes: u64) -> String {
    let attachments = json!([{"name": "file.bin", "size": bytes}]);
    let request = json!({"op": "send", "file": samples::ROUTINE, "attachments": attachments});
    let mut file = std::io::Read::take(fs::File::open("/dev/urandom").unwrap(), bytes);
    let answer = local::call_with(&world.socket(LAO_CAI), &request, &mut file, &mut std::io::sink()).unwrap();
    answer["message"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Sends a file and the largest notice from Lao Cai to Hekou, waits until they fill the line, then calls; the call must
/// be in Hekou's inbox in time, before the notice; no connection is given up while it is busy, and all must arrive once the
/// line is better. With a `LIAISON_SLOW_SECONDS` of 300 the notice arrives over the slow line itself.
fn a_call_overtakes_a_notice(world: &World, line: &Line) {
    let before = line.carried();
    let file = sends_a_file(world, 600_000);
    let notice = world.office(LAO_CAI).sends(&largest_notice()).unwrap();
    assert!(eventually(|| line.carried() > before + 4 * SLOW), "the notice does not get under way");
    let begun = Instant::now();
    let call = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(eventually(|| world.office(HEKOU).times_received(&call) == 1), "{}", world.office(LAO_CAI).state_of(&call));
    let took = begun.elapsed();
    assert_eq!(world.office(HEKOU).times_received(&notice), 0, "the notice was too small to be in the way");
    assert!(took < FLASH_WITHIN, "a FLASH call took {took:?} over 64 kbit/s");
    println!("a FLASH call took {took:?} over 64 kbit/s");
    // Longer than it takes until somebody wants to know whether the other side is still there.
    let stays_slow = Duration::from_secs(from_environment("LIAISON_SLOW_SECONDS", 40).into());
    while begun.elapsed() < stays_slow && world.office(HEKOU).times_received(&notice) == 0 {
        thread::sleep(Duration::from_millis(200));
    }
    println!("{} bytes were carried in {:?}", line.carried() - before, begun.elapsed());
    // One for each lane and one for attachments.
    assert!(line.connections() <= 4, "a busy connection was taken for a dead one");
    line.recovers();
    for message in [&call, &notice, &file] {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(message));
        assert_eq!(world.office(HEKOU).times_received(message), 1);
    }
    let to_download = || world.office(HEKOU).ask(&json!({"op": "status"})).unwrap()["to_download"].clone();
    assert!(eventually(|| to_download() == 0), "the file did not arrive");
    assert!(line.carried() - before > 1_500_000, "notice and file were not large");
    nothing_is_wrong(world);
}

/// Promise 5: a FLASH call from behind a line of 64 kbit/s is in the recipient's inbox within ten seconds, while a
/// notice of nearly 1 MiB is on its way up the same line.
#[test]
fn promise_5_a_flash_call_up_a_line_of_64_kbit_arrives_within_ten_seconds_beside_a_large_notice() {
    let (_directory, world, line) = behind_a_slow_line(LAO_CAI, HEKOU);
    a_call_overtakes_a_notice(&world, &line);
}

/// Promise 5, the other way: the office behind the slow line gets the call within ten seconds, while a notice of nearly
/// 1 MiB is being delivered to it.
#[test]
fn promise_5_a_flash_call_down_a_line_of_64_kbit_arrives_within_ten_seconds_beside_a_large_notice() {
    let (_directory, world, line) = behind_a_slow_line(HEKOU, LAO_CAI);
    a_call_overtakes_a_notice(&world, &line);
}

/// Promise 5: when the broker comes back, a call for help is in the log before everything routine that had waited longer,
/// whichever lane had tried last.
#[test]
fn promise_5_after_an_outage_a_flash_call_is_entered_before_the_queue() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    // The last two times all lanes of the node begin at once, the queue and the call in the outbox.
    for begins_anew in [false, false, true, true] {
        world.stop_broker().unwrap();
        let office = world.office(LAO_CAI);
        let routine: Vec<String> = (0..20).map(|_| office.sends(samples::ROUTINE).unwrap()).collect();
        let call = office.sends(samples::HOTLINE_CALL).unwrap();
        if begins_anew {
            world.stop_node(LAO_CAI).unwrap();
        }
        world.start_broker().unwrap();
        if begins_anew {
            world.start_node(LAO_CAI).unwrap();
            world.office(LAO_CAI).unlocks().unwrap();
        }
        let entry = |message: &String| {
            assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(message));
            let history = world.office(LAO_CAI).shows(message).unwrap()["history"].clone();
            let accepted = history.as_array().unwrap().iter().find(|event| event["what"] == "ACCEPTED").cloned();
            accepted.unwrap()["entry"].as_u64().unwrap()
        };
        let (call, first) = (entry(&call), routine.iter().map(entry).min().unwrap());
        assert!(call < first, "the call is entry {call}, and something routine entry {first}");
    }
}

/// Promise 10: the broker's clock is dead at boot and says 1970. It goes by its logs' time, which never goes back:
/// offices connect, messages are accepted and delivered, and whose clock differs from the log's is marked.
#[test]
fn promise_10_a_broker_whose_clock_says_1970_goes_on_by_the_time_of_its_logs() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::create(directory.path(), Path::new(env!("CARGO_BIN_EXE_demo"))).unwrap();
    // Its exchange log is still empty: the directory's entries have a time, too.
    set_clock(&mut world, dead());
    world.start_broker().unwrap();
    world.environment.clear();
    for office in [LAO_CAI, HEKOU] {
        world.create_node(office).unwrap();
        world.start_node(office).unwrap();
        world.office(office).unlocks().unwrap();
    }
    let first = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&first, &["RETRIEVED"]), "{}", world.log("broker.log"));
    assert_eq!(marks(&world, HEKOU, &first), json!([]), "the directory's time is seconds old");
    // Once more with entries in the exchange log, and an office whose own clock is ahead of that log.
    world.stop_broker().unwrap();
    world.stop_node(LAO_CAI).unwrap();
    set_clock(&mut world, dead());
    world.start_broker().unwrap();
    set_clock(&mut world, 10 * MINUTE);
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    let second = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(world.office(LAO_CAI).sees(&second, &["RETRIEVED"]), "{}", world.log("broker.log"));
    assert_eq!(marks(&world, HEKOU, &second), json!(["CLOCK_SKEW"]));
    let inbox = world.office(HEKOU).inbox().unwrap();
    let accepted = |message: &str| find(&inbox, message)["accepted_at"].as_str().unwrap().to_owned();
    assert!(accepted(&first) <= accepted(&second), "the log's time went back");
    assert!(accepted(&first).as_str() > "2020", "the log's time is the dead clock's");
    nothing_is_wrong(&world);
}

/// Promise 10: a node whose clock says 1970 goes by the newest log time that it has seen: it connects and receives, and
/// what it writes before it hears anything new is marked.
#[test]
fn promise_10_a_node_whose_clock_says_1970_connects_receives_and_sends_marked() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let first = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&first, &["DELIVERED"]));
    for office in [HEKOU, LAO_CAI] {
        world.stop_node(office).unwrap();
    }
    world.stop_broker().unwrap();
    set_clock(&mut world, dead());
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let written = world.office(HEKOU).acknowledges(&first);
    // The others' clocks are right; an hour has passed meanwhile.
    set_clock(&mut world, 60 * MINUTE);
    world.start_broker().unwrap();
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    let written = written.unwrap();
    assert!(world.office(HEKOU).sees(&written, &["RETRIEVED"]), "{}", world.log("VN-BLO-LCA.log"));
    assert_eq!(marks(&world, LAO_CAI, &written), json!(["CLOCK_SKEW"]));
    let second = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&second, &["RETRIEVED"]), "{}", world.log("CN-BLO-HKO.log"));
    assert_eq!(marks(&world, HEKOU, &second), json!([]), "the sender's clock is right");
    nothing_is_wrong(&world);
}

/// Promise 10: neither metrics that cannot be served nor revocation lists that are nowhere keep a broker from starting.
/// Its status names both, and both are used once they are there.
#[test]
fn promise_10_a_broker_starts_without_metrics_and_without_revocation_lists() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = taken.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::create(directory.path(), Path::new(env!("CARGO_BIN_EXE_demo"))).unwrap();
    world.broker_keys.push(format!("metrics_listen = \"{metrics}\""));
    fs::rename(world.path("charter/crl"), world.path("charter/crl-elsewhere")).unwrap();
    world.start_broker().unwrap();
    for office in [LAO_CAI, HEKOU] {
        world.create_node(office).unwrap();
        world.start_node(office).unwrap();
        world.office(office).unlocks().unwrap();
    }
    let first = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&first, &["RETRIEVED"]));
    assert_eq!(marks(&world, HEKOU, &first), json!(["STALE_REVOCATION"]));
    let says = |what: &str| eventually(|| world.broker_problems().iter().any(|problem| problem.contains(what)));
    assert!(says("metrics are not served") && says("vn.crl is missing"), "{:?}", world.broker_problems());
    drop(taken);
    fs::rename(world.path("charter/crl-elsewhere"), world.path("charter/crl")).unwrap();
    assert!(eventually(|| world.broker_problems().is_empty()), "{:?}", world.broker_problems());
    let second = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&second, &["RETRIEVED"]));
    assert_eq!(marks(&world, HEKOU, &second), json!([]));
    assert!(std::net::TcpStream::connect(metrics).is_ok(), "nobody serves metrics");
}

/// Found by a simulated world: after a restart with a clock that had gone back, a message that had long been sent was
/// "taken back before it left", and was in its recipient's inbox all the same.
#[test]
fn what_may_have_left_is_not_said_to_have_stayed_when_the_clock_goes_back() {
    let (_directory, mut world) = world_holding(2, &[LAO_CAI, HEKOU]);
    world.kill_broker().unwrap();
    let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    thread::sleep(Duration::from_secs(3));
    world.stop_node(LAO_CAI).unwrap();
    set_clock(&mut world, -10 * MINUTE);
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    let request = json!({"op": "take-back", "message": message, "kind": "WITHDRAW", "reason": "DUPLICATE"});
    let answer = world.office(LAO_CAI).ask(&request).unwrap();
    assert_eq!(answer["taken_back"], "RECIPIENTS_ARE_TOLD", "{answer}");
    set_clock(&mut world, 0);
    world.start_broker().unwrap();
    let withdrawal = answer["message"].as_str().unwrap();
    assert!(world.office(LAO_CAI).sees(withdrawal, &["RETRIEVED"]));
    assert!(world.office(LAO_CAI).sees(&message, &["WITHDRAWN", "RETRIEVED"]));
    nothing_is_wrong(&world);
}

/// Promise 5, found by simulated worlds: after its office's keys have changed a call needs the new entries of the directory, and
/// not the bundle that they are in: that takes longer over a slow line than a call may.
#[test]
fn promise_5_new_keys_bring_only_themselves_over_a_slow_line() {
    let (_directory, world, line) = behind_a_slow_line(HEKOU, LAO_CAI);
    let records = fs::read_dir(world.path("charter/records")).unwrap();
    let directory: u64 = records.map(|record| record.unwrap().metadata().unwrap().len()).sum();
    let entries = || world.office(HEKOU).ask(&json!({"op": "status"})).unwrap()["directory_entries"].as_u64();
    let (known, carried) = (entries(), line.carried());
    world.office(LAO_CAI).ask(&json!({"op": "rotate-keys"})).unwrap();
    assert!(eventually(|| entries() > known), "{known:?}");
    let call = world.office(LAO_CAI).sends(samples::HOTLINE_CALL).unwrap();
    assert!(world.office(LAO_CAI).sees(&call, &["RETRIEVED"]));
    let carried = line.carried() - carried;
    assert!(carried < directory, "{carried} bytes went over the line, and the directory has {directory}");
    nothing_is_wrong(&world);
}
