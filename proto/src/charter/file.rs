//! The two files of a charter, field by field: `charter.toml` and `charter.sig`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{Country, OfficeId},
    limits,
    sign::{PayloadType, SigningKey},
    wire,
};

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
    /// RFC 3339; a later charter is entered in the directory log from then on, and its overlap begins.
    pub issued: String,
    /// Whether a link without a post-quantum key exchange is refused.
    pub require_post_quantum: bool,
    /// From the second charter on: what it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succession: Option<SuccessionEntry>,
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
    /// How many of the authorities must sign the next charter; all but a quarter of them when it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<u32>,
}

impl QuorumEntry {
    /// Authorities that must sign the next charter: 4 of 5 where the file does not say.
    #[must_use]
    pub fn authorities(&self, members: usize) -> usize {
        self.authorities.map_or(members - members / 4, |authorities| authorities as usize)
    }
}

/// What a later charter continues, and for how long both hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessionEntry {
    /// SHA-256 of the charter before, hexadecimal.
    pub previous_sha256: String,
    /// Days after `issued` during which the keys and CAs of the charter before stay good beside the new ones.
    pub overlap_days: u32,
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
    /// The log that this one succeeds, when the origin is another one than in the charter before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<ClosedEntry>,
}

/// A log whose last entries nobody holds: it is closed at its last provable size, and its successor goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedEntry {
    /// Its last provable size.
    pub size: u64,
    /// Base64 of the root of the tree of that size.
    pub root: String,
    /// The largest size that it had signed.
    pub lost_size: u64,
    /// Base64 of the root that it had signed then.
    pub lost_root: String,
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

    /// The file of signatures that came with a charter.
    #[must_use]
    pub fn from_wire(signatures: &[wire::CountrySignature]) -> Self {
        let entry = |signed: &wire::CountrySignature| {
            let signature = signed.signature.as_ref()?;
            let country = signed.country.parse().ok()?;
            Some(SignatureEntry { country, algorithm: signature.algorithm, value: STANDARD.encode(&signature.value) })
        };
        Self { signature: signatures.iter().filter_map(entry).collect() }
    }

    /// Adds an authority's signature over the charter's bytes.
    pub fn sign(&mut self, country: Country, charter: &[u8], authority: &SigningKey) {
        let signature = authority.sign(PayloadType::Charter, charter);
        let value = STANDARD.encode(&signature.value);
        self.signature.push(SignatureEntry { country, algorithm: signature.algorithm, value });
    }
}
