//! What the node's journal adds up to: outbox, inbox, what must be submitted, stated and opened. Rebuilt at every start
//! by the same calls that build it while running.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use liaison_log::journal::Position;
use liaison_proto::{
    Bytes,
    clock::UnixMillis,
    header::{Core, Header},
    ids::{Channel, Lane, LogIndex, MessageId, OfficeId},
    wire::{self, CannotOpenReason, NonDeliveryReason, StatementKind},
};

mod apply;
mod succession;

pub use succession::End;

/// Where an own message stands with the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// Durable here, not yet receipted.
    Queued,
    /// Accepted, with a verified receipt.
    Receipted {
        /// ACCEPTED entry.
        index: LogIndex,
        /// Broker time.
        time: UnixMillis,
        /// Directory size the entry was judged by.
        directory_size: u64,
        /// Channel numbers in the order of the recipients.
        numbers: Vec<u64>,
        /// What the broker could not settle.
        marks: Vec<wire::Mark>,
        /// Where the receipt stands in the journal.
        receipt: Position,
    },
    /// Refused for good.
    Refused {
        /// Refusal code.
        code: String,
        /// What was wrong.
        detail: String,
        /// Whether the broker signed the refusal.
        signed: bool,
    },
    /// Taken back before it left.
    Cancelled,
}

/// What an entry about a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A recipient's statement, with the reason for CANNOT_OPEN.
    Stated(StatementKind, CannotOpenReason),
    /// Given up for a recipient.
    NonDelivery(NonDeliveryReason),
    /// Sealed anew to a recipient.
    Rewrapped,
}

/// An entry about an own message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceState {
    /// Its index.
    pub index: LogIndex,
    /// What it says.
    pub said: Said,
    /// Of which recipient.
    pub office: OfficeId,
    /// Broker time.
    pub time: UnixMillis,
    /// What the broker could not settle.
    pub marks: Vec<wire::Mark>,
    /// Where the entry stands in the journal.
    pub receipt: Position,
}

/// Whom an own message must be sealed to anew, after an entry about it.
fn note_rewrap(to_rewrap: &mut BTreeSet<(MessageId, OfficeId)>, about: (MessageId, OfficeId), said: &Said) {
    match said {
        Said::Stated(StatementKind::CannotOpen, CannotOpenReason::NoKey | CannotOpenReason::Seal) => {
            to_rewrap.insert(about);
        }
        Said::Stated(StatementKind::Retrieved, _) | Said::Rewrapped => {
            to_rewrap.remove(&about);
        }
        Said::Stated(..) | Said::NonDelivery(_) => {}
    }
}

impl Outgoing {
    /// Whether its ACCEPTED entry stands at an index or beyond.
    fn is_entered_from(&self, from: LogIndex) -> bool {
        matches!(self.submission, Submission::Receipted { index, .. } if index >= from)
    }
}

/// A message this office sends.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its header.
    pub header: Header,
    /// The office's signature.
    pub signature: Option<wire::Signature>,
    /// Where its body stands; none for one that was found again in the log after a restore.
    pub body: Option<Position>,
    /// Order of queueing.
    pub order: u64,
    /// Node time before which it does not leave.
    pub not_before: UnixMillis,
    /// With the broker.
    pub submission: Submission,
    /// When the broker took it without a receipt, its log being under repair.
    pub held_by_broker: Option<UnixMillis>,
    /// Whether it had been accepted in a log that was closed, and is sent again.
    pub again: bool,
    /// What recipients stated.
    pub evidence: Vec<EvidenceState>,
}

/// A statement of this office about a message it received.
#[derive(Clone, Debug)]
pub struct OwnStatement {
    /// As signed.
    pub attested: wire::Attested,
    /// The entry, once receipted.
    pub index: Option<LogIndex>,
}

/// A message this office received.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its header.
    pub header: Header,
    /// The originating office's signature.
    pub signature: Option<wire::Signature>,
    /// Where its body stands.
    pub body: Position,
    /// Where the record with the receipt stands.
    pub record: Position,
    /// ACCEPTED entry.
    pub index: LogIndex,
    /// Broker time of acceptance.
    pub time: UnixMillis,
    /// Directory size the entry was judged by.
    pub directory_size: u64,
    /// Number on the channel.
    pub number: u64,
    /// What the broker could not settle.
    pub marks: Vec<wire::Mark>,
    /// Node time of arrival.
    pub at: UnixMillis,
    /// DELIVERED, then RETRIEVED or CANNOT_OPEN.
    pub statements: BTreeMap<i32, OwnStatement>,
    /// Entry, key name and wrap of the newest REWRAPPED.
    pub rewrap: Option<Rewrap>,
    /// Entry and broker time of a NON_DELIVERY, when the message came all the same.
    pub given_up: Option<(LogIndex, UnixMillis)>,
}

