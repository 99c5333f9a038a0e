//! Officers: credentials that their office signs, and their signature over what they wrote.

use std::fmt;

use prost::Message as _;

use crate::{
    Bytes,
    clock::{DAY_MS, UnixMillis},
    ids::OfficeId,
    limits, sha256,
    sign::{KeyRing, PayloadType, SignatureError, SigningKey, VerifyingKey},
    wire,
};

/// Why an officer or an officer's signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfficerError {
    /// Missing or not a credential.
    #[error("officer's credential is missing or malformed")]
    Malformed,
    /// Issued for another office than the one that sent the message.
    #[error("officer's credential is another office's")]
    OtherOffice,
    /// Not valid at the time of the message.
    #[error("officer's credential was not valid when the message was made")]
    NotValidThen,
    /// Runs longer than 90 days.
    #[error("officer's credential runs longer than 90 days")]
    TooLong,
    /// The role may not do this.
    #[error("officer's role may not sign messages")]
    Role,
    /// The office's signature over the credential is not good.
    #[error("office's signature over the credential is not good")]
    CredentialSignature(#[source] SignatureError),
    /// The officer's signature over the content is not good.
    #[error("officer's signature over the content is not good")]
    ContentSignature(#[source] SignatureError),
}

/// A credential with the office's signature, as carried inside sealed content.
#[derive(Clone)]
pub struct SignedCredential {
    bytes: Bytes,
    signature: wire::Signature,
}

impl SignedCredential {
    /// Issues a credential: the office vouches for the officer.
    #[must_use]
    pub fn issue(credential: &wire::OfficerCredential, office_key: &SigningKey) -> Self {
        let bytes = Bytes::from(credential.encode_to_vec());
        let signature = office_key.sign(PayloadType::OfficerCredential, &bytes);
        Self { bytes, signature }
    }

    /// From stored parts; nothing is verified.
    #[must_use]
    pub const fn from_parts(bytes: Bytes, signature: wire::Signature) -> Self {
        Self { bytes, signature }
    }

    /// As it is kept in files: an `OfficerSignature` without its last field.
    #[must_use]
    pub fn to_stored(&self) -> Vec<u8> {
        let (credential, credential_signature) = (self.bytes.clone(), Some(self.signature.clone()));
        wire::OfficerSignature { credential, credential_signature, signature: None }.encode_to_vec()
    }

    /// Whether this key signed it.
    #[must_use]
    pub fn is_by(&self, office_key: &VerifyingKey) -> bool {
        office_key.verify(PayloadType::OfficerCredential, &self.bytes, Some(&self.signature)).is_ok()
    }

    /// When it says that it runs out; nothing is verified.
    #[must_use]
    pub fn claimed_end(&self) -> UnixMillis {
        UnixMillis(wire::OfficerCredential::decode(self.bytes.clone()).map_or(0, |found| found.not_after_ms))
    }

    /// What the credential says of the officer's role; nothing is verified.
    #[must_use]
    pub fn claimed_role(&self) -> wire::Role {
        wire::OfficerCredential::decode(self.bytes.clone()).map_or(wire::Role::Unspecified, |found| found.role())
    }

    /// The credential's bytes and the office's signature.
    #[must_use]
    pub const fn parts(&self) -> (&Bytes, &wire::Signature) {
        (&self.bytes, &self.signature)
    }

    /// Verifies the credential for a message of `office` made at `at`.
    ///
    /// # Errors
    /// [`OfficerError`] naming what does not hold.
    pub fn verify(&self, office: OfficeId, office_keys: &KeyRing, at: UnixMillis) -> Result<Officer, OfficerError> {
        if self.bytes.len() > limits::RECORD_BYTES {
            return Err(OfficerError::Malformed);
        }
        office_keys
            .verify(PayloadType::OfficerCredential, &self.bytes, Some(&self.signature))
            .map_err(OfficerError::CredentialSignature)?;
        let credential = wire::OfficerCredential::decode(self.bytes.clone()).map_err(|_| OfficerError::Malformed)?;
        let names_fit = (1..=limits::DISPLAY_NAME_CHARS).contains(&credential.display_name.chars().count())
            && is_officer_id(&credential.officer_id);
        if credential.version != 1 || !names_fit {
            return Err(OfficerError::Malformed);
        }
        if credential.office.parse() != Ok(office) {
            return Err(OfficerError::OtherOffice);
        }
        if credential.not_after_ms.saturating_sub(credential.not_before_ms) > limits::CREDENTIAL_DAYS * DAY_MS {
            return Err(OfficerError::TooLong);
        }
        if !(credential.not_before_ms..=credential.not_after_ms).contains(&at.0) {
            return Err(OfficerError::NotValidThen);
        }
        let key = VerifyingKey::parse(&credential.public_key).map_err(|_| OfficerError::Malformed)?;
        Ok(Officer {
            office,
            officer_id: credential.officer_id.clone(),
            display_name: credential.display_name.clone(),
            role: credential.role(),
            key,
        })
    }
}

/// Lower-case letters, digits, dots and hyphens, 1 to 40 characters: safe as a file name.
#[must_use]
pub fn is_officer_id(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
}

/// An officer whose credential verified. The counterpart sees the person; broker and auditor see the office.
#[derive(Clone, PartialEq, Eq)]
pub struct Officer {
    /// The office.
    pub office: OfficeId,
    /// Short id within the office.
    pub officer_id: String,
    /// Name as shown to the counterpart.
    pub display_name: String,
    /// What the officer may do.
    pub role: wire::Role,
    key: VerifyingKey,
}

impl fmt::Debug for Officer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Officer(redacted, {})", self.office)
    }
}

fn content_payload(core: &[u8], content: &[u8]) -> Vec<u8> {
    [&sha256(&[core])[..], content].concat()
}

/// Signs content for one envelope core: content cannot be lifted into another envelope.
#[must_use]
pub fn sign_content(
    core: &[u8],
    content: &[u8],
    credential: &SignedCredential,
    officer_key: &SigningKey,
) -> wire::OfficerSignature {
    let signature = officer_key.sign(PayloadType::OfficerContent, &content_payload(core, content));
    wire::OfficerSignature {
        credential: credential.bytes.clone(),
        credential_signature: Some(credential.signature.clone()),
        signature: Some(signature),
    }
}

/// Verifies an officer's signature over the content of one envelope.
///
/// # Errors
/// [`OfficerError`] naming what does not hold.
pub fn verify_content(
    core: &[u8],
    content: &[u8],
    signed: Option<&wire::OfficerSignature>,
    office: OfficeId,
    office_keys: &KeyRing,
    at: UnixMillis,
) -> Result<Officer, OfficerError> {
    let signed = signed.ok_or(OfficerError::Malformed)?;
    let signature = signed.credential_signature.clone().ok_or(OfficerError::Malformed)?;
    let officer = SignedCredential::from_parts(signed.credential.clone(), signature).verify(office, office_keys, at)?;
    if !matches!(officer.role, wire::Role::Officer | wire::Role::DutyOfficer | wire::Role::Supervisor) {
        return Err(OfficerError::Role);
    }
    officer
        .key
        .verify(PayloadType::OfficerContent, &content_payload(core, content), signed.signature.as_ref())
        .map_err(OfficerError::ContentSignature)?;
    Ok(officer)
}
