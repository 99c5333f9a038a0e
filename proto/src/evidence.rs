//! Signed refusals: the broker cannot deny having had a message that it refused for good.

use prost::Message as _;

use crate::{
    Bytes,
    clock::UnixMillis,
    header::Header,
    refusal::Refusal,
    sign::{KeyRing, PayloadType, SigningKey},
    wire,
};

/// Signs a final refusal of an envelope whose office signature was verified.
#[must_use]
pub fn sign_refusal(refusal: Refusal, header: &Header, at: UnixMillis, evidence_key: &SigningKey) -> Refusal {
    let statement = wire::RefusalStatement {
        message_id: Bytes::copy_from_slice(header.core().message_id.as_bytes()),
        office: header.core().from.to_string(),
        header_sha256: Bytes::copy_from_slice(&header.sha256()),
        code: refusal.code.to_string(),
        at_ms: at.0,
    };
    let statement = Bytes::from(statement.encode_to_vec());
    let signature = Some(evidence_key.sign(PayloadType::Refusal, &statement));
    Refusal { signed: Some(Box::new(wire::SignedRefusal { statement, signature })), ..refusal }
}

/// Whether a signed refusal is the charter's broker's, of exactly this header and code.
#[must_use]
pub fn is_signed_refusal(signed: &wire::SignedRefusal, header: &Header, code: &str, evidence: &KeyRing) -> bool {
    let Ok(statement) = wire::RefusalStatement::decode(signed.statement.clone()) else { return false };
    evidence.verify(PayloadType::Refusal, &signed.statement, signed.signature.as_ref()).is_ok()
        && statement.message_id[..] == header.core().message_id.as_bytes()[..]
        && statement.office == header.core().from.to_string()
        && statement.header_sha256[..] == header.sha256()[..]
        && statement.code == code
}
