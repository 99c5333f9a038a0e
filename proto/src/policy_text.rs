//! What countries agree on, as the directory knows it: a text with a heading, signed by the countries that it names. Agreements are
//! Cedar policies, and what they say is `liaison-policy`'s matter; tables (gates, deadlines, holidays) are `liaison-casework`'s.

use std::{collections::BTreeSet, sync::Arc};

use crate::{ids::Country, sha256};

/// Largest text, bytes: it is an entry of the directory log, with a signature of each country.
pub const MAX_BYTES: usize = 32 * 1024;
/// Most countries that one names.
pub const MAX_COUNTRIES: usize = 16;
/// Longest name, bytes.
const MAX_NAME: usize = 16;

/// A text that is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadingError {
    /// Too large.
    #[error("the text has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Its first line does not say what it is.
    #[error("the first line is not: // agreement NAME serial N countries CC CC (or # table NAME ...)")]
    Heading,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyForm {
    /// Cedar policies.
    Agreement,
    /// A dated table, in TOML.
    Table,
}

/// A text with what its first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    /// What it is.
    pub form: PolicyForm,
    /// Its name: of an agreement the legal basis, mostly.
    pub name: String,
    /// From 1, without gaps: each later one replaces the one before.
    pub serial: u64,
    /// The countries that it binds, and that sign it.
    pub countries: BTreeSet<Country>,
    /// All of it.
    pub text: Arc<str>,
}

impl PolicyText {
    /// Reads the first line; limits come before reading.
    ///
    /// # Errors
    /// [`HeadingError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadingError> {
        if bytes.len() > MAX_BYTES {
            return Err(HeadingError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| HeadingError::Heading)?;
        let line = text.lines().next().ok_or(HeadingError::Heading)?;
        let agreement = line.strip_prefix("// agreement ").map(|rest| (PolicyForm::Agreement, rest));
        let table = || line.strip_prefix("# table ").map(|rest| (PolicyForm::Table, rest));
        let (form, line) = agreement.or_else(table).ok_or(HeadingError::Heading)?;
        let (name, rest) = line.split_once(" serial ").ok_or(HeadingError::Heading)?;
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
                Ok(Self { form, name: name.to_owned(), serial, countries, text: text.into() })
            }
            _ => Err(HeadingError::Heading),
        }
    }

    /// Whether it is the next of another one. An agreement follows the newest of its name that binds a country of its own: a
    /// name that others have taken is no hindrance. A table follows that of the same countries, no others: one of two
    /// countries stands beside one of all.
    #[must_use]
    pub fn follows(&self, other: &Self) -> bool {
        let same = (self.form, &self.name) == (other.form, &other.name);
        same && match self.form {
            PolicyForm::Agreement => !self.countries.is_disjoint(&other.countries),
            PolicyForm::Table => self.countries == other.countries,
        }
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&[self.text.as_bytes()])
    }
}
