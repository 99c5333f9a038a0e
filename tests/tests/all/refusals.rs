//! Promise 12: bad input changes nothing. Each refusal, once over the wire, by a client that says whatever it wants.

use std::path::PathBuf;

use liaison_log::leaf::Statement;
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{Clock as _, DAY_MS, SystemClock},
    entropy::OsEntropy,
    ids::{LogIndex, MessageId},
    key_file::PrivateKey,
    limits,
    refusal::{Refusal, RefusalCode},
    seal::{DecryptionKey, Suite},
    sha256,
    sign::PayloadType,
    wire::{self, StatementKind, directory_record::Record, exchange_client::ExchangeClient, log_client::LogClient},
};
use liaison_tests::world::World;
use tonic::{Code, transport::Channel};

use crate::support::{Forger, code, connect, world};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

pub(crate) fn submit(envelope: wire::Envelope) -> wire::SubmitRequest {
    wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 }
}

pub(crate) async fn log_size(channel: &Channel) -> u64 {
    let request = wire::CheckpointRequest { log: wire::LogName::Exchange.into() };
    let note = LogClient::new(channel.clone()).checkpoint(request).await.unwrap().into_inner().checkpoint;
    String::from_utf8_lossy(&note).lines().nth(1).unwrap().parse().unwrap()
}

