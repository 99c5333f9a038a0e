//! What every charter must be, whatever came before it.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Charter, CharterError, CharterFile, CharterLimits, LogIdentity, MemberCountry};
use crate::{Bytes, clock::UnixMillis, limits, sign::VerifyingKey};

/// Parses a charter that stands alone.
pub(super) fn parse(bytes: Bytes) -> Result<Charter, CharterError> {
    if bytes.len() > limits::CHARTER_BYTES {
        return Err(CharterError::TooLarge);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| CharterError::Form("it is not UTF-8".into()))?;
    let file: CharterFile = toml::from_str(text).map_err(|e| CharterError::Form(e.message().to_owned()))?;
    if file.format != 1 {
        return Err(CharterError::Form(format!("format {}", file.format)));
    }
    let issued: jiff::Timestamp = file.issued.parse().map_err(|_| rule("issued is not a time of RFC 3339"))?;
    let issued = UnixMillis(issued.as_millisecond());
    let countries = parse_countries(&file)?;
    check_rules(&file)?;
    let directory_log = log_identity(&file, "directory")?;
    let exchange_log = log_identity(&file, "exchange")?;
    let evidence_key = parse_key(&file.broker.evidence_key, "broker.evidence_key")?;
    let charter = Charter {
        bytes,
        signatures: Vec::new(),
        file,
        issued,
        countries,
        directory_log,
        exchange_log,
        evidence_key,
        before: None,
    };
    distinct_keys(&charter)?;
    Ok(charter)
}

/// Every key of a charter with what it is for.
pub(super) fn keys(charter: &Charter) -> Result<Vec<(String, VerifyingKey)>, CharterError> {
    let mut keys = vec![
        ("the directory log".to_owned(), charter.directory_log.key),
        ("the exchange log".to_owned(), charter.exchange_log.key),
        ("the broker's evidence".to_owned(), charter.evidence_key),
    ];
    keys.extend(
        charter.countries.iter().map(|country| (format!("the authority of {}", country.code), country.authority)),
    );
    for witness in &charter.file.witness {
        keys.push((format!("the witness of {}", witness.country), parse_key(&witness.key, "witness.key")?));
    }
    Ok(keys)
}

pub(super) fn rule(text: impl Into<String>) -> CharterError {
    CharterError::Rule(text.into())
}

fn parse_key(text: &str, field: &str) -> Result<VerifyingKey, CharterError> {
    let bytes = STANDARD.decode(text).map_err(|_| rule(format!("{field} is not base64")))?;
    VerifyingKey::parse(&bytes).map_err(|e| rule(format!("{field}: {e}")))
}

fn parse_countries(file: &CharterFile) -> Result<Vec<MemberCountry>, CharterError> {
    let mut countries: Vec<MemberCountry> = Vec::new();
    for entry in &file.country {
        if countries.iter().any(|known| known.code == entry.code) {
            return Err(rule(format!("country {} is there twice", entry.code)));
        }
        if entry.contact_point.country() != entry.code {
            return Err(rule(format!("the contact point of {} is another country's", entry.code)));
        }
        countries.push(MemberCountry {
            code: entry.code,
            authority: parse_key(&entry.authority, "country.authority")?,
            ca_pem: entry.ca.clone(),
            contact_point: entry.contact_point,
        });
    }
    Ok(countries)
}

fn log_identity(file: &CharterFile, name: &str) -> Result<LogIdentity, CharterError> {
    let mut entries = file.log.iter().filter(|log| log.name == name);
    let (Some(entry), None) = (entries.next(), entries.next()) else {
        return Err(rule(format!("there must be exactly one log named {name}")));
    };
    // A key name of signed notes; also keeps a line break out of the checkpoint's first line.
    let valid = !entry.origin.is_empty() && entry.origin.chars().all(|c| c.is_ascii_graphic() && c != '+');
    if !valid {
        return Err(rule(format!("the origin of log {name} is not a C2SP key name")));
    }
    Ok(LogIdentity { origin: entry.origin.clone(), key: parse_key(&entry.key, "log.key")?, former: Vec::new() })
}

fn check_rules(file: &CharterFile) -> Result<(), CharterError> {
    if file.limits != CharterLimits::built_in() {
        return Err(rule("its limits are not the ones this version is built with"));
    }
    if !file.country.iter().any(|country| country.code == file.operator) {
        return Err(rule("the operator is not a member country"));
    }
    let domain_ok = file.domain.contains('.')
        && file.domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
    if !domain_ok {
        return Err(rule("domain is not a lower-case DNS name"));
    }
    let others = file.witness.iter().filter(|witness| witness.country != file.operator).count();
    let (k, n, f) = (u64::from(file.quorum.witnesses), others as u64, u64::from(file.quorum.faulty));
    if k > n || 2 * k <= n + f {
        return Err(rule(format!("a quorum of {k} of {n} witnesses with {f} faulty does not satisfy 2k > n + f")));
    }
    let members = file.country.len();
    let authorities = file.quorum.authorities(members);
    if authorities > members || 2 * authorities <= members {
        return Err(rule(format!(
            "{authorities} of {members} authorities for the next charter are none or no majority"
        )));
    }
    for country in &file.country {
        if file.witness.iter().filter(|witness| witness.country == country.code).count() != 1 {
            return Err(rule(format!("country {} has not exactly one counted witness", country.code)));
        }
    }
    if file.witness.len() != file.country.len() {
        return Err(rule("a witness is not a member country's"));
    }
    if file.number == 0 || (file.number == 1) != file.succession.is_none() {
        return Err(rule("charters are numbered from 1, and every later one names the one before"));
    }
    if file.succession.is_none() && file.log.iter().any(|log| log.closed.is_some()) {
        return Err(rule("the first charter has no log to close"));
    }
    Ok(())
}

/// No key serves two purposes: an authority's key that were also a log's key would let one sign for the other.
fn distinct_keys(charter: &Charter) -> Result<(), CharterError> {
    let mut seen = BTreeSet::new();
    for (_, key) in keys(charter)? {
        if !seen.insert(*key.as_bytes()) {
            return Err(rule("one key serves two purposes"));
        }
    }
    Ok(())
}
