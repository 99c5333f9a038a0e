//! Who answers at an office, and when: from CONTACT_UPDATE. The telephone stays.

use jiff::civil::DateTime;
use liaison_proto::{clock::UnixMillis, ids::OfficeId};
use prost_reflect::DynamicMessage;

use crate::{
    fields::{inner_list, text, texts},
    forms,
    tables::calendar,
};

/// Limits of what is shown, those of the catalogue.
const OFFICERS: usize = 30;
const CODES: usize = 50;
const TEXT_CHARS: usize = 200;

/// The contacts of an office from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contacts {
    /// The office.
    pub office: OfficeId,
    /// From when on.
    pub valid_from: UnixMillis,
    /// Its duty officers.
    pub officers: Vec<DutyOfficer>,
}

/// A duty officer.
#[derive(Clone, PartialEq, Eq)]
pub struct DutyOfficer {
    /// Name.
    pub name: String,
    /// Code of list `role`.
    pub role: String,
    /// E.164.
    pub number: String,
    /// ISO 639-3.
    pub languages: Vec<String>,
    /// `07:30-17:00`, by the office's clock.
    pub hours: String,
    /// 1 Monday to 7 Sunday; every day when empty.
    days: Vec<String>,
}

impl std::fmt::Debug for DutyOfficer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DutyOfficer(redacted)")
    }
}

impl Contacts {
    /// What a CONTACT_UPDATE says; none when it names no office or time.
    #[must_use]
    pub fn of(content: &DynamicMessage) -> Option<Self> {
        // What was written honestly is within these: a contact is shown with every thread of its office.
        let short = |text: String| text.chars().take(TEXT_CHARS).collect::<String>();
        let officer = |item: &DynamicMessage| DutyOfficer {
            name: short(text(item, "officer")),
            role: short(text(item, "role")),
            number: short(text(item, "number")),
            languages: texts(item, "languages").into_iter().take(CODES).map(short).collect(),
            hours: short(text(item, "hours")),
            days: texts(item, "days").into_iter().take(CODES).map(short).collect(),
        };
        Some(Self {
            office: text(content, "office").parse().ok()?,
            valid_from: forms::instant(&text(content, "valid_from")).map(|(millis, _)| UnixMillis(millis))?,
            officers: inner_list(content, "contacts").iter().take(OFFICERS).map(officer).collect(),
        })
    }
}

impl DutyOfficer {
    /// Whether the officer is on duty at a moment.
    #[must_use]
    pub fn is_on_duty(&self, office: OfficeId, at: UnixMillis) -> bool {
        let clock = calendar::wall_clock(at, office.country());
        let Some((from, until)) = forms::hours(&self.hours) else { return false };
        let minute = u32::try_from(i32::from(clock.hour()) * 60 + i32::from(clock.minute())).unwrap_or_default();
        if from <= until {
            return self.serves(clock) && (from..until).contains(&minute);
        }
        // Over midnight: what began yesterday is yesterday's.
        let yesterday = clock.checked_sub(jiff::Span::new().days(1)).unwrap_or(clock);
        (minute >= from && self.serves(clock)) || (minute < until && self.serves(yesterday))
    }

    fn serves(&self, day: DateTime) -> bool {
        let weekday = day.weekday().to_monday_one_offset().to_string();
        self.days.is_empty() || self.days.contains(&weekday)
    }
}