/// Every bad envelope is refused with its own code, and the log is as long as before.
#[tokio::test]
async fn promise_12_every_bad_envelope_has_its_code_and_changes_nothing() {
    let (_directory, world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let channel = connect(&world, "offices/VN-BLO-LCA");
    let mut exchange = ExchangeClient::new(channel.clone()).max_encoding_message_size(limits::GRPC_BYTES);
    let good = forger.envelope(HEKOU);
    let receipt = exchange.submit(submit(good.clone())).await.unwrap().into_inner().receipt.unwrap();
    let before = log_size(&channel).await;
    assert_eq!(before, 1);
    let now = SystemClock.now().0;
    let change = |change: fn(&mut crate::support::Parts)| forger.changed(HEKOU, change);
    let raw = |header: &[u8]| {
        let header = Bytes::copy_from_slice(header);
        let signature = forger.signing.sign(PayloadType::Header, &header);
        wire::Envelope { header, office_signature: Some(signature), ..good.clone() }
    };
    let bad: Vec<(&str, wire::Envelope, RefusalCode)> = vec![
        ("nothing at all", wire::Envelope::default(), RefusalCode::MalformedEnvelope),
        ("no header", raw(b""), RefusalCode::MalformedHeader),
        ("not protobuf", raw(b"\xff\xff\xff\xff"), RefusalCode::MalformedHeader),
        ("half a header", raw(&good.header[..good.header.len() / 2]), RefusalCode::MalformedHeader),
        ("a later version", change(|p| p.core.version = 2), RefusalCode::UnsupportedVersion),
        ("no recipient", change(|p| p.core.to.clear()), RefusalCode::MalformedHeader),
        ("a recipient twice", change(|p| p.core.to = vec![HEKOU.into(), HEKOU.into()]), RefusalCode::MalformedHeader),
        ("too many recipients", change(|p| p.core.to = vec![HEKOU.into(); 65]), RefusalCode::MalformedHeader),
        ("itself", change(|p| p.core.to = vec![LAO_CAI.into()]), RefusalCode::MalformedHeader),
        ("an unknown kind", change(|p| p.core.kind = 9999), RefusalCode::MalformedHeader),
        ("no legal basis", change(|p| p.core.legal_basis.clear()), RefusalCode::MalformedHeader),
        (
            "a version 4 id",
            change(|p| p.core.message_id = Bytes::from_static(&[0x44; 16])),
            RefusalCode::MalformedHeader,
        ),
        ("another corridor", change(|p| p.core.corridor = "TH-VN".into()), RefusalCode::MalformedHeader),
        ("a negative time", change(|p| p.core.created_at_ms = -1), RefusalCode::MalformedHeader),
        ("another country's office", change(|p| p.core.from = "CN-BLO-HKO".into()), RefusalCode::MalformedHeader),
        ("another office of the country", change(|p| p.core.from = "VN-CCP-HAN".into()), RefusalCode::NotYourOffice),
        ("an unknown office", change(|p| p.core.to = vec!["CN-BLO-ZZZ".into()]), RefusalCode::UnknownRecipient),
        ("no signature", wire::Envelope { office_signature: None, ..good.clone() }, RefusalCode::BadSignature),
        (
            "another body",
            wire::Envelope { body: Bytes::from_static(b"x"), ..good.clone() },
            RefusalCode::CommitmentMismatch,
        ),
        (
            "a huge body",
            wire::Envelope { body: vec![0; limits::BODY_BYTES + 1].into(), ..good.clone() },
            RefusalCode::TooLarge,
        ),
        ("a huge header", raw(&vec![0; limits::HEADER_BYTES + 1]), RefusalCode::TooLarge),
        ("no wraps", change(|p| p.erasable.wraps.clear()), RefusalCode::MalformedEnvelope),
        (
            "another wrap",
            change(|p| p.erasable.wraps[0] = Bytes::from_static(b"wrap")),
            RefusalCode::CommitmentMismatch,
        ),
        (
            "a StatBlock not committed to",
            change(|p| p.erasable.stat_block = Bytes::from_static(b"s")),
            RefusalCode::CommitmentMismatch,
        ),
        (
            "an unknown key",
            change(|p| p.commitments.recipients[0].key_sha256 = Bytes::from_static(&[9; 32])),
            RefusalCode::UnknownKey,
        ),
        (
            "a FLASH with an attachment",
            change(|p| {
                p.core.priority = wire::Priority::Flash.into();
                p.commitments.attachments =
                    vec![wire::AttachmentCommitment { sha256: Bytes::from_static(&[1; 32]), size: 1 }];
            }),
            RefusalCode::MalformedHeader,
        ),
        ("from long ago", forger.changed(HEKOU, |p| p.core.created_at_ms = now - 61 * DAY_MS), RefusalCode::TooOld),
        (
            "the same id, another header",
            forger.changed(HEKOU, |p| {
                let known = wire::Header::decode(good.header.clone()).unwrap();
                p.core.message_id = wire::Core::decode(known.core).unwrap().message_id;
            }),
            RefusalCode::DuplicateId,
        ),
    ];
    for (what, envelope, expected) in bad {
        assert_eq!(code(exchange.submit(submit(envelope)).await), expected, "{what}");
        assert_eq!(log_size(&channel).await, before, "{what} changed the log");
    }
    // A retry of the good one keeps its leaf.
    let again = exchange.submit(submit(good)).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!(again.leaf, receipt.leaf, "a retry must get the same leaf");
    assert_eq!(log_size(&channel).await, before, "a retry was logged twice");
    // An hour of clock skew is accepted and marked.
    let skewed = forger.changed(HEKOU, |p| p.core.created_at_ms = now - 60 * 60 * 1000);
    let receipt = exchange.submit(submit(skewed)).await.unwrap().into_inner().receipt.unwrap();
    let leaf = liaison_log::leaf::ExchangeLeaf::parse(&receipt.leaf).unwrap();
    assert_eq!(leaf.marks, [wire::Mark::ClockSkew]);
}

/// A refusal carries its code, its advice and, when a retry may help, `RetryInfo`; and it does not repeat content.
#[tokio::test]
async fn a_refusal_says_what_is_wrong_and_what_to_do() {
    use tonic_types::StatusExt as _;
    let (_directory, world) = world(&[]);
    let mut exchange = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    let status = exchange.submit(submit(wire::Envelope::default())).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (Code::InvalidArgument, "MALFORMED_ENVELOPE", "liaison")
    );
    assert_eq!(info.metadata["advice"], RefusalCode::MalformedEnvelope.advice());
    assert!(status.get_details_retry_info().is_none());
    let retryable = Refusal::new(RefusalCode::Unavailable, "stopping").to_status();
    assert!(retryable.get_details_retry_info().is_some());
}

fn statement(id: &[u8], index: u64, header: &[u8], number: u64) -> Statement {
    Statement {
        message_id: MessageId::from_wire(id).unwrap(),
        office: HEKOU.parse().unwrap(),
        accepted: LogIndex(index),
        header_sha256: sha256(&[header]),
        number,
        at: SystemClock.now(),
        reason: wire::CannotOpenReason::Unspecified,
    }
}

