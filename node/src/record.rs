//! The records of the node's journal: its evidence of what it sent, received and stated. A version byte, then protobuf.
//!
//! Bodies and wraps are in the bodies journal beside it; content keys are in the key table; neither is ever here.

use std::io;

use liaison_proto::{Bytes, ProtoMessage, wire};

/// Version of the record encoding.
const VERSION: u8 = 1;

/// A message the office has signed and must submit. Its body follows in the bodies journal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Queued {
    /// Header bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub header: Bytes,
    /// The office's signature.
    #[prost(message, optional, tag = "2")]
    pub office_signature: Option<wire::Signature>,
    /// Node time before which it does not leave, so that the officer can take it back.
    #[prost(int64, tag = "3")]
    pub not_before_ms: i64,
}

/// The officer took a message back before it left.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cancelled {
    /// Message id.
    #[prost(bytes = "bytes", tag = "1")]
    pub message_id: Bytes,
    /// Node time.
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
}

/// A message that this office sent and this store lost: its ACCEPTED entry, found again in the log after a restore.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Recovered {
    /// The entry with its proof.
    #[prost(message, optional, tag = "1")]
    pub receipt: Option<wire::Receipt>,
    /// Node time.
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
}

/// An attachment of a received message is here whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Downloaded {
    /// SHA-256 of the ciphertext.
    #[prost(bytes = "bytes", tag = "1")]
    pub sha256: Bytes,
}

/// The broker's verified receipt for a queued message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Receipted {
    /// Message id.
    #[prost(bytes = "bytes", tag = "1")]
    pub message_id: Bytes,
    /// The receipt.
    #[prost(message, optional, tag = "2")]
    pub receipt: Option<wire::Receipt>,
    /// Node time, milliseconds since 1970-01-01T00:00Z.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// The broker's final refusal of a queued message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    /// Message id.
    #[prost(bytes = "bytes", tag = "1")]
    pub message_id: Bytes,
    /// Refusal code.
    #[prost(string, tag = "2")]
    pub code: String,
    /// What was wrong.
    #[prost(string, tag = "3")]
    pub detail: String,
    /// Node time.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
    /// The broker's verified signature over the refusal; none for refusals that are not signed.
    #[prost(message, optional, tag = "5")]
    pub signed: Option<wire::SignedRefusal>,
}

/// A message received and verified. Its body follows in the bodies journal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Arrived {
    /// Header bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub header: Bytes,
    /// The originating office's signature.
    #[prost(message, optional, tag = "2")]
    pub office_signature: Option<wire::Signature>,
    /// The ACCEPTED leaf with its proof.
    #[prost(message, optional, tag = "3")]
    pub receipt: Option<wire::Receipt>,
    /// Node time.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}

/// A statement that this office signed; a retry sends the same bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Stated {
    /// Message id.
    #[prost(bytes = "bytes", tag = "1")]
    pub message_id: Bytes,
    /// What it states.
    #[prost(enumeration = "wire::StatementKind", tag = "2")]
    pub kind: i32,
    /// Statement and signature.
    #[prost(message, optional, tag = "3")]
    pub attested: Option<wire::Attested>,
}

/// The broker's verified receipt for a statement of this office.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatementReceipted {
    /// Message id.
    #[prost(bytes = "bytes", tag = "1")]
    pub message_id: Bytes,
    /// What was stated.
    #[prost(enumeration = "wire::StatementKind", tag = "2")]
    pub kind: i32,
    /// The receipt.
    #[prost(message, optional, tag = "3")]
    pub receipt: Option<wire::Receipt>,
}

/// A verified entry that concerns this office: about a message that it sent, or NON_DELIVERY and REWRAPPED about one
/// sent to it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Evidence {
    /// The entry with its proof.
    #[prost(message, optional, tag = "1")]
    pub receipt: Option<wire::Receipt>,
    /// With REWRAPPED, at its recipient: the new wrap.
    #[prost(bytes = "bytes", tag = "2")]
    pub wrap: Bytes,
}

