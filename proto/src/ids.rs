//! Newtypes for everything that names something. Parsed at the edge; inside, no string means anything.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{clock::UnixMillis, entropy::Entropy, wire};

/// Why a name was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not of the form `CC-TIER-PLACE`.
    #[error("office id is not of the form CC-TIER-PLACE with a known tier")]
    Office,
    /// Not two capital letters.
    #[error("country code is not two capital letters of ISO 3166-1")]
    Country,
    /// Not a version 7 UUID.
    #[error("message id is not a UUID of version 7")]
    Message,
}

/// ISO 3166-1 alpha-2 country code. Which countries are members is the charter's matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// The code in capital letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Country {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        match s.as_bytes() {
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err(IdError::Country),
        }
    }
}

/// What an office is in its country's hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Central contact point.
    Ccp,
    /// Provincial unit.
    Prv,
    /// Border liaison office.
    Blo,
    /// Border station.
    Sta,
    /// Mission abroad.
    Mis,
    /// Shelter, with a view of services only.
    She,
    /// Observer.
    Obs,
}

impl Tier {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Ccp, "CCP"),
        (Self::Prv, "PRV"),
        (Self::Blo, "BLO"),
        (Self::Sta, "STA"),
        (Self::Mis, "MIS"),
        (Self::She, "SHE"),
        (Self::Obs, "OBS"),
    ];

    /// The code as written in office ids.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(t, _)| *t == self).map_or("", |(_, s)| s)
    }

    fn parse(s: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, code)| *code == s).map(|(t, _)| *t)
    }
}

/// Office id `CC-TIER-PLACE`, for example `VN-BLO-LCA`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OfficeId {
    country: Country,
    tier: Tier,
    place: [u8; 3],
}

impl OfficeId {
    /// The country whose authority vouches for this office.
    #[must_use]
    pub const fn country(&self) -> Country {
        self.country
    }

    /// The office's tier.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// The DNS name in the office's TLS certificate: `lca.blo.vn.<charter domain>`.
    #[must_use]
    pub fn dns_name(&self, domain: &str) -> String {
        let place = std::str::from_utf8(&self.place).unwrap_or_default();
        format!("{place}.{}.{}.{domain}", self.tier.as_str(), self.country).to_ascii_lowercase()
    }

    /// The office a TLS certificate's DNS name speaks of, when it is of [`Self::dns_name`]'s form.
    #[must_use]
    pub fn from_dns_name(name: &str, domain: &str) -> Option<Self> {
        let office = name.strip_suffix(domain)?.strip_suffix('.')?;
        if office.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut parts = office.split('.').rev();
        let (country, tier, place) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        format!("{country}-{tier}-{place}").to_ascii_uppercase().parse().ok()
    }
}

impl FromStr for OfficeId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let mut parts = s.split('-');
        let (Some(country), Some(tier), Some(place), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdError::Office);
        };
        let country = country.parse().map_err(|_| IdError::Office)?;
        let tier = Tier::parse(tier).ok_or(IdError::Office)?;
        match place.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(|l| l.is_ascii_uppercase() || l.is_ascii_digit()) => {
                Ok(Self { country, tier, place: [a, b, c] })
            }
            _ => Err(IdError::Office),
        }
    }
}

impl fmt::Display for OfficeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = std::str::from_utf8(&self.place).unwrap_or_default();
        f.pad(&format!("{}-{}-{place}", self.country, self.tier.as_str()))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Message id: UUIDv7 (RFC 9562), made once by the originator; a retry keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId([u8; 16]);

impl MessageId {
    /// Sorts before every id, for ranges.
    pub const LOWEST: Self = Self([0; 16]);

    /// A new id for a message made at `now`.
    #[must_use]
    pub fn new(now: UnixMillis, entropy: &dyn Entropy) -> Self {
        let millis = u64::try_from(now.0).unwrap_or(0);
        let random = crate::entropy::random(entropy);
        Self(*uuid::Builder::from_unix_timestamp_millis(millis, &random).as_uuid().as_bytes())
    }

    /// The 16 bytes as on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses the 16 bytes of the wire.
    ///
    /// # Errors
    /// [`IdError::Message`] when they are not a version 7 UUID.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, IdError> {
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| IdError::Message)?;
        let uuid = uuid::Uuid::from_bytes(bytes);
        let is_version_7 = uuid.get_version_num() == 7 && uuid.get_variant() == uuid::Variant::RFC4122;
        if is_version_7 { Ok(Self(bytes)) } else { Err(IdError::Message) }
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let uuid = uuid::Uuid::try_parse(s).map_err(|_| IdError::Message)?;
        Self::from_wire(uuid.as_bytes())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_bytes(self.0), f)
    }
}

macro_rules! text_form {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(s: String) -> Result<Self, IdError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )+};
}
text_form!(Country, OfficeId, MessageId);

/// Zero-based index of an entry in one of the logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogIndex(pub u64);

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What waits for what: FLASH for nothing, URGENT for nothing but FLASH, bulk for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Lane {
    /// Life at risk, a child or victim in transit.
    Flash,
    /// Urgent.
    Urgent,
    /// ROUTINE and PERIODIC.
    Bulk,
}

impl Lane {
    /// The lane of a priority; none for an unknown one.
    #[must_use]
    pub const fn of(priority: wire::Priority) -> Option<Self> {
        match priority {
            wire::Priority::Flash => Some(Self::Flash),
            wire::Priority::Urgent => Some(Self::Urgent),
            wire::Priority::Routine | wire::Priority::Periodic => Some(Self::Bulk),
            wire::Priority::Unspecified => None,
        }
    }

    /// Every lane, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Flash, Self::Urgent, Self::Bulk];

    /// The lane of a number on the wire.
    #[must_use]
    pub fn from_wire(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| i32::from(lane.to_wire()) == number)
    }

    /// The number of the lane on the wire.
    #[must_use]
    pub const fn to_wire(self) -> wire::Lane {
        match self {
            Self::Flash => wire::Lane::Flash,
            Self::Urgent => wire::Lane::Urgent,
            Self::Bulk => wire::Lane::Bulk,
        }
    }
}

/// Messages from one office to another in one lane are numbered from 1 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// The originator.
    pub from: OfficeId,
    /// The recipient.
    pub to: OfficeId,
    /// The lane.
    pub lane: Lane,
}