/// Promise 6: only the recipient can say that it has a message, once, and only what the log says.
#[tokio::test]
async fn promise_6_no_false_delivery_can_be_stated() {
    let (_directory, world) = world(&[]);
    let (lao_cai, hekou) = (Forger::new(&world, LAO_CAI), Forger::new(&world, HEKOU));
    let mut from = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    let mut to = ExchangeClient::new(connect(&world, "offices/CN-BLO-HKO"));
    let envelope = lao_cai.envelope(HEKOU);
    from.submit(submit(envelope.clone())).await.unwrap();
    let core = wire::Core::decode(wire::Header::decode(envelope.header.clone()).unwrap().core).unwrap();
    let attest = |kind: StatementKind,
                  payload: PayloadType,
                  statement: &Statement,
                  key: &liaison_proto::sign::SigningKey| {
        let statement = statement.encode();
        let signature = Some(key.sign(payload, &statement));
        wire::AttestRequest { kind: kind.into(), attested: Some(wire::Attested { statement, signature }), seen_size: 0 }
    };
    let good = statement(&core.message_id, 0, &envelope.header, 1);
    let delivered = |s: &Statement| attest(StatementKind::Delivered, PayloadType::Delivered, s, &hekou.receipt);
    let retrieved = attest(StatementKind::Retrieved, PayloadType::Retrieved, &good, &hekou.signing);
    assert_eq!(code(from.attest(delivered(&good)).await), RefusalCode::NotYourOffice);
    assert_eq!(code(to.attest(retrieved.clone()).await), RefusalCode::BadStatement, "RETRIEVED before DELIVERED");
    let wrong_key = attest(StatementKind::Delivered, PayloadType::Delivered, &good, &hekou.signing);
    assert_eq!(code(to.attest(wrong_key).await), RefusalCode::BadSignature);
    let wrong_type = attest(StatementKind::Delivered, PayloadType::Retrieved, &good, &hekou.receipt);
    assert_eq!(code(to.attest(wrong_type).await), RefusalCode::BadSignature);
    for (wrong, expected) in [
        (Statement { accepted: LogIndex(7), ..good.clone() }, RefusalCode::UnknownMessage),
        (
            Statement { message_id: MessageId::new(SystemClock.now(), &OsEntropy), ..good.clone() },
            RefusalCode::UnknownMessage,
        ),
        (Statement { number: 2, ..good.clone() }, RefusalCode::BadStatement),
        (Statement { header_sha256: [0; 32], ..good.clone() }, RefusalCode::BadStatement),
    ] {
        assert_eq!(code(to.attest(delivered(&wrong)).await), expected, "{wrong:?}");
    }
    let first = to.attest(delivered(&good)).await.unwrap().into_inner().receipt.unwrap();
    let again = to.attest(delivered(&good)).await.unwrap().into_inner().receipt.unwrap();
    assert_eq!(first.leaf, again.leaf, "DELIVERED was entered twice");
    to.attest(retrieved).await.unwrap();
}

