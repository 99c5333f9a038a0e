//! Charters follow each other: a quorum of the authorities of one signs the next, which replaces their keys, the CAs, and
//! the keys of the broker and its logs, while messages are on their way.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use liaison_certs_dev::succession::{self, Order, Part};
use liaison_log::{checkpoint::CheckpointSigner, remote::RemoteLog};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::{CharterError, CharterFile, SignatureFile},
    clock::{Clock as _, SystemClock},
    entropy::OsEntropy,
    key_file::PrivateKey,
    office::RecordError,
    sign::{PayloadType, SigningKey},
    wire::{self, LogName, directory_record::Record, repair_client::RepairClient},
};
use liaison_tests::{
    samples,
    world::{World, eventually},
};
use serde_json::json;

use crate::support::{alarms, charter, connect, directory, missing_numbers, world};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const BAVET: &str = "KH-BLO-BVT";

/// The countries sign the next charter, which replaces these parts; the operator has the broker's new keys.
fn next_charter(world: &World, replace: &str, overlap_days: u32) {
    next_charter_with(world, &["--replace", replace, "--overlap-days", &overlap_days.to_string()]);
}

pub(crate) fn next_charter_with(world: &World, arguments: &[&str]) {
    let out = world.path("charter");
    world.run("certs-dev", &[&["--out", &out, "next-charter"], arguments].concat()).unwrap();
    let number = charter(world).number();
    for key in ["evidence.key", "log-directory.key", "log-exchange.key"] {
        let new = world.path(&format!("charter/charter-{number}/broker/{key}"));
        if Path::new(&new).exists() {
            fs::copy(new, world.path(&format!("charter/broker/{key}"))).unwrap();
        }
    }
}

fn restart_broker(world: &mut World) {
    world.stop_broker().unwrap();
    world.start_broker().unwrap();
}

/// Number of the newest charter that an office's node holds.
fn held(world: &World, office: &str) -> Option<u64> {
    world.office(office).ask(&json!({"op": "status"})).ok()?["charter"].as_u64()
}

/// New certificates, of the CAs of a charter: those of offices and auditors, the broker's, and the lists.
fn install_certificates(world: &World, number: u64, offices: &[&str]) {
    let copy = |from: &str, to: &str| {
        let (from, to) = (world.path(&format!("charter/charter-{number}/{from}")), world.path(to));
        fs::copy(from, &to).unwrap_or_else(|e| panic!("{to}: {e}"));
    };
    for file in ["tls.pem", "tls.key"] {
        copy(&format!("broker/{file}"), &format!("charter/broker/{file}"));
        copy(&format!("auditors/auditor-1/{file}"), &format!("charter/auditors/auditor-1/{file}"));
        for office in offices {
            copy(&format!("offices/{office}/{file}"), &format!("{office}/keystore/{file}"));
        }
    }
    for list in ["vn.crl", "cn.crl", "kh.crl", "la.crl", "th.crl", "auditors.crl"] {
        copy(&format!("crl/{list}"), &format!("charter/crl/{list}"));
    }
}

