//! How long each step may take, by corridor, kind and priority.

use std::{collections::BTreeSet, sync::LazyLock};

use jiff::civil::Date;
use liaison_proto::{
    clock::{DAY_MS, HOUR_MS, UnixMillis},
    ids::Country,
    wire::{Kind, Priority},
};
use serde::Deserialize;

use super::{Signed, TableError, Tables, optional_date};
use crate::{act::Availability, catalogue};

/// Longest that a table can set: ten years.
const MOST_DAYS: i64 = 3660;

/// A table of deadlines: what it does not set, a more general one does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadlineTable {
    #[serde(default, deserialize_with = "optional_date")]
    pub(crate) valid_from: Option<Date>,
    /// Acknowledgement by a named officer: the first that fits.
    #[serde(default)]
    acknowledgement: Vec<Rule>,
    /// Answer to a request: the first that fits.
    #[serde(default)]
    answer: Vec<Rule>,
    hotline_minutes: Option<u32>,
    verification_working_days: Option<u32>,
    verification_extension_working_days: Option<u32>,
    papers_days: Option<u32>,
    arrival_notice_days: Option<u32>,
    feedback_days: Option<Vec<u32>>,
    alert_days: Option<u32>,
}

/// How long for which messages; what is empty is any.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    kind: Vec<String>,
    #[serde(default)]
    priority: Vec<String>,
    availability: Option<String>,
    minutes: Option<u32>,
    hours: Option<u32>,
    days: Option<u32>,
    working_days: Option<u32>,
}

/// What a deadline is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Kind.
    pub kind: Kind,
    /// Priority.
    pub priority: Priority,
    /// When it was sent.
    pub at: UnixMillis,
    /// How the other office can come by it, where that was said.
    pub availability: Option<Availability>,
    /// The country of whoever is to act: working days are its own.
    pub country: Country,
}

impl Rule {
    fn is_sound(&self) -> bool {
        let lengths = [self.minutes, self.hours, self.days, self.working_days];
        let kind = |name: &String| catalogue::kind_by_name(name).is_some();
        let priority = |name: &String| Priority::from_str_name(&format!("PRIORITY_{name}")).is_some();
        lengths.iter().flatten().count() == 1
            && self.kind.iter().all(kind)
            && self.priority.iter().all(priority)
            && self.availability.as_deref().is_none_or(|code| Availability::of(code).is_some())
            && self.days.into_iter().chain(self.working_days).all(|days| i64::from(days) <= MOST_DAYS)
            && self.minutes.into_iter().chain(self.hours).all(|length| i64::from(length) <= MOST_DAYS * 24)
    }

    fn fits(&self, asked: &Asked) -> bool {
        let priority = catalogue::short_name("PRIORITY_", asked.priority.as_str_name());
        (self.kind.is_empty() || self.kind.iter().any(|kind| kind == catalogue::kind_name(asked.kind)))
            && (self.priority.is_empty() || self.priority.iter().any(|named| named == priority))
            && self.availability.as_deref().is_none_or(|code| Availability::of(code) == asked.availability)
    }

    fn end(&self, asked: &Asked, tables: &Tables) -> UnixMillis {
        if let Some(days) = self.working_days {
            return tables.after_working_days(asked.at, days, asked.country);
        }
        let units = [(self.minutes, HOUR_MS / 60), (self.hours, HOUR_MS), (self.days, DAY_MS)];
        let length = units.iter().find_map(|(length, unit)| length.map(|length| i64::from(length) * unit));
        asked.at.plus(length.unwrap_or_default())
    }
}

impl DeadlineTable {
    pub(super) fn parse(text: &str) -> Result<Self, TableError> {
        let table: Self = toml::from_str(text)?;
        let lengths = [
            table.hotline_minutes,
            table.verification_working_days,
            table.verification_extension_working_days,
            table.papers_days,
            table.arrival_notice_days,
            table.alert_days,
        ];
        let all = lengths.into_iter().flatten().chain(table.feedback_days.clone().into_iter().flatten());
        if !all.map(i64::from).all(|length| length <= MOST_DAYS) || table.feedback_days.as_deref() == Some(&[]) {
            return Err(TableError::Content(format!("a length is at most {MOST_DAYS}, and feedback is not empty")));
        }
        if !table.acknowledgement.iter().chain(&table.answer).all(Rule::is_sound) {
            let wanted = "each rule has one of minutes, hours, days, working_days, and kinds, priorities and \
                          availability of the catalogue";
            return Err(TableError::Content(wanted.to_owned()));
        }
        Ok(table)
    }
}

