//! The rules of the exchange log as a state machine over its entries. The broker decides by it, recovery rebuilds it,
//! the auditor replays it: one set of rules. Its rows are in an [`Index`]; what must be done at a time is in memory.

use std::collections::BTreeSet;

use liaison_proto::{
    clock::{DAY_MS, UnixMillis},
    header::Core,
    ids::{Channel, LogIndex, MessageId, OfficeId},
    limits,
    wire::{CannotOpenReason, Kind, Mark, NonDeliveryReason, StatementKind},
};

use crate::{
    checkpoint::claimed,
    index::{Applied, Batch, Index, IndexError, MemoryIndex, MessageState, RecipientState},
    leaf::{Event, ExchangeLeaf, NonDelivery, RewrapStatement, Statement},
};

mod rules;

pub use rules::Violation;

/// The state that the exchange log's entries add up to.
pub struct ExchangeState {
    index: Box<dyn Index>,
    applied: Applied,
    /// Undelivered messages by the time at which they expire; withdrawn ones are due at once.
    due: BTreeSet<(UnixMillis, MessageId, OfficeId)>,
    /// Messages by the time at which their ids need not be remembered any more; none when all are.
    horizon: Option<BTreeSet<(UnixMillis, MessageId)>>,
}

impl Default for ExchangeState {
    /// The empty state, in memory, which forgets nothing.
    fn default() -> Self {
        let index = Box::<MemoryIndex>::default();
        Self { index, applied: Applied::default(), due: BTreeSet::new(), horizon: None }
    }
}

/// The message that an accepted one takes back: WITHDRAW, and RECALL, which also asks to erase.
#[must_use]
pub fn withdraws(core: &Core) -> Option<MessageId> {
    matches!(core.kind, Kind::Withdraw | Kind::Recall).then_some(core.in_reply_to).flatten()
}

/// When an accepted message expires.
fn expires(core: &Core, accepted: UnixMillis) -> UnixMillis {
    let longest = accepted.plus(limits::DELIVERY_DAYS * DAY_MS);
    core.retain_until.map_or(longest, |until| until.min(longest))
}

/// Until when a message's id is remembered: the later of creation and admission plus the horizon.
fn remembered_until(message: &MessageState) -> UnixMillis {
    message.created.max(message.admitted).plus(limits::DEDUP_DAYS * DAY_MS)
}

