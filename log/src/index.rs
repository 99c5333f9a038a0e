//! The rows that the exchange log's live state is in: messages whose ids are remembered, and the last number of every
//! channel. An index is never the truth: it is rebuilt from the journal whenever it is missing, behind or in doubt.
//!
//! [`MemoryIndex`] is the twin in memory: for auditors, for tests, and to compare another index with.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use liaison_proto::{
    Bytes, ProtoMessage,
    clock::UnixMillis,
    ids::{Channel, Lane, LogIndex, MessageId, OfficeId},
};

/// The index could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the index could not be read or written: {0}")]
pub struct IndexError(pub String);

/// How far a log was applied to an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Number of entries.
    pub size: u64,
    /// Time of the last one.
    pub time: UnixMillis,
    /// Directory size that the last one was judged by.
    pub directory_size: u64,
    /// SHA-256 of the last entry's bytes: an index of another log is noticed.
    pub leaf_sha256: [u8; 32],
}

/// Where a message stands with one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientState {
    /// The recipient.
    pub office: OfficeId,
    /// Number on the channel.
    pub number: u64,
    /// DELIVERED entry.
    pub delivered: Option<LogIndex>,
    /// RETRIEVED entry.
    pub retrieved: Option<LogIndex>,
    /// CANNOT_OPEN entry, unless the message was rewrapped since.
    pub cannot_open: Option<LogIndex>,
    /// NON_DELIVERY entry.
    pub non_delivery: Option<LogIndex>,
    /// Newest REWRAPPED entry.
    pub rewrapped: Option<LogIndex>,
    /// Number of REWRAPPED entries.
    pub rewraps: u32,
    /// SHA-256 of the newest REWRAPPED entry's wrap.
    pub wrap_sha256: Option<[u8; 32]>,
    /// CANNOT_OPEN entry that the newest REWRAPPED one answered.
    pub answered: Option<LogIndex>,
    /// By the recipient's clock, of its newest CANNOT_OPEN.
    pub cannot_open_at: UnixMillis,
    /// Whether the originator took the message back from this recipient.
    pub withdrawn: bool,
}

impl RecipientState {
    /// A recipient of a message just accepted.
    #[must_use]
    pub const fn new(office: OfficeId, number: u64) -> Self {
        Self {
            office,
            number,
            delivered: None,
            retrieved: None,
            cannot_open: None,
            non_delivery: None,
            rewrapped: None,
            rewraps: 0,
            wrap_sha256: None,
            answered: None,
            cannot_open_at: UnixMillis(0),
            withdrawn: false,
        }
    }

    /// Whether the message is still to be delivered.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.delivered.is_none() && self.non_delivery.is_none()
    }
}

/// What the log knows of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageState {
    /// ACCEPTED entry.
    pub accepted: LogIndex,
    /// SHA-256 of the header.
    pub header_sha256: [u8; 32],
    /// Originator.
    pub from: OfficeId,
    /// Lane.
    pub lane: Lane,
    /// By the originator's clock.
    pub created: UnixMillis,
    /// Time of the ACCEPTED entry.
    pub admitted: UnixMillis,
    /// When it need not be delivered any more.
    pub expires: UnixMillis,
    /// Attachments that it names.
    pub attachments: Vec<[u8; 32]>,
    /// In the order of the header.
    pub recipients: Vec<RecipientState>,
}

impl MessageState {
    /// Where it stands with one recipient.
    #[must_use]
    pub fn recipient(&self, office: OfficeId) -> Option<&RecipientState> {
        self.recipients.iter().find(|recipient| recipient.office == office)
    }

    /// Whether every recipient has opened it, or never will have it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.recipients.iter().all(|r| r.retrieved.is_some() || (r.delivered.is_none() && r.non_delivery.is_some()))
    }
}

