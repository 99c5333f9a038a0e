//! Certificates and revocation lists while the broker runs: what is replaced or revoked on the disk counts within
//! seconds, for the one it concerns and for nobody else, and a list that is late or wrong stops no message.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use liaison_broker::identity::serial_number;
use liaison_certs_dev::{
    authority::{self, Issued, Use, Validity},
    revocation::{self, List},
};
use liaison_link::tls::Identity;
use liaison_log::leaf::ExchangeLeaf;
use liaison_proto::{
    clock::{Clock as _, SystemClock},
    ids::{Lane, OfficeId},
    refusal::RefusalCode,
    wire::{self, Mark, exchange_client::ExchangeClient, log_client::LogClient},
};
use liaison_tests::{
    samples,
    world::{PATIENCE, World, eventually},
};
use rustls::{
    HandshakeKind,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;
use time::OffsetDateTime;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::client::TlsStream;
use tonic::{
    Streaming,
    codegen::tokio_stream::{self, StreamExt as _},
    transport::Channel,
};

use crate::support::{Forger, charter, client, code, connect, revoke, world};

const LAO_CAI: &str = "VN-BLO-LCA";
const MONG_CAI: &str = "VN-BLO-MBA";
const HEKOU: &str = "CN-BLO-HKO";

fn utc() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(SystemClock.now().0 / 1000).unwrap()
}

/// A list of a country's CA.
fn list(world: &World, country: &str, revoked: Vec<Vec<u8>>, issued: OffsetDateTime, days: i64) -> String {
    let next = issued + time::Duration::days(days);
    List { next, ..List::new(revoked, issued) }
        .sign(Path::new(&world.path(&format!("charter/countries/{country}"))))
        .unwrap()
}

fn put(world: &World, file: &str, list: &str) {
    revocation::put(Path::new(&world.path("charter/crl")), file, list).unwrap();
}

/// Serial number of the certificate in a file.
fn serial(world: &World, file: &str) -> Vec<u8> {
    serial_number(&CertificateDer::from_pem_file(world.path(file)).unwrap()).unwrap()
}

/// Puts a certificate or key in place of the one before, whole.
fn replace(world: &World, file: &str, text: &str) {
    let (path, new) = (world.path(file), world.path(&format!("{file}.new")));
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

/// A stream of deliveries that stays open.
async fn receives(channel: &Channel) -> Streaming<wire::Delivery> {
    let first = wire::ReceiveRequest { lane: Lane::Bulk.to_wire().into(), credit: 100 };
    let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
    ExchangeClient::new(channel.clone()).receive(requests).await.unwrap().into_inner()
}

async fn follows_evidence(channel: &Channel) -> Streaming<wire::EvidenceItem> {
    let request = wire::EvidenceRequest { from_index: 0 };
    ExchangeClient::new(channel.clone()).evidence(request).await.unwrap().into_inner()
}

/// Waits for a stream to end; what still comes before is of no interest.
async fn ends<T>(mut stream: Streaming<T>) -> bool {
    let end = async { while let Ok(Some(_)) = stream.message().await {} };
    tokio::time::timeout(PATIENCE, end).await.is_ok()
}

async fn submits(channel: &Channel, envelope: wire::Envelope) -> ExchangeLeaf {
    let request = wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 };
    let receipt = ExchangeClient::new(channel.clone()).submit(request).await.unwrap().into_inner().receipt;
    ExchangeLeaf::parse(&receipt.unwrap().leaf).unwrap()
}

/// A call that every party may make.
async fn calls(channel: Channel) -> Result<(), tonic::Status> {
    let request = wire::CheckpointRequest { log: wire::LogName::Exchange.into() };
    LogClient::new(channel).checkpoint(request).await.map(|_| ())
}

