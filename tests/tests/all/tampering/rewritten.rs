//! A log that its own operator has rewritten and signed anew, whole, with the real keys: whoever has seen nothing of it
//! before still finds what the rules and the offices' signatures say; whoever has, finds that it is another log.

use std::{fs, path::Path, sync::Arc};

use liaison_log::{
    checkpoint::CheckpointSigner,
    disk::{Disk, memory::MemoryDisk},
    leaf::{Event, ExchangeLeaf},
    open::{self, LogConfig},
    proof::TlogProof,
    reader::LogReader,
    tiles,
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{Clock as _, SystemClock, UnixMillis},
    entropy::OsEntropy,
    ids::LogIndex,
    key_file::PrivateKey,
    sign::SigningKey,
    wire,
};
use liaison_tests::{samples, world::World};

use super::{Anything, HEKOU, LAO_CAI, cheat, finding_codes};
use crate::support::{charter, copy_directory, world};

/// A log of these entries, signed by a key, whatever they say.
struct Rewritten(Arc<LogReader>);

impl Rewritten {
    fn sign(entries: &[Bytes], signer: CheckpointSigner) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        open::create(&disk, 1 << 20, &OsEntropy).unwrap();
        let config = LogConfig { disk, signer, segment_bytes: 1 << 20, reserve_bytes: 0 };
        let mut log = open::open(config, Anything).unwrap().0;
        let events = entries.iter().map(|leaf| (leaf.clone(), None)).collect();
        assert!(log.commit(events, UnixMillis(0)).unwrap().iter().all(Result::is_ok));
        Self(log.reader())
    }

    /// Puts it in place of a log of an auditor's copy.
    fn replace(&self, copy: &str, log: &str) {
        let place = Path::new(copy).join(log);
        fs::remove_dir_all(&place).unwrap();
        let checkpoint = self.0.checkpoint();
        let width = u32::try_from(checkpoint.size()).unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = place.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("checkpoint", checkpoint.note());
        write(&tiles::bundle_path(0, width), &self.0.bundle(0, width, 0).unwrap());
        write(&tiles::tile_path(0, 0, width), &self.0.tile(0, 0, width).unwrap());
    }

    /// A receipt as a person holds it.
    fn receipt(&self, index: u64) -> TlogProof {
        let receipt = self.0.receipt(LogIndex(index)).unwrap();
        TlogProof { extra: Some(receipt.leaf), ..TlogProof::parse(&receipt.proof).unwrap() }
    }
}

fn signer(world: &World, log: &str) -> CheckpointSigner {
    let charter = charter(world);
    let identity = if log == "directory" { charter.directory_log() } else { charter.exchange_log() };
    let key = PrivateKey::read_signing(Path::new(&world.path(&format!("charter/broker/log-{log}.key")))).unwrap();
    CheckpointSigner::new(identity.origin.clone(), key)
}

/// The same entry, changed.
fn changed(leaf: &Bytes, change: impl FnOnce(&mut ExchangeLeaf)) -> Bytes {
    let mut leaf = ExchangeLeaf::parse(leaf).unwrap();
    change(&mut leaf);
    leaf.encode()
}

/// Three messages with their statements, an auditor's copy of them, and their entries.
fn three_messages(world: &mut World) -> (String, Vec<Bytes>) {
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    for _ in 0..3 {
        let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
        assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    }
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    assert_eq!(finding_codes(world, "verify", &copy), (0, vec![]));
    for office in [LAO_CAI, HEKOU] {
        world.stop_node(office).unwrap();
    }
    world.stop_broker().unwrap();
    let reader = cheat(world).reader();
    let entries: Vec<Bytes> =
        (0..reader.checkpoint().size()).map(|index| reader.leaf(LogIndex(index)).unwrap()).collect();
    let names: Vec<&str> = entries.iter().map(|leaf| ExchangeLeaf::parse(leaf).unwrap().name()).collect();
    assert_eq!(names, ["ACCEPTED", "DELIVERED", "RETRIEVED"].repeat(3), "not the entries that are tampered with here");
    (copy, entries)
}

