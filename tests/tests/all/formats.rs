//! Golden vectors: every signed or hashed byte format, pinned, so that another implementation can be checked against
//! them. The files are `proto/vectors/*.json`, values in hexadecimal; LIAISON_UPDATE=1 writes them anew, which is right
//! only when a format has a new version.

use std::{fs, path::Path, sync::Mutex};

use liaison_log::{
    Hash,
    checkpoint::{CheckpointSigner, VerifiedCheckpoint, key_id, verifier_key},
    journal::{Position, frame},
    leaf::{Event, ExchangeLeaf, NonDelivery, RewrapStatement, Statement},
    proof::TlogProof,
    record::SignedMark,
    tiles,
    verify::verify_receipt,
};
use liaison_node::record::{Alarm, NodeRecord};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::SignatureFile,
    clock::UnixMillis,
    entropy::Entropy,
    envelope::UnverifiedEnvelope,
    evidence::{is_signed_refusal, sign_refusal},
    header::Header,
    ids::{Channel, LogIndex, MessageId, OfficeId},
    office::{Office, PublishedKey},
    officer::{SignedCredential, sign_content, verify_content},
    refusal::{Refusal, RefusalCode},
    seal::{ContentKey, DecryptionKey, Suite},
    sha256,
    sign::{PayloadType, SigningKey, pre_authentication_encoding},
    stream::ChunkCipher,
    wire,
};
use serde_json::{Map, Value, json};
use tlog_tiles_root::root_of;

/// The same bytes every time.
struct Seeded(Mutex<u64>);

impl Entropy for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(32) {
            let mut counter = self.0.lock().unwrap();
            *counter += 1;
            chunk.copy_from_slice(&sha256(&[b"liaison golden vectors", &counter.to_be_bytes()])[..chunk.len()]);
        }
    }
}

mod tlog_tiles_root {
    use liaison_log::{Hash, disk::memory::MemoryDisk, tree::Tree};
    use std::sync::Arc;

    /// Root, and inclusion proof of an entry, of a small tree.
    pub(crate) fn root_of(leaves: &[&[u8]], index: u64) -> (Hash, Vec<Hash>) {
        let mut tree = Tree::new(Arc::new(MemoryDisk::default()));
        for leaf in leaves {
            tree.append(super::leaf_hash(leaf)).unwrap();
        }
        (tree.root(tree.size()).unwrap(), tree.prove_inclusion(tree.size(), index).unwrap())
    }
}

/// RFC 6962 leaf hash, spelled out.
fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(sha256(&[&[0], leaf]))
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    json!(bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Holds values against their file, or writes it.
fn pinned(name: &str, values: &Value) -> Map<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/vectors").join(name);
    if std::env::var_os("LIAISON_UPDATE").is_some() {
        fs::write(&path, format!("{values:#}\n")).unwrap();
    }
    let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(*values, file, "{name}: a byte format changed");
    file.as_object().unwrap().clone()
}

const NONCE: frame::Nonce = *b"nonce 08";
const NOW: UnixMillis = UnixMillis(1_795_500_000_000);

fn office_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn id(n: u8) -> MessageId {
    MessageId::new(NOW.plus(i64::from(n)), &Seeded(Mutex::new(u64::from(n) * 1000)))
}

fn core() -> wire::Core {
    wire::Core {
        version: 1,
        message_id: Bytes::copy_from_slice(id(1).as_bytes()),
        thread_id: Bytes::copy_from_slice(id(1).as_bytes()),
        kind: wire::Kind::CaseNotice.into(),
        step: wire::Step::Sent.into(),
        schema_version: 1,
        from: "VN-BLO-LCA".into(),
        to: vec!["CN-BLO-HKO".into()],
        corridor: "VN-CN".into(),
        created_at_ms: NOW.0,
        created_offset_minutes: 420,
        priority: wire::Priority::Urgent.into(),
        handling: wire::Handling::H2.into(),
        tlp: wire::Tlp::AmberStrict.into(),
        data_class: wire::DataClass::P3.into(),
        legal_basis: vec![wire::LegalBasis::Vncn10.into()],
        purpose: wire::Purpose::Rescue.into(),
        language: "vie".into(),
        suite: Suite::XWing.to_wire(),
        ..wire::Core::default()
    }
}

