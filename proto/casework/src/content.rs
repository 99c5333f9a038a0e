//! The content of a message: what is sealed. Prints as redacted.

use std::fmt;

use liaison_proto::{Bytes, wire::Kind};
use prost_reflect::{DynamicMessage, Value, prost::Message as _};

use crate::catalogue;

/// Why content cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Not an encoding of `Content`.
    #[error("content is malformed")]
    Malformed,
    /// Of a version this code does not read.
    #[error("content has a version that this node does not read")]
    Version,
    /// Its kind is not the header's.
    #[error("content is of another kind than its header says")]
    Kind,
    /// Its hashes are not the header's.
    #[error("content lists other attachments or another StatBlock than its header")]
    Commitments,
}

/// What the sender's node knew of the log, carried for the counterpart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gossip {
    /// Newest checkpoint the sender had verified (C2SP signed note); empty when none.
    pub checkpoint: Bytes,
    /// Last receipted number per channel: recipient, wire lane, number.
    pub numbers: Vec<(String, u32, u64)>,
}

/// What an attachment is.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// SHA-256 of its ciphertext.
    pub sha256: Bytes,
    /// The file's name, without directories.
    pub name: String,
    /// Internet media type.
    pub media_type: String,
    /// Bytes before sealing.
    pub size: u64,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({} bytes, redacted)", self.size)
    }
}

/// Content of one kind.
#[derive(Clone, PartialEq)]
pub struct Content {
    kind: Kind,
    message: DynamicMessage,
    gossip: Gossip,
    attachments: Vec<Attachment>,
    stat_sha256: Bytes,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({}, redacted)", catalogue::kind_name(self.kind))
    }
}

impl Content {
    /// Content from a validated message of its kind; `stat_sha256` is the header's, empty without a StatBlock.
    #[must_use]
    pub const fn new(
        kind: Kind,
        message: DynamicMessage,
        gossip: Gossip,
        attachments: Vec<Attachment>,
        stat_sha256: Bytes,
    ) -> Self {
        Self { kind, message, gossip, attachments, stat_sha256 }
    }

    /// Its attachments, in the order of the header.
    #[must_use]
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The kind's message.
    #[must_use]
    pub const fn message(&self) -> &DynamicMessage {
        &self.message
    }

    /// What the sender's node knew of the log.
    #[must_use]
    pub const fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// The bytes that the officer signs.
    ///
    /// # Errors
    /// [`ContentError::Kind`] when this version's catalogue does not have the kind.
    pub fn encode(&self) -> Result<Vec<u8>, ContentError> {
        let field = catalogue::kind(self.kind).ok_or(ContentError::Kind)?.field;
        let mut content = DynamicMessage::new(catalogue::content().clone());
        content.set_field_by_name("version", Value::U32(1));
        content.set_field(&field, Value::Message(self.message.clone()));
        let hashes = self.attachments.iter().map(|attachment| Value::Bytes(attachment.sha256.clone())).collect();
        content.set_field_by_name("attachment_sha256", Value::List(hashes));
        content.set_field_by_name("attachments", Value::List(self.described_attachments()));
        content.set_field_by_name("stat_sha256", Value::Bytes(self.stat_sha256.clone()));
        if let Some(descriptor) = descriptor("gossip") {
            let mut gossip = DynamicMessage::new(descriptor);
            gossip.set_field_by_name("checkpoint", Value::Bytes(self.gossip.checkpoint.clone()));
            gossip.set_field_by_name("numbers", Value::List(self.gossip_numbers()));
            content.set_field_by_name("gossip", Value::Message(gossip));
        }
        Ok(content.encode_to_vec())
    }

    fn described_attachments(&self) -> Vec<Value> {
        let Some(descriptor) = descriptor("attachments") else { return Vec::new() };
        let described = |attachment: &Attachment| {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field_by_name("name", Value::String(attachment.name.clone()));
            message.set_field_by_name("media_type", Value::String(attachment.media_type.clone()));
            message.set_field_by_name("size", Value::U64(attachment.size));
            Value::Message(message)
        };
        self.attachments.iter().map(described).collect()
    }

