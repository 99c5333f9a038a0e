//! Keys of a running office are replaced while messages are on their way: signing and receipt key by a new record of its
//! country's authority, officers' keys and credentials by the office.

use std::fs;

use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{Clock as _, DAY_MS, SystemClock},
    directory::Directory,
    entropy::OsEntropy,
    key_file::PrivateKey,
    limits,
    office::Office,
    refusal::RefusalCode,
    sign::{PayloadType, SigningKey},
    wire::{self, directory_record::Record, exchange_client::ExchangeClient},
};
use liaison_tests::{
    samples,
    world::{PASSPHRASE, World, eventually},
};
use serde_json::{Value, json};

use crate::support::{Forger, alarms, charter, code, connect, directory, missing_numbers, world};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";

/// The office asks for new keys, its authority signs, the node publishes; waits until they are in the directory.
fn renew_office_keys(world: &World, office: &str) {
    let (request, signed) = (world.path("request"), world.path("signed"));
    let socket = world.socket(office).display().to_string();
    world.run("liaison", &["--socket", &socket, "renew-office-keys", "--output", &request]).unwrap();
    let authority = world.path(&format!("charter/countries/{}/authority.key", &office[..2]));
    let sign = ["sign-office", "--authority", &authority, "--request", &request, "--output", &signed];
    world.run("certs-dev", &sign).unwrap();
    let before = world.broker_status().unwrap()["directory_entries"].as_u64().unwrap();
    world.run("liaison", &["--socket", &socket, "publish", &signed]).unwrap();
    let entered = || world.broker_status().unwrap()["directory_entries"].as_u64() == Some(before + 1);
    assert!(eventually(entered), "{:?}", world.office(office).ask(&json!({"op": "status"})));
}

fn public_keys(world: &World, office: &str) -> Value {
    serde_json::from_slice(&fs::read(world.path(&format!("{office}/keystore/public.json"))).unwrap()).unwrap()
}

/// Promises 1 and 9: an office goes on with new signing and receipt keys while messages are on their way in both
/// directions, in its outbox, and unanswered; everything arrives and is opened, by the old keys and the new ones, on a
/// node that was locked or away meanwhile, too; the auditor finds nothing wrong.
#[test]
fn signing_and_receipt_keys_are_replaced_with_messages_in_flight() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let mut sent = vec![world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap()];
    assert!(world.office(LAO_CAI).sees(&sent[0], &["RETRIEVED"]));
    let before = public_keys(&world, LAO_CAI);
    // Signed and not delivered; and signed by the old keys in the outbox, while the broker is away.
    world.stop_node(HEKOU).unwrap();
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    assert!(world.office(LAO_CAI).sees(&sent[1], &["ACCEPTED"]));
    // A slot that nobody can read stands in nobody's way.
    fs::write(world.path(&format!("{LAO_CAI}/keystore/slots/OLD.slot")), "not a slot").unwrap();
    renew_office_keys(&world, LAO_CAI);
    let socket = world.socket(LAO_CAI).display().to_string();
    let said = world.run("liaison", &["--socket", &socket, "renew-storage-keys"]).unwrap();
    assert!(said.contains("nguyen.lan"), "{said}");
    let adopted = || public_keys(&world, LAO_CAI)["signing"] != before["signing"];
    assert!(eventually(adopted), "{:?}", world.office(LAO_CAI).ask(&json!({"op": "status"})));
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    assert!(world.office(LAO_CAI).sees(&sent[2], &["ACCEPTED"]), "{}", world.office(LAO_CAI).state_of(&sent[2]));
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    for message in &sent {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(message));
        assert!(world.office(HEKOU).shows(message).unwrap()["text"].is_string());
        assert!(world.office(LAO_CAI).shows(message).unwrap()["text"].is_string(), "it cannot read what it sent");
    }

    // Locked while the directory takes the record: its receipt key is the new one at once, its signing key later.
    let before = public_keys(&world, HEKOU);
    let (request, signed) = (world.path("request-2"), world.path("signed-2"));
    let socket = world.socket(HEKOU).display().to_string();
    world.run("liaison", &["--socket", &socket, "renew-office-keys", "--output", &request]).unwrap();
    let authority = world.path("charter/countries/CN/authority.key");
    world
        .run("certs-dev", &["sign-office", "--authority", &authority, "--request", &request, "--output", &signed])
        .unwrap();
    world.stop_broker().unwrap();
    let waiting = world.office(HEKOU).acknowledges(&sent[0]).unwrap();
    world.run("liaison", &["--socket", &socket, "publish", &signed]).unwrap();
    world.office(HEKOU).ask(&json!({"op": "lock"})).unwrap();
    world.start_broker().unwrap();
    assert!(eventually(|| public_keys(&world, HEKOU)["receipt"] != before["receipt"]));
    assert_eq!(public_keys(&world, HEKOU)["signing"], before["signing"]);
    assert!(world.office(HEKOU).sees(&waiting, &["RETRIEVED"]), "what the old key signed was refused");
    let to_locked = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&to_locked, &["DELIVERED"]), "it cannot sign DELIVERED while it is locked");
    // A crash between the two changes nothing.
    world.kill_node(HEKOU).unwrap();
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    assert!(world.office(LAO_CAI).sees(&to_locked, &["RETRIEVED"]));
    assert!(eventually(|| public_keys(&world, HEKOU)["signing"] != before["signing"]));
    let answer = world.office(HEKOU).acknowledges(&sent[1]).unwrap();
    assert!(world.office(HEKOU).sees(&answer, &["RETRIEVED"]));
    for office in [LAO_CAI, HEKOU] {
        assert_eq!(alarms(&world, office), json!([]), "{office} was alarmed by keys that it ordered");
        assert_eq!(missing_numbers(&world, office), json!([]));
    }
    let copy = world.path("audit");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let (found, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((found, &verdict["findings"]), (0, &json!([])), "{verdict:#}");
}