#[test]
fn pre_authentication_encoding_and_signatures_are_pinned() {
    let key = office_key();
    let mut values = Map::new();
    values.insert("seed".into(), hex(key.seed()));
    values.insert("public_key".into(), hex(key.verifying_key().as_bytes()));
    values.insert("payload".into(), hex(b"payload"));
    for payload_type in PayloadType::ALL {
        let encoded = pre_authentication_encoding(*payload_type, b"payload");
        let signature = key.sign(*payload_type, b"payload");
        key.verifying_key().verify(*payload_type, b"payload", Some(&signature)).unwrap();
        for other in PayloadType::ALL.iter().filter(|other| *other != payload_type) {
            assert!(key.verifying_key().verify(*other, b"payload", Some(&signature)).is_err(), "{other:?}");
        }
        values.insert(
            payload_type.as_str().into(),
            json!({"encoding": hex(encoded), "signature": hex(&signature.value)}),
        );
    }
    pinned("signatures.json", &Value::Object(values));
}

#[test]
fn sealing_is_pinned_for_both_suites() {
    let entropy = Seeded(Mutex::new(1));
    let content_key = ContentKey::from_bytes([7; 32]);
    let body = content_key.seal_body(b"core", b"plaintext").unwrap();
    let mut values = Map::new();
    values.insert("content_key".into(), hex(content_key.as_bytes()));
    values.insert("core".into(), hex(b"core"));
    values.insert("plaintext".into(), hex(b"plaintext"));
    values.insert("key_commitment".into(), hex(content_key.commitment()));
    values.insert("body".into(), hex(&body));
    values.insert("message_id".into(), hex(id(1).as_bytes()));
    for suite in Suite::ALL {
        let (secret, public) = DecryptionKey::generate(suite, &entropy);
        let wrap = content_key.wrap(b"core", id(1), &public, &entropy).unwrap();
        values.insert(
            format!("suite {}", suite.to_wire()),
            json!({
                "secret_key": hex(secret.secret()),
                "public_key": hex(public.bytes()),
                "key_sha256": hex(public.sha256()),
                "wrap": hex(wrap),
            }),
        );
    }
    let file = pinned("sealing.json", &Value::Object(values));
    // The other direction: what stands in the file opens, and opens for nothing else.
    for suite in Suite::ALL {
        let entry = &file[&format!("suite {}", suite.to_wire())];
        let secret = DecryptionKey::parse(suite, &unhex(&entry["secret_key"])).unwrap();
        let wrap = unhex(&entry["wrap"]);
        let key = ContentKey::unwrap(b"core", id(1), &secret, &wrap).unwrap();
        let (body, commitment) = (unhex(&file["body"]), unhex(&file["key_commitment"]));
        assert_eq!(key.open_body(b"core", &commitment, &body).unwrap().as_slice(), b"plaintext");
        assert!(ContentKey::unwrap(b"other", id(1), &secret, &wrap).is_err(), "a wrap opened for another core");
        assert!(ContentKey::unwrap(b"core", id(2), &secret, &wrap).is_err(), "a wrap opened for another message");
        assert!(key.open_body(b"other", &commitment, &body).is_err(), "a body opened for another core");
        assert!(key.open_body(b"core", &[0; 32], &body).is_err(), "a body opened against its commitment");
    }
}

