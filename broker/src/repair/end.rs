//! The end of a repair that cannot succeed: the log is closed where it can be proven.

use std::sync::{Arc, PoisonError};

use liaison_log::succession::closed_entry;
use liaison_proto::{
    charter::ClosedEntry,
    refusal::{Refusal, RefusalCode},
    wire::LogName,
};

use super::{Repair, unwritable};
use crate::{gate::Reason, succession};

impl Repair {
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
        let largest = side.lost().as_ref().map(|lost| lost.largest().clone());
        let largest = largest.ok_or_else(|| not_now("nothing of the exchange log is missing any more"))?;
        succession::keep(&self.data, &last, &largest).map_err(unwritable)?;
        Ok(closed_entry(&last, &largest))
    }
}
