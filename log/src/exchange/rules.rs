//! What may enter, by the state so far. Nothing here changes anything.

use liaison_proto::{
    clock::UnixMillis,
    header::Core,
    ids::{Channel, Lane, LogIndex, MessageId, OfficeId},
    limits,
    wire::{NonDeliveryReason, StatementKind},
};

use super::{ExchangeState, is_of, reason_fits, withdraws};
use crate::{
    index::{IndexError, MessageState},
    leaf::{NonDelivery, RewrapStatement, Statement},
};

/// A rule of the exchange log that an entry breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Leaf time decreased.
    #[error("its time is before the entry before it")]
    TimeWentBack,
    /// A successor begins elsewhere than where the log before it was closed.
    #[error("a successor begins elsewhere than where the log before it was closed")]
    SuccessionMisplaced,
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
    /// A message is taken back by another office than its originator.
    #[error("message {0} is taken back by another office than its originator")]
    WithdrawsAnother(MessageId),
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
    /// DELIVERED after NON_DELIVERY is marked LATE, and no other.
    #[error("a delivery to {0} that is wrongly marked as late or as in time")]
    LateMark(OfficeId),
    /// NON_DELIVERY after a delivery, a second time, or without withdrawal or expiry.
    #[error("a non-delivery to {0} that nothing justifies")]
    NonDeliveryUnjustified(OfficeId),
    /// REWRAPPED by another office, for who has opened the message, or who never said that it could not.
    #[error("a rewrap for {0} that nothing asked for")]
    RewrapUnasked(OfficeId),
    /// The index could not be read or written: no rule is broken, and nothing can be decided.
    #[error("the index could not be read or written: {0}")]
    Index(String),
}

impl From<IndexError> for Violation {
    fn from(error: IndexError) -> Self {
        Self::Index(error.to_string())
    }
}

impl ExchangeState {
    /// Whether a message may be accepted with these numbers.
    ///
    /// # Errors
    /// The rule it would break.
    pub(super) fn check_accepted(&self, core: &Core, numbers: &[u64]) -> Result<(), Violation> {
        if self.message(core.message_id)?.is_some() {
            return Err(Violation::AcceptedTwice(core.message_id));
        }
        for (channel, &found) in core.channels().zip(numbers) {
            let expected = self.next_number(channel)?;
            if found != expected {
                let Channel { from, to, lane } = channel;
                return Err(Violation::NumberOutOfTurn { from, to, lane, found, expected });
            }
        }
        self.withdrawn_by(core).map(|_| ())
    }

    /// The message that this one takes back, when the state still knows it.
    ///
    /// # Errors
    /// [`Violation::WithdrawsAnother`].
    pub fn withdrawn_by(&self, core: &Core) -> Result<Option<(MessageId, MessageState)>, Violation> {
        let Some(id) = withdraws(core) else { return Ok(None) };
        match self.message(id)? {
            Some(message) if message.from != core.from => Err(Violation::WithdrawsAnother(id)),
            found => Ok(found.map(|message| (id, message))),
        }
    }

    /// Whether a statement may enter: the message, and the entry where the same was stated before, if it was.
    ///
    /// # Errors
    /// The rule it would break.
    pub fn check_statement(
        &self,
        kind: StatementKind,
        statement: &Statement,
    ) -> Result<(MessageState, Option<LogIndex>), Violation> {
        let office = statement.office;
        let message = self.message(statement.message_id)?.ok_or(Violation::NotAccepted(office))?;
        let recipient = message.recipient(office).ok_or(Violation::NotAccepted(office))?;
        if message.accepted != statement.accepted {
            return Err(Violation::NotAccepted(office));
        }
        let same = message.header_sha256 == statement.header_sha256 && recipient.number == statement.number;
        if !same || !reason_fits(kind, statement) {
            return Err(Violation::StatementDiffers(office));
        }
        let known = match kind {
            StatementKind::Delivered => recipient.delivered,
            _ if recipient.delivered.is_none() => return Err(Violation::NotDelivered(office)),
            StatementKind::Retrieved => recipient.retrieved,
            // What was retrieved was opened; the other order is a key that came later.
            StatementKind::CannotOpen if recipient.retrieved.is_some() && recipient.cannot_open.is_none() => {
                return Err(Violation::StatementDiffers(office));
            }
            // A late retry of what a rewrap has answered.
            StatementKind::CannotOpen
                if recipient.cannot_open.is_none() && statement.at <= recipient.cannot_open_at =>
            {
                recipient.answered
            }
            StatementKind::CannotOpen => recipient.cannot_open,
            StatementKind::Unspecified => return Err(Violation::StatementDiffers(office)),
        };
        Ok((message, known))
    }

    /// Whether a message may be given up for a recipient at `time`.
    ///
    /// # Errors
    /// [`Violation::NonDeliveryUnjustified`] or [`Violation::NotAccepted`].
    pub fn check_non_delivery(&self, given_up: &NonDelivery, time: UnixMillis) -> Result<MessageState, Violation> {
        let office = given_up.recipient;
        let message = self.message(given_up.message_id)?.ok_or(Violation::NotAccepted(office))?;
        let recipient = message.recipient(office).ok_or(Violation::NotAccepted(office))?;
        let justified = match given_up.reason {
            NonDeliveryReason::Withdrawn => recipient.withdrawn,
            NonDeliveryReason::Expired => time >= message.expires,
            NonDeliveryReason::Unspecified => false,
        };
        let channel = Channel { from: message.from, to: office, lane: message.lane };
        let same =
            (message.accepted, channel, recipient.number) == (given_up.accepted, given_up.channel, given_up.number);
        if justified && same && recipient.is_waiting() {
            Ok(message)
        } else {
            Err(Violation::NonDeliveryUnjustified(office))
        }
    }

    /// Whether a rewrap may enter: the message, and the entry where the same wrap was entered before, if it was.
    ///
    /// # Errors
    /// [`Violation::RewrapUnasked`] or [`Violation::NotAccepted`].
    pub fn check_rewrap(&self, statement: &RewrapStatement) -> Result<(MessageState, Option<LogIndex>), Violation> {
        let office = statement.recipient;
        let message = self.message(statement.message_id)?.ok_or(Violation::NotAccepted(office))?;
        let recipient = message.recipient(office).ok_or(Violation::NotAccepted(office))?;
        let asked = recipient.cannot_open.is_some() && recipient.retrieved.is_none();
        let known = recipient.rewrapped.filter(|_| recipient.wrap_sha256 == Some(statement.wrap_sha256));
        if is_of(&message, statement) && (known.is_some() || asked && recipient.rewraps < limits::REWRAPS) {
            Ok((message, known))
        } else {
            Err(Violation::RewrapUnasked(office))
        }
    }
}