/// A message of this office was sealed anew: the entry, and the wrap that nobody else has until its recipient comes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RewrapReceipted {
    /// The entry with its proof.
    #[prost(message, optional, tag = "1")]
    pub receipt: Option<wire::Receipt>,
    /// The new wrap.
    #[prost(bytes = "bytes", tag = "2")]
    pub wrap: Bytes,
}

/// A message that cannot wait, received without receipt while the broker's log is under repair: its sender's signature
/// was verified, its place in the log is not known yet. Its body follows in the bodies journal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unproven {
    /// Header bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub header: Bytes,
    /// The originating office's signature.
    #[prost(message, optional, tag = "2")]
    pub office_signature: Option<wire::Signature>,
    /// Node time.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// The broker holds a queued message while its log is under repair, and delivers it unproven.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeldByBroker {
    /// Message id.
    #[prost(bytes = "bytes", tag = "1")]
    pub message_id: Bytes,
    /// Node time.
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
}

/// The newest checkpoint of the exchange log that was verified to extend the one before.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Checkpoint {
    /// Signed note.
    #[prost(bytes = "bytes", tag = "1")]
    pub note: Bytes,
}

/// The log was closed at its last provable size, and goes on as its successor: what stands here of it beyond does not count.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Succeeded {
    /// Number of the charter that says so.
    #[prost(uint64, tag = "1")]
    pub charter: u64,
    /// Origin of the closed log.
    #[prost(string, tag = "2")]
    pub origin: String,
    /// Its last provable size.
    #[prost(uint64, tag = "3")]
    pub size: u64,
    /// The newest checkpoint of at most this size that was verified here; empty when there is none.
    #[prost(bytes = "bytes", tag = "4")]
    pub checkpoint: Bytes,
}

/// A new proof of an entry that this store has, and the wrap that is kept beside a REWRAPPED.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Proven {
    /// The entry with its proof.
    #[prost(message, optional, tag = "1")]
    pub receipt: Option<wire::Receipt>,
    /// With REWRAPPED: the wrap.
    #[prost(bytes = "bytes", tag = "2")]
    pub wrap: Bytes,
}

/// A checkpoint that a counterpart had verified: to be compared with this node's view of the log, however long that
/// takes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Gossip {
    /// Signed note.
    #[prost(bytes = "bytes", tag = "1")]
    pub note: Bytes,
    /// Whether it was compared; false when it came.
    #[prost(bool, tag = "2")]
    pub compared: bool,
}

/// Something that only trouble or bad faith explains.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Alarm {
    /// Node time.
    #[prost(int64, tag = "1")]
    pub at_ms: i64,
    /// What was noticed, without content or persons.
    #[prost(string, tag = "2")]
    pub what: String,
    /// The checkpoint, receipt or message concerned, as it came.
    #[prost(bytes = "bytes", tag = "3")]
    pub exhibit: Bytes,
}

/// An officer has seen the alarms up to a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AlarmsSeen {
    /// Node time.
    #[prost(int64, tag = "1")]
    pub at_ms: i64,
    /// The officer's id.
    #[prost(string, tag = "2")]
    pub officer: String,
    /// Time of the newest alarm seen.
    #[prost(int64, tag = "3")]
    pub up_to_ms: i64,
}

/// A message that one officer has signed and that waits for a second signature. What it says follows in the bodies journal,
/// sealed under a key of its content key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Waiting {
    /// Core bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub core: Bytes,
    /// Node time.
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
    /// SHA-256 of its attachments' ciphertexts: their files stay.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub attachments: Vec<Bytes>,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the struct of its name")]
