//! Encoding of the exchange log's entries: made by the broker, parsed by everybody.

use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::UnixMillis,
    header::Header,
    ids::{Channel, Lane, LogIndex, MessageId, OfficeId},
    limits,
    refusal::Refusal,
    sign::PayloadType,
    wire::{self, exchange_leaf::Event as WireEvent},
};

use crate::succession::Succession;

/// What an entry records.
#[derive(Clone, Debug)]
pub enum Event {
    /// An envelope was admitted for all its recipients.
    Accepted {
        /// Its header.
        header: Box<Header>,
        /// The originator's signature over the header bytes.
        signature: Option<wire::Signature>,
        /// Channel numbers in the order of the recipients.
        numbers: Vec<u64>,
    },
    /// A recipient's signed statement.
    Attested {
        /// What it states.
        kind: wire::StatementKind,
        /// The statement.
        statement: Statement,
        /// Its bytes as signed.
        bytes: Bytes,
        /// The recipient's signature.
        signature: Option<wire::Signature>,
    },
    /// A message was given up for one recipient.
    NonDelivery(NonDelivery),
    /// The originator sealed the content key anew to one recipient.
    Rewrapped {
        /// What it states.
        statement: RewrapStatement,
        /// Its bytes as signed.
        bytes: Bytes,
        /// The originator's signature.
        signature: Option<wire::Signature>,
    },
    /// The log succeeds one that was closed.
    Succeeded(Succession),
}

impl Event {
    /// The message that it is about; none where it is about the log itself.
    #[must_use]
    pub fn message_id(&self) -> Option<MessageId> {
        match self {
            Self::Accepted { header, .. } => Some(header.core().message_id),
            Self::Attested { statement, .. } => Some(statement.message_id),
            Self::NonDelivery(given_up) => Some(given_up.message_id),
            Self::Rewrapped { statement, .. } => Some(statement.message_id),
            Self::Succeeded(_) => None,
        }
    }

    /// The ACCEPTED entry that it is about; none for one itself.
    #[must_use]
    pub const fn accepted(&self) -> Option<LogIndex> {
        match self {
            Self::Accepted { .. } | Self::Succeeded(_) => None,
            Self::Attested { statement, .. } => Some(statement.accepted),
            Self::NonDelivery(given_up) => Some(given_up.accepted),
            Self::Rewrapped { statement, .. } => Some(statement.accepted),
        }
    }
}

/// A message given up for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonDelivery {
    /// The message.
    pub message_id: MessageId,
    /// The recipient.
    pub recipient: OfficeId,
    /// Withdrawn or expired.
    pub reason: wire::NonDeliveryReason,
    /// Index of the ACCEPTED entry.
    pub accepted: LogIndex,
    /// The channel.
    pub channel: Channel,
    /// Number on it.
    pub number: u64,
}

impl NonDelivery {
    fn parse(given_up: &wire::NonDelivery) -> Result<Self, LeafError> {
        let office = |text: &str| text.parse().map_err(|_| LeafError::Malformed("office"));
        let (from, recipient) = (office(&given_up.from)?, office(&given_up.recipient)?);
        let lane = Lane::from_wire(given_up.lane).ok_or(LeafError::Malformed("lane"))?;
        Ok(Self {
            message_id: message_id(&given_up.message_id)?,
            recipient,
            reason: given_up.reason(),
            accepted: LogIndex(given_up.accepted_index),
            channel: Channel { from, to: recipient, lane },
            number: given_up.number,
        })
    }
}

/// A parsed statement of an originator who sealed a message anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewrapStatement {
    /// The message.
    pub message_id: MessageId,
    /// The originator.
    pub office: OfficeId,
    /// The recipient.
    pub recipient: OfficeId,
    /// Index of the ACCEPTED entry.
    pub accepted: LogIndex,
    /// Name of the key sealed to.
    pub key_sha256: [u8; 32],
    /// SHA-256 of the new wrap.
    pub wrap_sha256: [u8; 32],
}

impl RewrapStatement {
    /// Parses a statement's bytes.
    ///
    /// # Errors
    /// [`LeafError::Malformed`].
    pub fn parse(bytes: &Bytes) -> Result<Self, LeafError> {
        if bytes.len() > limits::RECORD_BYTES {
            return Err(LeafError::Malformed("statement is too long"));
        }
        let statement = wire::RewrapStatement::decode(bytes.clone()).map_err(|_| LeafError::Malformed("statement"))?;
        let office = |text: &str| text.parse().map_err(|_| LeafError::Malformed("office"));
        Ok(Self {
            message_id: message_id(&statement.message_id)?,
            office: office(&statement.office)?,
            recipient: office(&statement.recipient)?,
            accepted: LogIndex(statement.accepted_index),
            key_sha256: hash(&statement.key_sha256)?,
            wrap_sha256: hash(&statement.wrap_sha256)?,
        })
    }

