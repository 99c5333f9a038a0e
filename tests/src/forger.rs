//! A client that speaks with an office's own keys and can say anything: for tests and benchmarks.

#![expect(clippy::unwrap_used, reason = "a world that is not whole ends the test or benchmark")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use liaison_link::{
    charter_files, dial, net,
    time::FlooredTime,
    tls::{self, Identity},
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::Charter,
    clock::{Clock, SystemClock, UnixMillis},
    directory::Directory,
    entropy::{Entropy, OsEntropy},
    ids::{MessageId, OfficeId},
    key_file::PrivateKey,
    seal::{ContentKey, Suite},
    sha256,
    sign::{PayloadType, SigningKey},
    wire,
};
use tonic::transport::Channel;

use crate::world::World;

/// The charter of a world.
#[must_use]
pub fn charter(world: &World) -> Charter {
    charter_files::load(Path::new(&world.path("charter/charter.toml")), None).unwrap()
}

/// The directory that the charter's records add up to.
#[must_use]
pub fn directory(world: &World) -> Directory {
    directory_of(Path::new(&world.path("charter")), charter(world), SystemClock.now())
}

fn directory_of(root: &Path, charter: Charter, now: UnixMillis) -> Directory {
    let mut directory = Directory::new(charter);
    let files = std::fs::read_dir(root.join("records")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let record = wire::DirectoryRecord::decode(std::fs::read(file).unwrap().as_slice()).unwrap();
        directory.apply(&record, now).unwrap();
    }
    directory
}

/// A certificate below the charter's directory, with its key.
#[must_use]
pub fn identity(root: &Path, name: &str) -> Identity {
    let path = root.join(name);
    Identity::read(&path.join("tls.pem"), &path.join("tls.key")).unwrap()
}

/// A connection with any certificate below the charter's directory.
#[must_use]
pub fn connect(world: &World, identity: &str) -> Channel {
    let charter = charter(world);
    let identity = self::identity(Path::new(&world.path("charter")), identity);
    let address = world.broker_address().unwrap().parse().unwrap();
    dial::channel(&charter, address, client(&charter, identity).into(), net::tcp()).unwrap()
}

/// TLS settings of a client, by the system's clock.
#[must_use]
pub fn client(charter: &Charter, identity: Identity) -> rustls::ClientConfig {
    client_by(charter, identity, Arc::new(SystemClock))
}

/// TLS settings of a client, by a clock.
#[must_use]
pub fn client_by(charter: &Charter, identity: Identity, clock: Arc<dyn Clock>) -> rustls::ClientConfig {
    let time = FlooredTime::new(clock, charter, UnixMillis(0));
    tls::client_config(&charter.file().broker.ca, identity, false, time).unwrap()
}

/// Speaks with an office's own keys, and says whatever a test wants.
pub struct Forger {
    /// In whose name.
    pub office: OfficeId,
    /// Its signing key.
    pub signing: SigningKey,
    /// Its receipt key.
    pub receipt: SigningKey,
    /// What the charter's records add up to.
    pub directory: Directory,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// The parts of an envelope that a test may change before it is signed.
pub struct Parts {
    /// What the officers sign.
    pub core: wire::Core,
    /// What the office signs beside it.
    pub commitments: wire::Commitments,
    /// Wraps.
    pub erasable: wire::ErasableSide,
    /// Sealed.
    pub body: Bytes,
}

impl Forger {
    /// With the keys of an office of a world.
    #[must_use]
    pub fn new(world: &World, office: &str) -> Self {
        let root = PathBuf::from(world.path("charter"));
        Self::of(&root, charter(world), office, Arc::new(SystemClock), Arc::new(OsEntropy))
    }

    /// With the keys of an office below a charter's directory.
    #[must_use]
    pub fn of(root: &Path, charter: Charter, office: &str, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let path = root.join("offices").join(office);
        Self {
            office: office.parse().unwrap(),
            signing: PrivateKey::read_signing(&path.join("signing.key")).unwrap(),
            receipt: PrivateKey::read_signing(&path.join("receipt.key")).unwrap(),
            directory: directory_of(root, charter, clock.now()),
            clock,
            entropy,
        }
    }

