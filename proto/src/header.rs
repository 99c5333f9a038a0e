//! The header: core and commitments, parsed once into types and kept as the bytes that were signed.

use prost::Message as _;

use crate::{
    Bytes,
    clock::UnixMillis,
    ids::{Channel, Lane, MessageId, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    seal::Suite,
    sha256, wire,
};

/// Version of the header format this code reads and writes.
pub const VERSION: u32 = 1;

/// What the broker routes, times and counts on, checked field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of wire::Core, where each is described")]
pub struct Core {
    pub message_id: MessageId,
    pub thread_id: MessageId,
    pub kind: wire::Kind,
    pub step: wire::Step,
    pub schema_version: u32,
    pub in_reply_to: Option<MessageId>,
    pub supersedes: Option<MessageId>,
    pub from: OfficeId,
    pub to: Vec<OfficeId>,
    pub corridor: String,
    pub created_at: UnixMillis,
    pub created_offset_minutes: i32,
    pub due_at: Option<UnixMillis>,
    pub retain_until: Option<UnixMillis>,
    pub priority: wire::Priority,
    pub lane: Lane,
    pub handling: wire::Handling,
    pub tlp: wire::Tlp,
    pub data_class: wire::DataClass,
    pub legal_basis: Vec<wire::LegalBasis>,
    pub purpose: wire::Purpose,
    pub language: String,
    pub exercise: bool,
    pub suite: Suite,
}

impl Core {
    /// Reads an encoded core by itself, as [`Header::parse`] does within a header.
    ///
    /// # Errors
    /// `UNSUPPORTED_VERSION` or `MALFORMED_HEADER` naming the field.
    pub fn parse(bytes: &Bytes) -> Result<Self, Refusal> {
        let core = wire::Core::decode(bytes.clone()).map_err(|_| malformed("core", "is not protobuf"))?;
        check_version(core.version)?;
        // One encoding only, and no unknown fields: there is no room for free text, and every party reads the same.
        if core.encode_to_vec()[..] != bytes[..] {
            return Err(malformed("core", "is not in its canonical encoding, or has fields of no version"));
        }
        parse_core(core)
    }

    /// The channels this message takes a number on, in the order of the recipients.
    pub fn channels(&self) -> impl Iterator<Item = Channel> + '_ {
        self.to.iter().map(|&to| Channel { from: self.from, to, lane: self.lane })
    }
}

/// A parsed header with the exact bytes it came in.
#[derive(Clone, Debug)]
pub struct Header {
    bytes: Bytes,
    core_bytes: Bytes,
    core: Core,
    commitments: wire::Commitments,
}

impl Header {
    /// Parses header bytes; limits come before decoding.
    ///
    /// # Errors
    /// `TOO_LARGE`, `UNSUPPORTED_VERSION` or `MALFORMED_HEADER` naming the field.
    pub fn parse(bytes: Bytes) -> Result<Self, Refusal> {
        if bytes.len() > limits::HEADER_BYTES {
            let detail = format!("the header has {} bytes, the limit is {}", bytes.len(), limits::HEADER_BYTES);
            return Err(Refusal::new(RefusalCode::TooLarge, detail));
        }
        let header = wire::Header::decode(bytes.clone()).map_err(|_| malformed("header", "is not protobuf"))?;
        let core = Core::parse(&header.core)?;
        if header.encode_to_vec()[..] != bytes[..] {
            return Err(malformed("header", "is not in its canonical encoding, or has fields of no version"));
        }
        let commitments = header.commitments.ok_or_else(|| malformed("commitments", "is missing"))?;
        check_commitments(&core, &commitments)?;
        Ok(Self { bytes, core_bytes: header.core, core, commitments })
    }

    /// The bytes that the office signed.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The encoded core: what officers sign, and the associated data of body and wraps.
    #[must_use]
    pub const fn core_bytes(&self) -> &Bytes {
        &self.core_bytes
    }

    /// The core.
    #[must_use]
    pub const fn core(&self) -> &Core {
        &self.core
    }

    /// The commitments.
    #[must_use]
    pub const fn commitments(&self) -> &wire::Commitments {
        &self.commitments
    }

    /// SHA-256 of the header bytes.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&[&self.bytes])
    }
}

fn malformed(field: &str, problem: &str) -> Refusal {
    Refusal::new(RefusalCode::MalformedHeader, format!("{field} {problem}"))
}

fn check_version(version: u32) -> Result<(), Refusal> {
    match version {
        0 => Err(malformed("version", "is missing")),
        VERSION => Ok(()),
        other => {
            let detail = format!("header version {other}, this party reads {VERSION}");
            Err(Refusal::new(RefusalCode::UnsupportedVersion, detail))
        }
    }
}