    /// The bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::RewrapStatement {
            message_id: Bytes::copy_from_slice(self.message_id.as_bytes()),
            office: self.office.to_string(),
            recipient: self.recipient.to_string(),
            accepted_index: self.accepted.0,
            key_sha256: Bytes::copy_from_slice(&self.key_sha256),
            wrap_sha256: Bytes::copy_from_slice(&self.wrap_sha256),
        }
        .encode_to_vec()
        .into()
    }
}

fn message_id(bytes: &Bytes) -> Result<MessageId, LeafError> {
    MessageId::from_wire(bytes).map_err(|_| LeafError::Malformed("message id"))
}

fn hash(bytes: &Bytes) -> Result<[u8; 32], LeafError> {
    bytes.as_ref().try_into().map_err(|_| LeafError::Malformed("hash"))
}

/// A parsed statement of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The message.
    pub message_id: MessageId,
    /// Who states.
    pub office: OfficeId,
    /// Index of the ACCEPTED entry.
    pub accepted: LogIndex,
    /// SHA-256 of the header.
    pub header_sha256: [u8; 32],
    /// Number on the channel.
    pub number: u64,
    /// The office's clock.
    pub at: UnixMillis,
    /// For CANNOT_OPEN.
    pub reason: wire::CannotOpenReason,
}

/// An entry of the exchange log.
#[derive(Clone, Debug)]
pub struct ExchangeLeaf {
    /// Broker time.
    pub time: UnixMillis,
    /// Size of the directory log it was judged by.
    pub directory_size: u64,
    /// What could not be settled.
    pub marks: Vec<wire::Mark>,
    /// What happened.
    pub event: Event,
}

/// An entry that cannot be parsed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LeafError {
    /// Not an entry of the exchange log, or a field out of form.
    #[error("entry is malformed: {0}")]
    Malformed(&'static str),
    /// Of a version this code does not read.
    #[error("entry has version {0}, this version reads 1")]
    Version(u32),
    /// Its header does not parse.
    #[error("entry holds a bad header: {0}")]
    Header(Refusal),
    /// Of a kind that this version never writes.
    #[error("entry is of a kind this version does not know")]
    UnknownEvent,
}

impl Statement {
    /// Parses a statement's bytes.
    ///
    /// # Errors
    /// [`LeafError::Malformed`].
    pub fn parse(bytes: &Bytes) -> Result<Self, LeafError> {
        if bytes.len() > limits::RECORD_BYTES {
            return Err(LeafError::Malformed("statement is too long"));
        }
        let statement = wire::Statement::decode(bytes.clone()).map_err(|_| LeafError::Malformed("statement"))?;
        Ok(Self {
            message_id: message_id(&statement.message_id)?,
            office: statement.office.parse().map_err(|_| LeafError::Malformed("office"))?,
            accepted: LogIndex(statement.accepted_index),
            header_sha256: hash(&statement.header_sha256)?,
            number: statement.number,
            at: UnixMillis(statement.at_ms),
            reason: wire::CannotOpenReason::try_from(statement.reason).map_err(|_| LeafError::Malformed("reason"))?,
        })
    }

    /// The bytes to sign.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        wire::Statement {
            message_id: Bytes::copy_from_slice(self.message_id.as_bytes()),
            office: self.office.to_string(),
            accepted_index: self.accepted.0,
            header_sha256: Bytes::copy_from_slice(&self.header_sha256),
            number: self.number,
            at_ms: self.at.0,
            reason: self.reason.into(),
        }
        .encode_to_vec()
        .into()
    }
}

/// The payload type a statement is signed as.
#[must_use]
pub const fn payload_type(kind: wire::StatementKind) -> Option<PayloadType> {
    match kind {
        wire::StatementKind::Delivered => Some(PayloadType::Delivered),
        wire::StatementKind::Retrieved => Some(PayloadType::Retrieved),
        wire::StatementKind::CannotOpen => Some(PayloadType::CannotOpen),
        wire::StatementKind::Unspecified => None,
    }
}

/// Name of a statement as in the log's vocabulary.
#[must_use]
pub const fn statement_name(kind: wire::StatementKind) -> &'static str {
    match kind {
        wire::StatementKind::Delivered => "DELIVERED",
        wire::StatementKind::Retrieved => "RETRIEVED",
        wire::StatementKind::CannotOpen => "CANNOT_OPEN",
        wire::StatementKind::Unspecified => "UNSPECIFIED",
    }
}

