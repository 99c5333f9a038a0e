//! The end of a repair that cannot succeed: the log is closed where it can be proven.

use std::sync::{Arc, PoisonError};

use liaison_log::{checkpoint::VerifiedCheckpoint, succession::closed_entry};
use liaison_proto::{
    charter::ClosedEntry,
    refusal::{Refusal, RefusalCode},
    wire::LogName,
};

use super::{Repair, Side, unwritable};
use crate::{gate::Reason, succession};

impl Repair {
    /// The end that was noted for the log as it is.
    fn kept_end(&self, side: &Side) -> Option<(VerifiedCheckpoint, VerifiedCheckpoint)> {
        let own = side.reader.checkpoint();
        let [last, lost] = succession::kept(&self.data, own.size())
            .ok()?
            .map(|note| VerifiedCheckpoint::verify(&note, &side.identity).ok());
        last.zip(lost).filter(|(last, lost)| last.root() == own.root() && lost.size() > own.size())
    }

    /// Whether the operator has closed the log, which has not begun its successor.
    pub(super) fn is_ended(&self, side: &Side) -> bool {
        side.lost().is_some() && self.kept_end(side).is_some()
    }

    /// Offices that have not shown what they know since the start from a copy: they may hold what is missing.
    #[must_use]
    pub fn unheard(&self) -> Vec<String> {
        self.unseen().iter().map(ToString::to_string).collect()
    }

    /// Enters what is provable up to the first entry that nobody holds, and says where the log ends then. It stays as it is:
    /// the countries name a successor, or whoever holds the missing entries comes after all.
    ///
    /// # Errors
    /// When there is nothing to close, or what was handed back cannot be entered.
    pub async fn end(self: Arc<Self>) -> Result<ClosedEntry, Refusal> {
        let _turn = self.mending.lock().await;
        let not_now = |why: &str| Refusal::new(RefusalCode::NotPermitted, why);
        let lost_of = |name| self.side(name).is_some_and(|side| side.lost().is_some());
        if lost_of(LogName::Directory) || self.gate.is_closed_for(Reason::Forked) {
            return Err(not_now(
                "the directory log is not whole, or a log was forked: only the exchange log is closed",
            ));
        }
        let side = self.side(LogName::Exchange).ok_or_else(|| not_now("there is no exchange log"))?;
        if let Some((last, lost)) = self.kept_end(side) {
            if side.lost().as_ref().is_some_and(|lost| lost.missing(1).is_empty()) {
                return Err(not_now(
                    "everything was handed back since it was closed: if no charter says so yet, remove <data>/end and start again",
                ));
            }
            return Ok(closed_entry(&last, &lost));
        }
        let range = {
            let mut lost = side.lost();
            let lost = lost.as_mut().ok_or_else(|| not_now("nothing of the exchange log is missing"))?;
            lost.grown_to(side.reader.checkpoint().size());
            let gap = lost.missing(1).first().map(|gap| gap.start);
            let end = gap.ok_or_else(|| not_now("everything was handed back; it is being entered"))?;
            lost.check(&side.reader, end).map_err(unwritable)?;
            lost.sizes().0..end
        };
        let helper = *self.helper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(office) = helper {
            self.enter(side, office, range).await?;
        }
        let last = side.reader.checkpoint();
        let largest = side.lost().as_ref().and_then(|lost| lost.largest().cloned());
        let largest = largest.ok_or_else(|| not_now("nothing of the exchange log is missing any more"))?;
        succession::keep(&self.data, &last, &largest).map_err(unwritable)?;
        Ok(closed_entry(&last, &largest))
    }
}