impl ExchangeState {
    /// The state whose rows an index holds; live rows only are kept.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn open(index: Box<dyn Index>) -> Result<Self, IndexError> {
        let applied = index.applied()?;
        let (mut due, mut horizon) = (BTreeSet::new(), BTreeSet::new());
        index.each_message(&mut |id, message| {
            due.extend(
                message.recipients.iter().filter(|r| r.is_waiting()).map(|r| (due_at(&message, r), id, r.office)),
            );
            horizon.insert((remembered_until(&message), id));
        })?;
        Ok(Self { index, applied, due, horizon: Some(horizon) })
    }

    /// How far the log was applied.
    #[must_use]
    pub const fn applied(&self) -> &Applied {
        &self.applied
    }

    /// A message, by id.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn message(&self, id: MessageId) -> Result<Option<MessageState>, IndexError> {
        self.index.message(id)
    }

    /// Visits every message that the index holds, in no order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn each_message(&self, visit: &mut dyn FnMut(MessageId, MessageState)) -> Result<(), IndexError> {
        self.index.each_message(visit)
    }

    /// Every channel with its last number, in no order.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn channels(&self) -> Result<Vec<(Channel, u64)>, IndexError> {
        self.index.channels()
    }

    /// The next number on a channel.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn next_number(&self, channel: Channel) -> Result<u64, IndexError> {
        Ok(self.index.last_number(channel)?.unwrap_or(0) + 1)
    }

    /// Time of the newest entry.
    #[must_use]
    pub const fn time(&self) -> UnixMillis {
        self.applied.time
    }

    /// Size of the directory log that the newest entry was judged by.
    #[must_use]
    pub const fn directory_size(&self) -> u64 {
        self.applied.directory_size
    }

    /// The index, for those who look after its size.
    #[must_use]
    pub fn index(&self) -> &dyn Index {
        self.index.as_ref()
    }

    /// When the next message is due to be given up, if any is.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixMillis> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// What must be given up at `now`: at most `most` of them.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn due(&self, now: UnixMillis, most: usize) -> Result<Vec<NonDelivery>, IndexError> {
        let mut due = Vec::new();
        for (_, id, office) in self.due.iter().take_while(|(at, ..)| *at <= now).take(most) {
            let Some(message) = self.message(*id)? else { continue };
            let Some(recipient) = message.recipient(*office) else { continue };
            let reason = if recipient.withdrawn { NonDeliveryReason::Withdrawn } else { NonDeliveryReason::Expired };
            let (accepted, number) = (message.accepted, recipient.number);
            let channel = Channel { from: message.from, to: *office, lane: message.lane };
            due.push(NonDelivery { message_id: *id, recipient: *office, reason, accepted, channel, number });
        }
        Ok(due)
    }

    /// Takes the next entry. `leaf_sha256` is kept to know the entry again.
    ///
    /// # Errors
    /// The rule it breaks; the state is unchanged then.
    pub fn apply(&mut self, index: LogIndex, leaf: &ExchangeLeaf, leaf_sha256: [u8; 32]) -> Result<(), Violation> {
        if leaf.time < self.applied.time {
            return Err(Violation::TimeWentBack);
        }
        if leaf.directory_size < self.applied.directory_size {
            return Err(Violation::DirectoryWentBack);
        }
        let mut batch = Batch::default();
        match &leaf.event {
            Event::Accepted { header, numbers, .. } => {
                self.accept(
                    index,
                    leaf.time,
                    header.core(),
                    header.sha256(),
                    header.commitments(),
                    numbers,
                    &mut batch,
                )?;
            }
            Event::Attested { kind, statement, .. } => {
                self.attest(index, *kind, statement, leaf.marks.contains(&Mark::Late), &mut batch)?;
            }
            Event::NonDelivery(given_up) => {
                let message = self.check_non_delivery(given_up, leaf.time)?;
                let due = change(message, given_up.message_id, given_up.recipient, &mut batch, |recipient| {
                    recipient.non_delivery = Some(index);
                });
                self.due.remove(&due);
            }
            // What stands before it is the closed log, whole, up to its last provable size.
            Event::Succeeded(begun) => {
                if claimed(&begun.last).map(|(_, size)| size) != Some(index.0) {
                    return Err(Violation::SuccessionMisplaced);
                }
            }
            Event::Rewrapped { statement, .. } => {
                let (message, known) = self.check_rewrap(statement)?;
                if known.is_some() {
                    return Err(Violation::RewrapUnasked(statement.recipient));
                }
                change(message, statement.message_id, statement.recipient, &mut batch, |recipient| {
                    recipient.rewrapped = Some(index);
                    recipient.rewraps += 1;
                    recipient.wrap_sha256 = Some(statement.wrap_sha256);
                    // The recipient may try again, and say again that it cannot; the old statement is answered.
                    recipient.answered = recipient.cannot_open.take();
                });
            }
        }
        self.forget(leaf.time, &mut batch)?;
        let applied = Applied { size: index.0 + 1, time: leaf.time, directory_size: leaf.directory_size, leaf_sha256 };
        batch.applied = applied;
        self.index.write(batch)?;
        self.applied = applied;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one entry")]
    fn accept(
        &mut self,
        index: LogIndex,
        time: UnixMillis,
        core: &Core,
        header_sha256: [u8; 32],
        commitments: &liaison_proto::wire::Commitments,
        numbers: &[u64],
        batch: &mut Batch,
    ) -> Result<(), Violation> {
        self.check_accepted(core, numbers)?;
        batch.channels.extend(core.channels().zip(numbers.iter().copied()));
        if let Some((id, mut message)) = self.withdrawn_by(core)? {
            let expires = message.expires;
            for recipient in message.recipients.iter_mut().filter(|r| core.to.contains(&r.office) && !r.withdrawn) {
                recipient.withdrawn = true;
                if recipient.is_waiting() {
                    self.due.remove(&(expires, id, recipient.office));
                    self.due.insert((UnixMillis(0), id, recipient.office));
                }
            }
            batch.messages.push((id, Some(message)));
        }
        let recipients = core.to.iter().zip(numbers).map(|(&office, &number)| RecipientState::new(office, number));
        let message = MessageState {
            accepted: index,
            header_sha256,
            from: core.from,
            lane: core.lane,
            created: core.created_at,
            admitted: time,
            expires: expires(core, time),
            attachments: commitments.attachments.iter().filter_map(|a| a.sha256.as_ref().try_into().ok()).collect(),
            recipients: recipients.collect(),
        };
        self.due.extend(core.to.iter().map(|&to| (message.expires, core.message_id, to)));
        if let Some(horizon) = &mut self.horizon {
            horizon.insert((remembered_until(&message), core.message_id));
        }
        batch.messages.push((core.message_id, Some(message)));
        Ok(())
    }

    fn attest(
        &mut self,
        index: LogIndex,
        kind: StatementKind,
        statement: &Statement,
        late: bool,
        batch: &mut Batch,
    ) -> Result<(), Violation> {
        let (message, known) = self.check_statement(kind, statement)?;
        if known.is_some() {
            return Err(Violation::StatedTwice(statement.office));
        }
        if kind == StatementKind::Delivered && late != is_late(&message, statement.office) {
            return Err(Violation::LateMark(statement.office));
        }
        let due = change(message, statement.message_id, statement.office, batch, |recipient| match kind {
            StatementKind::Retrieved => recipient.retrieved = Some(index),
            StatementKind::CannotOpen => {
                recipient.cannot_open = Some(index);
                recipient.cannot_open_at = statement.at;
            }
            _ => recipient.delivered = Some(index),
        });
        self.due.remove(&due);
        Ok(())
    }

    /// Drops the rows of messages that are past their horizon and finished; looks again in a day at those that are not.
    fn forget(&mut self, now: UnixMillis, batch: &mut Batch) -> Result<(), IndexError> {
        const AT_ONCE: usize = 16;
        let Some(horizon) = &mut self.horizon else { return Ok(()) };
        for _ in 0..AT_ONCE {
            let Some(&(until, id)) = horizon.first().filter(|(until, _)| *until < now) else { break };
            horizon.remove(&(until, id));
            match self.index.message(id)? {
                Some(message) if !message.is_finished() => {
                    horizon.insert((now.plus(DAY_MS), id));
                }
                // One that this very entry changes is looked at again.
                _ if batch.messages.iter().any(|(changed, _)| *changed == id) => {
                    horizon.insert((now.plus(DAY_MS), id));
                }
                _ => batch.messages.push((id, None)),
            }
        }
        Ok(())
    }
}

