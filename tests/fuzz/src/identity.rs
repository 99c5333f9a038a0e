//! Who is who, and what is sealed: charter, certificates, records, officers, bodies, wraps and chunks.

use std::sync::OnceLock;

use liaison_broker::identity::claimed_party;
use liaison_proto::{
    Bytes, ProtoMessage as _,
    charter::Charter,
    clock::UnixMillis,
    directory::Directory,
    entropy::Entropy,
    ids::MessageId,
    officer::verify_content,
    seal::{ContentKey, DecryptionKey, Suite},
    sign::SigningKey,
    stream::ChunkCipher,
    wire,
};

const CHARTER: &[u8] = include_bytes!("../fixture/charter.toml");
const NOON: UnixMillis = UnixMillis(1_800_000_000_000);

/// The same bytes for ever: a run can be repeated.
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

/// A key that nobody has enrolled.
pub(crate) fn stranger() -> SigningKey {
    SigningKey::from_seed(&[9; 32])
}

fn fixture() -> &'static Charter {
    static FIXTURE: OnceLock<Charter> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let parsed = Charter::parse(Bytes::from_static(CHARTER));
        parsed.unwrap_or_else(|error| panic!("the fixture's charter does not parse: {error}"))
    })
}

/// A charter that parses says the same when it is parsed again.
pub(crate) fn charter(bytes: &[u8]) {
    let Ok(parsed) = Charter::parse(Bytes::copy_from_slice(bytes)) else { return };
    let again = Charter::parse(Bytes::copy_from_slice(bytes));
    assert!(again.is_ok_and(|again| again.number() == parsed.number() && again.issued() == parsed.issued()));
}

/// Whatever a certificate says, it names a party of the charter or none.
pub(crate) fn certificate(bytes: &[u8]) {
    let _ = claimed_party(bytes, fixture());
}

/// A record is taken by a directory whole, or changes nothing.
pub(crate) fn directory_record(bytes: &[u8]) {
    let Ok(record) = wire::DirectoryRecord::decode(bytes) else { return };
    let mut directory = Directory::new(fixture().clone());
    let offices = directory.offices().count();
    match directory.apply(&record, NOON) {
        Ok(()) => assert_eq!(directory.size(), 1, "a record was taken and is not counted"),
        Err(_) => assert_eq!(
            (directory.size(), directory.offices().count()),
            (0, offices),
            "a refused record changed something"
        ),
    }
}

/// No officer of a stranger's is believed.
pub(crate) fn officer(bytes: &[u8]) {
    let Ok(plaintext) = wire::Plaintext::decode(bytes) else { return };
    let Ok(office) = "VN-BLO-LCA".parse() else { return };
    let keys = stranger().verifying_key().into();
    let verified = verify_content(b"core", &plaintext.content, plaintext.officer.as_ref(), office, &keys, NOON);
    assert!(verified.is_err(), "an officer was believed without the office's key");
}

/// A body opens under its key and core, or not at all.
pub(crate) fn body(bytes: &[u8]) {
    let key = ContentKey::from_bytes([3; 32]);
    if let Ok(plain) = key.open_body(b"core", &key.commitment(), bytes) {
        let sealed = key.seal_body(b"core", &plain);
        assert_eq!(sealed.as_deref().ok(), Some(bytes), "what was opened seals to something else");
    }
}

/// A wrap that was not made for this key does not open.
pub(crate) fn wrap(bytes: &[u8]) {
    static KEYS: OnceLock<[DecryptionKey; 2]> = OnceLock::new();
    let keys = KEYS.get_or_init(|| [Suite::X25519, Suite::XWing].map(|suite| DecryptionKey::generate(suite, &Fixed).0));
    let id = MessageId::new(NOON, &Fixed);
    for key in keys {
        let _ = ContentKey::unwrap(b"core", id, key, bytes);
    }
}

/// A chunk opens in its place alone.
pub(crate) fn chunk(bytes: &[u8]) {
    let Ok(mut cipher) = ChunkCipher::new(&ContentKey::from_bytes([3; 32]), 0) else { return };
    let (mut chunk, sealed) = (bytes.to_vec(), bytes.len());
    if cipher.open(&mut chunk, true).is_ok() {
        assert_eq!(chunk.len() + 16, sealed);
    }
}
