//! Randomness is passed in, so that whole worlds can be replayed from a seed.

use std::sync::Arc;

use rand_core::{TryCryptoRng, TryRng};

/// Where a process gets random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `buffer` with bytes fit for keys.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// When the operating system has no randomness to give: no key or id may be made then.
    fn fill(&self, buffer: &mut [u8]) {
        if let Err(e) = getrandom::fill(buffer) {
            panic!("the operating system's random generator failed: {e}");
        }
    }
}

/// `N` random bytes.
#[must_use]
pub fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// Shared handle to a source of randomness.
pub type SharedEntropy = Arc<dyn Entropy>;

/// The adaptor that the HPKE crate draws from.
pub(crate) struct Draw<'a>(pub &'a dyn Entropy);

impl TryRng for Draw<'_> {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_le_bytes(random(self.0)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_le_bytes(random(self.0)))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(dst);
        Ok(())
    }
}

impl TryCryptoRng for Draw<'_> {}
