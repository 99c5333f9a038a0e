//! The charter: the file that the member countries agree on and every party is given.
//!
//! Charter no. 1 is signed by the authorities of all its countries, and its SHA-256 is delivered by hand. Each later one
//! is signed by a quorum of the authorities of the one before ([`succession`]); what it replaces stays good for an overlap.

use std::{
    collections::BTreeSet,
    iter,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    Bytes,
    clock::{DAY_MS, UnixMillis},
    ids::{Country, OfficeId},
    limits, sha256,
    sign::{KeyRing, PayloadType, VerifyingKey},
    wire,
};

mod file;
mod rules;
mod succession;

pub use file::*;

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
    /// Too few of the authorities of the charter before have signed.
    #[error("charter is signed by {signed} authorities of the charter before, and {needed} are needed")]
    Quorum {
        /// Good signatures.
        signed: usize,
        /// That the charter before asks for.
        needed: usize,
    },
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

/// A log's identity: what signs its checkpoints, and what did before.
#[derive(Clone, Debug)]
pub struct LogIdentity {
    /// Origin line and key name.
    pub origin: String,
    /// Key that signs its checkpoints.
    pub key: VerifyingKey,
    /// Keys and origins before: what they signed stays proven.
    pub former: Vec<FormerLog>,
}

/// What signed a log's checkpoints before.
#[derive(Clone, Debug)]
pub struct FormerLog {
    /// Origin line and key name.
    pub origin: String,
    /// Key that signed.
    pub key: VerifyingKey,
    /// Last provable size, where the log was closed: beyond it nothing under this key counts.
    pub closed: Option<u64>,
    /// Until when it counts for what is shown of the log; what it proved stays proven.
    pub until: UnixMillis,
}

impl LogIdentity {
    /// The identity by which checkpoints are judged that are shown at a time: whoever has a key that was replaced must not
    /// pass for the log, nor make it look forked, after the overlap.
    #[must_use]
    pub fn in_force(&self, at: UnixMillis) -> Self {
        let former = self.former.iter().filter(|former| at < former.until).cloned().collect();
        Self { former, ..self.clone() }
    }

    /// Whether an origin is that of a log that was closed.
    #[must_use]
    pub fn is_closed(&self, origin: &str) -> bool {
        self.former.iter().any(|former| former.origin == origin && former.closed.is_some())
    }

    /// The keys that may have signed a tree of this origin and size, the one in use first.
    pub fn keys(&self, origin: &str, size: u64) -> impl Iterator<Item = &VerifyingKey> {
        let own = (self.origin == origin).then_some(&self.key);
        let counts = move |former: &&FormerLog| former.origin == origin && former.closed.is_none_or(|end| size <= end);
        own.into_iter().chain(self.former.iter().filter(counts).map(|former| &former.key))
    }
}

/// A parsed charter with the bytes that the authorities signed, and the chain of those before it.
#[derive(Clone, Debug)]
pub struct Charter {
    bytes: Bytes,
    signatures: Vec<wire::CountrySignature>,
    file: CharterFile,
    issued: UnixMillis,
    countries: Vec<MemberCountry>,
    directory_log: LogIdentity,
    exchange_log: LogIdentity,
    evidence_key: VerifyingKey,
    before: Option<Arc<Self>>,
}

impl Charter {
    /// Parses charter.toml and checks its rules; signatures are another step.
    ///
    /// # Errors
    /// [`CharterError`] naming the form or rule.
    pub fn parse(bytes: Bytes) -> Result<Self, CharterError> {
        rules::parse(bytes)
    }

    /// The first charter: every member country's authority has signed these bytes.
    ///
    /// # Errors
    /// [`CharterError`]; `Unsigned` names the first country whose signature is missing or not good.
    pub fn first(bytes: Bytes, signatures: Vec<wire::CountrySignature>) -> Result<Self, CharterError> {
        let charter = Self::parse(bytes)?;
        if charter.number() != 1 {
            return Err(rules::rule("the first charter of a chain has number 1"));
        }
        charter.countries.iter().try_for_each(|country| charter.is_signed(&signatures, country))?;
        Ok(Self { signatures, ..charter })
    }