/// Promise 8: dropped, reordered, duplicated, rewritten: signed anew with the real log key, and found by an auditor who sees
/// this log for the first time.
#[test]
fn promise_8_a_log_that_was_rewritten_and_signed_anew_breaks_its_own_rules() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    let (copy, entries) = three_messages(&mut world);
    let rewritten = |change: &dyn Fn(&mut Vec<Bytes>)| {
        let mut entries = entries.clone();
        change(&mut entries);
        entries
    };
    let later = SystemClock.now().0 + 1;
    let cases: Vec<(&str, Vec<Bytes>, &[&str])> = vec![
        ("as it was", entries.clone(), &[]),
        ("a message dropped", rewritten(&|e| drop(e.drain(3..6))), &["NUMBER_OUT_OF_TURN"]),
        ("an acceptance dropped", rewritten(&|e| drop(e.remove(3))), &["NOT_ACCEPTED", "NUMBER_OUT_OF_TURN"]),
        ("a delivery dropped", rewritten(&|e| drop(e.remove(7))), &["NOT_DELIVERED"]),
        ("two messages in another order", rewritten(&|e| e.swap(0, 3)), &["NUMBER_OUT_OF_TURN", "NOT_ACCEPTED"]),
        ("statements in another order", rewritten(&|e| e.swap(1, 2)), &["NOT_DELIVERED"]),
        (
            "an acceptance twice",
            rewritten(&|e| e.push(changed(&e[0], |leaf| leaf.time = UnixMillis(later)))),
            &["ACCEPTED_TWICE"],
        ),
        (
            "a statement twice",
            rewritten(&|e| e.push(changed(&e[1], |leaf| leaf.time = UnixMillis(later)))),
            &["STATED_TWICE"],
        ),
        (
            "a number rewritten",
            rewritten(&|e| {
                e[6] = changed(&e[6], |leaf| {
                    if let Event::Accepted { numbers, .. } = &mut leaf.event {
                        numbers[0] += 1;
                    }
                });
            }),
            &["NUMBER_OUT_OF_TURN", "NOT_ACCEPTED"],
        ),
        (
            "a time rewritten",
            rewritten(&|e| e[4] = changed(&e[4], |leaf| leaf.time = UnixMillis(1))),
            &["TIME_WENT_BACK"],
        ),
        (
            "a directory that is not there",
            rewritten(&|e| e[6] = changed(&e[6], |leaf| leaf.directory_size = 999)),
            &["DIRECTORY_UNKNOWN"],
        ),
        (
            "a signature rewritten",
            rewritten(&|e| {
                e[6] = changed(&e[6], |leaf| {
                    if let Event::Accepted { signature: Some(signature), .. } = &mut leaf.event {
                        let mut value = signature.value.to_vec();
                        value[3] ^= 1;
                        signature.value = value.into();
                    }
                });
            }),
            &["SIGNATURE_BAD"],
        ),
        (
            "a byte of an entry rewritten",
            rewritten(&|e| {
                let mut leaf = e[6].to_vec();
                leaf[0] ^= 0x40;
                e[6] = leaf.into();
            }),
            &["ENTRY_MALFORMED"],
        ),
    ];
    for (what, entries, expected) in cases {
        let tampered = world.path("tampered");
        let _ = fs::remove_dir_all(&tampered);
        copy_directory(copy.as_ref(), tampered.as_ref());
        Rewritten::sign(&entries, signer(&world, "exchange")).replace(&tampered, "exchange");
        let (code, findings) = finding_codes(&world, "verify", &tampered);
        assert_eq!(code, if expected.is_empty() { 0 } else { 5 }, "{what}: {findings:?}");
        for finding in expected {
            assert!(findings.iter().any(|found| found == finding), "{what}: {finding} is not among {findings:?}");
        }
        if expected.is_empty() {
            assert_eq!(findings, Vec::<String>::new(), "{what}");
        }
    }
}