    /// A sound core to one recipient.
    #[must_use]
    pub fn core(&self, to: &str) -> wire::Core {
        let now = self.clock.now();
        let id = Bytes::copy_from_slice(MessageId::new(now, self.entropy.as_ref()).as_bytes());
        let recipient: OfficeId = to.parse().unwrap();
        wire::Core {
            version: 1,
            message_id: id.clone(),
            thread_id: id,
            kind: wire::Kind::Test.into(),
            step: wire::Step::Sent.into(),
            schema_version: 1,
            from: self.office.to_string(),
            to: vec![to.to_owned()],
            corridor: self.directory.charter().corridor(self.office, &[recipient]).unwrap_or_default(),
            created_at_ms: now.0,
            created_offset_minutes: 420,
            priority: wire::Priority::Routine.into(),
            handling: wire::Handling::H0.into(),
            tlp: wire::Tlp::Green.into(),
            data_class: wire::DataClass::P0.into(),
            legal_basis: vec![wire::LegalBasis::Commit.into()],
            purpose: wire::Purpose::Prevent.into(),
            language: "eng".to_owned(),
            suite: Suite::XWing.to_wire(),
            ..wire::Core::default()
        }
    }

    /// Sound parts around a core and any plaintext.
    #[must_use]
    pub fn parts(&self, core: wire::Core, plaintext: &[u8]) -> Parts {
        let key = ContentKey::generate(self.entropy.as_ref());
        let encoded = core.encode_to_vec();
        let body = Bytes::from(key.seal_body(&encoded, plaintext).unwrap());
        let id = MessageId::from_wire(&core.message_id).unwrap();
        let (mut wraps, mut recipients) = (Vec::new(), Vec::new());
        for to in &core.to {
            let to = to.parse().unwrap();
            let published =
                self.directory.newest_key(to, Suite::XWing, self.clock.now(), self.directory.size()).unwrap();
            let wrap = Bytes::from(key.wrap(&encoded, id, &published.key, self.entropy.as_ref()).unwrap());
            recipients.push(wire::RecipientCommitment {
                key_sha256: Bytes::copy_from_slice(&published.sha256),
                wrap_sha256: Bytes::copy_from_slice(&sha256(&[&wrap])),
            });
            wraps.push(wrap);
        }
        let commitments = wire::Commitments {
            body_sha256: Bytes::copy_from_slice(&sha256(&[&body])),
            body_size: body.len() as u64,
            key_commitment: Bytes::copy_from_slice(&key.commitment()),
            recipients,
            attachments: Vec::new(),
            stat_sha256: Bytes::new(),
        };
        Parts { core, commitments, erasable: wire::ErasableSide { wraps, ..wire::ErasableSide::default() }, body }
    }

    /// Signs parts as they are.
    #[must_use]
    pub fn sign(&self, parts: Parts) -> wire::Envelope {
        let header = wire::Header { core: parts.core.encode_to_vec().into(), commitments: Some(parts.commitments) };
        let header = Bytes::from(header.encode_to_vec());
        wire::Envelope {
            office_signature: Some(self.signing.sign(PayloadType::Header, &header)),
            header,
            erasable: Some(parts.erasable),
            body: parts.body,
        }
    }

    /// A sound envelope to one recipient. Its plaintext is nothing a node would accept.
    #[must_use]
    pub fn envelope(&self, to: &str) -> wire::Envelope {
        self.sign(self.parts(self.core(to), b"sealed"))
    }

    /// A sound envelope but for one change.
    #[must_use]
    pub fn changed(&self, to: &str, change: impl FnOnce(&mut Parts)) -> wire::Envelope {
        let mut parts = self.parts(self.core(to), b"sealed");
        change(&mut parts);
        self.sign(parts)
    }
}