/// Promises 1 and 9: the second charter replaces every key that the first one named: those of authorities, CAs, evidence
/// and both logs. What was on its way arrives, on a node that was away, too; receipts and the auditor's copy of before
/// stay good; the offices go on with new certificates, and with records that the new authority keys sign; nobody raises an
/// alarm.
#[test]
fn every_key_of_the_charter_is_replaced_with_messages_in_flight() {
    let (_directory, mut world) = world(&[LAO_CAI, HEKOU, BAVET]);
    for office in [LAO_CAI, HEKOU] {
        world.office(office).unlocks().unwrap();
    }
    let mut sent = vec![world.office(LAO_CAI).sends(samples::CASE_NOTICE).unwrap()];
    assert!(world.office(LAO_CAI).sees(&sent[0], &["RETRIEVED"]));
    let copy = world.path("copy");
    assert_eq!(world.audit(&["mirror", "--copy", &copy]).unwrap().0, 0);
    let receipt = world.path("receipt");
    let socket = world.socket(LAO_CAI).display().to_string();
    world.run("liaison", &["--socket", &socket, "receipt", &sent[0], "--output", &receipt]).unwrap();
    // At the broker, and not delivered; then in the outbox, while the broker is away.
    world.stop_node(HEKOU).unwrap();
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());
    assert!(world.office(LAO_CAI).sees(&sent[1], &["ACCEPTED"]));
    world.stop_broker().unwrap();
    sent.push(world.office(LAO_CAI).sends(samples::ROUTINE).unwrap());

    next_charter(&world, "authorities,cas,evidence,logs", 30);
    world.start_broker().unwrap();
    assert!(eventually(|| held(&world, LAO_CAI) == Some(2)), "{}", world.log("VN-BLO-LCA.log"));
    assert!(world.office(LAO_CAI).sees(&sent[2], &["ACCEPTED"]), "{}", world.office(LAO_CAI).state_of(&sent[2]));
    world.start_node(HEKOU).unwrap();
    world.office(HEKOU).unlocks().unwrap();
    for message in &sent {
        assert!(world.office(LAO_CAI).sees(message, &["RETRIEVED"]), "{}", world.office(LAO_CAI).state_of(message));
    }

    // The certificates of the CAs before are good for a while; then those of the new ones are in use.
    let ending = |problem: &String| problem.contains("certificate is of a CA that holds until");
    assert!(world.broker_problems().iter().any(ending), "{:?}", world.broker_problems());
    install_certificates(&world, 2, &[LAO_CAI, HEKOU, BAVET]);
    restart_broker(&mut world);
    for office in [LAO_CAI, HEKOU] {
        world.stop_node(office).unwrap();
        world.start_node(office).unwrap();
        assert_eq!(held(&world, office), Some(2), "{office} did not keep the charter");
        world.office(office).unlocks().unwrap();
    }
    let after = world.office(HEKOU).sends(&samples::ROUTINE.replace(HEKOU, LAO_CAI)).unwrap();
    assert!(world.office(HEKOU).sees(&after, &["RETRIEVED"]), "{}", world.office(HEKOU).state_of(&after));

    // The old authority's key signs for the overlap, the new one from now on.
    for (office, key) in [(LAO_CAI, "charter/countries/VN"), (HEKOU, "charter/charter-2/countries/CN")] {
        let (request, signed) = (world.path(&format!("{office}.request")), world.path(&format!("{office}.signed")));
        let socket = world.socket(office).display().to_string();
        world.run("liaison", &["--socket", &socket, "renew-office-keys", "--output", &request]).unwrap();
        let authority = world.path(&format!("{key}/authority.key"));
        world
            .run("certs-dev", &["sign-office", "--authority", &authority, "--request", &request, "--output", &signed])
            .unwrap();
        world.run("liaison", &["--socket", &socket, "publish", &signed]).unwrap();
    }
    let last = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&last, &["RETRIEVED"]));

    // Whoever knows the first charter alone does not know the broker any more, and is given the second one by hand.
    assert!(world.audit(&["mirror", "--copy", &copy]).is_err());
    for file in ["charter-2.toml", "charter-2.sig"] {
        fs::copy(world.path(&format!("charter/{file}")), world.path(&format!("given/{file}"))).unwrap();
    }
    let (code, said) = world.audit(&["mirror", "--copy", &copy]).unwrap();
    assert_eq!(code, 0, "{said}");
    let (code, verdict) = world.audit(&["verify", "--copy", &copy]).unwrap();
    assert_eq!((code, verdict["findings"].as_array().map(Vec::len)), (0, Some(0)), "{verdict}");
    let (code, proven) = world.audit(&["receipt", &receipt, "--copy", &copy]).unwrap();
    assert_eq!((code, &proven["in_copy"]), (0, &json!(true)), "{proven}");
    for office in [LAO_CAI, HEKOU, BAVET] {
        assert_eq!(alarms(&world, office), json!([]), "{office}");
        assert_eq!(missing_numbers(&world, office), json!([]), "{office}");
    }
}

