//! Promise 9 at the door: who gets a connection, and as whom.

use std::{path::PathBuf, sync::Arc};

use liaison_link::tls::{ALPN_H2, Identity, provider};
use liaison_proto::{
    charter::Charter,
    clock::{Clock as _, SystemClock},
    entropy::OsEntropy,
    ids::OfficeId,
    refusal::{Refusal, RefusalCode},
    wire::{self, exchange_client::ExchangeClient, log_client::LogClient},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Forger, charter, code, connect, world};

async fn calls(world: &liaison_tests::world::World, identity: &str) -> Result<(), tonic::Status> {
    let request = wire::CheckpointRequest { log: wire::LogName::Exchange.into() };
    LogClient::new(connect(world, identity)).checkpoint(request).await.map(|_| ())
}

/// Promise 9: a certificate under one country's CA is worthless for another's office, and each way of being bad gets
/// no connection, while the good ones do.
#[tokio::test]
async fn promise_9_bad_certificates_get_no_connection() {
    let (_directory, world) = world(&[]);
    for good in ["offices/VN-BLO-LCA", "offices/CN-BLO-HKO", "auditors/auditor-1"] {
        calls(&world, good).await.unwrap_or_else(|status| panic!("{good} was refused: {status}"));
    }
    let all: Vec<PathBuf> =
        std::fs::read_dir(world.path("charter/bad")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(all.len(), 10);
    for bad in all {
        let name = bad.file_name().unwrap().to_string_lossy().into_owned();
        let status = calls(&world, &format!("bad/{name}")).await.expect_err(&name);
        // The connection failed: no call was answered, not even with a refusal.
        let transport = std::error::Error::source(&status).is_some_and(|e| e.is::<tonic::transport::Error>());
        assert!(transport && Refusal::from_status(&status).is_none(), "{name}: a call was answered: {status}");
    }
    // The broker's own certificate is for serving only.
    calls(&world, "broker").await.expect_err("the broker's certificate got a connection as a client");
}

/// Promise 9: the trust store binds each CA to its country, whatever the CA's own certificate allows: here Viet Nam's
/// may issue for the whole domain, and still vouches for no office of China.
#[test]
fn promise_9_a_ca_without_constraints_vouches_for_its_own_country_only() {
    use liaison_certs_dev::authority::{Authority, Use, Validity};
    use rustls::{
        pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
        server::danger::ClientCertVerifier as _,
    };
    let directory = tempfile::tempdir().unwrap();
    let members = liaison_certs_dev::members::Members::built_in().unwrap();
    let now = SystemClock.now();
    let out = directory.path().join("dev");
    liaison_certs_dev::roles::make(&out, &members, now, &OsEntropy).unwrap();
    let charter = liaison_link::charter_files::load(&out.join("charter.toml"), None).unwrap();
    let utc = time::OffsetDateTime::from_unix_timestamp(now.0 / 1000).unwrap();
    let domain = charter.file().domain.clone();
    let generous = Authority::new("generous", &domain, Validity::days(utc, 30)).unwrap();
    let mut file = charter.file().clone();
    for country in file.country.iter_mut().filter(|country| country.code.as_str() == "VN") {
        country.ca = generous.certificate().to_owned();
    }
    let charter = Charter::parse(toml::to_string(&file).unwrap().into()).unwrap();
    use liaison_broker::revocation::Revocations;
    let verifier = liaison_broker::identity::CountryVerifier::new(charter, &Revocations::default()).unwrap();
    let accepts = |office: &str| {
        let office: OfficeId = office.parse().unwrap();
        let issued = generous.issue(&[office.dns_name(&domain)], Use::Client, Validity::days(utc, 30)).unwrap();
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        verifier.verify_client_cert(&certificate, &[], UnixTime::now()).is_ok()
    };
    assert!(accepts("VN-BLO-LCA"));
    assert!(!accepts("CN-BLO-HKO"), "Viet Nam's CA vouched for an office of China");
}

/// Promise 9: only the charter's broker may serve: a node tells nothing to whoever poses as it.
#[tokio::test]
async fn promise_9_an_office_cannot_pose_as_the_broker() {
    let (_directory, world) = world(&[]);
    for posing in ["bad/posing-as-broker", "offices/CN-BLO-HKO", "bad/server-only", "bad/self-signed"] {
        let path = PathBuf::from(world.path("charter")).join(posing);
        let identity = Identity::read(&path.join("tls.pem"), &path.join("tls.key")).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider(false)))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain, identity.key)
            .unwrap();
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config)).accept(stream).await.map(|_| ())
        });
        let charter = charter(&world);
        let client = PathBuf::from(world.path("charter/offices/VN-BLO-LCA"));
        let identity = Identity::read(&client.join("tls.pem"), &client.join("tls.key")).unwrap();
        let tls = crate::support::client(&charter, identity);
        let channel = liaison_link::dial::channel(&charter, address, tls.into(), liaison_link::net::tcp()).unwrap();
        let answer = ExchangeClient::new(channel).submit(wire::SubmitRequest::default()).await;
        assert!(answer.is_err(), "{posing}: a node spoke to it");
        assert!(server.await.unwrap().is_err(), "{posing}: the handshake succeeded");
    }
}

/// The hybrid post-quantum key exchange is what both sides choose.
#[tokio::test]
async fn connections_use_hybrid_post_quantum_key_exchange_and_tls_1_3() {
    let (_directory, world) = world(&[]);
    let charter = charter(&world);
    let path = PathBuf::from(world.path("charter/offices/VN-BLO-LCA"));
    let identity = Identity::read(&path.join("tls.pem"), &path.join("tls.key")).unwrap();
    let tls = crate::support::client(&charter, identity);
    let stream = tokio::net::TcpStream::connect(world.broker_address().unwrap()).await.unwrap();
    let name = charter.file().broker.tls_name.clone().try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let (_, connection) = stream.get_ref();
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = connection.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

/// Promise 9: with a good certificate of its own, an office still cannot speak, state or enrol for another.
#[tokio::test]
async fn promise_9_an_office_cannot_speak_for_another() {
    let (_directory, world) = world(&[]);
    let (lao_cai, hekou) = (Forger::new(&world, "VN-BLO-LCA"), Forger::new(&world, "CN-BLO-HKO"));
    let mut as_hekou = ExchangeClient::new(connect(&world, "offices/CN-BLO-HKO"));
    // An envelope that Lao Cai signed, brought by Hekou.
    let stolen = lao_cai.envelope("CN-BLO-HKO");
    let submit = |envelope| wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 };
    assert_eq!(code(as_hekou.submit(submit(stolen)).await), RefusalCode::NotYourOffice);
    // Lao Cai's connection, Hekou's signature.
    let mut forged = lao_cai.envelope("CN-BLO-HKO");
    forged.office_signature = hekou.envelope("VN-BLO-LCA").office_signature;
    let mut as_lao_cai = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
    assert_eq!(code(as_lao_cai.submit(submit(forged)).await), RefusalCode::BadSignature);
    // Viet Nam's authority enrols an office of China; Hekou publishes a key for Lao Cai.
    let mut directory = wire::directory_client::DirectoryClient::new(connect(&world, "offices/VN-BLO-LCA"));
    for record in crate::refusals::foreign_records(&world) {
        let request = wire::PublishRequest { record: Some(record), seen_size: 0 };
        assert_eq!(code(directory.publish(request).await), RefusalCode::BadRecord);
    }
}
