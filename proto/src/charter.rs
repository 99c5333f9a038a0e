//! The charter: the file that the member countries agree on and every party is given.
//!
//! Charter no. 1 is signed by the authorities of all its countries, and its SHA-256 is delivered by hand.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    Bytes,
    clock::UnixMillis,
    ids::{Country, OfficeId},
    limits, sha256,
    sign::{PayloadType, SigningKey, VerifyingKey},
    wire,
};

/// Why a charter was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharterError {
    /// Larger than a leaf of the directory log can carry.
    #[error("charter is larger than {} bytes", limits::CHARTER_BYTES)]
    TooLarge,
    /// Not TOML of this form.
    #[error("charter is not of the form this version reads: {0}")]
    Form(String),
    /// Something in it contradicts the rules for charters.
    #[error("charter breaks a rule: {0}")]
    Rule(String),
    /// A country's signature is missing or not good.
    #[error("charter is not signed by the authority of {0}")]
    Unsigned(String),
}

/// charter.toml, field by field.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharterFile {
    /// Version of this form: 1.
    pub format: u32,
    /// 1 for the first charter.
    pub number: u64,
    /// Domain under which every TLS name lies.
    pub domain: String,
    /// Country that operates the broker; its witness does not count.
    pub operator: Country,
    /// RFC 3339.
    pub issued: String,
    /// Whether a link without a post-quantum key exchange is refused.
    pub require_post_quantum: bool,
    /// Limits that parties must agree on.
    pub limits: CharterLimits,
    /// The broker.
    pub broker: BrokerEntry,
    /// The auditors' CA.
    pub auditors: AuditorsEntry,
    /// The witnesses that count, and how many are needed.
    pub quorum: QuorumEntry,
    /// Corridors by name.
    pub corridor: Vec<CorridorEntry>,
    /// The member countries.
    pub country: Vec<CountryEntry>,
    /// Exactly the directory and the exchange log.
    pub log: Vec<LogEntry>,
    /// One per country.
    pub witness: Vec<WitnessEntry>,
}

/// Limits that parties must agree on, in bytes, counts or days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the constant of the same name in `limits`")]
pub struct CharterLimits {
    pub header_bytes: u64,
    pub body_bytes: u64,
    pub attachment_bytes: u64,
    pub attachments: u64,
    pub recipients: u64,
    pub leaf_bytes: u64,
    pub delivery_days: i64,
    pub dedup_days: i64,
}

impl CharterLimits {
    /// The limits this version is built with.
    #[must_use]
    pub const fn built_in() -> Self {
        Self {
            header_bytes: limits::HEADER_BYTES as u64,
            body_bytes: limits::BODY_BYTES as u64,
            attachment_bytes: limits::ATTACHMENT_BYTES,
            attachments: limits::ATTACHMENTS as u64,
            recipients: limits::RECIPIENTS as u64,
            leaf_bytes: limits::LEAF_BYTES as u64,
            delivery_days: limits::DELIVERY_DAYS,
            dedup_days: limits::DEDUP_DAYS,
        }
    }
}

/// The broker's names and keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerEntry {
    /// The only name that may serve.
    pub tls_name: String,
    /// PEM of the broker's own CA.
    pub ca: String,
    /// Base64 of the Ed25519 key that signs refusals.
    pub evidence_key: String,
}

/// The auditors' CA and who they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditorsEntry {
    /// PEM of the CA for auditors.
    pub ca: String,
    /// DNS labels below `audit.<domain>`.
    pub names: Vec<String>,
}

/// k of the n countries other than the operator's, with f of them faulty: 2k > n + f.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuorumEntry {
    /// k.
    pub witnesses: u32,
    /// f.
    pub faulty: u32,
}

/// A corridor between two countries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorridorEntry {
    /// "VN-CN".
    pub name: String,
}

/// A member country.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountryEntry {
    /// ISO 3166-1 alpha-2.
    pub code: Country,
    /// Base64 of the authority's Ed25519 key.
    pub authority: String,
    /// PEM of the country's CA, name-constrained to its own subtree.
    pub ca: String,
    /// Central contact point.
    pub contact_point: OfficeId,
}

