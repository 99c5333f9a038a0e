//! Who is in the development charter: read from `members.toml`.

use std::collections::BTreeMap;

use liaison_proto::ids::{Country, OfficeId};
use serde::Deserialize;

use crate::CertsError;

/// The members, as the file names them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// Domain of every TLS name.
    pub domain: String,
    /// Country that operates the broker.
    pub operator: Country,
    /// Names of corridors.
    pub corridors: Vec<String>,
    /// Names of auditors.
    pub auditors: Vec<String>,
    /// Countries.
    pub country: Vec<CountryMember>,
    /// Offices.
    pub office: Vec<OfficeMember>,
}

/// A country.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountryMember {
    /// Its code.
    pub code: Country,
    /// Its central contact point.
    pub contact_point: OfficeId,
}

/// An office.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficeMember {
    /// Its id.
    pub id: OfficeId,
    /// Gate code.
    #[serde(default)]
    pub gate: String,
    /// Names per language.
    pub names: BTreeMap<String, String>,
    /// Its officers.
    pub officers: Vec<OfficerMember>,
}

/// An officer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerMember {
    /// Short id.
    pub id: String,
    /// As shown to the counterpart.
    pub name: String,
    /// Role without its prefix.
    pub role: String,
}

impl Members {
    /// The members of the file that is built into this program.
    ///
    /// # Errors
    /// [`CertsError::Members`] when the file does not parse.
    pub fn built_in() -> Result<Self, CertsError> {
        toml::from_str(include_str!("../members.toml")).map_err(|e| CertsError::Members(e.to_string()))
    }
}