impl ExchangeLeaf {
    /// Parses the stored bytes.
    ///
    /// # Errors
    /// [`LeafError`].
    pub fn parse(bytes: &Bytes) -> Result<Self, LeafError> {
        if bytes.len() > limits::LEAF_BYTES {
            return Err(LeafError::Malformed("entry is too long"));
        }
        let leaf = wire::ExchangeLeaf::decode(bytes.clone()).map_err(|_| LeafError::Malformed("protobuf"))?;
        if leaf.version != 1 {
            return Err(LeafError::Version(leaf.version));
        }
        let marks = leaf.marks().collect();
        let attested = |kind, attested: wire::Attested| -> Result<Event, LeafError> {
            let statement = Statement::parse(&attested.statement)?;
            Ok(Event::Attested { kind, statement, bytes: attested.statement, signature: attested.signature })
        };
        let event = match leaf.event.ok_or(LeafError::Malformed("no event"))? {
            WireEvent::Accepted(accepted) => {
                let header = Header::parse(accepted.header).map_err(LeafError::Header)?;
                if accepted.numbers.len() != header.core().to.len() {
                    return Err(LeafError::Malformed("not one number per recipient"));
                }
                Event::Accepted {
                    header: Box::new(header),
                    signature: accepted.office_signature,
                    numbers: accepted.numbers,
                }
            }
            WireEvent::Delivered(a) => attested(wire::StatementKind::Delivered, a)?,
            WireEvent::Retrieved(a) => attested(wire::StatementKind::Retrieved, a)?,
            WireEvent::CannotOpen(a) => attested(wire::StatementKind::CannotOpen, a)?,
            WireEvent::NonDelivery(given_up) => Event::NonDelivery(NonDelivery::parse(&given_up)?),
            WireEvent::Rewrapped(rewrapped) => Event::Rewrapped {
                statement: RewrapStatement::parse(&rewrapped.statement)?,
                bytes: rewrapped.statement,
                signature: rewrapped.signature,
            },
            WireEvent::Succession(begun) => Event::Succeeded(Succession {
                charter: begun.charter,
                last: begun.last_checkpoint,
                lost: begun.lost_checkpoint,
            }),
            WireEvent::Erased(_) | WireEvent::Overdue(_) | WireEvent::Escalated(_) => {
                return Err(LeafError::UnknownEvent);
            }
        };
        Ok(Self { time: UnixMillis(leaf.time_ms), directory_size: leaf.directory_size, marks, event })
    }

    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let event = match &self.event {
            Event::Accepted { header, signature, numbers } => WireEvent::Accepted(wire::Accepted {
                header: header.bytes().clone(),
                office_signature: signature.clone(),
                numbers: numbers.clone(),
            }),
            Event::Attested { kind, bytes, signature, .. } => {
                let attested = wire::Attested { statement: bytes.clone(), signature: signature.clone() };
                match kind {
                    wire::StatementKind::Retrieved => WireEvent::Retrieved(attested),
                    wire::StatementKind::CannotOpen => WireEvent::CannotOpen(attested),
                    _ => WireEvent::Delivered(attested),
                }
            }
            Event::NonDelivery(given_up) => WireEvent::NonDelivery(wire::NonDelivery {
                message_id: Bytes::copy_from_slice(given_up.message_id.as_bytes()),
                recipient: given_up.recipient.to_string(),
                reason: given_up.reason.into(),
                accepted_index: given_up.accepted.0,
                from: given_up.channel.from.to_string(),
                lane: given_up.channel.lane.to_wire().into(),
                number: given_up.number,
            }),
            Event::Rewrapped { bytes, signature, .. } => {
                WireEvent::Rewrapped(wire::Rewrapped { statement: bytes.clone(), signature: signature.clone() })
            }
            Event::Succeeded(begun) => WireEvent::Succession(wire::Succession {
                charter: begun.charter,
                last_checkpoint: begun.last.clone(),
                lost_checkpoint: begun.lost.clone(),
            }),
        };
        wire::ExchangeLeaf {
            version: 1,
            time_ms: self.time.0,
            directory_size: self.directory_size,
            marks: self.marks.iter().map(|&mark| mark.into()).collect(),
            event: Some(event),
        }
        .encode_to_vec()
        .into()
    }

    /// Name of the event as in the log's vocabulary.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match &self.event {
            Event::Accepted { .. } => "ACCEPTED",
            Event::Attested { kind, .. } => statement_name(*kind),
            Event::NonDelivery(_) => "NON_DELIVERY",
            Event::Rewrapped { .. } => "REWRAPPED",
            Event::Succeeded(_) => "SUCCEEDED",
        }
    }
}