fn due_at(message: &MessageState, recipient: &RecipientState) -> UnixMillis {
    if recipient.withdrawn { UnixMillis(0) } else { message.expires }
}

/// Whether a delivery comes after the message was given up for this recipient.
#[must_use]
pub fn is_late(message: &MessageState, office: OfficeId) -> bool {
    message.recipient(office).is_some_and(|recipient| recipient.non_delivery.is_some())
}

/// Changes one recipient of a message, and says under which key it was due.
fn change(
    mut message: MessageState,
    id: MessageId,
    office: OfficeId,
    batch: &mut Batch,
    change: impl FnOnce(&mut RecipientState),
) -> (UnixMillis, MessageId, OfficeId) {
    let mut due = UnixMillis(0);
    if let Some(at) = message.recipients.iter().position(|recipient| recipient.office == office) {
        due = due_at(&message, &message.recipients[at]);
        change(&mut message.recipients[at]);
    }
    batch.messages.push((id, Some(message)));
    (due, id, office)
}

/// Reasons and statements fit each other: CANNOT_OPEN alone has one.
fn reason_fits(kind: StatementKind, statement: &Statement) -> bool {
    (kind == StatementKind::CannotOpen) != (statement.reason == CannotOpenReason::Unspecified)
}

/// A rewrap names the message as it was accepted.
fn is_of(message: &MessageState, statement: &RewrapStatement) -> bool {
    message.accepted == statement.accepted && message.from == statement.office
}
