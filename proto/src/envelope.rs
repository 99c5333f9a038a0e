//! The envelope on its way in: unverified as parsed, verified once the office signature and every commitment held.

use prost::Message as _;

use crate::{
    Bytes,
    header::Header,
    ids::OfficeId,
    limits,
    refusal::{Refusal, RefusalCode},
    sha256,
    sign::{KeyRing, PayloadType},
    wire,
};

/// An envelope whose header parsed; nothing in it is to be believed yet.
#[derive(Debug)]
pub struct UnverifiedEnvelope {
    header: Header,
    envelope: wire::Envelope,
}

impl UnverifiedEnvelope {
    /// Checks sizes, then parses the header.
    ///
    /// # Errors
    /// `TOO_LARGE`, `MALFORMED_ENVELOPE`, or the header's refusals.
    pub fn parse(envelope: wire::Envelope) -> Result<Self, Refusal> {
        let too_large = |what: &str, size: usize, limit: usize| {
            Refusal::new(RefusalCode::TooLarge, format!("{what} has {size} bytes, the limit is {limit}"))
        };
        if envelope.body.len() > limits::BODY_BYTES {
            return Err(too_large("the body", envelope.body.len(), limits::BODY_BYTES));
        }
        let erasable = envelope.erasable.as_ref().ok_or_else(|| malformed("the erasable side is missing"))?;
        if let Some(wrap) = erasable.wraps.iter().find(|wrap| wrap.len() > limits::WRAP_BYTES) {
            return Err(too_large("a wrap", wrap.len(), limits::WRAP_BYTES));
        }
        if erasable.stat_block.len() > limits::STAT_BLOCK_BYTES {
            return Err(too_large("the StatBlock", erasable.stat_block.len(), limits::STAT_BLOCK_BYTES));
        }
        Ok(Self { header: Header::parse(envelope.header.clone())?, envelope })
    }

    /// The header, not yet verified.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Verifies the office's signature, then that body, wraps and StatBlock are what the header commits to.
    ///
    /// # Errors
    /// `BAD_SIGNATURE`, `COMMITMENT_MISMATCH` or `MALFORMED_ENVELOPE`.
    pub fn verify(self, signing_keys: &KeyRing) -> Result<SignedEnvelope, Refusal> {
        check_signature(&self.header, &self.envelope, signing_keys)?;
        self.check_commitments()?;
        Ok(SignedEnvelope { header: self.header, envelope: self.envelope })
    }

    /// The envelope as it came.
    #[must_use]
    pub const fn wire(&self) -> &wire::Envelope {
        &self.envelope
    }

    /// Checks that body, wraps and StatBlock are what the header commits to.
    ///
    /// # Errors
    /// `COMMITMENT_MISMATCH` or `MALFORMED_ENVELOPE`.
    pub fn check_commitments(&self) -> Result<(), Refusal> {
        let commitments = self.header.commitments();
        let body = &self.envelope.body;
        if body.len() as u64 != commitments.body_size || sha256(&[body])[..] != commitments.body_sha256[..] {
            return Err(mismatch("the body"));
        }
        let erasable = self.envelope.erasable.as_ref().ok_or_else(|| malformed("the erasable side is missing"))?;
        if erasable.wraps.len() != commitments.recipients.len() {
            return Err(malformed("there is not one wrap per recipient"));
        }
        for (wrap, commitment) in erasable.wraps.iter().zip(&commitments.recipients) {
            if sha256(&[wrap])[..] != commitment.wrap_sha256[..] {
                return Err(mismatch("a wrap"));
            }
        }
        let stat_matches = if commitments.stat_sha256.is_empty() {
            erasable.stat_block.is_empty() && erasable.stat_salt.is_empty()
        } else {
            erasable.stat_salt.len() == 32
                && sha256(&[&erasable.stat_salt, &erasable.stat_block])[..] == commitments.stat_sha256[..]
        };
        if !stat_matches {
            return Err(mismatch("the StatBlock"));
        }
        check_stat_block(&erasable.stat_block)
    }
}

/// An envelope whose office signature and commitments held under the keys it was verified with.
#[derive(Clone, Debug)]
pub struct SignedEnvelope {
    header: Header,
    envelope: wire::Envelope,
}

impl SignedEnvelope {
    /// The signed header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Verifies the office's signature again, under keys that may be others by now.
    ///
    /// # Errors
    /// `BAD_SIGNATURE`.
    pub fn check_signature(&self, signing_keys: &KeyRing) -> Result<(), Refusal> {
        check_signature(&self.header, &self.envelope, signing_keys)
    }

    /// The envelope as it goes over the wire.
    #[must_use]
    pub const fn wire(&self) -> &wire::Envelope {
        &self.envelope
    }

    /// The wrap for `office`, when it is a recipient.
    #[must_use]
    pub fn wrap_for(&self, office: OfficeId) -> Option<(&Bytes, &wire::RecipientCommitment)> {
        let position = self.header.core().to.iter().position(|&to| to == office)?;
        let wrap = self.envelope.erasable.as_ref()?.wraps.get(position)?;
        Some((wrap, self.header.commitments().recipients.get(position)?))
    }
}

fn check_signature(header: &Header, envelope: &wire::Envelope, keys: &KeyRing) -> Result<(), Refusal> {
    keys.verify(PayloadType::Header, header.bytes(), envelope.office_signature.as_ref())
        .map_err(|e| Refusal::new(RefusalCode::BadSignature, format!("office signature: {e}")))
}

/// Counts and codes in their canonical encoding, nothing else: it is readable by broker and auditor.
fn check_stat_block(bytes: &Bytes) -> Result<(), Refusal> {
    let block = wire::StatBlock::decode(bytes.clone()).map_err(|_| malformed("the StatBlock is not protobuf"))?;
    let codes_only = block.cells.iter().all(|cell| cell.age_band.len() <= 8 && cell.age_band.is_ascii());
    if codes_only && block.encode_to_vec()[..] == bytes[..] {
        Ok(())
    } else {
        Err(malformed("the StatBlock holds more than counts and codes"))
    }
}

fn malformed(detail: &str) -> Refusal {
    Refusal::new(RefusalCode::MalformedEnvelope, detail)
}

fn mismatch(what: &str) -> Refusal {
    Refusal::new(RefusalCode::CommitmentMismatch, format!("{what} is not what the header commits to"))
}