#[test]
fn header_and_envelope_are_pinned() {
    let encoded = core().encode_to_vec();
    let body = Bytes::from_static(b"sealed body");
    let wrap = Bytes::from_static(b"wrap");
    let (salt, block) = (
        Bytes::from_static(&[5; 32]),
        Bytes::from(wire::StatBlock { cases: 1, subjects: 1, victims: 1, cells: Vec::new() }.encode_to_vec()),
    );
    let header = wire::Header {
        core: encoded.clone().into(),
        commitments: Some(wire::Commitments {
            body_sha256: Bytes::copy_from_slice(&sha256(&[&body])),
            body_size: body.len() as u64,
            key_commitment: Bytes::from_static(&[3; 32]),
            recipients: vec![wire::RecipientCommitment {
                key_sha256: Bytes::from_static(&[4; 32]),
                wrap_sha256: Bytes::copy_from_slice(&sha256(&[&wrap])),
            }],
            attachments: Vec::new(),
            stat_sha256: Bytes::copy_from_slice(&sha256(&[&salt, &block])),
        }),
    };
    let header = Bytes::from(header.encode_to_vec());
    let signature = office_key().sign(PayloadType::Header, &header);
    let envelope = wire::Envelope {
        header: header.clone(),
        office_signature: Some(signature),
        erasable: Some(wire::ErasableSide { wraps: vec![wrap], stat_block: block, stat_salt: salt }),
        body,
    };
    let file = pinned(
        "envelope.json",
        &json!({
            "core": hex(&encoded),
            "header": hex(&header),
            "header_sha256": hex(sha256(&[&header])),
            "envelope": hex(envelope.encode_to_vec()),
        }),
    );
    let read = wire::Envelope::decode(unhex(&file["envelope"]).as_slice()).unwrap();
    let signed = UnverifiedEnvelope::parse(read).unwrap().verify(&office_key().verifying_key().into()).unwrap();
    assert_eq!(signed.header().core().message_id, id(1));
    assert_eq!(signed.header().core_bytes()[..], encoded[..]);
}

#[test]
fn officers_and_offices_are_pinned() {
    let (authority, office, officer) = (SigningKey::from_seed(&[8; 32]), office_key(), SigningKey::from_seed(&[2; 32]));
    let office_id: OfficeId = "VN-BLO-LCA".parse().unwrap();
    let credential = wire::OfficerCredential {
        version: 1,
        office: office_id.to_string(),
        officer_id: "nguyen.lan".into(),
        display_name: "Nguyễn Thị Lan".into(),
        role: wire::Role::Officer.into(),
        public_key: Bytes::copy_from_slice(officer.verifying_key().as_bytes()),
        not_before_ms: NOW.0 - 1,
        not_after_ms: NOW.0 + 1,
        serial: 1,
    };
    let credential = SignedCredential::issue(&credential, &office);
    let signature = sign_content(b"core", b"content", &credential, &officer);
    verify_content(b"core", b"content", Some(&signature), office_id, &office.verifying_key().into(), NOW).unwrap();
    let plaintext = wire::Plaintext {
        content: Bytes::from_static(b"content"),
        officer: Some(signature),
        countersigners: Vec::new(),
    };
    let record = Bytes::from(
        wire::Office {
            version: 1,
            office: office_id.to_string(),
            names: [("eng".to_owned(), "Lao Cai".to_owned())].into(),
            gate: "VN-LCA".into(),
            signing_key: Bytes::copy_from_slice(office.verifying_key().as_bytes()),
            receipt_key: Bytes::copy_from_slice(SigningKey::from_seed(&[9; 32]).verifying_key().as_bytes()),
            serial: 1,
            previous_sha256: Bytes::new(),
        }
        .encode_to_vec(),
    );
    let record = wire::OfficeRecord {
        authority_signature: Some(authority.sign(PayloadType::OfficeRecord, &record)),
        office: record,
    };
    Office::verify(&record, &authority.verifying_key().into()).unwrap();
    let (_, public) = DecryptionKey::generate(Suite::X25519, &Seeded(Mutex::new(50)));
    let key = Bytes::from(
        wire::EncryptionKey {
            version: 1,
            office: office_id.to_string(),
            suite: Suite::X25519.to_wire(),
            public_key: public.bytes().clone(),
            not_before_ms: NOW.0,
            not_after_ms: NOW.0 + 1,
        }
        .encode_to_vec(),
    );
    let key = wire::KeyRecord { office_signature: Some(office.sign(PayloadType::KeyRecord, &key)), key };
    PublishedKey::verify(&key, &office.verifying_key().into()).unwrap();
    let mut charter = SignatureFile::default();
    charter.sign("VN".parse().unwrap(), b"charter", &authority);
    let charter = wire::CharterRecord { charter: Bytes::from_static(b"charter"), signatures: charter.to_wire() };
    let leaf = |record| {
        wire::DirectoryLeaf { version: 1, time_ms: NOW.0, record: Some(wire::DirectoryRecord { record: Some(record) }) }
            .encode_to_vec()
    };
    use wire::directory_record::Record;
    pinned(
        "officers-and-offices.json",
        &json!({
            "plaintext": hex(plaintext.encode_to_vec()),
            "office_leaf": hex(leaf(Record::Office(record))),
            "key_leaf": hex(leaf(Record::Key(key))),
            "charter_leaf": hex(leaf(Record::Charter(charter))),
        }),
    );
}

