//! An agreement as the directory knows it: a text of policies with a heading, signed by the countries that it names. What the
//! policies say is `liaison-policy`'s matter.

use std::{collections::BTreeSet, sync::Arc};

use crate::{ids::Country, sha256};

/// Largest text of an agreement, bytes: it is an entry of the directory log, with a signature of each country.
pub const MAX_BYTES: usize = 32 * 1024;
/// Most countries that one names.
pub const MAX_COUNTRIES: usize = 16;
/// Longest name, bytes.
const MAX_NAME: usize = 16;

/// A text that is no agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadingError {
    /// Too large.
    #[error("the agreement has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Its first line does not say what it is.
    #[error("the first line is not: // agreement NAME serial N countries CC CC")]
    Heading,
}

/// An agreement's text with what its first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementText {
    /// Its name: the legal basis, mostly.
    pub name: String,
    /// From 1, without gaps: each later one replaces the one before.
    pub serial: u64,
    /// The countries that it binds, and that sign it.
    pub countries: BTreeSet<Country>,
    /// All of it.
    pub text: Arc<str>,
}

impl AgreementText {
    /// Reads the first line; limits come before reading.
    ///
    /// # Errors
    /// [`HeadingError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadingError> {
        if bytes.len() > MAX_BYTES {
            return Err(HeadingError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| HeadingError::Heading)?;
        let line = text.lines().next().and_then(|line| line.strip_prefix("// agreement "));
        let (name, rest) = line.and_then(|line| line.split_once(" serial ")).ok_or(HeadingError::Heading)?;
        let (serial, countries) = rest.split_once(" countries ").ok_or(HeadingError::Heading)?;
        let codes: Vec<&str> = countries.split(' ').take(MAX_COUNTRIES + 1).collect();
        let countries: Option<BTreeSet<Country>> = codes.iter().map(|code| code.parse().ok()).collect();
        let number = serial.parse().ok().filter(|n: &u64| *n > 0 && n.to_string() == serial);
        let named = (1..=MAX_NAME).contains(&name.len());
        let plain = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        match (number, countries) {
            (Some(serial), Some(countries))
                if named && plain && countries.len() == codes.len() && codes.len() <= MAX_COUNTRIES =>
            {
                Ok(Self { name: name.to_owned(), serial, countries, text: text.into() })
            }
            _ => Err(HeadingError::Heading),
        }
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&[self.text.as_bytes()])
    }
}
