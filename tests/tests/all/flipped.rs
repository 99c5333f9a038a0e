//! One flipped bit in every file that a broker or a node keeps: what matters is detected and named, nothing is served from
//! it, and what can be made again is.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use liaison_log::{
    leaf::{Event, ExchangeLeaf},
    verify::verify_receipt,
};
use liaison_proto::{
    Bytes,
    wire::{self, exchange_client::ExchangeClient},
};
use liaison_tests::{samples, world::World};
use serde_json::{Value, json};

use crate::{
    refusals::submit,
    support::{Forger, charter, connect, world},
};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

/// Every file below a directory that holds anything.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() && entry.metadata().unwrap().len() > 0 {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The first, the middle and the last byte that is not zero: segments are written full of zeros before use.
fn places(bytes: &[u8]) -> Vec<usize> {
    let used: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
    let mut places = vec![used.first(), used.get(used.len() / 2), used.last()];
    places.dedup();
    places.into_iter().flatten().copied().collect()
}

/// Calls `judge` with every file and place, flipped; the directory is as it was before each.
fn each_flip(data: &Path, mut judge: impl FnMut(&str, usize)) {
    // The note that says which files these are is written anew at every start: an older one is that of a copy.
    let all = || files(data).into_iter().filter(|file| !file.ends_with("continuity"));
    let kept: Vec<(PathBuf, Vec<u8>)> = all().map(|file| (file.clone(), fs::read(&file).unwrap())).collect();
    let restore = || {
        for now in all() {
            if !kept.iter().any(|(file, _)| *file == now) {
                fs::remove_file(now).unwrap();
            }
        }
        for (file, bytes) in &kept {
            if fs::read(file).is_ok_and(|now| now == *bytes) {
                continue;
            }
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            // In place: another file would look like a restored copy.
            let mode = file.metadata().map(|found| found.permissions());
            fs::write(file, bytes).unwrap();
            if let Err(error) = mode {
                assert_eq!(error.kind(), io::ErrorKind::NotFound);
                fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            }
        }
    };
    for (file, bytes) in &kept {
        let name = file.strip_prefix(data).unwrap().display().to_string();
        for place in places(bytes) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            fs::write(file, flipped).unwrap();
            judge(&name, place);
            restore();
        }
    }
}

