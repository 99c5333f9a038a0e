//! The alert: active, hit, confirmed or a false hit; cancelled, expired, renewed.

use std::collections::BTreeMap;

use liaison_proto::{
    clock::UnixMillis,
    ids::{MessageId, OfficeId},
    wire::Step,
};

use super::{Applied, Effect, OutOfStep, event::Event};
use crate::act::{Act, HitResult};

/// Where an alert stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    originator: OfficeId,
    valid_until: Option<UnixMillis>,
    cancelled: bool,
    /// Message of the hit -> who met the person, and what came of it.
    hits: BTreeMap<MessageId, (OfficeId, HitResult)>,
}

impl Alert {
    pub(super) fn new(root: &Event) -> Self {
        let valid_until = match root.act() {
            Some(Act::Alert { valid_until }) => *valid_until,
            _ => None,
        };
        Self { originator: root.from, valid_until, cancelled: false, hits: BTreeMap::new() }
    }

    pub(super) fn apply(&mut self, event: &Event, act: &Act) -> Applied {
        let own = event.from == self.originator;
        match act {
            // Whoever met the person says so, be the alert over or not: somebody has to look at it.
            Act::Hit(HitResult::Met) if own => return Err(OutOfStep::OtherSide),
            Act::Hit(HitResult::Met) => {
                self.hits.insert(event.id, (event.from, HitResult::Met));
            }
            Act::Hit(_) if !own => return Err(OutOfStep::OtherSide),
            Act::Hit(result) => {
                let hit = event.in_reply_to.and_then(|id| self.hits.get_mut(&id));
                let (_, decided) = hit.filter(|(_, hit)| *hit == HitResult::Met).ok_or(OutOfStep::NoSuchHit)?;
                *decided = *result;
            }
            Act::Alert { .. } | Act::CancelAlert if !own => return Err(OutOfStep::OtherSide),
            Act::Alert { .. } | Act::CancelAlert if self.cancelled => return Err(OutOfStep::Closed),
            Act::Alert { valid_until } => self.valid_until = *valid_until,
            Act::CancelAlert => self.cancelled = true,
            Act::Update { closed: false } => return Ok(Effect::Noted),
            Act::Decline { .. } if own => return Err(OutOfStep::OtherSide),
            // One office cannot act on it; the others may.
            Act::Decline { .. } => return Ok(Effect::Noted),
            _ => return Err(OutOfStep::OtherWorkflow),
        }
        Ok(Effect::Moved)
    }

    /// The hits, and what came of each.
    #[must_use]
    pub const fn hits(&self) -> &BTreeMap<MessageId, (OfficeId, HitResult)> {
        &self.hits
    }

    /// Until when it holds.
    #[must_use]
    pub const fn valid_until(&self) -> Option<UnixMillis> {
        self.valid_until
    }

    /// Hits on which the originator has not decided.
    pub fn waiting(&self) -> impl Iterator<Item = MessageId> {
        self.hits.iter().filter(|(_, (_, result))| *result == HitResult::Met).map(|(id, _)| *id)
    }

    pub(super) fn state(&self, now: UnixMillis) -> Step {
        if self.waiting().next().is_some() {
            return Step::AlertHit;
        }
        let confirmed = self.hits.values().any(|(_, result)| *result == HitResult::Confirmed);
        match (self.cancelled, confirmed) {
            (true, _) => Step::AlertCancelled,
            (false, true) => Step::AlertConfirmed,
            _ if self.valid_until.is_some_and(|until| until <= now) => Step::AlertExpired,
            // A false hit leaves it in force.
            _ => Step::AlertActive,
        }
    }
}