/// A log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// "directory" or "exchange".
    pub name: String,
    /// C2SP origin line, which is also the name of its key.
    pub origin: String,
    /// Base64 of the Ed25519 key that signs checkpoints.
    pub key: String,
}

/// A country's witness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessEntry {
    /// Whose witness.
    pub country: Country,
    /// Key name in cosignature lines.
    pub name: String,
    /// Base64 of the Ed25519 key.
    pub key: String,
}

/// charter.sig: the authorities' signatures, beside the charter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFile {
    /// One per authority.
    pub signature: Vec<SignatureEntry>,
}

/// One authority's signature.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureEntry {
    /// Whose.
    pub country: Country,
    /// Algorithm id, 1 = Ed25519.
    pub algorithm: u32,
    /// Base64.
    pub value: String,
}

impl SignatureFile {
    /// As it stands in the CHARTER leaf.
    #[must_use]
    pub fn to_wire(&self) -> Vec<wire::CountrySignature> {
        let signature = |entry: &SignatureEntry| wire::CountrySignature {
            country: entry.country.to_string(),
            signature: Some(wire::Signature {
                algorithm: entry.algorithm,
                value: STANDARD.decode(&entry.value).unwrap_or_default().into(),
            }),
        };
        self.signature.iter().map(signature).collect()
    }

    /// Adds an authority's signature over the charter's bytes.
    pub fn sign(&mut self, country: Country, charter: &[u8], authority: &SigningKey) {
        let signature = authority.sign(PayloadType::Charter, charter);
        let value = STANDARD.encode(&signature.value);
        self.signature.push(SignatureEntry { country, algorithm: signature.algorithm, value });
    }
}

/// A member country, parsed.
#[derive(Clone, Debug)]
pub struct MemberCountry {
    /// Its code.
    pub code: Country,
    /// Its authority's key.
    pub authority: VerifyingKey,
    /// PEM of its CA.
    pub ca_pem: String,
    /// Its central contact point.
    pub contact_point: OfficeId,
}

/// A log's identity.
#[derive(Clone, Debug)]
pub struct LogIdentity {
    /// Origin line and key name.
    pub origin: String,
    /// Key that signs its checkpoints.
    pub key: VerifyingKey,
}

/// A parsed charter with the bytes that the authorities signed.
#[derive(Clone, Debug)]
pub struct Charter {
    bytes: Bytes,
    file: CharterFile,
    countries: Vec<MemberCountry>,
    directory_log: LogIdentity,
    exchange_log: LogIdentity,
    evidence_key: VerifyingKey,
}

impl Charter {
    /// When it was issued: no clock that runs says an earlier time.
    #[must_use]
    pub fn issued(&self) -> UnixMillis {
        self.file.issued.parse::<jiff::Timestamp>().map_or(UnixMillis(0), |at| UnixMillis(at.as_millisecond()))
    }

    /// Parses charter.toml and checks its rules; signatures are another step.
    ///
    /// # Errors
    /// [`CharterError`] naming the form or rule.
    pub fn parse(bytes: Bytes) -> Result<Self, CharterError> {
        if bytes.len() > limits::CHARTER_BYTES {
            return Err(CharterError::TooLarge);
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| CharterError::Form("it is not UTF-8".into()))?;
        let file: CharterFile = toml::from_str(text).map_err(|e| CharterError::Form(e.message().to_owned()))?;
        if file.format != 1 {
            return Err(CharterError::Form(format!("format {}", file.format)));
        }
        let countries = parse_countries(&file)?;
        check_rules(&file)?;
        let directory_log = log_identity(&file, "directory")?;
        let exchange_log = log_identity(&file, "exchange")?;
        let evidence_key = parse_key(&file.broker.evidence_key, "broker.evidence_key")?;
        let witnesses = file.witness.iter().map(|witness| parse_key(&witness.key, "witness.key"));
        let mut others = witnesses.collect::<Result<Vec<_>, _>>()?;
        others.extend([directory_log.key, exchange_log.key, evidence_key]);
        distinct_keys(&countries, &others)?;
        Ok(Self { bytes, countries, directory_log, exchange_log, evidence_key, file })
    }

