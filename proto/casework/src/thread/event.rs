//! One message of a thread, as its workflow sees it.

use liaison_proto::{
    clock::UnixMillis,
    header::Core,
    ids::{LogIndex, MessageId, OfficeId},
    wire::{Handling, Kind, Priority, Step, Tlp},
};
use prost_reflect::DynamicMessage;

use crate::{
    act::{self, Act},
    catalogue,
};

/// A message: the envelope's codes, and what its content does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: MessageId,
    /// Originator.
    pub from: OfficeId,
    /// Recipients.
    pub to: Vec<OfficeId>,
    /// Kind.
    pub kind: Kind,
    /// The step that its header names.
    pub step: Step,
    /// The message that it answers.
    pub in_reply_to: Option<MessageId>,
    /// Its entry in the exchange log: the order that no party chooses. None before it has a receipt.
    pub entry: Option<LogIndex>,
    /// By the originator's clock.
    pub created_at: UnixMillis,
    /// When an answer is due, as the header says.
    pub due_at: Option<UnixMillis>,
    /// When it may be erased.
    pub retain_until: Option<UnixMillis>,
    /// Priority.
    pub priority: Priority,
    /// Handling code.
    pub handling: Handling,
    /// TLP.
    pub tlp: Tlp,
    /// What it does; none while its content cannot be read here.
    pub act: Option<Act>,
    /// The content holds more than its header declares: what agreements were asked about it was not the truth.
    pub declares_too_little: bool,
}

impl Event {
    /// A message by its envelope, its entry where it has one, and its content where it can be read.
    #[must_use]
    pub fn new(core: &Core, entry: Option<LogIndex>, content: Option<&DynamicMessage>) -> Self {
        Self {
            id: core.message_id,
            from: core.from,
            to: core.to.clone(),
            kind: core.kind,
            step: core.step,
            in_reply_to: core.in_reply_to,
            entry,
            created_at: core.created_at,
            due_at: core.due_at,
            retain_until: core.retain_until,
            priority: core.priority,
            handling: core.handling,
            tlp: core.tlp,
            act: content.map(|content| act::act(core.kind, content)),
            declares_too_little: content
                .is_some_and(|content| catalogue::highest_class(content) as i32 > core.data_class as i32),
        }
    }

    /// Whether the header's step is one that the content takes.
    #[must_use]
    pub fn step_agrees(&self) -> bool {
        self.act.as_ref().is_none_or(|act| act::steps(act).contains(&self.step))
    }
}
