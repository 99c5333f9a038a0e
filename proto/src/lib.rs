//! The wire of Liaison: what crosses it, who may sign it, what is refused.
//!
//! Read in this order: [`wire`] (generated from `proto/`), [`ids`], [`limits`], [`refusal`], [`envelope`], [`seal`],
//! [`sign`], [`officer`], [`office`], [`charter`], [`directory`].
//!
//! Out of scope: the log and its proofs (`liaison-log`), what officers write (`liaison-casework`), any I/O but the
//! reading of key files.
//!
//! Invariants:
//! - Bytes are signed and verified as they were sent; nothing here re-encodes what somebody signed.
//! - Every signed type has its own payload type ([`sign::PayloadType`]); a signature never passes for another type.
//! - Parsed types ([`envelope::SignedEnvelope`], [`ids::OfficeId`], ...) exist only for input within [`limits`].
//! - Types that hold what an officer wrote print as redacted.

pub mod charter;
pub mod clock;
pub mod directory;
pub mod entropy;
pub mod envelope;
pub mod evidence;
pub mod failure;
pub mod header;
pub mod ids;
pub mod key_file;
pub mod limits;
pub mod office;
pub mod officer;
pub mod policy_text;
pub mod refusal;
pub mod seal;
pub mod sign;
pub mod stream;

/// Generated from `proto/liaison/exchange/v1`.
pub mod wire {
    #![allow(missing_docs, clippy::all, reason = "generated code; the .proto files are documented")]
    tonic::include_proto!("liaison.exchange.v1");

    /// Encoded `FileDescriptorSet` of the package, for reflection and foreign clients.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/exchange.descriptors.bin"));

    /// Full names of every method, `package.Service/Method`.
    pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

    macro_rules! redacted {
        ($($name:ident),+) => {$(
            impl std::fmt::Debug for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str(concat!(stringify!($name), "(redacted)"))
                }
            }
        )+};
    }
    redacted!(Plaintext, OfficerSignature, OfficerCredential);
}

pub use prost::{Message as ProtoMessage, bytes::Bytes};

/// SHA-256 of what comes piece by piece.
#[derive(Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        sha2::Digest::update(&mut self.0, piece);
    }

    /// The hash of all pieces.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        sha2::Digest::finalize(self.0).into()
    }
}

/// SHA-256 of a whole file, read in pieces.
///
/// # Errors
/// When it cannot be read.
pub fn file_sha256(path: &std::path::Path) -> std::io::Result<[u8; 32]> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut piece) = (Sha256::default(), vec![0; limits::PART_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finish()),
            read => hash.update(&piece[..read]),
        }
    }
}

/// SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::default();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish()
}
