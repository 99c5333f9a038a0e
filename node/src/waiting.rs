//! Messages that wait for a second person's signature: kept durable as the first one signed them, sealed under a key of their own
//! content key, and never handed to anybody before a supervisor has signed, too.

use liaison_casework::{content::Content, thread::event::Digest};
use liaison_proto::{Bytes, ProtoMessage as _, clock::UnixMillis, entropy::Entropy, seal::ContentKey, wire};

use crate::{
    compose::{Draft, Statistics},
    record::{NodeRecord, Waiting},
    secret_box::{self, DoesNotOpen},
    state,
    store::Write,
};

/// What follows in the bodies journal, sealed.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Kept {
    #[prost(bytes = "bytes", tag = "1")]
    content: Bytes,
    #[prost(message, optional, tag = "2")]
    officer: Option<wire::OfficerSignature>,
    #[prost(bytes = "bytes", tag = "3")]
    stat_block: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    stat_salt: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    stat_sha256: Bytes,
    #[prost(message, repeated, tag = "6")]
    attachments: Vec<wire::AttachmentCommitment>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept(redacted)")
    }
}

/// A message that waits cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WaitingError {
    /// It does not open under its key.
    #[error("the message that waits does not open")]
    Seal(#[from] DoesNotOpen),
    /// What is inside is malformed.
    #[error("the message that waits is malformed")]
    Malformed,
}

/// What the store keeps of a draft that one officer has signed.
///
/// # Errors
/// [`WaitingError`].
pub fn keep(
    draft: &Draft,
    officer: &wire::OfficerSignature,
    at: UnixMillis,
    entropy: &dyn Entropy,
) -> Result<Write, WaitingError> {
    let statistics = draft.statistics.as_ref();
    let kept = Kept {
        content: draft.content.clone(),
        officer: Some(officer.clone()),
        stat_block: statistics.map(|statistics| statistics.block.clone()).unwrap_or_default(),
        stat_salt: statistics.map(|statistics| statistics.salt.clone()).unwrap_or_default(),
        stat_sha256: statistics.map(|statistics| statistics.sha256.clone()).unwrap_or_default(),
        attachments: draft.attachments.clone(),
    };
    let sealed = secret_box::seal(&draft.content_key.waiting_key(), &draft.core_bytes, &kept.encode_to_vec(), entropy)?;
    let attachments = draft.attachments.iter().map(|attachment| attachment.sha256.clone()).collect();
    Ok(Write {
        record: NodeRecord::Waiting(Waiting { core: draft.core_bytes.clone(), at_ms: at.0, attachments }),
        body: Some(wire::Envelope { body: sealed.into(), ..wire::Envelope::default() }),
    })
}

/// The draft as it was, and the first officer's signature.
///
/// # Errors
/// [`WaitingError`].
pub fn take_up(
    waiting: &state::Waiting,
    sealed: &[u8],
    content_key: ContentKey,
) -> Result<(Draft, Content, wire::OfficerSignature), WaitingError> {
    let opened = secret_box::open(&content_key.waiting_key(), &waiting.core_bytes, sealed)?;
    let Kept { content, officer, stat_block: block, stat_salt: salt, stat_sha256, attachments } =
        Kept::decode(opened.as_slice()).map_err(|_| WaitingError::Malformed)?;
    let hashes: Vec<Bytes> = attachments.iter().map(|attachment| attachment.sha256.clone()).collect();
    let read = Content::decode(&content, waiting.core.kind, &hashes, &stat_sha256);
    let read = read.map_err(|_| WaitingError::Malformed)?;
    let sha256 = stat_sha256;
    let draft = Draft {
        core: waiting.core.clone(),
        core_bytes: waiting.core_bytes.clone(),
        content,
        digest: Digest::of(waiting.core.kind, read.message(), false),
        statistics: (!sha256.is_empty()).then_some(Statistics { block, salt, sha256 }),
        content_key,
        attachments,
    };
    Ok((draft, read, officer.ok_or(WaitingError::Malformed)?))
}