/// A message sealed anew to this office.
#[derive(Clone, Debug)]
pub struct Rewrap {
    /// Its entry.
    pub index: LogIndex,
    /// Name of the key sealed to.
    pub key_sha256: [u8; 32],
    /// The wrap.
    pub wrap: Bytes,
}

/// A message that was given up for this office and never came: its number is accounted for.
#[derive(Clone, Debug)]
pub struct GivenUp {
    /// Its entry.
    pub index: LogIndex,
    /// Why.
    pub reason: NonDeliveryReason,
    /// The channel.
    pub channel: Channel,
    /// Number on it.
    pub number: u64,
    /// Broker time.
    pub time: UnixMillis,
}

impl Incoming {
    /// Whether an opening was stated, either way.
    #[must_use]
    pub fn is_opened(&self) -> bool {
        [StatementKind::Retrieved, StatementKind::CannotOpen]
            .iter()
            .any(|kind| self.statements.contains_key(&i32::from(*kind)))
    }
}

/// A message received without receipt, while the broker's log is under repair.
#[derive(Clone, Debug)]
pub struct UnprovenIncoming {
    /// Its header.
    pub header: Header,
    /// The originating office's signature.
    pub signature: Option<wire::Signature>,
    /// Where its body stands.
    pub body: Position,
    /// Node time of arrival.
    pub at: UnixMillis,
    /// Directory size and time of the entry that it had in a log that was closed.
    pub judged: Option<(u64, UnixMillis)>,
}

/// Numbers that were given on one channel.
#[derive(Clone, Debug, Default)]
pub struct SentNumbers {
    /// The highest.
    pub last: u64,
    /// Those below it that were not given to a message of this node, yet.
    gaps: BTreeSet<u64>,
}

impl SentNumbers {
    /// Takes a number; false when it was given before.
    pub fn take(&mut self, number: u64) -> bool {
        if number <= self.last {
            return self.gaps.remove(&number);
        }
        // More gaps than that are no retries under way, and only the first one is told.
        self.gaps.extend((self.last + 1..number).take(1024));
        self.last = number;
        true
    }

    /// The lowest number that is not known.
    #[must_use]
    pub fn first_gap(&self) -> Option<u64> {
        self.gaps.first().copied()
    }

    /// Whether a number was given before.
    #[must_use]
    pub fn has(&self, number: u64) -> bool {
        number <= self.last && !self.gaps.contains(&number)
    }
}

/// An entry of the exchange log that this node has.
#[derive(Clone, Copy, Debug)]
pub struct HeldEntry {
    /// The record with the entry and its proof.
    pub record: Position,
    /// The message's body, for ACCEPTED; none when this node never had it.
    pub body: Option<Position>,
    /// Whether all is here that belongs beside the entry.
    pub complete: bool,
}

/// Something that only trouble or bad faith explains.
#[derive(Clone, Debug)]
pub struct AlarmState {
    /// Node time.
    pub at: UnixMillis,
    /// What was noticed.
    pub what: String,
    /// Which officer has seen it.
    pub seen_by: Option<String>,
}

/// A message that waits for a second signature.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its core.
    pub core: Core,
    /// As the first officer signed it.
    pub core_bytes: Bytes,
    /// Where its content stands, sealed.
    pub body: Position,
    /// SHA-256 of its attachments' ciphertexts.
    pub attachments: Vec<Bytes>,
}