    fn is_signed(&self, signatures: &[wire::CountrySignature], country: &MemberCountry) -> Result<(), CharterError> {
        // A country whose authority has a new key signs with both.
        let own = signatures.iter().filter(|s| s.country == country.code.as_str());
        let is_good = |s: &wire::CountrySignature| {
            country.authority.verify(PayloadType::Charter, &self.bytes, s.signature.as_ref())
        };
        let mut good = own.take(limits::CHARTER_SIGNATURES).map(is_good).filter(Result::is_ok);
        good.next().map(|_| ()).ok_or_else(|| CharterError::Unsigned(country.code.to_string()))
    }

    /// The bytes that were signed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As it stands in the CHARTER leaf, and is handed from party to party.
    #[must_use]
    pub fn record(&self) -> wire::CharterRecord {
        wire::CharterRecord { charter: self.bytes.clone(), signatures: self.signatures.clone() }
    }

    /// SHA-256 of the bytes, in hexadecimal: what is delivered by hand.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(sha256(&[&self.bytes]))
    }

    /// Its number: 1 for the first.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.file.number
    }

    /// When it was issued: no clock that runs says an earlier time.
    #[must_use]
    pub const fn issued(&self) -> UnixMillis {
        self.issued
    }

    /// The charter before, in a chain.
    #[must_use]
    pub fn before(&self) -> Option<&Self> {
        self.before.as_deref()
    }

    /// This charter and all before it, the newest first.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |charter| charter.before())
    }

    /// The charter of this chain with a number.
    #[must_use]
    pub fn numbered(&self, number: u64) -> Option<&Self> {
        self.chain().find(|charter| charter.number() == number)
    }

    /// Until when the charter before holds beside this one.
    #[must_use]
    pub fn overlap_end(&self) -> UnixMillis {
        let days = self.file.succession.as_ref().map_or(0, |succession| succession.overlap_days);
        self.issued.plus(i64::from(days) * DAY_MS)
    }

    /// This charter, for ever, and those before it, each until the first overlap after it has ended.
    pub fn generations(&self) -> impl Iterator<Item = (&Self, Option<UnixMillis>)> {
        iter::successors(Some((self, None)), |(charter, until)| {
            let end = charter.overlap_end();
            charter.before().map(|before| (before, Some(until.map_or(end, |until: UnixMillis| until.min(end)))))
        })
    }

    /// This charter, and those before it that still hold at a time.
    pub fn in_force(&self, at: UnixMillis) -> impl Iterator<Item = &Self> {
        self.generations().take_while(move |(_, until)| until.is_none_or(|until| at < until)).map(|(c, _)| c)
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

    /// The keys under which a member country's authority signs records that are entered at a time; none when it is no
    /// member any more.
    #[must_use]
    pub fn authority_keys(&self, code: Country, at: UnixMillis) -> Option<KeyRing> {
        self.country(code)?;
        let members = self.in_force(at).filter_map(|charter| charter.country(code));
        Some(KeyRing::new(members.map(|country| country.authority)))
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

    /// The keys under which a refusal that comes at a time is the broker's.
    #[must_use]
    pub fn evidence_keys(&self, at: UnixMillis) -> KeyRing {
        KeyRing::new(self.in_force(at).map(|charter| charter.evidence_key))
    }

    /// PEM of the broker's CAs that are believed at a time.
    #[must_use]
    pub fn broker_cas(&self, at: UnixMillis) -> String {
        self.in_force(at).map(|charter| charter.file.broker.ca.as_str()).collect::<Vec<_>>().join("\n")
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

    /// The charter's name for the corridor between two countries.
    fn pair(&self, a: &str, b: &str) -> Option<String> {
        let joins = |name: &str| name.split_once('-').is_some_and(|(x, y)| [x, y] == [a, b] || [y, x] == [a, b]);
        self.file.corridor.iter().find(|entry| joins(&entry.name)).map(|entry| entry.name.clone())
    }
}

/// The newest charter that a running party knows; it may be replaced by its successor at any time.
#[derive(Clone, Debug)]
pub struct CurrentCharter(Arc<RwLock<Arc<Charter>>>);

impl From<Charter> for CurrentCharter {
    fn from(charter: Charter) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(charter))))
    }
}

impl CurrentCharter {
    /// The newest one known.
    #[must_use]
    pub fn get(&self) -> Arc<Charter> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a successor; an older one changes nothing.
    pub fn advance(&self, charter: Arc<Charter>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if charter.number() > current.number() {
            *current = charter;
        }
    }
}
