//! A full disk refuses and loses nothing, and an emptied one goes on without a restart. The reserve is set so high that
//! one large file tips the scales: by as much on either side as other programs may write meanwhile.

use std::{
    fs::{File, remove_file},
    time::Duration,
};

use liaison_link::local;
use liaison_log::disk::{Disk as _, OsDisk};
use liaison_proto::{
    refusal::{Refusal, RefusalCode},
    wire::{self, attachments_client::AttachmentsClient, exchange_client::ExchangeClient},
};
use liaison_tests::{
    samples,
    world::{World, eventually},
};
use serde_json::{Value, json};

use super::{HEKOU, LAO_CAI, MIB};
use crate::{
    refusals::{log_size, submit},
    support::{Forger, code, connect, world, world_with},
};

/// MiB between what is free and the reserve; the file takes twice as many.
const MARGIN_MIB: u64 = 1024;

/// The configuration key that makes a reserve a margin below what is free now.
fn reserve() -> String {
    let free = OsDisk::new(std::env::temp_dir()).available().unwrap() / MIB;
    assert!(free > 4 * MARGIN_MIB, "this test wants {} MiB free in the temporary directory", 4 * MARGIN_MIB);
    format!("minimum_free_mebibytes = {}", free - MARGIN_MIB)
}

fn fill(world: &World) -> String {
    let path = world.path("filler");
    let file = File::create(&path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 2 * MARGIN_MIB * MIB).unwrap();
    path
}

fn broker_status(world: &World) -> String {
    let output = world.output("broker", &["status", "--config", &world.path("broker.toml")]).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The broker: new messages are refused with the time to wait, known ones keep their receipts, everything is read as
/// before; the operator is told; and once there is room the same bytes are accepted.
#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_goes_on_when_there_is_room() {
    let (_directory, world) = world_with(&[&reserve()], &[]);
    let forger = Forger::new(&world, LAO_CAI);
    let channel = connect(&world, "offices/VN-BLO-LCA");
    let mut exchange = ExchangeClient::new(channel.clone());
    let before = forger.envelope(HEKOU);
    let receipt = exchange.submit(submit(before.clone())).await.unwrap().into_inner().receipt.unwrap();
    assert!(!broker_status(&world).contains("disk is full"), "{}", broker_status(&world));

    let filler = fill(&world);
    let refused = forger.envelope(HEKOU);
    let status = exchange.submit(submit(refused.clone())).await.unwrap_err();
    let retry_after = Refusal::from_status(&status).and_then(|refusal| refusal.retry_after);
    assert!(retry_after.is_some_and(|after| after > Duration::ZERO), "{status:?}");
    assert_eq!(code(Err::<(), _>(status)), RefusalCode::StorageFull);
    let data = liaison_proto::Bytes::from_static(b"ciphertext");
    let sha256 = liaison_proto::Bytes::copy_from_slice(&liaison_proto::sha256(&[&data]));
    let part = wire::UploadPart { sha256, size: data.len() as u64, offset: 0, data };
    let mut attachments = AttachmentsClient::new(channel.clone());
    assert_eq!(code(attachments.upload(tokio_stream::once(part.clone())).await), RefusalCode::StorageFull);
    assert!(broker_status(&world).contains("PROBLEM: the disk is full"), "{}", broker_status(&world));
    assert_eq!(log_size(&channel).await, 1, "a refusal was logged");
    let again = exchange.submit(submit(before.clone())).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!(again.leaf, receipt.leaf, "a known message has its receipt, also when the disk is full");
    let mut hekou = ExchangeClient::new(connect(&world, "offices/CN-BLO-HKO"));
    let request = wire::ReceiveRequest { lane: wire::Lane::Bulk.into(), credit: 8 };
    let mut deliveries = hekou.receive(tokio_stream::once(request)).await.unwrap().into_inner();
    let delivered = deliveries.message().await.unwrap().unwrap();
    assert_eq!(delivered.envelope.unwrap().header, before.header, "what was accepted is delivered");

    remove_file(filler).unwrap();
    let accepted = super::eventually(async || exchange.submit(submit(refused.clone())).await.is_ok());
    assert!(accepted.await, "{}", broker_status(&world));
    assert_eq!(log_size(&channel).await, 2);
    assert!(attachments.upload(tokio_stream::once(part)).await.unwrap().into_inner().complete);
    assert!(!broker_status(&world).contains("disk is full"), "{}", broker_status(&world));
}

/// The node: an officer is told that nothing was kept; what others send waits at the broker; then everything goes on.
#[test]
fn a_node_with_a_full_disk_refuses_to_send_and_goes_on_when_there_is_room() {
    use std::io::Write as _;
    let (_directory, mut world) = world(&[HEKOU]);
    world.create_node(LAO_CAI).unwrap();
    let mut config = File::options().append(true).open(world.path("VN-BLO-LCA.toml")).unwrap();
    writeln!(config, "{}", reserve()).unwrap();
    world.start_node(LAO_CAI).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let filler = fill(&world);
    let send = json!({"op": "send", "file": samples::ROUTINE});
    let answer: Value = local::call(&world.socket(LAO_CAI), &send).unwrap();
    assert_eq!(answer["code"], RefusalCode::StorageFull.as_str(), "{answer}");
    assert!(world.office(LAO_CAI).outbox().unwrap().is_empty(), "what was refused is in the outbox");
    let to_lao_cai = samples::ROUTINE.replace("CN-BLO-HKO", LAO_CAI);
    let waiting = world.office(HEKOU).sends(&to_lao_cai).unwrap();
    assert!(world.office(HEKOU).sees(&waiting, &["ACCEPTED"]), "{}", world.office(HEKOU).state_of(&waiting));
    assert_eq!(world.office(LAO_CAI).times_received(&waiting), 0);

    remove_file(filler).unwrap();
    assert!(eventually(|| world.office(LAO_CAI).sends(samples::ROUTINE).is_ok()), "{}", world.log("VN-BLO-LCA.log"));
    assert!(world.office(HEKOU).sees(&waiting, &["RETRIEVED"]), "{}", world.office(HEKOU).state_of(&waiting));
    assert_eq!(world.office(LAO_CAI).times_received(&waiting), 1);
    assert!(eventually(|| world.office(HEKOU).inbox().unwrap().len() == 1));
}