/// What a check says, and whether it is content.
fn check(world: &World, role: &str, config: &str) -> (bool, String) {
    let output = world.output(role, &["check", "--config", &world.path(config)]).unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Whether the broker serves: an auditor who copies all of it finds nothing, and what is submitted again gets its receipt.
async fn serves(world: &World, known: &wire::Envelope) -> bool {
    let copy = world.path("flipped-audit");
    let _ = fs::remove_dir_all(&copy);
    let Ok((0, _)) = world.audit(&["mirror", "--copy", &copy]) else { return false };
    let (code, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((code, &verdict["findings"]), (0, &json!([])), "what was served is not what was signed");
    let mut exchange = ExchangeClient::new(connect(world, "offices/VN-BLO-LCA"));
    let Ok(answer) = exchange.submit(submit(known.clone())).await else { return false };
    let receipt = verify_receipt(&answer.into_inner().receipt.unwrap(), charter(world).exchange_log());
    receipt.is_ok_and(|receipt| is_of(&receipt.leaf, known))
}

/// Whether an entry is the acceptance of an envelope.
fn is_of(leaf: &Bytes, envelope: &wire::Envelope) -> bool {
    match ExchangeLeaf::parse(leaf).unwrap().event {
        Event::Accepted { header, .. } => header.bytes() == &envelope.header,
        _ => false,
    }
}

/// Promises 1, 8 and 12: the broker's files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_8_a_flipped_bit_in_any_file_of_the_broker_is_named_or_made_good() {
    let (_directory, mut world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let mut exchange = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    // More than a tile.
    let sent: Vec<wire::Envelope> = (0..260).map(|_| forger.envelope(HEKOU)).collect();
    for envelope in &sent {
        exchange.submit(submit(envelope.clone())).await.unwrap();
    }
    world.stop_broker().unwrap();
    let data = PathBuf::from(world.path("broker"));
    let (mut named, mut made_good) = (0, 0);
    each_flip(&data, |name, place| {
        let (sound, said) = check(&world, "broker", "broker.toml");
        let started = world.start_broker();
        let serves = started.is_ok()
            && tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(serves(&world, &sent[0])));
        world.kill_broker().unwrap();
        let is_truth = name.contains("leaves/") || name.contains("bodies/");
        if is_truth {
            // The last record says how much was signed: without it the entries before it are judged again, and kept.
            let judged_again = said.contains("its record is torn") && serves;
            assert!(!sound || judged_again, "{name}, byte {place}: not detected:\n{said}");
            let log = if name.starts_with("directory") { "directory log" } else { "exchange log" };
            assert!(said.contains(log), "{name}, byte {place}: not named:\n{said}");
            named += 1;
        } else {
            assert!(
                serves,
                "{name}, byte {place}: it can be made again, and stops the broker: {:?}\n{said}",
                started.err()
            );
            made_good += 1;
        }
    });
    assert!(named >= 9 && made_good >= 9, "{named} named, {made_good} made good");
}

/// What officers see of a message: what was written, by whom, where it came from; none when it cannot be read.
fn seen(world: &World, office: &str, message: &str) -> Option<Value> {
    let shown = world.office(office).shows(message).ok()?;
    let seen = json!({"content": shown["content"], "from": shown["from"], "officer": shown["officer"]});
    (!shown["content"].is_null()).then_some(seen)
}

/// Promises 3 and 12: the node's files. Officers see what was written, or that it cannot be read; never anything else.
#[test]
fn promise_12_a_flipped_bit_in_any_file_of_a_node_shows_no_officer_anything_else() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let mut messages = Vec::new();
    for file in [samples::CASE_NOTICE, samples::ROUTINE] {
        let message = world.office(LAO_CAI).sends(file).unwrap();
        assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
        messages.push(message);
    }
    let good: Vec<Value> = messages.iter().map(|message| seen(&world, HEKOU, message).unwrap()).collect();
    assert!(good[0]["content"].to_string().len() > 100, "{}", good[0]);
    world.stop_node(HEKOU).unwrap();
    let config = format!("{HEKOU}.toml");
    assert!(check(&world, "node", &config).0);
    let data = PathBuf::from(world.path(HEKOU));
    let (mut detected, mut made_good) = (0, 0);
    each_flip(&data, |name, place| {
        let (sound, said) = check(&world, "node", &config);
        let started = world.start_node(HEKOU).and_then(|()| world.office(HEKOU).unlocks());
        let mut shown = 0;
        if started.is_ok() {
            for (message, good) in messages.iter().zip(&good) {
                match seen(&world, HEKOU, message) {
                    Some(now) => {
                        assert_eq!(&now, good, "{name}, byte {place}: an officer is shown something else");
                        shown += 1;
                    }
                    None => assert!(!sound, "{name}, byte {place}: unreadable, and its check says nothing"),
                }
            }
        }
        world.kill_node(HEKOU).unwrap();
        let whole = started.is_ok() && shown == messages.len();
        // What a passphrase seals can be judged with the passphrase alone.
        let sealed = name == "keystore/office.sealed" || name.ends_with(".slot");
        match started {
            Err(error) if sealed => {
                let said = error.to_string();
                let named = said.contains("office.sealed") || said.contains(".slot") || said.contains("passphrase");
                assert!(named, "{name}, byte {place}: not named: {said}");
            }
            started => assert!(!sound || whole, "{name}, byte {place}: not detected: {said}\n{started:?}"),
        }
        if whole {
            made_good += 1;
        } else {
            detected += 1;
        }
    });
    assert!(detected >= 15 && made_good >= 15, "{detected} detected, {made_good} made good");
}