/// Signs a charter with the first charter's authority keys, as it stands.
fn signed(world: &World, file: &CharterFile, countries: &[&str]) -> (Bytes, SignatureFile) {
    let bytes = Bytes::from(toml::to_string(file).unwrap());
    let mut signatures = SignatureFile::default();
    for country in countries {
        let key = Path::new(&world.path("charter/countries")).join(country).join("authority.key");
        signatures.sign(country.parse().unwrap(), &bytes, &PrivateKey::read_signing(&key).unwrap());
    }
    (bytes, signatures)
}

/// Promise 9: what is outside the chain is refused, and nothing else: too few signatures, another charter before, a
/// number left out, names that change, a key that was used before for anything, a new key that does not sign itself, an
/// overlap without end, a log that begins anew without saying where the one before ended.
#[test]
fn only_a_quorum_of_the_charter_before_makes_the_next_one() {
    let (_directory, world) = world(&[]);
    let first = Arc::new(charter(&world));
    let order = |replace: &[Part]| Order {
        replace: replace.iter().copied().collect(),
        overlap_days: 30,
        closed: None,
        absent: BTreeSet::new(),
    };
    let made = |order: &Order| {
        let out = tempfile::tempdir().unwrap();
        let copied = std::process::Command::new("cp").arg("-r").arg(world.path("charter")).arg(out.path()).status();
        assert!(copied.unwrap().success());
        succession::next(&out.path().join("charter"), order, SystemClock.now(), &OsEntropy)
    };
    let good = made(&order(&[Part::Logs])).unwrap();
    let four = made(&Order { absent: [("TH".parse().unwrap())].into(), ..order(&[]) }).unwrap();
    assert_eq!((good.number(), four.number()), (2, 2));
    let few = made(&Order { absent: ["TH", "LA"].map(|code| code.parse().unwrap()).into(), ..order(&[]) });
    assert!(few.unwrap_err().to_string().contains("charter"), "three of five made a charter");

    let all = ["VN", "KH", "LA", "CN", "TH"];
    let judged = |change: &dyn Fn(&mut CharterFile), countries: &[&str]| {
        let mut file = good.file().clone();
        change(&mut file);
        let (bytes, signatures) = signed(&world, &file, countries);
        first.succeed(bytes, signatures.to_wire()).map(|charter| charter.number())
    };
    assert_eq!(judged(&|_| {}, &all), Ok(2));
    assert_eq!(judged(&|_| {}, &all[1..]), Ok(2), "four of five are a quorum");
    assert_eq!(judged(&|_| {}, &all[2..]), Err(CharterError::Quorum { signed: 3, needed: 4 }));
    assert_eq!(judged(&|_| {}, &["VN", "VN", "VN", "VN", "VN"]), Err(CharterError::Quorum { signed: 1, needed: 4 }));
    let authority = first.file().country[0].authority.clone();
    let evidence = first.file().broker.evidence_key.clone();
    let fresh = good.file().log[0].key.clone();
    type Change<'a> = Box<dyn Fn(&mut CharterFile) + 'a>;
    let outside: [(&str, Change); 9] = [
        ("a number left out", Box::new(|file| file.number = 3)),
        ("another before", Box::new(|file| file.succession.as_mut().unwrap().previous_sha256 = "00".repeat(32))),
        ("an endless overlap", Box::new(|file| file.succession.as_mut().unwrap().overlap_days = 3650)),
        ("another domain", Box::new(|file| file.domain = "other.example".into())),
        ("another broker", Box::new(|file| file.broker.tls_name = format!("x.{}", file.broker.tls_name))),
        ("an authority's key as evidence key", Box::new(|file| file.broker.evidence_key = authority.clone())),
        (
            "keys that change places",
            Box::new(|file| {
                file.broker.evidence_key = fresh.clone();
                file.log[0].key = evidence.clone();
            }),
        ),
        ("a log that begins anew", Box::new(|file| file.log[1].origin = "new.example".into())),
        ("an earlier time", Box::new(|file| file.issued = "2020-01-01T00:00:00Z".into())),
    ];
    for (what, change) in outside {
        assert!(matches!(judged(&*change, &all), Err(CharterError::Rule(_))), "{what}: {:?}", judged(&*change, &all));
    }
    // The old keys of everybody make nobody's new key: its holder signs, too.
    let rotated = made(&order(&[Part::Authorities])).unwrap();
    let (bytes, signatures) = signed(&world, rotated.file(), &all);
    assert!(matches!(first.succeed(bytes, signatures.to_wire()), Err(CharterError::Unsigned(_))));
    // A key that was replaced does not come back.
    let mut back = good.file().clone();
    back.number = 3;
    back.succession.as_mut().unwrap().previous_sha256 = good.fingerprint();
    back.log.clone_from(&first.file().log);
    let (bytes, signatures) = signed(&world, &back, &all);
    assert!(matches!(Arc::new(good).succeed(bytes, signatures.to_wire()), Err(CharterError::Rule(_))));
}

