//! How old a person is, as far as it is known, and the CTDC age band.
//!
//! There is no clock here: the age is the one at a date that the content names.

use std::ops::RangeInclusive;

use jiff::civil::Date;
use prost_reflect::DynamicMessage;

use crate::forms;

/// A person of fewer years is a child (Palermo Protocol, article 3 (d)).
pub const ADULT: u32 = 18;
/// A date that is marked as approximate is taken to be a year off, either way.
const APPROXIMATE_YEARS: u32 = 1;
/// The first year of every CTDC age band but the lowest, with the band's code.
const BANDS: [(u32, &str); 9] = [
    (48, "48+"),
    (39, "39-47"),
    (30, "30-38"),
    (27, "27-29"),
    (24, "24-26"),
    (21, "21-23"),
    (18, "18-20"),
    (9, "9-17"),
    (0, "0-8"),
];

/// The youngest and the oldest that a person can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// Full years at least.
    pub youngest: u32,
    /// Full years at most.
    pub oldest: u32,
}

impl Age {
    /// The CTDC age band. When the dates leave two, the younger one: who may be a child is counted as one.
    #[must_use]
    pub fn band(self) -> &'static str {
        BANDS.iter().find(|(from, _)| self.youngest >= *from).map_or("", |(_, band)| band)
    }
}

/// The age of a RETURN_REQUEST's victim when found: from the birth date, else the age as written.
#[must_use]
pub fn when_found(content: &DynamicMessage) -> Option<Age> {
    from_dates(content).or_else(|| {
        let age = content.has_field_by_name("age").then(|| content.get_field_by_name("age")?.as_u32()).flatten()?;
        Some(Age { youngest: age, oldest: age })
    })
}

fn from_dates(content: &DynamicMessage) -> Option<Age> {
    let (born, born_about) = date(content, "birth_date")?;
    let (found, found_about) = date(content, "found_date")?;
    let doubt = if born_about || found_about { APPROXIMATE_YEARS } else { 0 };
    Some(Age {
        youngest: years(*born.end(), *found.start()).saturating_sub(doubt),
        oldest: years(*born.start(), *found.end()).saturating_add(doubt),
    })
}

/// A `PartialDate` of a message, and whether it is approximate.
fn date(content: &DynamicMessage, name: &str) -> Option<(RangeInclusive<Date>, bool)> {
    let field = content.get_field_by_name(name)?;
    let date = field.as_message()?;
    let days = forms::partial_date(date.get_field_by_name("value")?.as_str()?).ok()?;
    Some((days, date.get_field_by_name("approximate")?.as_bool()?))
}

/// Full years from a birth to a day; none before the birth.
fn years(born: Date, day: Date) -> u32 {
    let before_birthday = (day.month(), day.day()) < (born.month(), born.day());
    let years = i32::from(day.year()) - i32::from(born.year()) - i32::from(before_birthday);
    u32::try_from(years).unwrap_or(0)
}
