//! Sealing: one random content key a message, wrapped to each recipient office with HPKE (RFC 9180, base mode).
//!
//! HKDF-SHA256 of the content key gives the body key and a commitment to the content key; AES-GCM does not commit to
//! its key, so the commitment is checked before anything is opened. The encoded core is the associated data of body
//! and wraps: neither can be lifted into another message.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _,
    aead::AesGcm256,
    kdf::HkdfSha256,
    kem::{X25519HkdfSha256, XWing},
    single_shot_open, single_shot_seal_with_rng,
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    Bytes,
    entropy::{Draw, Entropy, random},
    ids::MessageId,
    limits, sha256,
};

/// Which KEM wraps the content key. KDF and AEAD are HKDF-SHA256 and AES-256-GCM in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// DHKEM(X25519, HKDF-SHA256): suite 1.
    X25519,
    /// X-Wing, hybrid with ML-KEM-768 (a draft: hence a suite of its own number): suite 2, the default.
    XWing,
}

impl Suite {
    /// Every suite, the preferred one first.
    pub const ALL: [Self; 2] = [Self::XWing, Self::X25519];

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::X25519 => 1,
            Self::XWing => 2,
        }
    }

    /// The suite of a wire number.
    #[must_use]
    pub const fn from_wire(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::X25519),
            2 => Some(Self::XWing),
            _ => None,
        }
    }
}

/// Why sealing or opening failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a key of its suite.
    #[error("encryption key is malformed")]
    MalformedKey,
    /// The plaintext does not fit.
    #[error("content is larger than a body may be")]
    TooLarge,
    /// The HPKE wrap does not open.
    #[error("the wrap does not open under this key")]
    Wrap,
    /// The content key is not the one that the header commits to.
    #[error("the content key is not the one the header commits to")]
    Commitment,
    /// The body does not open.
    #[error("the body does not open under its key")]
    Body,
    /// The padding is malformed.
    #[error("the padding is malformed")]
    Padding,
}

/// A recipient's public encryption key.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    suite: Suite,
    bytes: Bytes,
}

impl EncryptionKey {
    /// Parses a public key of a suite.
    ///
    /// # Errors
    /// [`SealError::MalformedKey`].
    pub fn parse(suite: Suite, bytes: Bytes) -> Result<Self, SealError> {
        let valid = match suite {
            Suite::X25519 => <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&bytes).is_ok(),
            Suite::XWing => <XWing as Kem>::PublicKey::from_bytes(&bytes).is_ok(),
        };
        if valid { Ok(Self { suite, bytes }) } else { Err(SealError::MalformedKey) }
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The public key's bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// SHA-256(big-endian uint16 suite || public key): the key's name in headers.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        let suite = [0, self.suite.to_wire().to_be_bytes()[3]];
        sha256(&[&suite, &self.bytes])
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({:?} {})", self.suite, hex::encode(self.sha256()))
    }
}

/// A private encryption key. Wiped when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DecryptionKey {
    /// Kept because making it costs as much as opening a wrap.
    #[zeroize(skip)]
    public: EncryptionKey,
    secret: Vec<u8>,
}

impl DecryptionKey {
    /// A new key pair of a suite.
    #[must_use]
    pub fn generate(suite: Suite, entropy: &dyn Entropy) -> (Self, EncryptionKey) {
        fn pair<K: Kem>(entropy: &dyn Entropy) -> (Vec<u8>, Bytes) {
            let (secret, public) = K::gen_keypair_with_rng(&mut Draw(entropy));
            (secret.to_bytes().to_vec(), Bytes::copy_from_slice(&public.to_bytes()))
        }
        let (secret, bytes) = match suite {
            Suite::X25519 => pair::<X25519HkdfSha256>(entropy),
            Suite::XWing => pair::<XWing>(entropy),
        };
        let public = EncryptionKey { suite, bytes };
        (Self { public: public.clone(), secret }, public)
    }

    /// Parses the secret bytes of a key file.
    ///
    /// # Errors
    /// [`SealError::MalformedKey`].
    pub fn parse(suite: Suite, secret: &[u8]) -> Result<Self, SealError> {
        fn public<K: Kem>(secret: &[u8]) -> Result<Bytes, SealError> {
            let secret = K::PrivateKey::from_bytes(secret).map_err(|_| SealError::MalformedKey)?;
            Ok(Bytes::copy_from_slice(&K::sk_to_pk(&secret).to_bytes()))
        }
        let bytes = match suite {
            Suite::X25519 => public::<X25519HkdfSha256>(secret)?,
            Suite::XWing => public::<XWing>(secret)?,
        };
        Ok(Self { public: EncryptionKey { suite, bytes }, secret: secret.to_vec() })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &EncryptionKey {
        &self.public
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.public.suite
    }

    /// The secret bytes, for key stores.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecryptionKey(redacted)")
    }
}

/// The key of one message's content. Wiped when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ContentKey([u8; 32]);

