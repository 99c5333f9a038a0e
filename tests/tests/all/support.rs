//! What several tests use: worlds in temporary directories, and what is asked of them.

use std::path::Path;

use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{Clock as _, SystemClock},
    key_file::PrivateKey,
    refusal::{Refusal, RefusalCode},
    sign::PayloadType,
    wire::{self, directory_client::DirectoryClient, directory_record::Record},
};
use liaison_tests::world::World;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

pub(crate) use liaison_tests::forger::{Forger, Parts, charter, client, connect, directory};

/// A number from the environment, for tests that run longer by command.
pub(crate) fn from_environment(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A world with a running broker and running nodes.
pub(crate) fn world(offices: &[&str]) -> (TempDir, World) {
    world_with(&[], offices)
}

/// The same, with more lines in the broker's configuration.
pub(crate) fn world_with(broker_keys: &[&str], offices: &[&str]) -> (TempDir, World) {
    let directory = tempfile::tempdir().unwrap();
    let world = make_world(directory.path(), broker_keys, offices);
    (directory, world)
}

/// A world of unlocked offices whose nodes hold what does not hurry for so many seconds.
pub(crate) fn world_holding(seconds: u32, offices: &[&str]) -> (TempDir, World) {
    let (directory, mut world) = world(&[]);
    world.hold_seconds = seconds;
    for office in offices {
        world.create_node(office).unwrap();
        world.start_node(office).unwrap();
        world.office(office).unlocks().unwrap();
    }
    (directory, world)
}

/// A world in a directory that is the caller's.
pub(crate) fn world_in(directory: &Path, offices: &[&str]) -> World {
    make_world(directory, &[], offices)
}

fn make_world(directory: &Path, broker_keys: &[&str], offices: &[&str]) -> World {
    let mut world = World::create(directory, Path::new(env!("CARGO_BIN_EXE_demo"))).unwrap();
    world.broker_keys = broker_keys.iter().map(|&line| line.to_owned()).collect();
    world.start_broker().unwrap();
    for office in offices {
        world.create_node(office).unwrap();
        world.start_node(office).unwrap();
    }
    world
}

/// The refusal code that a call ended with.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> RefusalCode {
    let status = result.expect_err("the call should have been refused");
    Refusal::from_status(&status).unwrap_or_else(|| panic!("not a refusal: {status:?}")).code
}

/// Copies a directory as a backup would: other files with the same contents.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    liaison_tests::world::copy_directory(from, to).unwrap();
}

pub(crate) fn missing_numbers(world: &World, office: &str) -> Value {
    world.office(office).ask(&json!({"op": "status"})).unwrap()["missing_numbers"].clone()
}

pub(crate) fn alarms(world: &World, office: &str) -> Value {
    world.office(office).ask(&json!({"op": "alarms"})).unwrap()["alarms"].clone()
}

/// The library that stands between a process and its device, built with the C compiler that Rust links with.
pub(crate) fn faulty_device(world: &World) -> String {
    let library = world.path("device.so");
    if !Path::new(&library).exists() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/faults/device.c");
        let built = std::process::Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", &library, source]).status();
        assert!(built.unwrap().success(), "the failing device could not be built");
    }
    library
}

/// An office is revoked by its country's authority. Who brings the record does not matter.
pub(crate) async fn revoke(world: &World, office: &str, by: Channel) {
    let authority = world.path(&format!("charter/countries/{}/authority.key", &office[..2]));
    let authority = PrivateKey::read_signing(Path::new(&authority)).unwrap();
    let at_ms = SystemClock.now().0;
    let revocation = wire::Revocation { version: 1, office: office.into(), key_sha256: Bytes::new(), at_ms };
    let revocation = Bytes::from(revocation.encode_to_vec());
    let authority_signature = Some(authority.sign(PayloadType::Revocation, &revocation));
    let record = Record::Revoked(wire::RevocationRecord { revocation, authority_signature });
    let record = Some(wire::DirectoryRecord { record: Some(record) });
    DirectoryClient::new(by).publish(wire::PublishRequest { record, seen_size: 0 }).await.unwrap();
}
