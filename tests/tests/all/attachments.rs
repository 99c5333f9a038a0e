//! Attachments: sealed in chunks, resumable both ways, whole before their message is accepted, never whole in memory,
//! pictures without their metadata.

use std::{
    fs,
    io::{self, Read, Write as _},
    path::Path,
};

use liaison_link::local;
use liaison_proto::{
    Bytes, limits,
    refusal::{Refusal, RefusalCode},
    sha256, wire,
    wire::{attachments_client::AttachmentsClient, exchange_client::ExchangeClient},
};
use liaison_tests::{
    samples,
    world::{World, eventually},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::support::{Forger, code, connect, from_environment, world};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

/// Sends a case file with files, as the officers' command line does.
pub(crate) fn sends_with(
    world: &World,
    office: &str,
    files: &[(&str, u64)],
    body: &mut dyn Read,
    keep: bool,
) -> io::Result<Value> {
    let attachments: Vec<Value> = files.iter().map(|(name, size)| json!({"name": name, "size": size})).collect();
    let request = json!({"op": "send", "file": samples::ROUTINE, "attachments": attachments, "keep_metadata": keep});
    local::call_with(&world.socket(office), &request, body, &mut io::sink())
}

pub(crate) fn reads(world: &World, office: &str, message: &str, number: usize) -> (Value, Vec<u8>) {
    let request = json!({"op": "attachment", "message": message, "number": number});
    let mut bytes = Vec::new();
    let answer = local::call_with(&world.socket(office), &request, &mut std::io::empty(), &mut bytes).unwrap();
    (answer, bytes)
}

pub(crate) fn states(world: &World, office: &str, message: &str) -> Vec<String> {
    let shown = world.office(office).shows(message).unwrap_or_default();
    let attachments = shown["attachments"].as_array().cloned().unwrap_or_default();
    attachments.iter().map(|attachment| attachment["state"].as_str().unwrap().to_owned()).collect()
}

/// A JPEG with a position in its EXIF, and words after its end.
fn photo() -> Vec<u8> {
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0GPS-SECRET-22.5N-103.9E";
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1];
    bytes.extend(u16::try_from(exif.len() + 2).unwrap().to_be_bytes());
    bytes.extend(exif);
    // A quantization table, a frame, a scan with a few bytes, the end.
    bytes.extend([0xff, 0xdb, 0, 67, 0]);
    bytes.extend([1; 64]);
    bytes.extend([0xff, 0xc0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0]);
    bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x12, 0x34, 0x56, 0xff, 0xd9]);
    bytes.extend(b"GPS-SECRET-behind-the-end");
    bytes
}

/// Files arrive as they were sent, under their names; a photo arrives without its position; nothing of either can be read
/// at the broker or on the nodes' disks.
#[test]
fn files_arrive_with_their_message_and_a_photo_loses_its_position() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let (photo, note) = (photo(), b"NOTE-SECRET".repeat(20_000));
    let mut body = photo.as_slice().chain(note.as_slice());
    let files = [("../ảnh.jpg", photo.len() as u64), ("ghi chú.txt", note.len() as u64)];
    let sent = sends_with(&world, LAO_CAI, &files, &mut body, false).unwrap();
    let message = sent["message"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned();
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    assert!(
        eventually(|| states(&world, HEKOU, &message) == ["HERE", "HERE"]),
        "{:?}",
        states(&world, HEKOU, &message)
    );
    let shown = world.office(HEKOU).shows(&message).unwrap();
    assert_eq!(shown["attachments"][0]["name"], "ảnh.jpg", "a directory in a name reached the counterpart");
    assert_eq!(shown["attachments"][0]["media_type"], "image/jpeg");
    let (answer, arrived) = reads(&world, HEKOU, &message, 1);
    assert_eq!(answer["size"], arrived.len());
    assert!(arrived.starts_with(&[0xff, 0xd8]) && arrived.ends_with(&[0xff, 0xd9]));
    assert!(!arrived.windows(10).any(|part| part == b"GPS-SECRET"), "the photo still says where it was taken");
    assert_eq!(reads(&world, HEKOU, &message, 2).1, note);
    assert_eq!(reads(&world, HEKOU, &message, 3).0["code"], "UNKNOWN_MESSAGE");
    for words in ["NOTE-SECRET", "GPS-SECRET", "ghi chú"] {
        for place in ["broker", LAO_CAI, HEKOU, "logs"] {
            let found = std::process::Command::new("grep").args(["-rlaF", words, &world.path(place)]).output().unwrap();
            assert!(found.stdout.is_empty(), "{words} is readable in {place}");
        }
    }
    // Kept knowingly, as it was; and a picture that cannot be cleaned is refused rather than sent as it is.
    let mut body = photo.as_slice();
    let kept = sends_with(&world, LAO_CAI, &[("a.jpg", photo.len() as u64)], &mut body, true).unwrap();
    let kept = kept["message"].as_str().unwrap().to_owned();
    assert!(eventually(|| states(&world, HEKOU, &kept) == ["HERE"]));
    assert_eq!(reads(&world, HEKOU, &kept, 1).1, photo);
    let tiff = b"II*\0\x08\0\0\0GPS-SECRET".to_vec();
    let refused = sends_with(&world, LAO_CAI, &[("a.tif", tiff.len() as u64)], &mut tiff.as_slice(), false).unwrap();
    assert_eq!(refused["problems"][0]["field"], "attachments[0]", "{refused}");
}

