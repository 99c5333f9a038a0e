//! The closed table of refusals. A refusal says what is wrong and what to do; it changes nothing.

use std::{collections::HashMap, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::wire;

/// Domain of the `google.rpc.ErrorInfo` that carries a refusal code.
pub const DOMAIN: &str = "liaison";
/// Key of the signed refusal in the metadata of `ErrorInfo`, as base64.
const SIGNED: &str = "signed_refusal";
/// When a retry may help and nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $retry:literal, $advice:literal;)+) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RefusalCode { $($(#[$doc])* $name,)+ }

        impl RefusalCode {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code as it stands in `ErrorInfo.reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The code of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == name)
            }

            /// The gRPC status that carries it.
            #[must_use]
            pub const fn status(self) -> Code {
                match self { $(Self::$name => Code::$status,)+ }
            }

            /// Whether the same bytes may succeed later.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retry,)+ }
            }

            /// What the sender can do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)+ }
            }
        }
    };
}

refusals! {
    /// The header is not a valid encoding of what `formats.md` says.
    MalformedHeader = "MALFORMED_HEADER", InvalidArgument, false, "encode the header as docs/formats.md says";
    /// The envelope beside its header is malformed.
    MalformedEnvelope = "MALFORMED_ENVELOPE", InvalidArgument, false, "encode the envelope as docs/formats.md says";
    /// The format version is not one this party reads.
    UnsupportedVersion = "UNSUPPORTED_VERSION", FailedPrecondition, false, "use a format version that both sides read";
    /// Something is larger than its limit.
    TooLarge = "TOO_LARGE", InvalidArgument, false, "shorten the message or send an attachment";
    /// A commitment in the header does not match the bytes beside it.
    CommitmentMismatch = "COMMITMENT_MISMATCH", InvalidArgument, false, "seal the message anew under a new message id";
    /// The office signature does not verify.
    BadSignature = "BAD_SIGNATURE", PermissionDenied, false, "sign with the office's current signing key";
    /// The header names another office than the certificate.
    NotYourOffice = "NOT_YOUR_OFFICE", PermissionDenied, false, "send from the node of the office that the header names";
    /// The originator has no current office record.
    UnknownOriginator = "UNKNOWN_ORIGINATOR", FailedPrecondition, false, "have the country's authority publish the office's record";
    /// A recipient has no current office record.
    UnknownRecipient = "UNKNOWN_RECIPIENT", NotFound, false, "correct the recipient, or wait until its record is published";
    /// The key that the content was sealed to is not, or no longer, the recipient's.
    UnknownKey = "UNKNOWN_KEY", FailedPrecondition, false, "replay the directory log and seal to the recipient's current key";
    /// The same message id was accepted before with another header.
    DuplicateId = "DUPLICATE_ID", AlreadyExists, false, "give every message its own id";
    /// The message was created before the horizon within which ids are remembered.
    TooOld = "TOO_OLD", FailedPrecondition, false, "reconcile numbers, then sign the message again under a new id";
    /// The header names an attachment that the broker does not hold whole.
    AttachmentMissing = "ATTACHMENT_MISSING", FailedPrecondition, true, "upload the attachment, then submit the same bytes again";
    /// The statement speaks of a message that was never accepted for this office.
    UnknownMessage = "UNKNOWN_MESSAGE", NotFound, false, "check the message id and the index of its entry";
    /// The message was answered before.
    AlreadyAnswered = "ALREADY_ANSWERED", AlreadyExists, false, "look at the answer with show; a change of mind is a message of its own";
    /// The statement contradicts the entry it speaks of, or comes before the one it needs.
    BadStatement = "BAD_STATEMENT", FailedPrecondition, false, "state what the ACCEPTED entry says, DELIVERED first";
    /// The caller's role may not do this.
    NotPermitted = "NOT_PERMITTED", PermissionDenied, false, "ask with a certificate whose role may read or do this";
    /// The certificate names nobody in the charter.
    UnknownParty = "UNKNOWN_PARTY", Unauthenticated, false, "use the certificate that your country's CA issued for your office";
    /// There is no such entry, tile or size in the log.
    OutOfRange = "OUT_OF_RANGE", OutOfRange, false, "ask within the size of a checkpoint you hold";
    /// A record for the directory log does not verify.
    BadRecord = "BAD_RECORD", FailedPrecondition, false, "have the record signed by the authority or office it needs";
    /// The message does not fit where its thread stands.
    OutOfStep = "OUT_OF_STEP", FailedPrecondition, false, "look at the thread; the detail says what comes first";
    /// No agreement permits it, or one forbids it.
    NotAgreed = "NOT_AGREED", PermissionDenied, false, "look with liaison policy explain: another legal basis or better protection may do";
    /// A new recipient of what its originator has not allowed to be passed on, or a wider TLP.
    OnwardNotGranted = "ONWARD_NOT_GRANTED", PermissionDenied, false, "ask the originator with ONWARD_REQUEST; keep the TLP";
    /// The broker's log is under repair: a message that cannot wait is on its way without a receipt.
    HeldUnproven = "HELD_UNPROVEN", Unavailable, true, "submit the same bytes again: the receipt follows when the log is whole";
    /// The broker lacks entries that its log once had, and enters nothing before it has them again.
    Repairing = "REPAIRING", Unavailable, true, "present the newest checkpoint, hand back what is missing, then try again";
    /// The broker is shutting down, or its log has stopped.
    Unavailable = "UNAVAILABLE", Unavailable, true, "try again; the message id stays the same";
    /// The disk is full or slow; nothing was accepted.
    StorageFull = "STORAGE_FULL", ResourceExhausted, true, "try again later; the operator has been alarmed";
    /// More is under way for this caller than it may have.
    TooMany = "TOO_MANY", ResourceExhausted, true, "slow down and try again";
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A coded refusal with what was wrong this time.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// What was wrong, without content or persons.
    pub detail: String,
    /// When the same bytes may succeed; none when the refusal is final.
    pub retry_after: Option<Duration>,
    /// The broker's signature over a final refusal.
    pub signed: Option<Box<wire::SignedRefusal>>,
}

impl Refusal {
    /// A refusal with `detail`, which must hold neither content nor persons.
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        let retry_after = code.is_retryable().then_some(RETRY_AFTER);
        Self { code, detail: detail.into(), retry_after, signed: None }
    }

    /// The same, to be tried again after a time.
    #[must_use]
    pub fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// What goes over the wire: status, `ErrorInfo` and, when a retry may help, `RetryInfo`.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let mut metadata = HashMap::from([("advice".to_owned(), self.code.advice().to_owned())]);
        if let Some(signed) = &self.signed {
            metadata.insert(SIGNED.to_owned(), STANDARD.encode(signed.encode_to_vec()));
        }
        let mut details = ErrorDetails::with_error_info(self.code.as_str(), DOMAIN, metadata);
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        Status::with_error_details(self.code.status(), self.to_string(), details)
    }

    /// Reads a refusal back from a status; none when the status carries no refusal of ours.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        let code = RefusalCode::parse(&info.reason)?;
        let message = status.message();
        let detail = message.strip_prefix(code.as_str()).and_then(|m| m.strip_prefix(": ")).unwrap_or(message);
        let signed = info.metadata.get(SIGNED).and_then(|text| STANDARD.decode(text).ok());
        Some(Self {
            code,
            detail: detail.to_owned(),
            retry_after: status.get_details_retry_info().map(|info| info.retry_delay.unwrap_or(RETRY_AFTER)),
            signed: signed.and_then(|bytes| wire::SignedRefusal::decode(bytes.as_slice()).ok().map(Box::new)),
        })
    }

    /// As an answer inside a stream.
    #[must_use]
    pub fn to_answer(&self) -> wire::RefusalAnswer {
        let retry_after_ms = self.retry_after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(1).max(1));
        let (code, detail) = (self.code.to_string(), self.detail.clone());
        wire::RefusalAnswer { code, detail, retry_after_ms, signed: self.signed.as_deref().cloned() }
    }
}

/// Whether a status is a refusal in our domain that says nothing of trying again: final, also when its code is of a
/// newer version.
#[must_use]
pub fn is_final_refusal(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN)
        && status.get_details_retry_info().is_none()
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.to_status()
    }
}

/// The table as Markdown, as it stands in `docs/refusals.md`.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| code | gRPC status | retry? | what to do |\n|---|---|---|---|\n");
    for code in RefusalCode::ALL {
        let retry = if code.is_retryable() { "yes" } else { "no" };
        table.push_str(&format!("| `{code}` | {:?} | {retry} | {} |\n", code.status(), code.advice()));
    }
    table
}