#[test]
fn leaves_checkpoints_proofs_and_tiles_are_pinned() {
    let envelope: Value = serde_json::from_str(
        &fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/vectors/envelope.json")).unwrap(),
    )
    .unwrap();
    let envelope = wire::Envelope::decode(unhex(&envelope["envelope"]).as_slice()).unwrap();
    let header = Header::parse(envelope.header.clone()).unwrap();
    let accepted = ExchangeLeaf {
        time: NOW,
        directory_size: 34,
        marks: vec![wire::Mark::ClockSkew],
        event: Event::Accepted {
            header: Box::new(header.clone()),
            signature: envelope.office_signature,
            numbers: vec![1],
        },
    }
    .encode();
    let statement = Statement {
        message_id: id(1),
        office: "CN-BLO-HKO".parse().unwrap(),
        accepted: LogIndex(0),
        header_sha256: header.sha256(),
        number: 1,
        at: NOW,
        reason: wire::CannotOpenReason::Unspecified,
    };
    let bytes = statement.encode();
    let signature = Some(SigningKey::from_seed(&[6; 32]).sign(PayloadType::Delivered, &bytes));
    let event = Event::Attested { kind: wire::StatementKind::Delivered, statement, bytes: bytes.clone(), signature };
    let delivered = ExchangeLeaf { time: NOW, directory_size: 34, marks: Vec::new(), event }.encode();
    for leaf in [&accepted, &delivered] {
        assert_eq!(&ExchangeLeaf::parse(leaf).unwrap().encode(), leaf, "a leaf reads back as another");
    }
    let signer = CheckpointSigner::new("exchange.liaison.example".into(), SigningKey::from_seed(&[11; 32]));
    let (root, hashes) = root_of(&[&accepted, &delivered, b"third"], 1);
    let checkpoint = signer.sign(3, root).unwrap();
    VerifiedCheckpoint::verify(checkpoint.note(), &signer.identity()).unwrap();
    let proof = TlogProof { extra: None, index: LogIndex(1), hashes, checkpoint: checkpoint.note().clone() };
    let encoded = Bytes::from(proof.encode());
    assert_eq!(TlogProof::parse(&encoded).unwrap(), proof);
    verify_receipt(&wire::Receipt { leaf: delivered.clone(), proof: encoded.clone() }, &signer.identity()).unwrap();
    let handed = TlogProof { extra: Some(delivered.clone()), ..proof }.encode();
    let text = |bytes: &[u8]| json!(String::from_utf8(bytes.to_vec()).unwrap());
    pinned(
        "log.json",
        &json!({
            "accepted_leaf": hex(&accepted),
            "accepted_leaf_hash": hex(leaf_hash(&accepted).0),
            "delivered_statement": hex(&bytes),
            "delivered_leaf": hex(&delivered),
            "root_of_accepted_delivered_third": hex(root.0),
            "log_seed": hex([11; 32]),
            "verifier_key": json!(verifier_key(&signer.identity())),
            "key_id": json!(format!("{:08x}", key_id(&signer.identity().origin, &signer.identity().key))),
            "checkpoint": text(checkpoint.note()),
            "proof": text(&encoded),
            "receipt_file": text(&handed),
            "bundle": hex(tiles::encode_bundle(&[accepted, delivered, Bytes::from_static(b"third")]).unwrap()),
            "tile_path_level_0_index_1234067": tiles::tile_path(0, 1_234_067, 256),
            "bundle_path_index_0_width_3": tiles::bundle_path(0, 3),
        }),
    );
}