/// Rows of one entry, written together with its position.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Messages, or none where one is forgotten. A later row of the same message replaces an earlier one.
    pub messages: Vec<(MessageId, Option<MessageState>)>,
    /// Last numbers.
    pub channels: Vec<(Channel, u64)>,
    /// Position with this entry.
    pub applied: Applied,
}

/// Rows by key. Writes of one batch, with its position, are applied together or not at all.
#[allow(clippy::missing_errors_doc, reason = "each fails only when the index cannot be read or written")]
pub trait Index: Send + Sync {
    /// How far the log was applied.
    fn applied(&self) -> Result<Applied, IndexError>;
    /// A message.
    fn message(&self, id: MessageId) -> Result<Option<MessageState>, IndexError>;
    /// The last number of a channel.
    fn last_number(&self, channel: Channel) -> Result<Option<u64>, IndexError>;
    /// Visits every message, in no order.
    fn each_message(&self, visit: &mut dyn FnMut(MessageId, MessageState)) -> Result<(), IndexError>;
    /// Every channel with its last number, in no order.
    fn channels(&self) -> Result<Vec<(Channel, u64)>, IndexError>;
    /// Writes the rows of one entry.
    fn write(&self, batch: Batch) -> Result<(), IndexError>;
    /// Looks after the index when the log is idle: at a clean stop its rows are made durable.
    fn close(&self) -> Result<(), IndexError>;
}

impl<I: Index + ?Sized> Index for std::sync::Arc<I> {
    fn applied(&self) -> Result<Applied, IndexError> {
        (**self).applied()
    }
    fn message(&self, id: MessageId) -> Result<Option<MessageState>, IndexError> {
        (**self).message(id)
    }
    fn last_number(&self, channel: Channel) -> Result<Option<u64>, IndexError> {
        (**self).last_number(channel)
    }
    fn each_message(&self, visit: &mut dyn FnMut(MessageId, MessageState)) -> Result<(), IndexError> {
        (**self).each_message(visit)
    }
    fn channels(&self) -> Result<Vec<(Channel, u64)>, IndexError> {
        (**self).channels()
    }
    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        (**self).write(batch)
    }
    fn close(&self) -> Result<(), IndexError> {
        (**self).close()
    }
}

#[derive(Debug, Default)]
struct Rows {
    applied: Applied,
    messages: HashMap<MessageId, MessageState>,
    channels: HashMap<Channel, u64>,
}

/// An index in memory.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    rows: RwLock<Rows>,
}

impl MemoryIndex {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index for MemoryIndex {
    fn applied(&self) -> Result<Applied, IndexError> {
        Ok(self.read().applied)
    }

    fn message(&self, id: MessageId) -> Result<Option<MessageState>, IndexError> {
        Ok(self.read().messages.get(&id).cloned())
    }

    fn last_number(&self, channel: Channel) -> Result<Option<u64>, IndexError> {
        Ok(self.read().channels.get(&channel).copied())
    }

    fn each_message(&self, visit: &mut dyn FnMut(MessageId, MessageState)) -> Result<(), IndexError> {
        self.read().messages.iter().for_each(|(id, message)| visit(*id, message.clone()));
        Ok(())
    }

    fn channels(&self) -> Result<Vec<(Channel, u64)>, IndexError> {
        Ok(self.read().channels.iter().map(|(channel, number)| (*channel, *number)).collect())
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for (id, message) in batch.messages {
            match message {
                Some(message) => rows.messages.insert(id, message),
                None => rows.messages.remove(&id),
            };
        }
        rows.channels.extend(batch.channels);
        rows.applied = batch.applied;
        Ok(())
    }

