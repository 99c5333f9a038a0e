//! Every format that comes from outside, as a target of a coverage-guided fuzzer (`tests/fuzz/run`). What the fuzzer found
//! worth keeping is in `corpus/`, and is run by an ordinary test.
//!
//! A target takes any bytes. It must not panic, and what it accepts must hold what its assertions say.

use liaison_proto::{Bytes, ProtoMessage as _, header::Header, wire};

mod casework;
mod identity;
mod log;

/// A target: its name, which is also its corpus, and what it does with bytes.
pub struct Target {
    /// Name of the target and of its corpus.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:literal => $run:path,)+) => {
        &[$(Target { name: $name, run: $run },)+]
    };
}

/// All targets.
pub const TARGETS: &[Target] = targets! {
    "envelope" => envelope,
    "header" => header,
    "body" => identity::body,
    "wrap" => identity::wrap,
    "chunk" => identity::chunk,
    "charter" => identity::charter,
    "certificate" => identity::certificate,
    "directory-record" => identity::directory_record,
    "officer" => identity::officer,
    "exchange-leaf" => log::exchange_leaf,
    "statement" => log::statement,
    "checkpoint" => log::checkpoint,
    "tlog-proof" => log::tlog_proof,
    "receipt" => log::receipt,
    "bundle" => log::bundle,
    "journal" => log::journal,
    "index-row" => log::index_row,
    "node-record" => log::node_record,
    "case-file" => casework::case_file,
    "content" => casework::content,
    "picture" => casework::picture,
    "policy" => casework::policy,
};

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A header that parses is in its one encoding, and parses to the same again.
fn header(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(header) = Header::parse(bytes.clone()) else { return };
    assert_eq!(header.bytes(), &bytes);
    let again = wire::Header { core: header.core_bytes().clone(), commitments: Some(header.commitments().clone()) };
    assert_eq!(again.encode_to_vec(), bytes, "a header has two encodings");
    assert_eq!(header.core().to.len(), header.commitments().recipients.len());
}

/// A request as it comes to the broker.
fn envelope(bytes: &[u8]) {
    use liaison_proto::envelope::UnverifiedEnvelope;
    let Ok(request) = wire::SubmitRequest::decode(bytes) else { return };
    let Some(Ok(unverified)) = request.envelope.map(UnverifiedEnvelope::parse) else { return };
    if unverified.check_commitments().is_ok() {
        assert_eq!(unverified.wire().body.len() as u64, unverified.header().commitments().body_size);
    }
    // Without the office's key nothing passes.
    assert!(unverified.verify(&identity::stranger().verifying_key().into()).is_err(), "a stranger's key was enough");
}