async fn soon<T: PartialEq>(wanted: T, mut look: impl AsyncFnMut() -> T) -> bool {
    let looking = async {
        while look().await != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.is_ok()
}

/// Promise 9: a certificate that gets onto its country's list is worthless from then on: no connection, and those that
/// are open end, streams under way included; the connections of other offices of the same country stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promise_9_a_revoked_certificate_is_refused_and_its_open_streams_end() {
    let (_directory, world) = world(&[]);
    let (lao_cai, mong_cai) = (connect(&world, "offices/VN-BLO-LCA"), connect(&world, "offices/VN-BLO-MBA"));
    let hekou = connect(&world, "offices/CN-BLO-HKO");
    let (receiving, evidence) = (receives(&lao_cai).await, follows_evidence(&lao_cai).await);
    let mut others = receives(&mong_cai).await;
    // One that has not said who it is yet: it waits until it is revoked.
    let waiting = TcpStream::connect(world.broker_address().unwrap()).await.unwrap();
    let tls = lao_cais_tls(&world);
    assert_eq!(handshake(&world, &tls).await.1, HandshakeKind::Full, "it is accepted by now");
    let revoked = serial(&world, "charter/offices/VN-BLO-LCA/tls.pem");
    put(&world, "vn.crl", &list(&world, "VN", vec![revoked], utc(), 30));
    assert!(ends(receiving).await && ends(evidence).await, "a revoked certificate's streams went on");
    assert!(calls(connect(&world, "offices/VN-BLO-LCA")).await.is_err(), "a revoked certificate got a connection");
    assert!(calls(lao_cai).await.is_err(), "a revoked certificate got a connection again");
    assert!(first_byte(&world, waiting, &tls).await.is_err(), "judged by the list that was there when it connected");
    // The neighbour's stream is the one that was opened before.
    submits(&hekou, Forger::new(&world, HEKOU).envelope(MONG_CAI)).await;
    let arrived = tokio::time::timeout(PATIENCE, others.message()).await.unwrap();
    assert!(arrived.unwrap().is_some(), "another office's stream ended too");
}

/// Promise 9, the other way round: an office that the directory revokes, by its country's authority, is cut within
/// seconds and gets no stream any more, although its certificate is good; nobody else is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promise_9_an_office_that_the_directory_revokes_has_its_streams_ended() {
    let (_directory, world) = world(&[]);
    let (lao_cai, hekou) = (connect(&world, "offices/VN-BLO-LCA"), connect(&world, "offices/CN-BLO-HKO"));
    let (receiving, evidence) = (receives(&lao_cai).await, follows_evidence(&lao_cai).await);
    let mut others = receives(&hekou).await;
    revoke(&world, LAO_CAI, hekou.clone()).await;
    assert!(ends(receiving).await && ends(evidence).await, "a revoked office's streams went on");
    let request = wire::EvidenceRequest { from_index: 0 };
    let again = ExchangeClient::new(lao_cai.clone()).evidence(request).await.map(|_| ());
    assert_eq!(code(again), RefusalCode::UnknownOriginator);
    let request = wire::SubmitRequest { envelope: Some(Forger::new(&world, LAO_CAI).envelope(HEKOU)), seen_size: 0 };
    assert_eq!(code(ExchangeClient::new(lao_cai).submit(request).await), RefusalCode::UnknownOriginator);
    submits(&connect(&world, "offices/VN-BLO-MBA"), Forger::new(&world, MONG_CAI).envelope(HEKOU)).await;
    let arrived = tokio::time::timeout(PATIENCE, others.message()).await.unwrap();
    assert!(arrived.unwrap().is_some(), "another office's stream ended too");
}

