//! Border gates: which there are, when they are open, when they are closed.

use std::collections::BTreeSet;

use jiff::civil::Date;
use liaison_proto::{clock::UnixMillis, ids::Country};
use serde::Deserialize;

use super::{TableError, Tables, calendar, date, in_force, optional_date};
use crate::{
    advice::{self, Advice},
    codes, forms,
};

/// Longest name and reason, bytes.
const TEXT_BYTES: usize = 200;

/// A table of gates, as two neighbours agree on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gates {
    #[serde(default, deserialize_with = "optional_date")]
    pub(crate) valid_from: Option<Date>,
    #[serde(default)]
    gate: Vec<Gate>,
    #[serde(default)]
    closure: Vec<Closure>,
}

/// One gate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gate {
    /// Country, dash, three letters.
    code: String,
    /// Of a gate that is not built in.
    name: Option<String>,
    /// `07:00-22:00` by the wall clock of its country; always, when missing.
    open: Option<String>,
    /// Days of the week, 1 Monday to 7 Sunday; every day when missing.
    days: Option<Vec<i8>>,
}

/// Days on which a gate is closed, both included.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closure {
    gate: String,
    #[serde(deserialize_with = "date")]
    from: Date,
    #[serde(deserialize_with = "date")]
    until: Date,
    reason: String,
}

/// What the tables say of a gate at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateStatus {
    /// No such gate.
    Unknown,
    /// Nothing says that it is closed.
    Open,
    /// Closed, with what would be right.
    Closed(Advice),
}

/// The country of a gate's code, where it has the form of one.
fn country(code: &str) -> Option<Country> {
    let (country, letters) = code.split_once('-')?;
    let plain = letters.len() == 3 && letters.bytes().all(|b| b.is_ascii_uppercase());
    country.parse().ok().filter(|_| plain)
}

impl Gates {
    pub(super) fn parse(text: &str, countries: &BTreeSet<Country>) -> Result<Self, TableError> {
        let table: Self = toml::from_str(text)?;
        let wrong = |what: &str| Err(TableError::Content(what.to_owned()));
        for gate in &table.gate {
            if !country(&gate.code).is_some_and(|country| countries.contains(&country)) {
                return wrong("a gate's code is VN-LCA, of a country that signs the table");
            }
            if gate.open.as_deref().is_some_and(|open| forms::hours(open).is_none()) {
                return wrong("open is hours such as \"07:00-22:00\"");
            }
            if gate.days.iter().flatten().any(|day| !(1..=7).contains(day)) {
                return wrong("days are 1, Monday, to 7, Sunday");
            }
            let named = gate.name.as_ref().is_some_and(|name| (1..=TEXT_BYTES).contains(&name.len()));
            if !named && codes::meaning("gate", &gate.code).is_none() {
                return wrong("a gate that is not built in has a name");
            }
        }
        for closure in &table.closure {
            let known = country(&closure.gate).is_some_and(|country| countries.contains(&country));
            if !known || closure.until < closure.from || closure.reason.len() > TEXT_BYTES {
                return wrong("a closure names a gate of a country that signs, from a day until a day not before it");
            }
        }
        Ok(table)
    }

    fn says(&self, code: &str, at: UnixMillis, country: Country) -> Option<GateStatus> {
        let clock = calendar::wall_clock(at, country);
        let day = clock.date();
        let closed = |closure: &&Closure| closure.gate == code && (closure.from..=closure.until).contains(&day);
        if let Some(closure) = self.closure.iter().find(closed) {
            let Closure { from, until, reason, .. } = closure;
            return Some(GateStatus::Closed(advice::GATE_CLOSED.with(format!("{from} - {until}, {reason}"))));
        }
        let gate = self.gate.iter().find(|gate| gate.code == code)?;
        let weekday = day.weekday().to_monday_one_offset();
        if let Some(days) = gate.days.as_ref().filter(|days| !days.contains(&weekday)) {
            let days: Vec<String> = days.iter().map(ToString::to_string).collect();
            return Some(GateStatus::Closed(advice::GATE_DAYS.with(days.join(", "))));
        }
        let minute = u32::try_from(i32::from(clock.hour()) * 60 + i32::from(clock.minute())).unwrap_or_default();
        let open = gate.open.as_deref().and_then(|open| Some((open, forms::hours(open)?)));
        let within = |(from, until): (u32, u32)| match from <= until {
            true => (from..=until).contains(&minute),
            false => minute >= from || minute <= until,
        };
        match open.filter(|(_, hours)| !within(*hours)) {
            Some((open, _)) => Some(GateStatus::Closed(advice::GATE_HOURS.with(open))),
            None => Some(GateStatus::Open),
        }
    }
}

impl Tables {
    /// What the tables say of a gate at a moment: it is closed when any of them says so.
    #[must_use]
    pub fn gate(&self, code: &str, at: UnixMillis) -> GateStatus {
        let Some(country) = country(code) else { return GateStatus::Unknown };
        let said: Vec<GateStatus> = in_force(&self.gates, calendar::day(at))
            .into_iter()
            .filter(|signed| signed.countries.contains(&country))
            .filter_map(|signed| signed.table.says(code, at, country))
            .collect();
        let closed = said.iter().find(|said| matches!(said, GateStatus::Closed(_)));
        match (closed, said.is_empty()) {
            (Some(closed), _) => closed.clone(),
            (None, true) if codes::meaning("gate", code).is_none() => GateStatus::Unknown,
            _ => GateStatus::Open,
        }
    }

    /// Whether there is, or was, such a gate.
    #[must_use]
    pub fn knows_gate(&self, code: &str) -> bool {
        codes::meaning("gate", code).is_some() || self.named_gate(code).is_some()
    }

    /// The name of a gate that only a table has.
    #[must_use]
    pub fn named_gate(&self, code: &str) -> Option<&str> {
        let newest = self.gates.iter().rev().flat_map(|signed| &signed.table.gate);
        newest.filter(|gate| gate.code == code).find_map(|gate| gate.name.as_deref())
    }
}