/// An officer's credential is renewed by the officer while it is valid, or by a supervisor; a new key of their own needs
/// the officer's passphrase. Counterparts go on to see the person.
#[test]
fn officers_get_new_credentials_and_keys_while_messages_are_on_their_way() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let slot = || fs::read(world.path(&format!("{LAO_CAI}/keystore/slots/nguyen.lan.slot"))).unwrap();
    let renew = |officer: &str, passphrase: Option<&str>| {
        world.office(LAO_CAI).ask(&json!({"op": "renew-officer", "officer": officer, "passphrase": passphrase}))
    };
    let mut sent = vec![world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap()];
    let before = slot();
    renew("nguyen.lan", None).unwrap();
    assert_ne!(slot(), before);
    sent.push(world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap());
    let before = slot();
    assert!(renew("nguyen.lan", Some("not the passphrase")).is_err());
    assert_eq!(slot(), before, "a wrong passphrase changed the officer's key");
    renew("nguyen.lan", Some(PASSPHRASE)).unwrap();
    sent.push(world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap());
    let refused = renew("tran.hung", None).unwrap_err().to_string();
    assert!(refused.contains("NOT_PERMITTED"), "an officer renewed another one: {refused}");
    world.office(LAO_CAI).ask(&json!({"op": "lock"})).unwrap();
    world.office(LAO_CAI).ask(&json!({"op": "unlock", "officer": "tran.hung", "passphrase": PASSPHRASE})).unwrap();
    renew("nguyen.lan", None).unwrap();
    world.office(LAO_CAI).unlocks().unwrap();
    sent.push(world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap());
    for message in &sent {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(message));
        assert_eq!(world.office(HEKOU).shows(message).unwrap()["officer"]["id"], "nguyen.lan");
    }
}