/// Promise 9: what a charter replaced ends with its overlap: an authority's key signs no record after it, and a certificate
/// of a CA before opens no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_was_replaced_ends_with_the_overlap() {
    let (_directory, mut world) = world(&[]);
    let old_key = PrivateKey::read_signing(Path::new(&world.path("charter/countries/VN/authority.key"))).unwrap();
    let mut state = directory(&world);
    let stolen = PrivateKey::read_signing(Path::new(&world.path("charter/broker/log-exchange.key"))).unwrap();
    let stolen = CheckpointSigner::new(charter(&world).exchange_log().origin.clone(), stolen);
    next_charter(&world, "authorities,cas,logs", 0);
    let second = charter(&world);
    let now = SystemClock.now();
    let entered = wire::DirectoryRecord { record: Some(Record::Charter(second.record())) };
    state.apply(&entered, now).unwrap();
    let record = |authority: &SigningKey| {
        let office = LAO_CAI.parse().unwrap();
        let last = state.office(office, state.size()).unwrap();
        let key = || Bytes::copy_from_slice(SigningKey::generate(&OsEntropy).verifying_key().as_bytes());
        let office: Bytes = wire::Office {
            version: 1,
            office: LAO_CAI.into(),
            names: last.names.clone(),
            gate: String::new(),
            signing_key: key(),
            receipt_key: key(),
            serial: 2,
            previous_sha256: Bytes::copy_from_slice(&last.sha256),
        }
        .encode_to_vec()
        .into();
        let authority_signature = Some(authority.sign(PayloadType::OfficeRecord, &office));
        wire::DirectoryRecord { record: Some(Record::Office(wire::OfficeRecord { office, authority_signature })) }
    };
    let new_key = world.path("charter/charter-2/countries/VN/authority.key");
    let new_key = PrivateKey::read_signing(Path::new(&new_key)).unwrap();
    let late = second.overlap_end();
    assert!(state.clone().apply(&record(&old_key), late.plus(-1)).is_ok());
    assert!(matches!(state.clone().apply(&record(&old_key), late), Err(RecordError::Signature(_))));
    assert!(state.clone().apply(&record(&new_key), late).is_ok());

    install_certificates(&world, 2, &[]);
    restart_broker(&mut world);
    let asks = async |who: &str| RemoteLog::new(connect(&world, who), LogName::Directory).charters(1).await;
    assert_eq!(asks("charter-2/offices/VN-BLO-LCA").await.unwrap().len(), 1);
    assert!(asks("offices/VN-BLO-LCA").await.is_err(), "a certificate of the CA before is believed after the overlap");
    // Whoever stole the log's key before does not make it look as if entries were lost.
    let ahead = stolen.sign(1000, liaison_log::Hash([7; 32])).unwrap();
    let shown = wire::PresentRequest { exchange: ahead.note().clone(), ..wire::PresentRequest::default() };
    let mut repair = RepairClient::new(connect(&world, "charter-2/offices/VN-BLO-LCA"));
    let answer = repair.present(shown).await.unwrap().into_inner();
    assert!(answer.lost.is_empty() && !answer.closed, "a key that was replaced closed the broker: {answer:?}");
}
