//! Chance from a seed: the same seed, the same throws.

use std::{ops::RangeInclusive, sync::Mutex, time::Duration};

use liaison_proto::entropy::Entropy;

/// SplitMix64: enough to spread what happens, and never for keys outside a simulation.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// By a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`.
    pub const fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }

    /// Whether it happens, once in so many times.
    pub const fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }

    /// One of several.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len() as u64) as usize]
    }

    /// A time of so many milliseconds.
    pub fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(range.start() + self.roll(range.end() - range.start() + 1))
    }

    /// Dice of their own for a part: what it throws changes nothing for the others.
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// Randomness from dice. The keys made with it are known to whoever knows the seed.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<Dice>);

impl SeededEntropy {
    /// By dice.
    #[must_use]
    pub const fn new(dice: Dice) -> Self {
        Self(Mutex::new(dice))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let mut dice = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&dice.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
