//! Every refusal code occurs: those that a bad envelope gets in `refusals.rs`, the others here and in `disk.rs`.

use std::{fs, time::Duration};

use liaison_link::local;
use liaison_proto::{
    Bytes,
    refusal::{Refusal, RefusalCode},
    wire::{self, attachments_client::AttachmentsClient, exchange_client::ExchangeClient, log_client::LogClient},
};
use liaison_tests::{samples, world::eventually};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{ARANYAPRATHET, HEKOU, LAO_CAI, MONG_CAI};
use crate::{
    refusals::submit,
    support::{Forger, code, connect, world, world_with},
};

/// Where each code is provoked over the wire, and the text of that file.
const PROVOKED: &[(&str, &[RefusalCode])] = &[
    (
        include_str!("../refusals.rs"),
        &[
            RefusalCode::MalformedHeader,
            RefusalCode::MalformedEnvelope,
            RefusalCode::UnsupportedVersion,
            RefusalCode::TooLarge,
            RefusalCode::CommitmentMismatch,
            RefusalCode::BadSignature,
            RefusalCode::NotYourOffice,
            RefusalCode::UnknownRecipient,
            RefusalCode::UnknownKey,
            RefusalCode::DuplicateId,
            RefusalCode::TooOld,
            RefusalCode::UnknownMessage,
            RefusalCode::BadStatement,
            RefusalCode::NotPermitted,
            RefusalCode::OutOfRange,
        ],
    ),
    (include_str!("../certificates.rs"), &[RefusalCode::BadRecord]),
    (include_str!("../kinds.rs"), &[RefusalCode::OutOfStep, RefusalCode::OnwardNotGranted, RefusalCode::NotAgreed]),
    (include_str!("disk.rs"), &[RefusalCode::StorageFull]),
    (include_str!("../restored.rs"), &[RefusalCode::HeldUnproven, RefusalCode::Repairing]),
    (
        TESTS_HERE,
        &[
            RefusalCode::UnknownOriginator,
            RefusalCode::AttachmentMissing,
            RefusalCode::TooMany,
            RefusalCode::Unavailable,
            RefusalCode::AlreadyAnswered,
            RefusalCode::UnknownParty,
        ],
    ),
];
/// This file, behind the list itself.
const TESTS_HERE: &str = include_str!("codes.rs");

fn retry_after(refusal: &Status) -> Duration {
    Refusal::from_status(refusal).and_then(|refusal| refusal.retry_after).unwrap_or_default()
}

/// The list above is all of the table, each code once, and each stands in an assertion of the test file that it names.
#[test]
fn every_refusal_code_is_provoked_by_a_test() {
    let mut provoked: Vec<RefusalCode> = Vec::new();
    for (text, codes) in PROVOKED {
        let tests = text.split_once("/// The list above").map_or(*text, |(_, tests)| tests);
        for code in *codes {
            assert!(tests.contains(&format!("RefusalCode::{code:?}")), "{code} is not provoked where the list says");
            assert!(!provoked.contains(code), "{code} is listed twice");
            provoked.push(*code);
        }
    }
    for code in RefusalCode::ALL {
        assert!(provoked.contains(code), "no test provokes {code}");
    }
    assert_eq!(provoked.len(), RefusalCode::ALL.len());
}