static BUILT_IN: LazyLock<DeadlineTable> =
    LazyLock::new(|| match DeadlineTable::parse(include_str!("../../deadlines.toml")) {
        Ok(table) => table,
        Err(e) => panic!("deadlines.toml is built into this program and does not parse: {e}"),
    });

/// How long each step may take between some countries.
#[derive(Clone, Debug)]
pub struct Deadlines<'t> {
    tables: &'t Tables,
    /// The most particular first, what is built in last.
    applying: Vec<&'t DeadlineTable>,
}

impl<'t> Deadlines<'t> {
    pub(super) fn new(
        tables: &'t Tables,
        in_force: Vec<&'t Signed<DeadlineTable>>,
        countries: &BTreeSet<Country>,
    ) -> Self {
        let own = in_force.into_iter().filter(|signed| signed.countries.is_superset(countries));
        Self { tables, applying: own.map(|signed| &signed.table).chain([&*BUILT_IN]).collect() }
    }

    /// The first that says something; what is built in says everything.
    fn value<T: Default>(&self, get: impl Fn(&'t DeadlineTable) -> Option<T>) -> T {
        self.applying.iter().find_map(|table| get(table)).unwrap_or_default()
    }

    fn by_rule(&self, rules: impl Fn(&'t DeadlineTable) -> &'t [Rule], asked: &Asked) -> UnixMillis {
        let rule = self.applying.iter().flat_map(|table| rules(table)).find(|rule| rule.fits(asked));
        rule.map_or(asked.at, |rule| rule.end(asked, self.tables))
    }

    /// Until when a message is acknowledged.
    #[must_use]
    pub fn acknowledgement(&self, asked: &Asked) -> UnixMillis {
        self.by_rule(|table| &table.acknowledgement, asked)
    }

    /// Until when a request is answered.
    #[must_use]
    pub fn answer(&self, asked: &Asked) -> UnixMillis {
        self.by_rule(|table| &table.answer, asked)
    }

    /// Until when a call for help is answered.
    #[must_use]
    pub fn hotline(&self, raised: UnixMillis) -> UnixMillis {
        raised.plus(i64::from(self.value(|table| table.hotline_minutes)) * HOUR_MS / 60)
    }

    /// Until when an identity is verified, with the longer time where the country of origin has asked for it.
    #[must_use]
    pub fn verification(&self, requested: UnixMillis, country: Country, extended: bool) -> UnixMillis {
        let longer = if extended { self.value(|table| table.verification_extension_working_days) } else { 0 };
        let days = self.value(|table| table.verification_working_days) + longer;
        self.tables.after_working_days(requested, days, country)
    }

    /// Until when the papers of somebody who was verified are ready.
    #[must_use]
    pub fn papers(&self, verified: UnixMillis) -> UnixMillis {
        verified.plus(i64::from(self.value(|table| table.papers_days)) * DAY_MS)
    }

    /// Until when the receiving side knows of an arrival.
    #[must_use]
    pub fn arrival_notice(&self, arrival: UnixMillis) -> UnixMillis {
        arrival.plus(-i64::from(self.value(|table| table.arrival_notice_days)) * DAY_MS)
    }

    /// Until when the next feedback after a handover comes; `had` is how many came before.
    #[must_use]
    pub fn feedback(&self, handed_over: UnixMillis, had: usize) -> UnixMillis {
        let days = self.value(|table| table.feedback_days.as_deref());
        let days = days.get(had).or(days.last()).copied().unwrap_or_default();
        handed_over.plus(i64::from(days) * DAY_MS)
    }

    /// Until when an alert holds that does not say so itself.
    #[must_use]
    pub fn alert(&self, sent: UnixMillis) -> UnixMillis {
        sent.plus(i64::from(self.value(|table| table.alert_days)) * DAY_MS)
    }
}