#[test]
fn what_becomes_of_a_message_is_pinned() {
    let statement = RewrapStatement {
        message_id: id(1),
        office: "VN-BLO-LCA".parse().unwrap(),
        recipient: "CN-BLO-HKO".parse().unwrap(),
        accepted: LogIndex(7),
        key_sha256: [3; 32],
        wrap_sha256: [4; 32],
    };
    let bytes = statement.encode();
    assert_eq!(RewrapStatement::parse(&bytes).unwrap(), statement);
    let signature = Some(SigningKey::from_seed(&[6; 32]).sign(PayloadType::Rewrapped, &bytes));
    let leaf = |event, marks| ExchangeLeaf { time: NOW, directory_size: 34, marks, event }.encode();
    let rewrapped = leaf(Event::Rewrapped { statement, bytes: bytes.clone(), signature }, Vec::new());
    let channel = Channel {
        from: "VN-BLO-LCA".parse().unwrap(),
        to: "CN-BLO-HKO".parse().unwrap(),
        lane: liaison_proto::ids::Lane::Urgent,
    };
    let given_up = NonDelivery {
        message_id: id(1),
        recipient: channel.to,
        reason: wire::NonDeliveryReason::Withdrawn,
        accepted: LogIndex(7),
        channel,
        number: 2,
    };
    let given_up = leaf(Event::NonDelivery(given_up), vec![wire::Mark::StaleRevocation]);
    for leaf in [&rewrapped, &given_up] {
        assert_eq!(&ExchangeLeaf::parse(leaf).unwrap().encode(), leaf, "a leaf reads back as another");
    }
    let envelope: Value = serde_json::from_str(
        &fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/vectors/envelope.json")).unwrap(),
    )
    .unwrap();
    let envelope = wire::Envelope::decode(unhex(&envelope["envelope"]).as_slice()).unwrap();
    let header = Header::parse(envelope.header).unwrap();
    let evidence = SigningKey::from_seed(&[12; 32]);
    let refusal = sign_refusal(Refusal::new(RefusalCode::TooOld, "example"), &header, NOW, &evidence).signed.unwrap();
    assert!(is_signed_refusal(&refusal, &header, "TOO_OLD", &evidence.verifying_key().into()));
    // Two chunks: the first one full, the last one not.
    let key = ContentKey::from_bytes([8; 32]);
    let mut cipher = ChunkCipher::new(&key, 1).unwrap();
    let (mut first, mut last) = (vec![1; liaison_proto::limits::CHUNK_BYTES], b"end".to_vec());
    cipher.seal(&mut first, false).unwrap();
    cipher.seal(&mut last, true).unwrap();
    pinned(
        "aftermath.json",
        &json!({
            "rewrap_statement": hex(&bytes),
            "rewrapped_leaf": hex(&rewrapped),
            "non_delivery_leaf": hex(&given_up),
            "evidence_seed": hex([12; 32]),
            "refusal_of_envelope_json": hex(refusal.encode_to_vec()),
            "content_key": hex([8; 32]),
            "attachment_1_of_65536_times_01_and_end": {
                "sha256": hex(sha256(&[&first, &last])),
                "tag_of_the_first_chunk": hex(&first[liaison_proto::limits::CHUNK_BYTES..]),
                "last_chunk": hex(&last),
            },
        }),
    );
}

#[test]
fn stored_records_are_pinned() {
    let record = NodeRecord::Alarm(Alarm { at_ms: NOW.0, what: "example".into(), exhibit: Bytes::from_static(b"x") });
    let (kind, bytes) = record.encode();
    assert_eq!(NodeRecord::decode(kind, &bytes.clone().into()).unwrap(), record);
    assert!(NodeRecord::decode(kind, &Bytes::from_static(b"\x02")).is_err(), "a later version was read as this one");
    let frame = frame::FrameHeader::new(NONCE, 5, 1, &[b"payload"]).unwrap();
    assert!(frame.matches(NONCE, b"payload") && !frame.matches(NONCE, b"paxload"));
    let position = Position { segment: 2, offset: 99 };
    let mark = SignedMark { size: 3, root: [1; 32], bodies_end: position, bodies_sequence: 4 };
    assert_eq!(SignedMark::decode(&mark.encode()), Some(mark));
    assert_eq!(Position::from_u64(position.to_u64()), position);
    pinned(
        "stored.json",
        &json!({
            "segment_header_2": hex(frame::segment_header(NONCE, 2)),
            "frame_header_sequence_5_kind_1_of_payload": hex(frame.encode()),
            "signed_mark": hex(mark.encode()),
            "node_record_alarm": hex([&[kind][..], &bytes].concat()),
        }),
    );
}