/// `TOO_MANY` has three reasons: sent too fast, too many calls at once, too many connections. Each says when to come
/// again, each is of its office alone, and each is over when its reason is.
#[tokio::test]
async fn too_much_of_one_office_is_refused_with_the_time_to_wait() {
    let keys = ["messages_per_second = 1", "message_burst = 3", "calls_per_office = 2", "connections_per_office = 2"];
    let (_directory, world) = world_with(&keys, &[]);
    // Sent too fast.
    let forger = Forger::new(&world, LAO_CAI);
    let mut lao_cai = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    for _ in 0..3 {
        lao_cai.submit(submit(forger.envelope(HEKOU))).await.unwrap();
    }
    let waiting = forger.envelope(HEKOU);
    let mut refused = 0;
    let accepted = super::eventually(async || match lao_cai.submit(submit(waiting.clone())).await {
        Ok(_) => true,
        Err(status) => {
            assert!(retry_after(&status) > Duration::ZERO, "{status:?}");
            assert_eq!(code(Err::<(), _>(status)), RefusalCode::TooMany);
            refused += 1;
            false
        }
    });
    assert!(accepted.await && refused > 0, "refused {refused} times");

    // Too many calls at once: two streams are held open.
    let forger = Forger::new(&world, MONG_CAI);
    let mut mong_cai = ExchangeClient::new(connect(&world, "offices/VN-BLO-MBA"));
    let (first, requests) = mpsc::channel(1);
    let _first = mong_cai.submit_stream(ReceiverStream::new(requests)).await.unwrap();
    let (_second, requests) = mpsc::channel(1);
    let _second = mong_cai.submit_stream(ReceiverStream::new(requests)).await.unwrap();
    let envelope = forger.envelope(HEKOU);
    let status = mong_cai.submit(submit(envelope.clone())).await.unwrap_err();
    assert!(retry_after(&status) > Duration::ZERO, "{status:?}");
    assert_eq!(code(Err::<(), _>(status)), RefusalCode::TooMany);
    drop(first);
    assert!(super::eventually(async || mong_cai.submit(submit(envelope.clone())).await.is_ok()).await);

    // Too many connections: the third is told so.
    let request = wire::CheckpointRequest { log: wire::LogName::Exchange.into() };
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut log = LogClient::new(connect(&world, "offices/CN-BLO-HKO"));
        log.checkpoint(request).await.unwrap();
        held.push(log);
    }
    let third = connect(&world, "offices/CN-BLO-HKO");
    let status = LogClient::new(third.clone()).checkpoint(request).await.unwrap_err();
    assert!(retry_after(&status) > Duration::ZERO, "{status:?}");
    assert_eq!(code(Err::<(), _>(status)), RefusalCode::TooMany);
    super::honest_call(&world, ARANYAPRATHET).await.unwrap();
    drop(held);
    assert!(super::eventually(async || super::honest_call(&world, HEKOU).await.is_ok()).await);
}

/// A message that names an attachment waits until the attachment is there; the same bytes are accepted then.
#[tokio::test]
async fn a_message_whose_attachment_is_missing_is_accepted_once_it_is_there() {
    let (_directory, world) = world(&[]);
    let channel = connect(&world, "offices/VN-BLO-LCA");
    let data = Bytes::from_static(b"ciphertext");
    let sha256 = Bytes::copy_from_slice(&liaison_proto::sha256(&[&data]));
    let envelope = Forger::new(&world, LAO_CAI).changed(HEKOU, |parts| {
        let size = data.len() as u64;
        parts.commitments.attachments = vec![wire::AttachmentCommitment { sha256: sha256.clone(), size }];
    });
    let mut exchange = ExchangeClient::new(channel.clone());
    let status = exchange.submit(submit(envelope.clone())).await.unwrap_err();
    assert!(retry_after(&status) > Duration::ZERO);
    assert_eq!(code(Err::<(), _>(status)), RefusalCode::AttachmentMissing);
    let part = wire::UploadPart { sha256, size: data.len() as u64, offset: 0, data };
    assert!(AttachmentsClient::new(channel).upload(tokio_stream::once(part)).await.unwrap().into_inner().complete);
    exchange.submit(submit(envelope)).await.unwrap();
}