/// Promise 10: the revocation lists' server is gone, or sends what is not its CA's: traffic goes on, is marked where a
/// list is due, the status names the list, and a good one is used as soon as it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promise_10_a_revocation_list_that_is_missing_late_or_wrong_marks_messages_and_stops_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::create(directory.path(), Path::new(env!("CARGO_BIN_EXE_demo"))).unwrap();
    world.broker_keys.push("revocation_grace_hours = 0".into());
    let forger = Forger::new(&world, LAO_CAI);
    let is_marked = async |world: &World| {
        let leaf = submits(&connect(world, "offices/VN-BLO-LCA"), forger.envelope(HEKOU)).await;
        leaf.marks.contains(&Mark::StaleRevocation)
    };
    let says = |world: &World, what: &str| {
        let said = eventually(|| world.broker_problems().iter().any(|p| p.contains("vn.crl") && p.contains(what)));
        assert!(said, "the status does not say that vn.crl {what}: {:?}", world.broker_problems());
    };
    let good = fs::read_to_string(world.path("charter/crl/vn.crl")).unwrap();
    world.start_broker().unwrap();
    assert!(!is_marked(&world).await, "nothing is wrong");
    assert!(calls(connect(&world, "bad/revoked")).await.is_err());

    // The server is gone; the list that was read before is good for a month.
    fs::remove_file(world.path("charter/crl/vn.crl")).unwrap();
    says(&world, "is missing");
    assert!(!is_marked(&world).await, "the list read before is not late yet");
    assert!(calls(connect(&world, "bad/revoked")).await.is_err(), "the list read before was forgotten");

    // Nothing is remembered over a restart: whoever starts without a list says so.
    world.stop_broker().unwrap();
    world.start_broker().unwrap();
    says(&world, "is missing");
    assert!(is_marked(&world).await);
    let hekou = submits(&connect(&world, "offices/CN-BLO-HKO"), Forger::new(&world, HEKOU).envelope(LAO_CAI)).await;
    assert_eq!(hekou.marks, [], "another country's messages are not marked");

    let foreign = list(&world, "CN", Vec::new(), utc(), 30);
    put(&world, "vn.crl", &foreign);
    says(&world, "is not signed by the CA");
    assert!(is_marked(&world).await);
    put(&world, "vn.crl", "\u{1}garbage\u{2}");
    says(&world, "is no certificate revocation list");
    assert!(is_marked(&world).await);
    // Its CA signed it, and still it cannot be enforced: a list's number may have 20 bytes.
    let unenforceable = List { number: vec![0x41; 30], ..List::new(Vec::new(), utc()) };
    put(&world, "vn.crl", &unenforceable.sign(Path::new(&world.path("charter/countries/VN"))).unwrap());
    says(&world, "cannot be enforced");
    assert!(is_marked(&world).await);
    world.stop_broker().unwrap();
    world.start_broker().unwrap();
    says(&world, "cannot be enforced");
    assert!(is_marked(&world).await, "such a list must not stop a broker that starts");
    put(&world, "vn.crl", &list(&world, "VN", Vec::new(), utc() - time::Duration::days(2), 1));
    says(&world, "should have been renewed");
    assert!(is_marked(&world).await);

    // It comes back, and is used without a restart.
    put(&world, "vn.crl", &good);
    assert!(eventually(|| world.broker_problems().iter().all(|p| !p.contains("crl"))), "{:?}", world.broker_problems());
    assert!(!is_marked(&world).await, "a good list is there and messages are still marked");
    let revoked = async || calls(connect(&world, "bad/revoked")).await.is_err();
    assert!(soon(true, revoked).await, "the list that came back is not enforced");

    // One that is older than what is known would bring a revoked certificate back.
    put(&world, "vn.crl", &list(&world, "VN", Vec::new(), utc() - time::Duration::days(2), 30));
    says(&world, "is older than one read before");
    assert!(calls(connect(&world, "bad/revoked")).await.is_err(), "an older list brought a revoked certificate back");
    assert!(!is_marked(&world).await, "the newest good list is not late");
}

/// Makes a TLS connection and reads what the broker says first: the begin of a SETTINGS frame, which comes after any
/// session ticket, and only once the client's certificate was accepted.
async fn first_byte(
    world: &World,
    stream: TcpStream,
    config: &Arc<rustls::ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = charter(world).file().broker.tls_name.clone().try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    stream.read_u8().await?;
    Ok(stream)
}

/// By which certificate the broker served a new connection, and whether the handshake was full. A handshake during which
/// certificates or lists are replaced is cut, by design: whoever is still welcome comes again.
async fn handshake(world: &World, config: &Arc<rustls::ClientConfig>) -> (Vec<u8>, HandshakeKind) {
    let connect = async || {
        let stream = TcpStream::connect(world.broker_address().unwrap()).await?;
        first_byte(world, stream, config).await
    };
    let stream = match connect().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => connect().await.unwrap(),
        stream => stream.unwrap(),
    };
    let (_, connection) = stream.get_ref();
    let served = serial_number(&connection.peer_certificates().unwrap()[0]).unwrap();
    (served, connection.handshake_kind().unwrap())
}

fn lao_cais_tls(world: &World) -> Arc<rustls::ClientConfig> {
    let path = Path::new(&world.path("charter/offices/VN-BLO-LCA")).to_path_buf();
    let identity = Identity::read(&path.join("tls.pem"), &path.join("tls.key")).unwrap();
    Arc::new(client(&charter(world), identity))
}