    /// Checks that every member country's authority has signed these bytes.
    ///
    /// # Errors
    /// [`CharterError::Unsigned`] naming the first country whose signature is missing or not good.
    pub fn verify_signatures(&self, signatures: &[wire::CountrySignature]) -> Result<(), CharterError> {
        for country in &self.countries {
            let signature = signatures.iter().find(|s| s.country == country.code.as_str());
            country
                .authority
                .verify(PayloadType::Charter, &self.bytes, signature.and_then(|s| s.signature.as_ref()))
                .map_err(|_| CharterError::Unsigned(country.code.to_string()))?;
        }
        Ok(())
    }

    /// The bytes that were signed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes, in hexadecimal: what is delivered by hand.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(sha256(&[&self.bytes]))
    }

    /// The file's fields.
    #[must_use]
    pub const fn file(&self) -> &CharterFile {
        &self.file
    }

    /// The member countries.
    #[must_use]
    pub fn countries(&self) -> &[MemberCountry] {
        &self.countries
    }

    /// A member country.
    #[must_use]
    pub fn country(&self, code: Country) -> Option<&MemberCountry> {
        self.countries.iter().find(|country| country.code == code)
    }

    /// The directory log.
    #[must_use]
    pub const fn directory_log(&self) -> &LogIdentity {
        &self.directory_log
    }

    /// The exchange log.
    #[must_use]
    pub const fn exchange_log(&self) -> &LogIdentity {
        &self.exchange_log
    }

    /// The key that signs refusals.
    #[must_use]
    pub const fn evidence_key(&self) -> &VerifyingKey {
        &self.evidence_key
    }

    /// The corridor of a message between these offices: its charter name for two countries, the country itself for
    /// one, `REGION` for more; none when the charter names no corridor between the two.
    #[must_use]
    pub fn corridor(&self, from: OfficeId, to: &[OfficeId]) -> Option<String> {
        let countries: BTreeSet<Country> = to.iter().map(OfficeId::country).chain([from.country()]).collect();
        let countries: Vec<&str> = countries.iter().map(Country::as_str).collect();
        match countries.as_slice() {
            [one] => Some((*one).to_owned()),
            [a, b] => self.pair(a, b),
            // A third country is no way around a corridor that two of them do not have.
            many => many
                .iter()
                .enumerate()
                .all(|(i, a)| many[i + 1..].iter().all(|b| self.pair(a, b).is_some()))
                .then(|| "REGION".to_owned()),
        }
    }
}

impl Charter {
    /// The charter's name for the corridor between two countries.
    fn pair(&self, a: &str, b: &str) -> Option<String> {
        let joins = |name: &str| name.split_once('-').is_some_and(|(x, y)| [x, y] == [a, b] || [y, x] == [a, b]);
        self.file.corridor.iter().find(|entry| joins(&entry.name)).map(|entry| entry.name.clone())
    }
}

fn rule(text: impl Into<String>) -> CharterError {
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
    Ok(LogIdentity { origin: entry.origin.clone(), key: parse_key(&entry.key, "log.key")? })
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
    for country in &file.country {
        if file.witness.iter().filter(|witness| witness.country == country.code).count() != 1 {
            return Err(rule(format!("country {} has not exactly one counted witness", country.code)));
        }
    }
    if file.witness.len() != file.country.len() {
        return Err(rule("a witness is not a member country's"));
    }
    if file.number == 0 {
        return Err(rule("charters are numbered from 1"));
    }
    Ok(())
}

/// No key serves two purposes: an authority's key that were also a log's key would let one sign for the other.
fn distinct_keys(countries: &[MemberCountry], others: &[VerifyingKey]) -> Result<(), CharterError> {
    let mut seen = BTreeSet::new();
    let keys = countries.iter().map(|country| &country.authority).chain(others);
    for key in keys {
        if !seen.insert(*key.as_bytes()) {
            return Err(rule("one key serves two purposes"));
        }
    }
    Ok(())
}