/// An office whose certificate is good, and which no authority has enrolled.
#[tokio::test]
async fn an_office_that_is_not_enrolled_is_told_so() {
    let (_directory, mut world) = world(&[]);
    world.stop_broker().unwrap();
    fs::remove_dir_all(world.path("broker")).unwrap();
    fs::create_dir(world.path("some-records")).unwrap();
    for entry in fs::read_dir(world.path("charter/records")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if !bytes.windows(ARANYAPRATHET.len()).any(|window| window == ARANYAPRATHET.as_bytes()) {
            fs::copy(&path, world.directory().join("some-records").join(path.file_name().unwrap())).unwrap();
        }
    }
    let (config, records) = (world.path("broker.toml"), world.path("some-records"));
    world.run("broker", &["init", "--config", &config, "--records", &records]).unwrap();
    world.start_broker().unwrap();
    let mut exchange = ExchangeClient::new(connect(&world, "offices/TH-BLO-ARN"));
    let envelope = Forger::new(&world, ARANYAPRATHET).envelope("VN-CCP-HAN");
    assert_eq!(code(exchange.submit(submit(envelope)).await), RefusalCode::UnknownOriginator);
    assert_eq!(code(exchange.numbers(wire::NumbersRequest {}).await), RefusalCode::UnknownOriginator);
}

/// A stopping broker answers what is under way: an upload is told to go on later, and goes on where it was.
#[tokio::test]
async fn a_stopping_broker_says_that_it_is_unavailable() {
    let (_directory, mut world) = world(&[]);
    let whole = Bytes::from(vec![7; 1000]);
    let sha256 = Bytes::copy_from_slice(&liaison_proto::sha256(&[&whole]));
    let part = |from: usize, to: usize| wire::UploadPart {
        sha256: sha256.clone(),
        size: 1000,
        offset: from as u64,
        data: whole.slice(from..to),
    };
    let channel = connect(&world, "offices/VN-BLO-LCA");
    let mut attachments = AttachmentsClient::new(channel.clone());
    let (parts, stream) = mpsc::channel(1);
    parts.send(part(0, 400)).await.unwrap();
    let uploading =
        tokio::spawn(async move { AttachmentsClient::new(channel).upload(ReceiverStream::new(stream)).await });
    let held = wire::HeldRequest { sha256: sha256.clone() };
    let begun = super::eventually(async || attachments.held(held.clone()).await.unwrap().into_inner().size == 400);
    assert!(begun.await);
    let mut world = tokio::task::spawn_blocking(move || {
        world.stop_broker().unwrap();
        world
    })
    .await
    .unwrap();
    let status = uploading.await.unwrap().unwrap_err();
    assert!(retry_after(&status) > Duration::ZERO, "{status:?}");
    assert_eq!(code(Err::<(), _>(status)), RefusalCode::Unavailable);
    world.start_broker().unwrap();
    let mut attachments = AttachmentsClient::new(connect(&world, "offices/VN-BLO-LCA"));
    assert_eq!(attachments.held(held).await.unwrap().into_inner().size, 400, "what came is kept");
    assert!(attachments.upload(tokio_stream::once(part(400, 1000))).await.unwrap().into_inner().complete);
}

/// The node refuses this one itself, over its local socket: a message is answered once.
#[test]
fn a_second_answer_is_refused_by_the_node() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    world.office(HEKOU).unlocks().unwrap();
    let message = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&message, &["RETRIEVED"]));
    assert!(eventually(|| world.office(HEKOU).acknowledges(&message).is_ok()));
    let content = json!({"accepted": true, "owner_role": "OFFICER"});
    let request = json!({"op": "reply", "message": message, "kind": "ACK", "content": content});
    let answer: Value = local::call(&world.socket(HEKOU), &request).unwrap();
    assert_eq!(answer["code"], RefusalCode::AlreadyAnswered.as_str(), "{answer}");
}

/// `UNKNOWN_PARTY` does not occur over the wire: the handshake turns away whoever the charter does not name
/// (`certificates.rs`), before there is a call to refuse. The code is what a call gets that came in by any other way
/// than that door, and it says so here.
#[test]
fn a_call_without_a_verified_certificate_is_of_nobody() {
    let refusal = liaison_broker::server::party(&tonic::Request::new(())).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownParty);
    assert_eq!(refusal.retry_after, None);
}
