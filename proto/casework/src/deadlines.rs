//! Deadlines: how long each step may take. The values are defaults in `deadlines.toml`; agreements may set others.

use std::{collections::BTreeSet, sync::LazyLock};

use jiff::{ToSpan as _, civil::Date, tz::Offset};
use liaison_proto::{
    clock::{HOUR_MS, UnixMillis},
    ids::Country,
    wire::Priority,
};
use serde::Deserialize;

/// Deadlines of one corridor.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// Acknowledgement of FLASH and URGENT, minutes.
    pub urgent_acknowledgement_minutes: i64,
    /// Acknowledgement of everything else, working days of the recipient.
    pub acknowledgement_working_days: u32,
    /// A hot-line call is answered, minutes.
    pub hotline_minutes: i64,
    /// Answer to an urgent request, hours.
    pub urgent_answer_hours: i64,
    /// Answer to any other request, days.
    pub answer_days: i64,
    /// Verification of identity, working days of the country of origin.
    pub verification_working_days: u32,
    /// Papers once verified, days.
    pub papers_days: i64,
    /// Notice of arrival before the handover, days.
    pub arrival_notice_days: i64,
    /// Feedback after a return, days after the handover.
    pub feedback_days: Vec<i64>,
    /// An alert's validity, days.
    pub alert_days: i64,
}

static DEFAULT: LazyLock<Deadlines> = LazyLock::new(|| match toml::from_str(include_str!("../deadlines.toml")) {
    Ok(deadlines) => deadlines,
    Err(e) => panic!("deadlines.toml is built into this program and does not parse: {e}"),
});

/// Days on which offices of a country are closed, beside weekends.
static HOLIDAYS: LazyLock<BTreeSet<(Country, Date)>> = LazyLock::new(|| {
    let line = |line: &str| {
        let mut columns = line.split('\t');
        Some((columns.next()?.parse().ok()?, columns.next()?.parse().ok()?))
    };
    include_str!("../holidays.tsv").lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
});

impl Default for Deadlines {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

/// The wall clock of a country: China eight hours ahead of UTC, the other four seven.
#[must_use]
pub fn offset(country: Country) -> Offset {
    Offset::constant(if country.as_str() == "CN" { 8 } else { 7 })
}

/// Whether offices of a country are open on a day.
#[must_use]
pub fn is_working_day(country: Country, day: Date) -> bool {
    let weekend = matches!(day.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday);
    !weekend && !HOLIDAYS.contains(&(country, day))
}

/// The end of the working day that is so many after a moment, by a country's calendar and wall clock.
#[must_use]
pub fn after_working_days(from: UnixMillis, days: u32, country: Country) -> UnixMillis {
    let Ok(timestamp) = jiff::Timestamp::from_millisecond(from.0) else { return from };
    let mut day = offset(country).to_datetime(timestamp).date();
    let mut left = days;
    while left > 0 {
        // Calendars end in the year 9999.
        let Ok(next) = day.checked_add(1.day()) else { return from };
        day = next;
        left -= u32::from(is_working_day(country, day));
    }
    let end = day.at(23, 59, 59, 0).to_zoned(offset(country).to_time_zone());
    end.map_or(from, |end| UnixMillis(end.timestamp().as_millisecond()))
}

impl Deadlines {
    /// Until when a message is to be acknowledged by an office of a country.
    #[must_use]
    pub fn acknowledgement(&self, priority: Priority, sent: UnixMillis, country: Country) -> UnixMillis {
        match priority {
            Priority::Flash | Priority::Urgent => sent.plus(self.urgent_acknowledgement_minutes * HOUR_MS / 60),
            _ => after_working_days(sent, self.acknowledgement_working_days, country),
        }
    }

    /// Until when an identity is to be verified.
    #[must_use]
    pub fn verification(&self, requested: UnixMillis, country: Country) -> UnixMillis {
        after_working_days(requested, self.verification_working_days, country)
    }
}