    fn gossip_numbers(&self) -> Vec<Value> {
        let Some(descriptor) =
            descriptor("gossip").and_then(|gossip| gossip.get_field_by_name("numbers")?.kind().as_message().cloned())
        else {
            return Vec::new();
        };
        let number = |(to, lane, number): &(String, u32, u64)| {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field_by_name("to", Value::String(to.clone()));
            message.set_field_by_name("lane", Value::U32(*lane));
            message.set_field_by_name("number", Value::U64(*number));
            Value::Message(message)
        };
        self.gossip.numbers.iter().map(number).collect()
    }

    /// Reads content and holds it against its header: kind, attachments, StatBlock.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn decode(bytes: &[u8], kind: Kind, attachments: &[Bytes], stat_sha256: &Bytes) -> Result<Self, ContentError> {
        let content =
            DynamicMessage::decode(catalogue::content().clone(), bytes).map_err(|_| ContentError::Malformed)?;
        if field(&content, "version") != Some(Value::U32(1)) {
            return Err(ContentError::Version);
        }
        let entry = catalogue::kind(kind).ok_or(ContentError::Kind)?;
        if !content.has_field(&entry.field) {
            return Err(ContentError::Kind);
        }
        let message = content.get_field(&entry.field).as_message().cloned().ok_or(ContentError::Kind)?;
        let listed: Vec<Bytes> = match field(&content, "attachment_sha256") {
            Some(Value::List(items)) => items.iter().filter_map(|item| item.as_bytes().cloned()).collect(),
            _ => Vec::new(),
        };
        let stat = field(&content, "stat_sha256").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
        if listed != attachments || stat != *stat_sha256 {
            return Err(ContentError::Commitments);
        }
        let gossip = read_gossip(&content);
        let attachments = read_attachments(&content, listed).ok_or(ContentError::Commitments)?;
        Ok(Self { kind, message, gossip, attachments, stat_sha256: stat })
    }
}

fn descriptor(field: &str) -> Option<prost_reflect::MessageDescriptor> {
    catalogue::content().get_field_by_name(field)?.kind().as_message().cloned()
}

fn field(message: &DynamicMessage, name: &str) -> Option<Value> {
    message.get_field_by_name(name).map(std::borrow::Cow::into_owned)
}

/// The attachments with their hashes; none when there is not one description for each.
fn read_attachments(content: &DynamicMessage, hashes: Vec<Bytes>) -> Option<Vec<Attachment>> {
    let described = match field(content, "attachments") {
        Some(Value::List(items)) => items,
        _ => Vec::new(),
    };
    if described.len() != hashes.len() {
        return None;
    }
    let attachment = |(sha256, item): (Bytes, &Value)| {
        let message = item.as_message()?;
        let name = field(message, "name")?.as_str()?.to_owned();
        let media_type = field(message, "media_type")?.as_str()?.to_owned();
        Some(Attachment { sha256, name, media_type, size: field(message, "size")?.as_u64()? })
    };
    hashes.into_iter().zip(&described).map(attachment).collect()
}

fn read_gossip(content: &DynamicMessage) -> Gossip {
    let Some(Value::Message(gossip)) = field(content, "gossip") else { return Gossip::default() };
    let checkpoint = field(&gossip, "checkpoint").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
    let Some(Value::List(items)) = field(&gossip, "numbers") else { return Gossip { checkpoint, numbers: Vec::new() } };
    let number = |item: &Value| {
        let message = item.as_message()?;
        let to = field(message, "to")?.as_str()?.to_owned();
        Some((to, field(message, "lane")?.as_u32()?, field(message, "number")?.as_u64()?))
    };
    Gossip { checkpoint, numbers: items.iter().filter_map(number).collect() }
}