/// The state of a node.
#[derive(Debug, Default)]
pub struct State {
    /// The office.
    office: Option<OfficeId>,
    /// Own messages.
    pub outgoing: BTreeMap<MessageId, Outgoing>,
    /// Received messages.
    pub incoming: BTreeMap<MessageId, Incoming>,
    /// Messages received without receipt, until they come with one.
    pub unproven: BTreeMap<MessageId, UnprovenIncoming>,
    /// Message -> messages that answer it, both ways.
    pub replies: HashMap<MessageId, Vec<MessageId>>,
    /// Thread -> its messages that are or were here, in no order.
    pub threads: BTreeMap<MessageId, BTreeSet<MessageId>>,
    /// Own messages that wait for a second signature.
    pub waiting: BTreeMap<MessageId, Waiting>,
    /// Messages that say who answers at an office.
    pub contacts: BTreeSet<MessageId>,
    /// To be submitted, in order, per lane.
    pub to_submit: BTreeSet<(Lane, u64, MessageId)>,
    /// Statements to be sent, per lane in order of arrival: accepted index, kind, message.
    pub to_state: BTreeSet<(Lane, LogIndex, i32, MessageId)>,
    /// Arrived and not opened: the most urgent first, in the order of the log.
    pub to_open: BTreeSet<(Lane, LogIndex, MessageId)>,
    /// Recipients who could not open an own message and may open it when it is sealed anew.
    pub to_rewrap: BTreeSet<(MessageId, OfficeId)>,
    /// Attachments of received messages that are not here yet, with their sizes.
    pub to_download: BTreeMap<[u8; 32], u64>,
    /// Messages sealed anew to this office that have not come (again) yet.
    pub early_rewraps: BTreeMap<MessageId, Rewrap>,
    /// Messages that were given up for this office.
    pub given_up: BTreeMap<MessageId, GivenUp>,
    /// Newest broker time seen in the log: the clock is never earlier.
    pub log_time: UnixMillis,
    /// Newest verified checkpoint.
    pub checkpoint: Option<Bytes>,
    /// Where every verified checkpoint stands, by its size.
    pub checkpoints: BTreeMap<u64, Position>,
    /// Where the log was closed, and went on as its successor.
    pub ends: Vec<End>,
    /// Evidence is known below this index.
    pub evidence_from: LogIndex,
    /// Receipted numbers per channel from this office.
    pub sent_numbers: HashMap<Channel, SentNumbers>,
    /// Received numbers per channel to this office.
    pub received_numbers: HashMap<Channel, BTreeSet<u64>>,
    /// Checkpoints of counterparts to be compared with this node's view of the log.
    pub to_compare: BTreeSet<Bytes>,
    /// Where every entry of the log that this node has stands: what a broker that lost it is given back.
    pub entries: BTreeMap<LogIndex, HeldEntry>,
    /// Alarms, oldest first.
    pub alarms: Vec<AlarmState>,
    /// Attachments that are here.
    downloaded: BTreeSet<[u8; 32]>,
    order: u64,
}

impl State {
    /// The empty state of an office.
    #[must_use]
    pub fn new(office: OfficeId) -> Self {
        Self { office: Some(office), ..Self::default() }
    }

    /// The office whose state this is.
    #[must_use]
    pub const fn office(&self) -> Option<OfficeId> {
        self.office
    }

    /// Header of a message that this office received, with or without a receipt.
    #[must_use]
    pub fn received(&self, id: MessageId) -> Option<&Header> {
        let incoming = self.incoming.get(&id).map(|incoming| &incoming.header);
        incoming.or_else(|| self.unproven.get(&id).map(|unproven| &unproven.header))
    }

    /// Header of a message of this office, received or sent, that counts: not of one that never left.
    #[must_use]
    pub fn header(&self, id: MessageId) -> Option<&Header> {
        let left =
            |outgoing: &&Outgoing| !matches!(outgoing.submission, Submission::Cancelled | Submission::Refused { .. });
        self.received(id).or_else(|| self.outgoing.get(&id).filter(left).map(|outgoing| &outgoing.header))
    }

    /// The ACCEPTED entry of a message; none before it has one.
    #[must_use]
    pub fn entry_of(&self, id: MessageId) -> Option<LogIndex> {
        let received = self.incoming.get(&id).map(|incoming| incoming.index);
        received.or_else(|| match self.outgoing.get(&id)?.submission {
            Submission::Receipted { index, .. } => Some(index),
            _ => None,
        })
    }

    /// The directory size that a message's ACCEPTED entry was judged by; none before it has one.
    #[must_use]
    pub fn directory_size_of(&self, id: MessageId) -> Option<u64> {
        let received = self.incoming.get(&id).map(|incoming| incoming.directory_size);
        received.or_else(|| match self.outgoing.get(&id)?.submission {
            Submission::Receipted { directory_size, .. } => Some(directory_size),
            _ => None,
        })
    }

    /// Alarms that no officer has seen.
    pub fn unseen_alarms(&self) -> impl Iterator<Item = &AlarmState> {
        self.alarms.iter().filter(|alarm| alarm.seen_by.is_none())
    }

    /// Numbers that are missing below the highest one received, per channel.
    #[must_use]
    pub fn missing_numbers(&self) -> Vec<(Channel, Vec<u64>)> {
        let mut missing: Vec<_> = self
            .received_numbers
            .iter()
            .filter_map(|(channel, numbers)| {
                let highest = *numbers.last()?;
                let gaps: Vec<u64> = (1..highest).filter(|number| !numbers.contains(number)).take(20).collect();
                (!gaps.is_empty()).then_some((*channel, gaps))
            })
            .collect();
        missing.sort_unstable_by_key(|(channel, _)| *channel);
        missing
    }
}