/// Promise 8: whoever holds a receipt, or a copy, of before finds that the log is another one, however well it was rewritten;
/// and another key than the log's signs nothing.
#[test]
fn promise_8_a_log_signed_anew_is_not_the_one_of_the_receipts() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    let (copy, entries) = three_messages(&mut world);
    let real = Rewritten::sign(&entries, signer(&world, "exchange"));
    // The last message never was: the rules of what is left hold.
    let rewritten = Rewritten::sign(&entries[..6], signer(&world, "exchange"));
    let judge = |receipt: &TlogProof, copy: Option<&str>| {
        let file = world.path("receipt");
        fs::write(&file, receipt.encode()).unwrap();
        let mut arguments = vec!["receipt", file.as_str()];
        arguments.extend(copy.into_iter().flat_map(|copy| ["--copy", copy]));
        let (code, verdict) = world.audit(&arguments).unwrap();
        (code, verdict["findings"][0]["code"].as_str().unwrap_or("none").to_owned())
    };
    let good = |code: &str| (0, code.to_owned());
    let found = |code: &str| (5, code.to_owned());
    assert_eq!(judge(&real.receipt(6), Some(&copy)), good("none"));
    // Another entry in its place, or in the place of one before it.
    let mut others = entries.clone();
    others[6] = changed(&entries[6], |leaf| leaf.time = leaf.time.plus(1));
    let other = Rewritten::sign(&others, signer(&world, "exchange"));
    assert_eq!(judge(&other.receipt(6), None), good("none"), "the real key has signed it");
    assert_eq!(judge(&other.receipt(6), Some(&copy)), found("RECEIPT_NOT_IN_LOG"));
    assert_eq!(judge(&other.receipt(7), Some(&copy)), found("RECEIPT_NOT_IN_LOG"), "the tree before it is another one");

    // Receipts that were altered.
    let receipt = real.receipt(4);
    let entry = receipt.extra.clone().unwrap();
    let altered: Vec<(&str, TlogProof)> = vec![
        ("its entry", TlogProof { extra: real.receipt(3).extra, ..receipt.clone() }),
        ("its index", TlogProof { index: LogIndex(5), ..receipt.clone() }),
        ("an index beyond the tree", TlogProof { index: LogIndex(99), ..receipt.clone() }),
        ("a hash", {
            let mut altered = receipt.clone();
            altered.hashes[0].0[0] ^= 1;
            altered
        }),
        ("a hash left out", {
            let mut altered = receipt.clone();
            altered.hashes.pop();
            altered
        }),
        ("a hash too many", {
            let mut altered = receipt.clone();
            altered.hashes.push(altered.hashes[0]);
            altered
        }),
        ("a proof for another size", {
            let other = rewritten.receipt(4);
            TlogProof { hashes: other.hashes, ..receipt.clone() }
        }),
        ("a checkpoint of another size", TlogProof { checkpoint: rewritten.receipt(4).checkpoint, ..receipt.clone() }),
        ("a checkpoint that says more", {
            let text = String::from_utf8(receipt.checkpoint.to_vec()).unwrap();
            TlogProof { checkpoint: text.replacen("\n9\n", "\n10\n", 1).into_bytes().into(), ..receipt.clone() }
        }),
        ("another key", {
            let charter = charter(&world);
            let stranger =
                CheckpointSigner::new(charter.exchange_log().origin.clone(), SigningKey::generate(&OsEntropy));
            Rewritten::sign(&entries, stranger).receipt(4)
        }),
        ("another log's key", {
            let charter = charter(&world);
            let key = PrivateKey::read_signing(Path::new(&world.path("charter/broker/log-directory.key"))).unwrap();
            Rewritten::sign(&entries, CheckpointSigner::new(charter.exchange_log().origin.clone(), key)).receipt(4)
        }),
    ];
    assert_eq!(judge(&receipt, Some(&copy)), good("none"));
    assert!(altered.iter().all(|(_, altered)| altered.extra.as_ref() != Some(&entry) || altered != &receipt));
    for (what, altered) in altered {
        assert_eq!(judge(&altered, Some(&copy)), found("RECEIPT_BAD"), "{what}");
        assert_eq!(judge(&altered, None), found("RECEIPT_BAD"), "{what}");
    }
}

/// Promises 8 and 9: a record of the directory that was put in place of another, signed anew with the real log key, is no
/// record: nobody whose signature it needs has signed it, or it does not follow.
#[test]
fn promise_9_a_directory_that_was_rewritten_and_signed_anew_is_no_directory() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    let (copy, _) = three_messages(&mut world);
    let place = Path::new(&copy).join("directory");
    let bundle = fs::read_dir(place.join("tile/entries")).unwrap().next().unwrap().unwrap().path();
    let file = fs::read_dir(bundle).unwrap().next().unwrap().unwrap().path();
    let width: u32 = file.file_name().unwrap().to_string_lossy().parse().unwrap();
    let records = tiles::decode_bundle(&fs::read(file).unwrap().into(), width).unwrap();
    let with = |at: usize, record: Bytes| {
        let mut records = records.clone();
        records[at] = record;
        records
    };
    let office = records.iter().position(|record| {
        let leaf = wire::DirectoryLeaf::decode(record.clone()).unwrap();
        matches!(leaf.record.and_then(|record| record.record), Some(wire::directory_record::Record::Office(_)))
    });
    let office = office.unwrap();
    let forged = {
        let mut leaf = wire::DirectoryLeaf::decode(records[office].clone()).unwrap();
        let record = leaf.record.as_mut().unwrap().record.as_mut().unwrap();
        let wire::directory_record::Record::Office(record) = record else { panic!("not an office's record") };
        // Another signing key, by the operator's own hand.
        let mut body = wire::Office::decode(record.office.clone()).unwrap();
        body.signing_key = Bytes::copy_from_slice(SigningKey::generate(&OsEntropy).verifying_key().as_bytes());
        record.office = body.encode_to_vec().into();
        Bytes::from(leaf.encode_to_vec())
    };
    let cases: Vec<(&str, Vec<Bytes>)> = vec![
        ("an office's record forged", with(office, forged)),
        ("another office's record in its place", with(office, records[office + 1].clone())),
        ("the charter's record gone", records[1..].to_vec()),
        ("a record twice", [&records[..], &records[office..=office]].concat()),
    ];
    for (what, records) in cases {
        let tampered = world.path("tampered");
        let _ = fs::remove_dir_all(&tampered);
        copy_directory(copy.as_ref(), tampered.as_ref());
        Rewritten::sign(&records, signer(&world, "directory")).replace(&tampered, "directory");
        let (code, findings) = finding_codes(&world, "verify", &tampered);
        assert!(code == 5 && findings.iter().any(|found| found == "RECORD_BAD"), "{what}: {code} {findings:?}");
    }
}