impl ContentKey {
    /// A new content key.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(random(entropy))
    }

    /// A content key from a key table.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for key tables.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The commitment to this key that stands in the header.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        *self.derive(b"liaison/v1/key-commitment")
    }

    /// The key under which a node keeps what waits to be sealed: body and attachments have keys of their own.
    #[must_use]
    pub fn waiting_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive(b"liaison/v1/waiting")
    }

    pub(crate) fn derive(&self, label: &[u8]) -> Zeroizing<[u8; 32]> {
        struct Length;
        impl KeyType for Length {
            fn len(&self) -> usize {
                32
            }
        }
        let mut okm = Zeroizing::new([0; 32]);
        let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(&self.0);
        let filled = pseudorandom.expand(&[label], Length).and_then(|out| out.fill(okm.as_mut()));
        assert!(filled.is_ok(), "HKDF-SHA256 gives 32 bytes for any label");
        okm
    }

    fn body_cipher(&self) -> Result<LessSafeKey, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.derive(b"liaison/v1/body")).map_err(|_| SealError::Body)?;
        Ok(LessSafeKey::new(key))
    }

    /// Pads and encrypts a plaintext as a body.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] when the body would pass its limit.
    pub fn seal_body(&self, core: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut padded = pad(plaintext)?;
        // The key serves one body only, so the nonce may be fixed.
        self.body_cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(core), &mut padded)
            .map_err(|_| SealError::Body)?;
        Ok(padded)
    }

    /// Checks the commitment, then opens and unpads a body.
    ///
    /// # Errors
    /// [`SealError::Commitment`], [`SealError::Body`] or [`SealError::Padding`].
    pub fn open_body(&self, core: &[u8], commitment: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if aws_lc_rs::constant_time::verify_slices_are_equal(&self.commitment(), commitment).is_err() {
            return Err(SealError::Commitment);
        }
        let mut bytes = Zeroizing::new(body.to_vec());
        let length = self
            .body_cipher()?
            .open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::from(core), &mut bytes)
            .map_err(|_| SealError::Body)?
            .len();
        bytes.truncate(length);
        unpad(bytes)
    }

    /// Wraps this key to a recipient: encapsulated key and ciphertext, concatenated.
    ///
    /// # Errors
    /// [`SealError::MalformedKey`] when the recipient's key cannot be sealed to.
    pub fn wrap(
        &self,
        core: &[u8],
        message: MessageId,
        to: &EncryptionKey,
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, SealError> {
        fn wrap<K: Kem>(
            key: &[u8],
            to: &[u8],
            info: &[u8],
            core: &[u8],
            draw: &dyn Entropy,
        ) -> Result<Vec<u8>, SealError> {
            let to = K::PublicKey::from_bytes(to).map_err(|_| SealError::MalformedKey)?;
            let (encapsulated, sealed) = single_shot_seal_with_rng::<AesGcm256, HkdfSha256, K>(
                &OpModeS::Base,
                &to,
                info,
                key,
                core,
                &mut Draw(draw),
            )
            .map_err(|_| SealError::MalformedKey)?;
            Ok([&encapsulated.to_bytes()[..], &sealed].concat())
        }
        let info = wrap_info(message, to);
        match to.suite {
            Suite::X25519 => wrap::<X25519HkdfSha256>(&self.0, &to.bytes, &info, core, entropy),
            Suite::XWing => wrap::<XWing>(&self.0, &to.bytes, &info, core, entropy),
        }
    }

    /// Opens a wrap.
    ///
    /// # Errors
    /// [`SealError::Wrap`] when it was not made for this key, message and core.
    pub fn unwrap(core: &[u8], message: MessageId, key: &DecryptionKey, wrap: &[u8]) -> Result<Self, SealError> {
        fn open<K: Kem>(secret: &[u8], wrap: &[u8], info: &[u8], core: &[u8]) -> Option<Vec<u8>> {
            let (encapsulated, sealed) = wrap.split_at_checked(wrap.len().checked_sub(32 + 16)?)?;
            let encapsulated = K::EncappedKey::from_bytes(encapsulated).ok()?;
            let secret = K::PrivateKey::from_bytes(secret).ok()?;
            single_shot_open::<AesGcm256, HkdfSha256, K>(&OpModeR::Base, &secret, &encapsulated, info, sealed, core)
                .ok()
        }
        let info = wrap_info(message, &key.public);
        let opened = match key.public.suite {
            Suite::X25519 => open::<X25519HkdfSha256>(&key.secret, wrap, &info, core),
            Suite::XWing => open::<XWing>(&key.secret, wrap, &info, core),
        };
        let opened = Zeroizing::new(opened.ok_or(SealError::Wrap)?);
        Ok(Self(opened.as_slice().try_into().map_err(|_| SealError::Wrap)?))
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(redacted)")
    }
}

fn wrap_info(message: MessageId, to: &EncryptionKey) -> Vec<u8> {
    [b"liaison/v1/wrap", message.as_bytes().as_slice(), &to.sha256()].concat()
}

/// Length prefix, plaintext, zeros up to a Padme length (Nikitin et al., 2019) of at least [`limits::PADDING_FLOOR`]:
/// at most 12 % more, and the length says little.
fn pad(plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let length = u32::try_from(plaintext.len()).map_err(|_| SealError::TooLarge)?;
    let needed = (plaintext.len() + 4).max(limits::PADDING_FLOOR);
    let exponent = needed.ilog2();
    let mask = (1_usize << (exponent - (exponent.ilog2() + 1))) - 1;
    let padded = (needed + mask) & !mask;
    if padded + AES_256_GCM.tag_len() > limits::BODY_BYTES {
        return Err(SealError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(padded + AES_256_GCM.tag_len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(plaintext);
    bytes.resize(padded, 0);
    Ok(bytes)
}

fn unpad(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(SealError::Padding)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SealError::Padding)?;
    let (plaintext, padding) = rest.split_at_checked(length).ok_or(SealError::Padding)?;
    if padding.iter().any(|&b| b != 0) {
        return Err(SealError::Padding);
    }
    let plaintext = Zeroizing::new(plaintext.to_vec());
    bytes.zeroize();
    Ok(plaintext)
}