/// Promise 9: a record that the office did not order is an alarm, also one that brings keys of its own back; and an office
/// that was revoked can ask for the record that enrols it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promise_9_an_office_is_alarmed_by_records_that_it_did_not_order() {
    let (_directory, world) = world(&[LAO_CAI]);
    world.office(LAO_CAI).unlocks().unwrap();
    let before = public_keys(&world, LAO_CAI);
    renew_office_keys(&world, LAO_CAI);
    assert!(eventually(|| public_keys(&world, LAO_CAI)["signing"] != before["signing"]));
    assert_eq!(alarms(&world, LAO_CAI), json!([]));
    let publish = async |record: wire::DirectoryRecord| {
        let mut directory = wire::directory_client::DirectoryClient::new(connect(&world, "offices/VN-BLO-MBA"));
        directory.publish(wire::PublishRequest { record: Some(record), seen_size: 0 }).await.unwrap();
    };
    let mirrored = || {
        liaison_log::mirror::Mirror::open(
            std::sync::Arc::new(liaison_log::disk::OsDisk::new(world.path(&format!("{LAO_CAI}/directory")))),
            charter(&world).directory_log().clone(),
            1000,
        )
    };
    let mut state = Directory::new(charter(&world));
    mirrored().unwrap().entries().iter().for_each(|entry| state.apply_leaf(entry).unwrap());
    let forger = Forger::new(&world, LAO_CAI);
    let mut record = next_record(&world, state.office(forger.office, state.size()).unwrap(), &forger.signing);
    let Some(Record::Office(office)) = &mut record.record else { panic!("not an office record") };
    let mut former = wire::Office::decode(office.office.clone()).unwrap();
    former.receipt_key = Bytes::copy_from_slice(forger.receipt.verifying_key().as_bytes());
    office.office = former.encode_to_vec().into();
    let authority = PrivateKey::read_signing(world.path("charter/countries/VN/authority.key").as_ref()).unwrap();
    office.authority_signature = Some(authority.sign(PayloadType::OfficeRecord, &office.office));
    publish(record).await;
    let alarmed = |part: &str| alarms(&world, LAO_CAI).to_string().contains(part);
    assert!(eventually(|| alarmed("did not order")), "its own former keys were brought back, and nobody was told");
    publish(revocation(&world, LAO_CAI)).await;
    assert!(eventually(|| alarms(&world, LAO_CAI).as_array().unwrap().len() == 1), "one thing is told once");
    // What an officer has seen is no longer counted, and told again when it happens again.
    let unseen = || world.office(LAO_CAI).ask(&json!({"op": "status"})).unwrap()["alarms"].clone();
    let newest = alarms(&world, LAO_CAI)[0]["at_ms"].clone();
    assert_eq!(unseen(), 1);
    world.office(LAO_CAI).ask(&json!({"op": "alarms-seen", "up_to_ms": newest})).unwrap();
    assert_eq!(alarms(&world, LAO_CAI)[0]["seen_by"], "nguyen.lan");
    assert!(eventually(|| unseen() == 1), "it is still so, and nobody is told");
    let revoked = || world.office(LAO_CAI).ask(&json!({"op": "status"})).unwrap()["directory_entries"].as_u64();
    assert!(eventually(|| revoked() == Some(state.size() + 2)));
    let answer = world.office(LAO_CAI).ask(&json!({"op": "renew-office-keys"})).unwrap();
    assert_eq!(answer["serial"], 4, "a revoked office cannot ask for its record");
}

/// The next record of an office, with other keys, signed by its authority.
fn next_record(world: &World, office: &Office, signing: &SigningKey) -> wire::DirectoryRecord {
    let authority = world.path(&format!("charter/countries/{}/authority.key", office.id.country()));
    let authority = PrivateKey::read_signing(authority.as_ref()).unwrap();
    let record = wire::Office {
        version: 1,
        office: office.id.to_string(),
        names: office.names.clone(),
        gate: office.gate.clone().unwrap_or_default(),
        signing_key: Bytes::copy_from_slice(signing.verifying_key().as_bytes()),
        receipt_key: Bytes::copy_from_slice(SigningKey::generate(&OsEntropy).verifying_key().as_bytes()),
        serial: office.serial + 1,
        previous_sha256: Bytes::copy_from_slice(&office.sha256),
    };
    let office = Bytes::from(record.encode_to_vec());
    let authority_signature = Some(authority.sign(PayloadType::OfficeRecord, &office));
    wire::DirectoryRecord { record: Some(Record::Office(wire::OfficeRecord { office, authority_signature })) }
}

fn revocation(world: &World, office: &str) -> wire::DirectoryRecord {
    let authority = world.path(&format!("charter/countries/{}/authority.key", &office[..2]));
    let authority = PrivateKey::read_signing(authority.as_ref()).unwrap();
    let at_ms = SystemClock.now().0;
    let revocation = wire::Revocation { version: 1, office: office.to_owned(), key_sha256: Bytes::new(), at_ms };
    let revocation = Bytes::from(revocation.encode_to_vec());
    let authority_signature = Some(authority.sign(PayloadType::Revocation, &revocation));
    let record = Record::Revoked(wire::RevocationRecord { revocation, authority_signature });
    wire::DirectoryRecord { record: Some(record) }
}

