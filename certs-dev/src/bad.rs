//! Deliberately bad certificates: each breaks one rule, and a test shows that it is refused.

use std::{collections::BTreeMap, path::Path};

use liaison_proto::ids::{Country, OfficeId};
use time::{Duration, OffsetDateTime};

use crate::{
    CertsError,
    authority::{Authority, Issued, Use, Validity, self_signed},
    files::write_tls,
};

/// Writes every bad certificate below `directory`, each in a folder that says what is wrong with it. Returns the serial
/// number of the revoked one, for the victim's country's list.
///
/// # Errors
/// When a certificate cannot be made or written.
pub fn write(
    directory: &Path,
    domain: &str,
    authorities: &BTreeMap<Country, Authority>,
    victim: OfficeId,
    other: OfficeId,
    now: OffsetDateTime,
) -> Result<Vec<u8>, CertsError> {
    let ca = |office: OfficeId| {
        authorities.get(&office.country()).ok_or_else(|| CertsError::Members(format!("no country for {office}")))
    };
    let (own, foreign) = (ca(victim)?, ca(other)?);
    let name = vec![victim.dns_name(domain)];
    let good = Validity::days(now, 365);
    let past = Validity { not_before: now - Duration::days(30), not_after: now - Duration::days(1) };
    let future = Validity { not_before: now + Duration::days(1), not_after: now + Duration::days(30) };
    let two_names = vec![victim.dns_name(domain), other.dns_name(domain)];
    let revoked = own.issue(&name, Use::Client, good)?;
    let revoked_serial = revoked.serial.clone();
    let bad: [(&str, Issued); 10] = [
        // On its CA's list.
        ("revoked", revoked),
        ("expired", own.issue(&name, Use::Client, past)?),
        ("not-yet-valid", own.issue(&name, Use::Client, future)?),
        ("self-signed", self_signed(&name, Use::Client, good)?),
        // The victim's name, issued by another country's CA.
        ("wrong-ca", foreign.issue(&name, Use::Client, good)?),
        // Another country's office, issued by the own CA.
        ("other-country", own.issue(&[other.dns_name(domain)], Use::Client, good)?),
        ("no-dns-name", own.issue(&[], Use::Client, good)?),
        ("two-names", own.issue(&two_names, Use::Client, good)?),
        ("server-only", own.issue(&name, Use::Server, good)?),
        // An office's CA vouches for the broker's name.
        ("posing-as-broker", own.issue(&[format!("broker.{domain}")], Use::Server, good)?),
    ];
    for (what, issued) in bad {
        write_tls(&directory.join(what), &issued)?;
    }
    Ok(revoked_serial)
}