fn parse_core(core: wire::Core) -> Result<Core, Refusal> {
    let id = |field: &str, bytes: &Bytes| {
        MessageId::from_wire(bytes).map_err(|_| malformed(field, "is not a UUID of version 7"))
    };
    let optional_id = |field: &str, bytes: &Bytes| if bytes.is_empty() { Ok(None) } else { id(field, bytes).map(Some) };
    let office = |field: &str, text: &str| -> Result<OfficeId, Refusal> {
        text.parse().map_err(|_| malformed(field, "is not an office id"))
    };
    if core.to.is_empty() || core.to.len() > limits::RECIPIENTS {
        return Err(malformed(
            "to",
            &format!("names {} offices, allowed are 1 to {}", core.to.len(), limits::RECIPIENTS),
        ));
    }
    let from = office("from", &core.from)?;
    let to = core.to.iter().map(|text| office("to", text)).collect::<Result<Vec<_>, _>>()?;
    if to.iter().enumerate().any(|(i, office)| *office == from || to[..i].contains(office)) {
        return Err(malformed("to", "names an office twice, or the originator"));
    }
    macro_rules! code {
        ($field:ident: $kind:ident) => {
            match wire::$kind::try_from(core.$field) {
                Ok(wire::$kind::Unspecified) | Err(_) => {
                    return Err(malformed(stringify!($field), "is not one of its code list"));
                }
                Ok(code) => code,
            }
        };
    }
    let priority = code!(priority: Priority);
    let lane = Lane::of(priority).ok_or_else(|| malformed("priority", "has no lane"))?;
    let mut legal_basis = Vec::new();
    for &basis in core.legal_basis.iter().take(limits::LEGAL_BASES + 1) {
        match wire::LegalBasis::try_from(basis) {
            Ok(basis) if basis != wire::LegalBasis::Unspecified && !legal_basis.contains(&basis) => {
                legal_basis.push(basis);
            }
            _ => return Err(malformed("legal_basis", "has an unknown or repeated code")),
        }
    }
    if legal_basis.is_empty() {
        return Err(malformed("legal_basis", "is empty"));
    }
    if core.language.len() != 3 || !core.language.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err(malformed("language", "is not an ISO 639-3 code"));
    }
    if core.corridor.len() > 8 || !core.corridor.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        return Err(malformed("corridor", "is not the name of a corridor"));
    }
    if core.created_at_ms <= 0 || !(-14 * 60..=14 * 60).contains(&core.created_offset_minutes) {
        return Err(malformed("created_at", "is not a time with an offset"));
    }
    let moment = |field: &str, millis: i64| match millis {
        0 => Ok(None),
        m if m > 0 => Ok(Some(UnixMillis(m))),
        _ => Err(malformed(field, "is negative")),
    };
    if core.schema_version == 0 {
        return Err(malformed("schema_version", "is 0"));
    }
    Ok(Core {
        message_id: id("message_id", &core.message_id)?,
        thread_id: id("thread_id", &core.thread_id)?,
        kind: code!(kind: Kind),
        step: code!(step: Step),
        schema_version: core.schema_version,
        in_reply_to: optional_id("in_reply_to", &core.in_reply_to)?,
        supersedes: optional_id("supersedes", &core.supersedes)?,
        from,
        to,
        created_at: UnixMillis(core.created_at_ms),
        created_offset_minutes: core.created_offset_minutes,
        due_at: moment("due_at", core.due_at_ms)?,
        retain_until: moment("retain_until", core.retain_until_ms)?,
        priority,
        lane,
        handling: code!(handling: Handling),
        tlp: code!(tlp: Tlp),
        data_class: code!(data_class: DataClass),
        legal_basis,
        purpose: code!(purpose: Purpose),
        exercise: core.exercise,
        suite: Suite::from_wire(core.suite).ok_or_else(|| malformed("suite", "is not a sealing suite"))?,
        corridor: core.corridor,
        language: core.language,
    })
}

fn check_commitments(core: &Core, commitments: &wire::Commitments) -> Result<(), Refusal> {
    let hash = |field: &str, bytes: &Bytes| {
        if bytes.len() == 32 { Ok(()) } else { Err(malformed(field, "is not 32 bytes")) }
    };
    hash("body_sha256", &commitments.body_sha256)?;
    hash("key_commitment", &commitments.key_commitment)?;
    if commitments.body_size == 0 {
        return Err(malformed("body_size", "is 0"));
    }
    if commitments.body_size > limits::BODY_BYTES as u64 {
        let detail = format!("body_size is {}, the limit is {}", commitments.body_size, limits::BODY_BYTES);
        return Err(Refusal::new(RefusalCode::TooLarge, detail));
    }
    if commitments.recipients.len() != core.to.len() {
        return Err(malformed("recipients", "has not one commitment per office in to"));
    }
    for recipient in &commitments.recipients {
        hash("key_sha256", &recipient.key_sha256)?;
        hash("wrap_sha256", &recipient.wrap_sha256)?;
    }
    if commitments.attachments.len() > limits::ATTACHMENTS {
        return Err(Refusal::new(RefusalCode::TooLarge, format!("more than {} attachments", limits::ATTACHMENTS)));
    }
    if core.lane == Lane::Flash && !commitments.attachments.is_empty() {
        return Err(malformed("attachments", "are not allowed on FLASH; send them in a message of their own"));
    }
    for attachment in &commitments.attachments {
        hash("attachments", &attachment.sha256)?;
        if attachment.size > limits::ATTACHMENT_BYTES {
            return Err(Refusal::new(RefusalCode::TooLarge, "an attachment is larger than its limit"));
        }
    }
    if commitments.stat_sha256.is_empty() { Ok(()) } else { hash("stat_sha256", &commitments.stat_sha256) }
}