/// Who may read what: bundles of the exchange log are for auditors, single entries for their parties.
#[tokio::test]
async fn the_log_shows_entries_only_to_whom_it_may() {
    let (_directory, world) = world(&[]);
    let forger = Forger::new(&world, LAO_CAI);
    let mut from = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    from.submit(submit(forger.envelope(HEKOU))).await.unwrap();
    let entry = wire::EntryRequest { log: wire::LogName::Exchange.into(), index: 0 };
    let bundle = wire::EntriesRequest { log: wire::LogName::Exchange.into(), index: 0, width: 1, skip: 0 };
    for party in [LAO_CAI, HEKOU] {
        let mut log = LogClient::new(connect(&world, &format!("offices/{party}")));
        log.entry(entry).await.unwrap();
        assert_eq!(code(log.entries(bundle).await), RefusalCode::NotPermitted);
        assert_eq!(code(log.entry(wire::EntryRequest { index: 9, ..entry }).await), RefusalCode::OutOfRange);
    }
    let mut stranger = LogClient::new(connect(&world, "offices/TH-BLO-ARN"));
    assert_eq!(code(stranger.entry(entry).await), RefusalCode::NotPermitted);
    let mut auditor = LogClient::new(connect(&world, "auditors/auditor-1"));
    auditor.entries(bundle).await.unwrap();
    for (index, width) in [(0, 0), (0, 2), (0, u32::MAX), (u64::MAX, 1), (1, 1)] {
        let request = wire::EntriesRequest { index, width, ..bundle };
        assert_eq!(code(auditor.entries(request).await), RefusalCode::OutOfRange, "{index} {width}");
    }
    for skip in [1, u32::MAX] {
        let request = wire::EntriesRequest { skip, ..bundle };
        assert_eq!(code(auditor.entries(request).await), RefusalCode::OutOfRange, "skip {skip}");
    }
    for (level, index, width) in [(0, 0, 2), (8, 0, 1), (255, 0, 1), (7, u64::MAX, 256), (0, 0, 0)] {
        let request = wire::TileRequest { log: wire::LogName::Exchange.into(), level, index, width };
        assert_eq!(code(auditor.tile(request).await), RefusalCode::OutOfRange, "{level} {index} {width}");
    }
    for (old_size, new_size) in [(0, 1), (1, 0), (1, 2), (u64::MAX, u64::MAX)] {
        let request = wire::ConsistencyRequest { log: wire::LogName::Exchange.into(), old_size, new_size };
        assert_eq!(code(auditor.consistency(request).await), RefusalCode::OutOfRange, "{old_size} {new_size}");
    }
    let mut speaks = ExchangeClient::new(connect(&world, "auditors/auditor-1"));
    assert_eq!(code(speaks.submit(submit(forger.envelope(HEKOU))).await), RefusalCode::NotPermitted);
}

/// Records for the directory that one country or office signed for another's.
pub(crate) fn foreign_records(world: &World) -> Vec<wire::DirectoryRecord> {
    let key = |path: &str| PrivateKey::read_signing(&PathBuf::from(world.path("charter")).join(path)).unwrap();
    let (viet_nam, hekou) = (key("countries/VN/authority.key"), Forger::new(world, HEKOU));
    let office = Bytes::from(
        wire::Office {
            version: 1,
            office: "CN-BLO-NEW".into(),
            names: [("eng".to_owned(), "New".to_owned())].into(),
            gate: String::new(),
            signing_key: Bytes::copy_from_slice(viet_nam.verifying_key().as_bytes()),
            receipt_key: Bytes::copy_from_slice(hekou.receipt.verifying_key().as_bytes()),
            serial: 1,
            previous_sha256: Bytes::new(),
        }
        .encode_to_vec(),
    );
    let authority_signature = Some(viet_nam.sign(PayloadType::OfficeRecord, &office));
    let (_, public) = DecryptionKey::generate(Suite::XWing, &OsEntropy);
    let published = Bytes::from(
        wire::EncryptionKey {
            version: 1,
            office: LAO_CAI.into(),
            suite: Suite::XWing.to_wire(),
            public_key: public.bytes().clone(),
            not_before_ms: 1,
            not_after_ms: i64::MAX,
        }
        .encode_to_vec(),
    );
    let office_signature = Some(hekou.signing.sign(PayloadType::KeyRecord, &published));
    [
        Record::Office(wire::OfficeRecord { office, authority_signature }),
        Record::Key(wire::KeyRecord { key: published, office_signature }),
    ]
    .map(|record| wire::DirectoryRecord { record: Some(record) })
    .into()
}

/// The table in the documentation is the one in the code.
#[test]
fn the_documented_refusals_are_the_ones_in_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/refusals.md");
    let documented = std::fs::read_to_string(path).unwrap();
    let table = liaison_proto::refusal::markdown_table();
    if std::env::var_os("LIAISON_UPDATE").is_some() {
        let head = documented.split("| code |").next().unwrap();
        std::fs::write(path, format!("{head}{table}")).unwrap();
    } else {
        assert!(documented.ends_with(&table), "run with LIAISON_UPDATE=1 to write the table anew");
    }
}
