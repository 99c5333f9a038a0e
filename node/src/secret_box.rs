//! Small secrets at rest: AES-256-GCM under a 256-bit key, a random nonce in front, a label as associated data.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use liaison_proto::entropy::{Entropy, random};
use zeroize::Zeroizing;

/// Bytes that sealing adds: nonce and tag.
pub const OVERHEAD: usize = NONCE_LEN + 16;

/// The key is wrong, or the bytes were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not open under this key")]
pub struct DoesNotOpen;

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, DoesNotOpen> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| DoesNotOpen)
}

/// Seals a secret. The nonce is random: a key seals far fewer than 2^32 secrets.
///
/// # Errors
/// Never for secrets of less than 64 GiB.
pub fn seal(key: &[u8; 32], label: &[u8], secret: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, DoesNotOpen> {
    let nonce: [u8; NONCE_LEN] = random(entropy);
    let mut sealed = Zeroizing::new(secret.to_vec());
    cipher(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(label), &mut *sealed)
        .map_err(|_| DoesNotOpen)?;
    Ok([&nonce[..], &sealed].concat())
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`DoesNotOpen`].
pub fn open(key: &[u8; 32], label: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(DoesNotOpen)?;
    let mut bytes = Zeroizing::new(rest.to_vec());
    let length = cipher(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(label), &mut bytes)
        .map_err(|_| DoesNotOpen)?
        .len();
    bytes.truncate(length);
    Ok(bytes)
}
