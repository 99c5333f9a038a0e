//! Office records and encryption keys: who vouches for them, and what they hold once verified.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::{
    charter::CharterError,
    clock::UnixMillis,
    ids::OfficeId,
    limits,
    seal::{EncryptionKey, Suite},
    sha256,
    sign::{KeyRing, PayloadType, SignatureError, VerifyingKey},
    wire,
};

/// Why a record of the directory was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not an encoding of its type, or a field out of form.
    #[error("record is malformed")]
    Malformed,
    /// The signature of the authority or office that it needs is not good.
    #[error("record is not signed by whom it needs")]
    Signature(#[source] SignatureError),
    /// The office's country is not in the charter.
    #[error("record is of a country that is not in the charter")]
    Country,
    /// Serial or hash of the record before do not continue the chain.
    #[error("record does not continue the office's chain of records")]
    Chain,
    /// The office has no record, or was revoked.
    #[error("record is of an office that is not enrolled")]
    NotEnrolled,
    /// A charter other than the one the parties hold.
    #[error("charter is not the one that was delivered by hand")]
    OtherCharter,
    /// A charter that does not follow from the one before.
    #[error("charter does not follow from the one before")]
    Charter(#[source] CharterError),
    /// A charter is entered from the time on at which it was issued.
    #[error("charter was entered before it was issued")]
    TooEarly,
    /// Signing and receipt key must differ.
    #[error("signing key and receipt key are the same")]
    SameKey,
    /// The encryption key was published before.
    #[error("record is in the directory already")]
    Repeated,
    /// Its time is before the entry before it.
    #[error("record's time is before the record before it")]
    TimeWentBack,
    /// The directory must begin with the charter.
    #[error("directory does not begin with the charter")]
    NoCharter,
}

/// An office as its country's authority signed it.
#[derive(Clone, Debug)]
pub struct Office {
    /// The office.
    pub id: OfficeId,
    /// ISO 639-3 -> name.
    pub names: BTreeMap<String, String>,
    /// Gate code, when at a gate.
    pub gate: Option<String>,
    /// Signs headers, credentials and what needs an unlocked office.
    pub signing_key: VerifyingKey,
    /// Signs DELIVERED only.
    pub receipt_key: VerifyingKey,
    /// From 1, without gaps.
    pub serial: u64,
    /// SHA-256 of the record before.
    pub previous_sha256: Option<[u8; 32]>,
    /// SHA-256 of this record's bytes.
    pub sha256: [u8; 32],
}

impl Office {
    /// The office id a record claims, before anything is verified: needed to find its authority.
    ///
    /// # Errors
    /// [`RecordError::Malformed`].
    pub fn claimed_id(record: &wire::OfficeRecord) -> Result<OfficeId, RecordError> {
        Ok(Self::decode(record)?.0)
    }

    fn decode(record: &wire::OfficeRecord) -> Result<(OfficeId, wire::Office), RecordError> {
        if record.office.len() > limits::RECORD_BYTES {
            return Err(RecordError::Malformed);
        }
        let office = wire::Office::decode(record.office.clone()).map_err(|_| RecordError::Malformed)?;
        let id = office.office.parse().map_err(|_| RecordError::Malformed)?;
        Ok((id, office))
    }

    /// Verifies a record under its country's authority.
    ///
    /// # Errors
    /// [`RecordError`] naming what does not hold.
    pub fn verify(record: &wire::OfficeRecord, authority: &KeyRing) -> Result<Self, RecordError> {
        authority
            .verify(PayloadType::OfficeRecord, &record.office, record.authority_signature.as_ref())
            .map_err(RecordError::Signature)?;
        let (id, office) = Self::decode(record)?;
        if office.version != 1 || office.serial == 0 || !office.names.contains_key("eng") {
            return Err(RecordError::Malformed);
        }
        let previous_sha256 = match (office.serial, office.previous_sha256.as_ref()) {
            (1, []) => None,
            (1, _) => return Err(RecordError::Chain),
            (_, bytes) => Some(bytes.try_into().map_err(|_| RecordError::Chain)?),
        };
        let key = |bytes: &[u8]| VerifyingKey::parse(bytes).map_err(RecordError::Signature);
        let (signing_key, receipt_key) = (key(&office.signing_key)?, key(&office.receipt_key)?);
        if signing_key == receipt_key {
            return Err(RecordError::SameKey);
        }
        Ok(Self {
            id,
            names: office.names.into_iter().collect(),
            gate: Some(office.gate).filter(|gate| !gate.is_empty()),
            signing_key,
            receipt_key,
            serial: office.serial,
            previous_sha256,
            sha256: sha256(&[&record.office]),
        })
    }
}

/// An encryption key as its office signed it.
#[derive(Clone, Debug)]
pub struct PublishedKey {
    /// The office.
    pub office: OfficeId,
    /// The key.
    pub key: EncryptionKey,
    /// SHA-256 name of the key, as in headers.
    pub sha256: [u8; 32],
    /// First moment of validity.
    pub not_before: UnixMillis,
    /// Last moment of validity; the newest key stays usable past it, marked.
    pub not_after: UnixMillis,
}

impl PublishedKey {
    /// The office id a record claims, before anything is verified.
    ///
    /// # Errors
    /// [`RecordError::Malformed`].
    pub fn claimed_office(record: &wire::KeyRecord) -> Result<OfficeId, RecordError> {
        if record.key.len() > limits::RECORD_BYTES {
            return Err(RecordError::Malformed);
        }
        let key = wire::EncryptionKey::decode(record.key.clone()).map_err(|_| RecordError::Malformed)?;
        key.office.parse().map_err(|_| RecordError::Malformed)
    }

    /// Verifies a key record under its office's signing keys.
    ///
    /// # Errors
    /// [`RecordError`] naming what does not hold.
    pub fn verify(record: &wire::KeyRecord, signing_keys: &KeyRing) -> Result<Self, RecordError> {
        signing_keys
            .verify(PayloadType::KeyRecord, &record.key, record.office_signature.as_ref())
            .map_err(RecordError::Signature)?;
        let office = Self::claimed_office(record)?;
        let key = wire::EncryptionKey::decode(record.key.clone()).map_err(|_| RecordError::Malformed)?;
        if key.version != 1 || key.not_before_ms > key.not_after_ms {
            return Err(RecordError::Malformed);
        }
        let suite = Suite::from_wire(key.suite).ok_or(RecordError::Malformed)?;
        let parsed = EncryptionKey::parse(suite, key.public_key).map_err(|_| RecordError::Malformed)?;
        Ok(Self {
            office,
            sha256: parsed.sha256(),
            key: parsed,
            not_before: UnixMillis(key.not_before_ms),
            not_after: UnixMillis(key.not_after_ms),
        })
    }
}
