//! On which days offices work, and what the wall clocks of the countries say.

use std::{collections::BTreeSet, sync::LazyLock};

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, Weekday},
    tz::Offset,
};
use liaison_proto::{clock::UnixMillis, ids::Country};
use serde::Deserialize;

use super::{TableError, Tables, date};

/// Days on which offices of a country are closed, beside weekends, where the country says nothing else.
static BUILT_IN: LazyLock<BTreeSet<(Country, Date)>> = LazyLock::new(|| {
    let line = |line: &str| {
        let mut columns = line.split('\t');
        Some((columns.next()?.parse().ok()?, columns.next()?.parse().ok()?))
    };
    include_str!("../../holidays.tsv").lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
});

/// What a country says of its holidays in whole years.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holidays {
    /// Years that it is about: what is built in for them counts no more.
    years: BTreeSet<i16>,
    #[serde(default)]
    holiday: Vec<Named>,
    /// Days of a weekend on which offices work all the same.
    #[serde(default)]
    working: Vec<Named>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(deserialize_with = "date")]
    date: Date,
    #[expect(dead_code, reason = "for whoever signs the table")]
    name: String,
}

impl Holidays {
    pub(super) fn parse(text: &str) -> Result<Self, TableError> {
        let table: Self = toml::from_str(text)?;
        let inside = |named: &Named| table.years.contains(&named.date.year());
        if table.holiday.iter().chain(&table.working).all(inside) {
            Ok(table)
        } else {
            Err(TableError::Content("every date is of one of its years".to_owned()))
        }
    }
}

/// The wall clock of a country: China eight hours ahead of UTC, the other four seven.
#[must_use]
pub fn offset(country: Country) -> Offset {
    Offset::constant(if country.as_str() == "CN" { 8 } else { 7 })
}

/// A moment; the first or the last of the calendar (years -9999 to 9999) for one outside it.
fn timestamp(at: UnixMillis) -> Timestamp {
    let outside = if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(at.0).unwrap_or(outside)
}

/// The wall clock of a country at a moment.
#[must_use]
pub fn wall_clock(at: UnixMillis, country: Country) -> DateTime {
    offset(country).to_datetime(timestamp(at))
}

/// A time of the log as somebody reads it on the wall, with what that clock is ahead of UTC: `2026-11-20 15:30:12+07`.
#[must_use]
pub fn on_the_wall(at: &str, minutes_ahead: i32) -> Option<String> {
    let at: Timestamp = at.parse().ok()?;
    let offset = Offset::from_seconds(minutes_ahead.checked_mul(60)?).ok()?;
    Some(format!("{}{offset}", offset.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S")))
}

/// The day by the clock of UTC+7: by which tables begin to count, for all countries at once.
pub(super) fn day(at: UnixMillis) -> Date {
    Offset::constant(7).to_datetime(timestamp(at)).date()
}

impl Tables {
    /// Whether offices of a country are open on a day.
    #[must_use]
    pub fn is_working_day(&self, country: Country, day: Date) -> bool {
        let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        let own = |holidays: &&super::Signed<Holidays>| {
            holidays.countries.iter().eq([&country]) && holidays.table.years.contains(&day.year())
        };
        let named = |days: &[Named]| days.iter().any(|named| named.date == day);
        match self.holidays.iter().rev().find(own) {
            Some(own) => named(&own.table.working) || (!weekend && !named(&own.table.holiday)),
            None => !weekend && !BUILT_IN.contains(&(country, day)),
        }
    }

    /// The end of the working day that is so many after a moment, by a country's calendar and wall clock; the moment itself
    /// where the calendar ends before.
    #[must_use]
    pub fn after_working_days(&self, from: UnixMillis, days: u32, country: Country) -> UnixMillis {
        let mut day = wall_clock(from, country).date();
        let mut left = days;
        while left > 0 {
            // Calendars end in the year 9999.
            let Ok(next) = day.checked_add(1.day()) else { return from };
            day = next;
            left -= u32::from(self.is_working_day(country, day));
        }
        let end = day.at(23, 59, 59, 0).to_zoned(offset(country).to_time_zone());
        end.map_or(from, |end| UnixMillis(end.timestamp().as_millisecond()).max(from))
    }
}