    fn close(&self) -> Result<(), IndexError> {
        Ok(())
    }
}

/// Version of the row encodings; an index of another one is rebuilt.
pub const ROW_VERSION: u8 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct RecipientRow {
    #[prost(string, tag = "1")]
    office: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(uint64, optional, tag = "3")]
    delivered: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    retrieved: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    cannot_open: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    non_delivery: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    rewrapped: Option<u64>,
    #[prost(uint32, tag = "8")]
    rewraps: u32,
    #[prost(bool, tag = "9")]
    withdrawn: bool,
    #[prost(bytes = "bytes", optional, tag = "10")]
    wrap_sha256: Option<Bytes>,
    #[prost(uint64, optional, tag = "11")]
    answered: Option<u64>,
    #[prost(int64, tag = "12")]
    cannot_open_at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageRow {
    #[prost(uint64, tag = "1")]
    accepted: u64,
    #[prost(bytes = "bytes", tag = "2")]
    header_sha256: Bytes,
    #[prost(string, tag = "3")]
    from: String,
    #[prost(int32, tag = "4")]
    lane: i32,
    #[prost(int64, tag = "5")]
    created: i64,
    #[prost(int64, tag = "6")]
    admitted: i64,
    #[prost(int64, tag = "7")]
    expires: i64,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    attachments: Vec<Bytes>,
    #[prost(message, repeated, tag = "9")]
    recipients: Vec<RecipientRow>,
}

impl MessageState {
    /// The row's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let index = |index: Option<LogIndex>| index.map(|index| index.0);
        let recipient = |r: &RecipientState| RecipientRow {
            office: r.office.to_string(),
            number: r.number,
            delivered: index(r.delivered),
            retrieved: index(r.retrieved),
            cannot_open: index(r.cannot_open),
            non_delivery: index(r.non_delivery),
            rewrapped: index(r.rewrapped),
            rewraps: r.rewraps,
            withdrawn: r.withdrawn,
            wrap_sha256: r.wrap_sha256.map(|hash| Bytes::copy_from_slice(&hash)),
            answered: index(r.answered),
            cannot_open_at: r.cannot_open_at.0,
        };
        let row = MessageRow {
            accepted: self.accepted.0,
            header_sha256: Bytes::copy_from_slice(&self.header_sha256),
            from: self.from.to_string(),
            lane: self.lane.to_wire().into(),
            created: self.created.0,
            admitted: self.admitted.0,
            expires: self.expires.0,
            attachments: self.attachments.iter().map(|hash| Bytes::copy_from_slice(hash)).collect(),
            recipients: self.recipients.iter().map(recipient).collect(),
        };
        row.encode_to_vec()
    }

    /// Reads a row back.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let malformed = |what: &str| IndexError(format!("a row has a malformed {what}"));
        let row = MessageRow::decode(bytes).map_err(|_| malformed("encoding"))?;
        let office = |text: &str| text.parse::<OfficeId>().map_err(|_| malformed("office"));
        let index = |index: Option<u64>| index.map(LogIndex);
        let hash = |bytes: &Bytes| <[u8; 32]>::try_from(bytes.as_ref()).map_err(|_| malformed("hash"));
        let recipient = |r: &RecipientRow| -> Result<RecipientState, IndexError> {
            Ok(RecipientState {
                office: office(&r.office)?,
                number: r.number,
                delivered: index(r.delivered),
                retrieved: index(r.retrieved),
                cannot_open: index(r.cannot_open),
                non_delivery: index(r.non_delivery),
                rewrapped: index(r.rewrapped),
                rewraps: r.rewraps,
                withdrawn: r.withdrawn,
                wrap_sha256: r.wrap_sha256.as_ref().map(hash).transpose()?,
                answered: index(r.answered),
                cannot_open_at: UnixMillis(r.cannot_open_at),
            })
        };
        Ok(Self {
            accepted: LogIndex(row.accepted),
            header_sha256: hash(&row.header_sha256)?,
            from: office(&row.from)?,
            lane: Lane::from_wire(row.lane).ok_or_else(|| malformed("lane"))?,
            created: UnixMillis(row.created),
            admitted: UnixMillis(row.admitted),
            expires: UnixMillis(row.expires),
            attachments: row.attachments.iter().map(hash).collect::<Result<_, _>>()?,
            recipients: row.recipients.iter().map(recipient).collect::<Result<_, _>>()?,
        })
    }
}