/// The broker's certificate is renewed without a restart; one that cannot be used, or that no office would believe,
/// leaves the old one in use and the status says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_new_certificate_of_the_broker_is_served_without_a_restart_and_a_bad_one_is_not() {
    let (_directory, world) = world(&[]);
    let tls = lao_cais_tls(&world);
    let first = serial(&world, "charter/broker/tls.pem");
    assert_eq!(handshake(&world, &tls).await.0, first);
    let name = charter(&world).file().broker.tls_name.clone();
    let ca = world.path("charter/broker");
    let renew =
        |names: &[String]| authority::renew(Path::new(&ca), names, Use::Server, Validity::days(utc(), 90)).unwrap();
    let install = |issued: &Issued| {
        replace(&world, "charter/broker/tls.key", &issued.key);
        replace(&world, "charter/broker/tls.pem", &issued.certificate);
    };
    let second = renew(std::slice::from_ref(&name));
    install(&second);
    assert!(soon(second.serial.clone(), async || handshake(&world, &tls).await.0).await, "the old one is still served");
    let named =
        || eventually(|| world.broker_problems().iter().any(|p| p.contains("the broker's certificate on the disk")));
    let quiet = || eventually(|| world.broker_problems().iter().all(|p| !p.contains("certificate on the disk")));
    assert!(quiet());

    replace(&world, "charter/broker/tls.pem", "-----BEGIN CERTIFICATE-----\ngarbage\n-----END CERTIFICATE-----\n");
    assert!(named(), "the status does not name the garbage");
    assert_eq!(handshake(&world, &tls).await.0, second.serial);
    // A list that comes meanwhile counts all the same.
    let revoked = serial(&world, "charter/offices/VN-BLO-MBA/tls.pem");
    put(&world, "vn.crl", &list(&world, "VN", vec![revoked], utc(), 30));
    let refused = async || calls(connect(&world, "offices/VN-BLO-MBA")).await.is_err();
    assert!(soon(true, refused).await, "beside a certificate that cannot be used, no list is enforced");
    install(&renew(&["mallory.example".into()]));
    let other = |problem: &String| problem.contains("certificate on the disk") && !problem.contains("PEM");
    assert!(eventually(|| world.broker_problems().iter().any(other)), "{:?}", world.broker_problems());
    assert_eq!(handshake(&world, &tls).await.0, second.serial, "a certificate that no office believes was served");

    let third = renew(&[name]);
    install(&third);
    assert!(soon(third.serial.clone(), async || handshake(&world, &tls).await.0).await, "there is no way back");
    assert!(quiet());
}

/// An office's certificate is renewed without a restart, whichever of its two files comes first: once the old one is
/// revoked the node goes on by the new one.
#[test]
fn a_nodes_certificate_is_renewed_without_a_restart() {
    let (_directory, world) = world(&[LAO_CAI, HEKOU]);
    world.office(LAO_CAI).unlocks().unwrap();
    let before = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&before, &["DELIVERED"]));
    let old = serial(&world, "VN-BLO-LCA/keystore/tls.pem");
    let office: OfficeId = LAO_CAI.parse().unwrap();
    let name = office.dns_name(&charter(&world).file().domain);
    let ca = world.path("charter/countries/VN");
    let new = authority::renew(Path::new(&ca), &[name], Use::Client, Validity::days(utc(), 90)).unwrap();
    let problem = || {
        let status = world.office(LAO_CAI).ask(&json!({"op": "status"})).unwrap();
        status["problems"].to_string().contains("certificate")
    };
    replace(&world, "VN-BLO-LCA/keystore/tls.pem", &new.certificate);
    assert!(eventually(problem), "a certificate without its key is not named");
    replace(&world, "VN-BLO-LCA/keystore/tls.key", &new.key);
    assert!(eventually(|| !problem()), "the key came, and the certificate is still not used");
    put(&world, "vn.crl", &list(&world, "VN", vec![old], utc(), 30));
    let cut = || eventually(|| world.log("broker.log").contains("connections with a revoked certificate were cut"));
    assert!(cut(), "{}", world.log("broker.log"));
    let after = world.office(LAO_CAI).sends(samples::ROUTINE).unwrap();
    assert!(world.office(LAO_CAI).sees(&after, &["DELIVERED"]), "the node did not go on by its new certificate");
}

/// No TLS session is resumed: each connection is judged by the lists of its own time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_tls_session_is_resumed() {
    let (_directory, world) = world(&[]);
    let tls = lao_cais_tls(&world);
    for connection in 1..=3 {
        let kind = handshake(&world, &tls).await.1;
        assert_ne!(kind, HandshakeKind::Resumed, "connection {connection}");
    }
}