pub enum NodeRecord {
    Queued(Queued),
    Receipted(Receipted),
    Refused(Refused),
    Arrived(Arrived),
    Stated(Stated),
    StatementReceipted(StatementReceipted),
    Evidence(Evidence),
    Checkpoint(Checkpoint),
    Alarm(Alarm),
    Gossip(Gossip),
    Cancelled(Cancelled),
    Recovered(Recovered),
    Downloaded(Downloaded),
    RewrapReceipted(RewrapReceipted),
    Unproven(Unproven),
    HeldByBroker(HeldByBroker),
    AlarmsSeen(AlarmsSeen),
    Succeeded(Succeeded),
    Proven(Proven),
    Waiting(Waiting),
}

impl NodeRecord {
    /// The record kind in the journal, and the bytes.
    #[must_use]
    pub fn encode(&self) -> (u8, Vec<u8>) {
        fn bytes(message: &impl ProtoMessage) -> Vec<u8> {
            let mut bytes = vec![VERSION];
            // Appending to a vector cannot run out of room.
            let _ = message.encode(&mut bytes);
            bytes
        }
        match self {
            Self::Queued(r) => (1, bytes(r)),
            Self::Receipted(r) => (2, bytes(r)),
            Self::Refused(r) => (3, bytes(r)),
            Self::Arrived(r) => (4, bytes(r)),
            Self::Stated(r) => (5, bytes(r)),
            Self::StatementReceipted(r) => (6, bytes(r)),
            Self::Evidence(r) => (7, bytes(r)),
            Self::Checkpoint(r) => (8, bytes(r)),
            Self::Alarm(r) => (9, bytes(r)),
            Self::Gossip(r) => (10, bytes(r)),
            Self::Cancelled(r) => (11, bytes(r)),
            Self::Recovered(r) => (12, bytes(r)),
            Self::Downloaded(r) => (13, bytes(r)),
            Self::RewrapReceipted(r) => (14, bytes(r)),
            Self::Unproven(r) => (15, bytes(r)),
            Self::HeldByBroker(r) => (16, bytes(r)),
            Self::AlarmsSeen(r) => (17, bytes(r)),
            Self::Succeeded(r) => (18, bytes(r)),
            Self::Proven(r) => (19, bytes(r)),
            Self::Waiting(r) => (20, bytes(r)),
        }
    }

    /// The entry of the exchange log that a record holds, and the wrap beside it.
    #[must_use]
    pub const fn entry(&self) -> Option<(&wire::Receipt, Option<&Bytes>)> {
        let (receipt, wrap) = match self {
            Self::Receipted(r) => (&r.receipt, None),
            Self::Arrived(r) => (&r.receipt, None),
            Self::StatementReceipted(r) => (&r.receipt, None),
            Self::Evidence(r) => (&r.receipt, Some(&r.wrap)),
            Self::Recovered(r) => (&r.receipt, None),
            Self::RewrapReceipted(r) => (&r.receipt, Some(&r.wrap)),
            Self::Proven(r) => (&r.receipt, Some(&r.wrap)),
            _ => return None,
        };
        match receipt {
            Some(receipt) => Some((receipt, wrap)),
            None => None,
        }
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// When kind, version or bytes are not known.
    pub fn decode(kind: u8, bytes: &Bytes) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("node record: {what}"));
        if bytes.first() != Some(&VERSION) {
            return Err(invalid("unknown version"));
        }
        let rest = bytes.slice(1..);
        macro_rules! decode {
            ($($number:literal => $name:ident),+) => {
                match kind {
                    $($number => $name::decode(rest).map(Self::$name).map_err(|_| invalid("malformed")),)+
                    _ => Err(invalid("unknown kind")),
                }
            };
        }
        decode!(1 => Queued, 2 => Receipted, 3 => Refused, 4 => Arrived, 5 => Stated, 6 => StatementReceipted,
                7 => Evidence, 8 => Checkpoint, 9 => Alarm, 10 => Gossip, 11 => Cancelled, 12 => Recovered, 13 => Downloaded,
                14 => RewrapReceipted, 15 => Unproven, 16 => HeldByBroker, 17 => AlarmsSeen, 18 => Succeeded, 19 => Proven, 20 => Waiting)
    }
}