/// Promise 9: a replaced key is good for 7 days and not a millisecond longer, judged by the entry's time; a revocation
/// ends it at once; a key before that is never good again.
#[test]
fn promise_9_a_replaced_key_is_good_for_its_days_of_overlap_and_a_revoked_one_for_none() {
    let (_directory, world) = world(&[]);
    let old = Forger::new(&world, LAO_CAI).signing;
    let id = LAO_CAI.parse().unwrap();
    let payload = b"a header";
    let good = |directory: &Directory, key: &SigningKey, at| {
        let keys = directory.signing_keys(id, directory.size(), at).unwrap();
        keys.verify(PayloadType::Header, payload, Some(&key.sign(PayloadType::Header, payload))).is_ok()
    };
    let now = SystemClock.now();
    let last = now.plus(limits::KEY_OVERLAP_DAYS * DAY_MS);
    let (second, third) = (SigningKey::generate(&OsEntropy), SigningKey::generate(&OsEntropy));
    let office = |directory: &Directory| directory.office(id, directory.size()).unwrap().clone();

    let mut plain = directory(&world);
    let before = plain.size();
    plain.apply(&next_record(&world, &office(&plain), &second), now).unwrap();
    assert!(good(&plain, &old, last) && good(&plain, &second, last), "the overlap is too short");
    assert!(!good(&plain, &old, last.plus(1)), "the replaced key is good for ever");
    assert!(plain.signing_keys(id, before, last.plus(1)).is_some(), "what was judged before stays judged");
    // A further record shortens nobody's overlap, and lengthens none: each key has its own days.
    let later = now.plus(3 * DAY_MS);
    plain.apply(&next_record(&world, &office(&plain), &third), later).unwrap();
    assert!(good(&plain, &old, last) && !good(&plain, &old, last.plus(1)));
    let last_of_second = later.plus(limits::KEY_OVERLAP_DAYS * DAY_MS);
    assert!(good(&plain, &second, last_of_second) && !good(&plain, &second, last_of_second.plus(1)));
    // Whatever time an entry claims, it is not before the directory that it names.
    let much_later = last_of_second.plus(DAY_MS);
    plain.apply(&next_record(&world, &office(&plain), &third), much_later).unwrap();
    assert!(!good(&plain, &old, now) && !good(&plain, &second, now), "an entry dated back makes an old key good");

    let mut revoked = directory(&world);
    revoked.apply(&revocation(&world, LAO_CAI), now).unwrap();
    let known = directory(&world);
    revoked.apply(&next_record(&world, &office(&known), &second), now).unwrap();
    assert!(good(&revoked, &second, now) && !good(&revoked, &old, now), "a revoked key is good again");
    let mut after = directory(&world);
    after.apply(&next_record(&world, &office(&after), &second), now).unwrap();
    after.apply(&revocation(&world, LAO_CAI), now).unwrap();
    assert!(after.signing_keys(id, after.size(), now).is_none());
}

/// Promise 9: the broker takes a message by the replaced key of an office in its overlap, and none of a revoked one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promise_9_the_broker_takes_nothing_by_a_revoked_key() {
    let (_directory, world) = world(&[]);
    let mut forger = Forger::new(&world, LAO_CAI);
    let mut exchange = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    let publish = async |record: wire::DirectoryRecord| {
        let mut directory = wire::directory_client::DirectoryClient::new(connect(&world, "offices/VN-BLO-LCA"));
        directory.publish(wire::PublishRequest { record: Some(record), seen_size: 0 }).await.unwrap();
    };
    let mut state = directory(&world);
    let submit = |envelope| wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 };
    let old = forger.envelope(HEKOU);
    let (second, third) = (SigningKey::generate(&OsEntropy), SigningKey::generate(&OsEntropy));
    let record = next_record(&world, state.office(forger.office, state.size()).unwrap(), &second);
    publish(record.clone()).await;
    state.apply(&record, SystemClock.now()).unwrap();
    exchange.submit(submit(old)).await.unwrap();
    let old = forger.envelope(HEKOU);
    forger.signing = second;
    exchange.submit(submit(forger.envelope(HEKOU))).await.unwrap();
    publish(revocation(&world, LAO_CAI)).await;
    let record = next_record(&world, state.office(forger.office, state.size()).unwrap(), &third);
    publish(record).await;
    assert_eq!(code(exchange.submit(submit(forger.envelope(HEKOU))).await), RefusalCode::BadSignature);
    assert_eq!(code(exchange.submit(submit(old)).await), RefusalCode::BadSignature);
    forger.signing = third;
    exchange.submit(submit(forger.envelope(HEKOU))).await.unwrap();
}
