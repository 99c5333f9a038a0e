//! The rules of the exchange log as a state machine over its entries. The broker decides by it, recovery rebuilds it,
//! the auditor replays it: one set of rules.

use std::collections::HashMap;

use liaison_proto::{
    clock::UnixMillis,
    ids::{Channel, Lane, LogIndex, MessageId, OfficeId},
    wire::{CannotOpenReason, StatementKind},
};

use crate::leaf::{Event, ExchangeLeaf, Statement};

/// A rule of the exchange log that an entry breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Leaf time decreased.
    #[error("its time is before the entry before it")]
    TimeWentBack,
    /// The directory size it was judged by decreased.
    #[error("it was judged by a smaller directory than the entry before it")]
    DirectoryWentBack,
    /// A message id was accepted a second time.
    #[error("message {0} was accepted before")]
    AcceptedTwice(MessageId),
    /// A channel number is not the next one.
    #[error("number {found} on the channel {from} -> {to} {lane:?} where {expected} is next")]
    NumberOutOfTurn {
        /// Originator.
        from: OfficeId,
        /// Recipient.
        to: OfficeId,
        /// Lane.
        lane: Lane,
        /// What the entry says.
        found: u64,
        /// What it should say.
        expected: u64,
    },
    /// A statement about a message that was not accepted, or not for this office, or at another index.
    #[error("a statement about a message that was not accepted for {0}")]
    NotAccepted(OfficeId),
    /// The statement's header hash or number is not the accepted one's.
    #[error("a statement of {0} that contradicts the ACCEPTED entry")]
    StatementDiffers(OfficeId),
    /// The same statement a second time.
    #[error("{0} has stated the same before")]
    StatedTwice(OfficeId),
    /// RETRIEVED or CANNOT_OPEN before DELIVERED.
    #[error("{0} states an opening before a delivery")]
    NotDelivered(OfficeId),
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
    /// CANNOT_OPEN entry.
    pub cannot_open: Option<LogIndex>,
}

/// What the log knows of a message.
#[derive(Clone, Debug)]
pub struct MessageState {
    /// ACCEPTED entry.
    pub accepted: LogIndex,
    /// SHA-256 of the header.
    pub header_sha256: [u8; 32],
    /// Originator.
    pub from: OfficeId,
    /// Lane.
    pub lane: Lane,
    /// In the order of the header.
    pub recipients: Vec<RecipientState>,
}

impl MessageState {
    /// Where it stands with one recipient.
    #[must_use]
    pub fn recipient(&self, office: OfficeId) -> Option<&RecipientState> {
        self.recipients.iter().find(|recipient| recipient.office == office)
    }
}

/// The state that the exchange log's entries add up to.
#[derive(Clone, Debug, Default)]
pub struct ExchangeState {
    time: UnixMillis,
    directory_size: u64,
    channels: HashMap<Channel, u64>,
    messages: HashMap<MessageId, MessageState>,
}

impl ExchangeState {
    /// A message, by id.
    #[must_use]
    pub fn message(&self, id: MessageId) -> Option<&MessageState> {
        self.messages.get(&id)
    }

    /// Every message, in no order.
    pub fn messages(&self) -> impl Iterator<Item = (&MessageId, &MessageState)> {
        self.messages.iter()
    }

    /// The next number on a channel.
    #[must_use]
    pub fn next_number(&self, channel: Channel) -> u64 {
        self.channels.get(&channel).map_or(1, |last| last + 1)
    }

    /// Every channel with its last number, in no order.
    pub fn channels(&self) -> impl Iterator<Item = (&Channel, &u64)> {
        self.channels.iter()
    }

    /// Time of the newest entry.
    #[must_use]
    pub const fn time(&self) -> UnixMillis {
        self.time
    }

    /// Size of the directory log that the newest entry was judged by.
    #[must_use]
    pub const fn directory_size(&self) -> u64 {
        self.directory_size
    }

    /// Whether a statement may enter: `Ok(Some)` names the entry where the same was stated before.
    ///
    /// # Errors
    /// The rule it would break.
    pub fn check_statement(&self, kind: StatementKind, statement: &Statement) -> Result<Option<LogIndex>, Violation> {
        let office = statement.office;
        let message = self.messages.get(&statement.message_id).ok_or(Violation::NotAccepted(office))?;
        let recipient = message.recipient(office).ok_or(Violation::NotAccepted(office))?;
        if message.accepted != statement.accepted {
            return Err(Violation::NotAccepted(office));
        }
        if message.header_sha256 != statement.header_sha256 || recipient.number != statement.number {
            return Err(Violation::StatementDiffers(office));
        }
        if (kind == StatementKind::CannotOpen) == (statement.reason == CannotOpenReason::Unspecified) {
            return Err(Violation::StatementDiffers(office));
        }
        match kind {
            StatementKind::Delivered => Ok(recipient.delivered),
            _ if recipient.delivered.is_none() => Err(Violation::NotDelivered(office)),
            StatementKind::Retrieved => Ok(recipient.retrieved),
            // What was retrieved was opened; the other order is a key that came later.
            StatementKind::CannotOpen if recipient.retrieved.is_some() && recipient.cannot_open.is_none() => {
                Err(Violation::StatementDiffers(office))
            }
            StatementKind::CannotOpen => Ok(recipient.cannot_open),
            StatementKind::Unspecified => Err(Violation::StatementDiffers(office)),
        }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// The rule it breaks; the state is unchanged then.
    pub fn apply(&mut self, index: LogIndex, leaf: &ExchangeLeaf) -> Result<(), Violation> {
        if leaf.time < self.time {
            return Err(Violation::TimeWentBack);
        }
        if leaf.directory_size < self.directory_size {
            return Err(Violation::DirectoryWentBack);
        }
        match &leaf.event {
            Event::Accepted { header, numbers, .. } => {
                let core = header.core();
                if self.messages.contains_key(&core.message_id) {
                    return Err(Violation::AcceptedTwice(core.message_id));
                }
                for (channel, &found) in core.channels().zip(numbers) {
                    let expected = self.next_number(channel);
                    if found != expected {
                        let Channel { from, to, lane } = channel;
                        return Err(Violation::NumberOutOfTurn { from, to, lane, found, expected });
                    }
                }
                self.channels.extend(core.channels().zip(numbers.iter().copied()));
                let recipients = core.to.iter().zip(numbers).map(|(&office, &number)| RecipientState {
                    office,
                    number,
                    delivered: None,
                    retrieved: None,
                    cannot_open: None,
                });
                let message = MessageState {
                    accepted: index,
                    header_sha256: header.sha256(),
                    from: core.from,
                    lane: core.lane,
                    recipients: recipients.collect(),
                };
                self.messages.insert(core.message_id, message);
            }
            Event::Attested { kind, statement, .. } => {
                if self.check_statement(*kind, statement)?.is_some() {
                    return Err(Violation::StatedTwice(statement.office));
                }
                let recipient = self
                    .messages
                    .get_mut(&statement.message_id)
                    .and_then(|message| message.recipients.iter_mut().find(|r| r.office == statement.office))
                    .ok_or(Violation::NotAccepted(statement.office))?;
                let slot = match kind {
                    StatementKind::Retrieved => &mut recipient.retrieved,
                    StatementKind::CannotOpen => &mut recipient.cannot_open,
                    _ => &mut recipient.delivered,
                };
                *slot = Some(index);
            }
        }
        self.time = leaf.time;
        self.directory_size = leaf.directory_size;
        Ok(())
    }
}
