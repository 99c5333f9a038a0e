//! Signatures: the exact bytes, their domain strings, and the one way to verify.
//!
//! Every signature covers the DSSE pre-authentication encoding of a payload type and the payload bytes, so that a
//! signature made for one type never passes for another. Verification is `verify_strict`, one by one.

use std::fmt;

use ed25519_dalek::Signer as _;

use crate::{
    Bytes,
    entropy::{Entropy, random},
    wire,
};

/// Algorithm id of Ed25519 in [`wire::Signature`].
pub const ED25519: u32 = 1;

macro_rules! payload_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What a signature is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum PayloadType { $($(#[$doc])* $name,)+ }

        impl PayloadType {
            /// Every payload type.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The DSSE payload type.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

payload_types! {
    /// Header bytes, by the office's signing key.
    Header = "application/vnd.liaison.header.v1+protobuf",
    /// SHA-256(core) and the content bytes, by an officer.
    OfficerContent = "application/vnd.liaison.officer-content.v1",
    /// An officer's credential, by the office's signing key.
    OfficerCredential = "application/vnd.liaison.officer-credential.v1+protobuf",
    /// An office record, by the country's authority.
    OfficeRecord = "application/vnd.liaison.office-record.v1+protobuf",
    /// An encryption key, by the office's signing key.
    KeyRecord = "application/vnd.liaison.key-record.v1+protobuf",
    /// A revocation, by the country's authority.
    Revocation = "application/vnd.liaison.revocation.v1+protobuf",
    /// The charter, by the countries' authorities.
    Charter = "application/vnd.liaison.charter.v1+toml",
    /// A policy, by the countries concerned.
    Policy = "application/vnd.liaison.policy.v1",
    /// DELIVERED, by the receipt key.
    Delivered = "application/vnd.liaison.delivered.v1+protobuf",
    /// RETRIEVED, by the office's signing key.
    Retrieved = "application/vnd.liaison.retrieved.v1+protobuf",
    /// CANNOT_OPEN, by the office's signing key.
    CannotOpen = "application/vnd.liaison.cannot-open.v1+protobuf",
    /// ERASED, by the office's signing key.
    Erased = "application/vnd.liaison.erased.v1+protobuf",
    /// REWRAPPED, by the originator's signing key.
    Rewrapped = "application/vnd.liaison.rewrapped.v1+protobuf",
    /// A final refusal, by the broker's evidence key.
    Refusal = "application/vnd.liaison.refusal.v1+protobuf",
}

/// DSSE pre-authentication encoding: `DSSEv1 SP LEN(type) SP type SP LEN(body) SP body`.
#[must_use]
pub fn pre_authentication_encoding(payload_type: PayloadType, payload: &[u8]) -> Vec<u8> {
    let name = payload_type.as_str();
    let mut bytes = format!("DSSEv1 {} {name} {} ", name.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Why a key or a signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 32 bytes of a point on the curve.
    #[error("public key is not an Ed25519 point")]
    MalformedKey,
    /// Of small order: it would accept signatures that nobody made.
    #[error("public key is weak")]
    WeakKey,
    /// Missing, of another algorithm, or not 64 bytes.
    #[error("signature is missing or of an unknown algorithm")]
    Malformed,
    /// Does not verify.
    #[error("signature does not verify")]
    Invalid,
}

/// A public key that passed enrolment: a point on the curve, not weak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Parses and enrols a public key.
    ///
    /// # Errors
    /// When the bytes are no point on the curve, or a weak one.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| SignatureError::MalformedKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| SignatureError::MalformedKey)?;
        if key.is_weak() { Err(SignatureError::WeakKey) } else { Ok(Self(key)) }
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Verifies a signature of `payload` as `payload_type`.
    ///
    /// # Errors
    /// When the signature is missing, malformed or does not verify strictly.
    pub fn verify(
        &self,
        payload_type: PayloadType,
        payload: &[u8],
        signature: Option<&wire::Signature>,
    ) -> Result<(), SignatureError> {
        let signature = signature.filter(|s| s.algorithm == ED25519).ok_or(SignatureError::Malformed)?;
        let value: &[u8; 64] = signature.value.as_ref().try_into().map_err(|_| SignatureError::Malformed)?;
        self.verify_raw(&pre_authentication_encoding(payload_type, payload), value)
    }

    /// Verifies a signature over bare bytes, for formats that are not ours (C2SP notes).
    ///
    /// # Errors
    /// When it does not verify strictly.
    pub fn verify_raw(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).map_err(|_| SignatureError::Invalid)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", hex::encode(self.as_bytes()))
    }
}

/// The keys that may have made an office's signature at a moment, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing(Vec<VerifyingKey>);

impl KeyRing {
    /// These keys; a key that stands twice counts once.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        let mut ring = Vec::new();
        keys.into_iter().for_each(|key| {
            if !ring.contains(&key) {
                ring.push(key);
            }
        });
        Self(ring)
    }

    /// Verifies a signature of `payload` as `payload_type` under one of the keys.
    ///
    /// # Errors
    /// As [`VerifyingKey::verify`], for the newest of them.
    pub fn verify(
        &self,
        payload_type: PayloadType,
        payload: &[u8],
        signature: Option<&wire::Signature>,
    ) -> Result<(), SignatureError> {
        let mut first = None;
        for key in &self.0 {
            match key.verify(payload_type, payload, signature) {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(SignatureError::Invalid))
    }
}

impl From<VerifyingKey> for KeyRing {
    fn from(key: VerifyingKey) -> Self {
        Self(vec![key])
    }
}

/// A private signing key. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new key.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::from_seed(&random(entropy))
    }

    /// The key of a 32-byte seed (RFC 8032).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for key files.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `payload` as `payload_type`.
    #[must_use]
    pub fn sign(&self, payload_type: PayloadType, payload: &[u8]) -> wire::Signature {
        let value = self.sign_raw(&pre_authentication_encoding(payload_type, payload));
        wire::Signature { algorithm: ED25519, value: Bytes::copy_from_slice(&value) }
    }

    /// Signs bare bytes, for formats that are not ours (C2SP notes).
    #[must_use]
    pub fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}