/// Bytes that look random, from a small state: a large file without a large buffer.
struct Noise(u64, u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.1).unwrap_or(usize::MAX));
        for byte in &mut buffer[..length] {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0.to_le_bytes()[3];
        }
        self.1 -= length as u64;
        Ok(length)
    }
}

/// Forgets the highest resident memory of a process, so that what unlocking took (Argon2: 64 MiB, given back) does
/// not hide what a transfer takes (proc(5), clear_refs).
fn forgets_high_water(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// Highest resident memory of a process so far, or since it was forgotten, KiB.
fn high_water(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A large attachment crosses broker and nodes with less than 64 MiB more memory in any of them, while broker and both
/// nodes are killed on the way: each goes on from where it was. LIAISON_ATTACHMENT_MEBIBYTES makes it larger.
#[test]
fn a_large_attachment_survives_kills_on_its_way_and_is_never_whole_in_memory() {
    let mebibytes = u64::from(from_environment("LIAISON_ATTACHMENT_MEBIBYTES", 256));
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let pids = |world: &World| [world.broker_pid().unwrap(), world.node_pid(LAO_CAI), world.node_pid(HEKOU)];
    // Once for what is allocated once: keys, connections, buffers.
    let first = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&first, &["DELIVERED"]));
    pids(&world).into_iter().for_each(forgets_high_water);
    let idle = pids(&world).map(high_water);
    // Of broker, sender and recipient, in every life that carries a part of it.
    let has_stayed_small = |world: &World| {
        for (pid, idle) in pids(world).into_iter().zip(idle) {
            let grown = high_water(pid).saturating_sub(idle);
            println!("process {pid}: idle {idle} KiB, grew by {grown} KiB");
            assert!(grown < 64 * 1024, "process {pid} grew by {grown} KiB");
        }
    };
    // Sealed attachments have 16 bytes more a chunk: 2 GiB is the limit with them.
    let size = (mebibytes - 1) << 20;
    let sent = sends_with(&world, LAO_CAI, &[("phim.bin", size)], &mut Noise(7, size), false).unwrap();
    assert!(sent["error"].is_null(), "{sent}");
    let message = sent["message"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned();
    let part = |world: &World| {
        let parts =
            fs::read_dir(world.path(&format!("broker/attachments/new/{LAO_CAI}"))).into_iter().flatten().flatten();
        parts.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
    };
    assert!(eventually(|| part(&world) > size / 8));
    has_stayed_small(&world);
    // Killed half-way up, and the node that sends it, too.
    world.kill_broker().unwrap();
    let held = part(&world);
    world.start_broker().unwrap();
    world.kill_node(LAO_CAI).unwrap();
    world.start_node(LAO_CAI).unwrap();
    assert!(held >= size / 8, "what had arrived was lost");
    assert!(world.office(LAO_CAI).sees(&message, &["DELIVERED"]), "{}", world.office(LAO_CAI).state_of(&message));
    // Killed half-way down.
    let here = |world: &World| {
        let files = fs::read_dir(world.path(&format!("{HEKOU}/attachments"))).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
    };
    assert!(eventually(|| here(&world) > size / 8));
    has_stayed_small(&world);
    world.kill_node(HEKOU).unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    forgets_high_water(world.node_pid(HEKOU));
    assert!(eventually(|| states(&world, HEKOU, &message) == ["HERE"]));
    let request = json!({"op": "attachment", "message": message, "number": 1});
    let mut hashed = Hashed(liaison_proto::Sha256::default(), 0);
    let answer = local::call_with(&world.socket(HEKOU), &request, &mut std::io::empty(), &mut hashed).unwrap();
    assert_eq!((answer["size"].as_u64(), hashed.1), (Some(size), size));
    let mut expected = Hashed(liaison_proto::Sha256::default(), 0);
    std::io::copy(&mut Noise(7, size), &mut expected).unwrap();
    assert_eq!(hashed.0.finish(), expected.0.finish(), "what arrived is not what was sent");
    has_stayed_small(&world);
}

struct Hashed(liaison_proto::Sha256, u64);

impl std::io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn parts(name: &[u8], size: u64, offset: u64, data: &[u8]) -> Vec<wire::UploadPart> {
    let mut parts: Vec<wire::UploadPart> = data
        .chunks(1000)
        .map(|data| wire::UploadPart { data: Bytes::copy_from_slice(data), ..wire::UploadPart::default() })
        .collect();
    if parts.is_empty() {
        parts.push(wire::UploadPart::default());
    }
    parts[0].sha256 = Bytes::copy_from_slice(name);
    (parts[0].size, parts[0].offset) = (size, offset);
    parts
}

async fn upload(
    client: &mut AttachmentsClient<Channel>,
    parts: Vec<wire::UploadPart>,
) -> Result<wire::UploadResponse, tonic::Status> {
    client.upload(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner)
}

/// A message is accepted only when everything it names is whole; an upload goes on from what is held and from nowhere
/// else; what is not what its name says is forgotten; and nobody but the parties can read it.
#[tokio::test]
async fn an_attachment_is_whole_before_its_message_is_accepted_and_is_for_its_parties_only() {
    let (_directory, world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let client = |office: &str| AttachmentsClient::new(connect(&world, &format!("offices/{office}")));
    let (mut from, mut to, mut stranger) = (client(LAO_CAI), client(HEKOU), client("TH-BLO-ARN"));
    let data = vec![7; 10_000];
    let (name, size) = (sha256(&[&data]), data.len() as u64);
    let envelope = forger.changed(HEKOU, |p| {
        p.commitments.attachments = vec![wire::AttachmentCommitment { sha256: Bytes::copy_from_slice(&name), size }];
    });
    let mut exchange = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    let submit = || wire::SubmitRequest { envelope: Some(envelope.clone()), seen_size: 0 };
    let missing = exchange.submit(submit()).await.unwrap_err();
    assert!(Refusal::from_status(&missing).unwrap().retry_after.is_some(), "the same bytes may succeed later");
    assert_eq!(code(Err::<(), _>(missing)), RefusalCode::AttachmentMissing);
    // Half of it; from the wrong place; the rest.
    let answer = upload(&mut from, parts(&name, size, 0, &data[..4000])).await.unwrap();
    assert_eq!((answer.size, answer.complete), (4000, false));
    assert_eq!(code(exchange.submit(submit()).await), RefusalCode::AttachmentMissing, "half of it was enough");
    assert_eq!(code(upload(&mut from, parts(&name, size, 3000, &data[3000..])).await), RefusalCode::OutOfRange);
    let held = |name: [u8; 32]| wire::HeldRequest { sha256: Bytes::copy_from_slice(&name) };
    assert_eq!(from.held(held(name)).await.unwrap().into_inner().size, 4000);
    assert_eq!(to.held(held(name)).await.unwrap().into_inner().size, 0, "an office sees another's upload");
    let answer = upload(&mut from, parts(&name, size, 4000, &data[4000..])).await.unwrap();
    assert_eq!((answer.size, answer.complete), (size, true));
    let download = |offset| wire::DownloadRequest { sha256: Bytes::copy_from_slice(&name), offset };
    assert_eq!(code(to.download(download(0)).await), RefusalCode::UnknownMessage, "readable before it was sent");
    exchange.submit(submit()).await.unwrap();
    // Its recipient reads it, from wherever it wants; a stranger does not.
    let mut stream = to.download(download(2500)).await.unwrap().into_inner();
    let mut read = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        read.extend_from_slice(&part.data);
    }
    assert_eq!(read, data[2500..]);
    assert_eq!(code(stranger.download(download(0)).await), RefusalCode::UnknownMessage);
    assert_eq!(code(to.download(download(size + 1)).await), RefusalCode::OutOfRange);
    // Not what its name says; too large; more than it says.
    let wrong = [9; 32];
    assert_eq!(code(upload(&mut from, parts(&wrong, 3, 0, b"abc")).await), RefusalCode::CommitmentMismatch);
    assert_eq!(from.held(held(wrong)).await.unwrap().into_inner().size, 0, "a false attachment was kept");
    for size in [0, limits::ATTACHMENT_BYTES + 1] {
        assert_eq!(code(upload(&mut from, parts(&wrong, size, 0, b"a")).await), RefusalCode::TooLarge, "{size}");
    }
    assert_eq!(code(upload(&mut from, parts(&wrong, 2, 0, b"abc")).await), RefusalCode::TooLarge);
}

/// What no message names is removed after a day; what one names stays.
#[test]
fn attachments_that_no_message_names_are_collected() {
    use liaison_broker::attachments::AttachmentStore;
    let directory = tempfile::tempdir().unwrap();
    let store = AttachmentStore::open(directory.path(), 1 << 30, 0).unwrap();
    let own = directory.path().join("new").join(LAO_CAI);
    fs::create_dir_all(&own).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let put = |name: &str, old_file: bool| -> std::path::PathBuf {
        let path = own.join(name);
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"sealed").unwrap();
        if old_file {
            file.set_modified(old).unwrap();
        }
        path
    };
    let (orphan, part, fresh) = (put(&"a".repeat(64), true), put("b.part", true), put("c.part", false));
    assert_eq!(store.collect(), 2);
    assert!(!Path::exists(&orphan) && !Path::exists(&part) && Path::exists(&fresh));
}
