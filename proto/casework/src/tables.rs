//! The dated tables that countries agree on: how long each step may take, when gates are open, on which days offices are closed.
//! They are entries of the directory log, signed by the countries that they name; what none of them says stands in the files
//! that are built in.
//!
//! Invariants:
//! - A table says from which day on it counts; the one before counts until then.
//! - Where several speak of the same, that of fewer countries counts: one of two neighbours before one of the region.
//! - A table that does not read is left out whole, and told: never half of it.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use jiff::civil::Date;
use liaison_proto::{
    clock::UnixMillis,
    directory::Directory,
    ids::Country,
    policy_text::{PolicyForm, PolicyText},
};
use serde::{Deserialize, Deserializer};

pub mod calendar;
pub mod deadlines;
pub mod gates;

use calendar::Holidays;
use deadlines::DeadlineTable;
pub use deadlines::Deadlines;
pub use gates::{GateStatus, Gates};

/// A table that does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is an agreement.
    #[error("it is an agreement, not a table")]
    Agreement,
    /// No such table.
    #[error("there is no table {0}: DEADLINES, GATES or HOLIDAYS")]
    Unknown(String),
    /// Not what the table holds.
    #[error("{0}")]
    Content(String),
}

impl From<toml::de::Error> for TableError {
    fn from(error: toml::de::Error) -> Self {
        Self::Content(error.to_string())
    }
}

/// A table with the countries that signed it.
#[derive(Clone, Debug)]
pub(crate) struct Signed<T> {
    pub(crate) countries: BTreeSet<Country>,
    /// From which day on, by the clock of UTC+7; always, when none.
    pub(crate) valid_from: Option<Date>,
    pub(crate) table: T,
}

/// Of each set of countries the newest table that counts on a day, those of the fewest countries first.
fn in_force<T>(tables: &[Signed<T>], day: Date) -> Vec<&Signed<T>> {
    let mut found: Vec<&Signed<T>> = Vec::new();
    for signed in tables.iter().rev().filter(|signed| signed.valid_from.is_none_or(|from| from <= day)) {
        if !found.iter().any(|known| known.countries == signed.countries) {
            found.push(signed);
        }
    }
    found.sort_by_key(|signed| signed.countries.len());
    found
}

/// Every table that was entered, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    deadlines: Vec<Signed<DeadlineTable>>,
    gates: Vec<Signed<Gates>>,
    holidays: Vec<Signed<Holidays>>,
    /// Tables that do not read: name and countries.
    unreadable: Vec<String>,
}

static BUILT_IN: LazyLock<Tables> = LazyLock::new(Tables::default);

/// The tables of the newest sizes of a directory, by the hash of all their texts.
static CACHE: Mutex<Vec<([u8; 32], Arc<Tables>)>> = Mutex::new(Vec::new());

/// Sets of tables that are kept.
const KEPT: usize = 4;

impl Tables {
    /// Only what is built in.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// The tables that a directory has at a size.
    #[must_use]
    pub fn of(directory: &Directory, size: u64) -> Arc<Self> {
        let Some(name) = directory.policies_sha256(size) else { return Arc::new(Self::default()) };
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = cache.iter().find(|(known, _)| *known == name) {
            return Arc::clone(known);
        }
        let tables = Arc::new(Self::read(directory.tables(size)));
        if cache.len() >= KEPT {
            cache.remove(0);
        }
        cache.push((name, Arc::clone(&tables)));
        tables
    }

    /// Reads tables in the order of their entry.
    pub fn read<'t>(texts: impl IntoIterator<Item = &'t PolicyText>) -> Self {
        let mut tables = Self::default();
        for text in texts {
            if tables.add(text).is_err() {
                let countries: Vec<&str> = text.countries.iter().map(Country::as_str).collect();
                tables.unreadable.push(format!("{} {}", text.name, countries.join(" ")));
            }
        }
        tables
    }

    /// Whether a text is a table that reads.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn check(text: &PolicyText) -> Result<(), TableError> {
        Self::default().add(text)
    }

    fn add(&mut self, text: &PolicyText) -> Result<(), TableError> {
        if text.form != PolicyForm::Table {
            return Err(TableError::Agreement);
        }
        let countries = text.countries.clone();
        match text.name.as_str() {
            "DEADLINES" => {
                let table = DeadlineTable::parse(&text.text)?;
                self.deadlines.push(Signed { countries, valid_from: table.valid_from, table });
            }
            "GATES" => {
                let table = Gates::parse(&text.text, &countries)?;
                self.gates.push(Signed { countries, valid_from: table.valid_from, table });
            }
            "HOLIDAYS" => {
                let table = Holidays::parse(&text.text)?;
                self.holidays.push(Signed { countries, valid_from: None, table });
            }
            name => return Err(TableError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// Tables that do not read, by name and countries: what they say does not count here.
    #[must_use]
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// How long each step may take between countries, for what began at a time.
    #[must_use]
    pub fn deadlines(&self, countries: &BTreeSet<Country>, began: UnixMillis) -> Deadlines<'_> {
        Deadlines::new(self, in_force(&self.deadlines, calendar::day(began)), countries)
    }
}

/// A date as TOML writes it.
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let written = toml::value::Datetime::deserialize(deserializer)?;
    written.to_string().parse().map_err(|_| serde::de::Error::custom("a day such as 2026-12-01"))
}

/// The same, where none may stand.
fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    date(deserializer).map(Some)
}
