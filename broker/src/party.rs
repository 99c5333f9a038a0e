//! Who is at the other end of a connection, as its certificate says.

use std::fmt;

use liaison_proto::{charter::Charter, ids::OfficeId};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A member country's office.
    Office(OfficeId),
    /// An auditor, by name.
    Auditor(String),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Office(office) => office.fmt(f),
            Self::Auditor(name) => write!(f, "auditor {name}"),
        }
    }
}

/// The party that a certificate claims to be: exactly one name, a DNS name of the charter's domain, for a TLS client.
#[must_use]
pub fn claimed_party(certificate: &[u8], charter: &Charter) -> Option<Party> {
    let (rest, certificate) = parse_x509_certificate(certificate).ok()?;
    let usage = certificate.extended_key_usage().ok()??;
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let [GeneralName::DNSName(name)] = names.as_slice() else { return None };
    if !rest.is_empty() || !usage.value.client_auth || usage.value.any {
        return None;
    }
    let file = charter.file();
    if let Some(auditor) = name.strip_suffix(&format!(".audit.{}", file.domain)) {
        return file.auditors.names.iter().find(|known| *known == auditor).cloned().map(Party::Auditor);
    }
    OfficeId::from_dns_name(name, &file.domain)
        .filter(|office| charter.country(office.country()).is_some())
        .map(Party::Office)
}

/// Serial number of a certificate, as revocation lists name it.
#[must_use]
pub fn serial_number(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    Some(certificate.raw_serial().to_vec())
}
