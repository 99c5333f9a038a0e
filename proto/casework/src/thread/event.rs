//! One message of a thread, as its workflow sees it.

use liaison_proto::{
    clock::UnixMillis,
    header::Core,
    ids::{LogIndex, MessageId, OfficeId},
    wire::{DataClass, Handling, Kind, Priority, Step, Tlp},
};
use prost_reflect::DynamicMessage;

use crate::{
    act::{self, Act, Details},
    catalogue,
};

/// What a content says to its workflow: codes, times and hashes, never what tells who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// What it does.
    pub act: Act,
    /// What else its workflow looks at.
    pub details: Details,
    /// The highest class of what it holds.
    pub data_class: DataClass,
    /// A supervisor has signed it, too.
    pub countersigned: bool,
}

impl Digest {
    /// Of a content.
    #[must_use]
    pub fn of(kind: Kind, content: &DynamicMessage, countersigned: bool) -> Self {
        Self {
            act: act::act(kind, content),
            details: Details::of(kind, content),
            data_class: catalogue::highest_class(content),
            countersigned,
        }
    }
}

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
    /// The message that it replaces.
    pub supersedes: Option<MessageId>,
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
    /// What its header declares.
    pub data_class: DataClass,
    /// What it says; none while its content cannot be read here.
    pub digest: Option<Digest>,
    /// An agreement forbids what it holds, or none allows it.
    pub breaks_agreement: bool,
}

impl Event {
    /// A message by its envelope, its entry where it has one, and its content where it can be read.
    #[must_use]
    pub fn new(core: &Core, entry: Option<LogIndex>, digest: Option<Digest>) -> Self {
        Self {
            id: core.message_id,
            from: core.from,
            to: core.to.clone(),
            kind: core.kind,
            step: core.step,
            in_reply_to: core.in_reply_to,
            supersedes: core.supersedes,
            entry,
            created_at: core.created_at,
            due_at: core.due_at,
            retain_until: core.retain_until,
            priority: core.priority,
            handling: core.handling,
            tlp: core.tlp,
            data_class: core.data_class,
            digest,
            breaks_agreement: false,
        }
    }

    /// What it does; none while its content cannot be read here.
    #[must_use]
    pub fn act(&self) -> Option<&Act> {
        self.digest.as_ref().map(|digest| &digest.act)
    }

    /// What else its content says to the workflow.
    pub(crate) fn details(&self) -> Option<&Details> {
        self.digest.as_ref().map(|digest| &digest.details)
    }

    /// Whether the header's step is one that the content takes.
    #[must_use]
    pub fn step_agrees(&self) -> bool {
        self.act().is_none_or(|act| act::steps(act).contains(&self.step))
    }

    /// Whether the content holds more than its header declares: what agreements were asked about it was not the truth.
    #[must_use]
    pub fn declares_too_little(&self) -> bool {
        self.digest.as_ref().is_some_and(|digest| digest.data_class as i32 > self.data_class as i32)
    }
}
