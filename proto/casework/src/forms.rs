//! Named forms of text fields.

use std::ops::RangeInclusive;

use jiff::civil::Date;
use liaison_proto::ids::{Country, MessageId, OfficeId};

use crate::advice::{self, Advice};

/// The last year of the Gregorian calendar that a case can name; Buddhist years are 543 later.
const LAST_YEAR: i16 = 2200;

/// Why a text is not of a form, as advice on what would be right.
#[must_use]
pub fn check(form: &str, text: &str) -> Option<Advice> {
    let (fits, advice) = match form {
        "partial-date" => return partial_date(text).err(),
        "latin" => (text.chars().all(is_latin), advice::LATIN),
        "e164" => (is_e164(text), advice::TELEPHONE),
        "office" => (text.parse::<OfficeId>().is_ok(), advice::OFFICE),
        "language" => (text.len() == 3 && text.bytes().all(|b| b.is_ascii_lowercase()), advice::LANGUAGE_CODE),
        "country" => (text.parse::<Country>().is_ok(), advice::COUNTRY),
        "instant" => (instant(text).is_some(), advice::INSTANT),
        "sha256" => (is_sha256(text), advice::HASH),
        "leaf-hash" => (text == "-" || is_sha256(text), advice::HASH_OR_NONE),
        "field-path" => (is_field_path(text), advice::FIELD_PATH),
        "hours" => (hours(text).is_some(), advice::HOURS),
        // In one spelling only, so that the same id is the same text.
        "uuid" => (text.parse::<MessageId>().is_ok_and(|id| id.to_string() == text), advice::ID),
        _ => (false, advice::NEWER_FORM),
    };
    (!fits).then_some(advice)
}

/// Milliseconds since 1970-01-01T00:00Z and the offset in minutes of an RFC 3339 time.
#[must_use]
pub fn instant(text: &str) -> Option<(i64, i32)> {
    let pieces = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text).ok()?;
    pieces.time()?;
    let offset = pieces.to_numeric_offset()?;
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some((timestamp.as_millisecond(), offset.seconds() / 60))
}

/// The wall times of both sides of the region at a moment: China is an hour ahead of the other four.
#[must_use]
pub fn wall_times(text: &str) -> Option<String> {
    let (millis, _) = instant(text)?;
    let at = jiff::Timestamp::from_millisecond(millis).ok()?;
    let clock = |hours| jiff::tz::Offset::constant(hours).to_datetime(at).strftime("%Y-%m-%d %H:%M").to_string();
    Some(format!("{} UTC+7; {} UTC+8, China", clock(7), clock(8)))
}

/// The days that a date can be, as far as it is known: `2026-11` is all of November.
///
/// # Errors
/// Advice on what would be right.
pub fn partial_date(text: &str) -> Result<RangeInclusive<Date>, Advice> {
    let mut parts = text.split('-');
    let number = |part: &str, length: usize| {
        (part.len() == length && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<i16>().ok()).flatten()
    };
    let year = parts.next().and_then(|part| number(part, 4)).ok_or(advice::DATE)?;
    if year > LAST_YEAR {
        return Err(advice::GREGORIAN);
    }
    let mut two_digits = || match parts.next() {
        None => Ok(None),
        Some(part) => number(part, 2).and_then(|n| i8::try_from(n).ok()).map(Some).ok_or(advice::DATE),
    };
    let (month, day) = (two_digits()?, two_digits()?);
    if parts.next().is_some() {
        return Err(advice::DATE);
    }
    let first = Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).map_err(|_| advice::DATE)?;
    let last = match (month, day) {
        (None, _) => first.last_of_year(),
        (Some(_), None) => first.last_of_month(),
        (Some(_), Some(_)) => first,
    };
    Ok(first..=last)
}

fn is_e164(text: &str) -> bool {
    text.strip_prefix('+')
        .is_some_and(|digits| (8..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Latin letters with their marks, spaces and the marks that names use.
fn is_latin(c: char) -> bool {
    matches!(c, ' ' | '-' | '\'' | '.' | ',')
        || c.is_ascii_alphabetic()
        || matches!(c, '\u{c0}'..='\u{24f}' | '\u{300}'..='\u{36f}' | '\u{1e00}'..='\u{1eff}')
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_field_path(text: &str) -> bool {
    let step = |step: &str| {
        let (name, index) = step.split_once('[').map_or((step, None), |(name, rest)| (name, Some(rest)));
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let indexed = index.is_none_or(|index| index.strip_suffix(']').is_some_and(|n| n.parse::<u16>().is_ok()));
        named && indexed
    };
    text.split('.').all(step)
}

/// Minutes of the day from when until when; `22:00-06:00` goes over midnight.
#[must_use]
pub fn hours(text: &str) -> Option<(u32, u32)> {
    let minutes = |clock: &str| {
        let (hour, minute) = clock.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        (minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
    };
    let (from, until) = text.split_once('-')?;
    Some((minutes(from)?, minutes(until)?))
}
