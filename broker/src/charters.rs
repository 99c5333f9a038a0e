//! Later charters: the operator puts their files beside the first one's and starts the broker again; they are then entered
//! in the directory log, where every node finds them.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use liaison_log::{committer::Committer, fair::Ticket};
use liaison_proto::{
    charter::Charter,
    directory::Directory,
    ids::Lane,
    limits,
    wire::{self, directory_record::Record},
};

use crate::{
    directory_log::DirectoryEvent,
    gate::{Gate, Reason},
};

/// Before it is tried again: the gate was closed meanwhile, or the disk is full.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked whether anything may be entered.
const LOOK: Duration = Duration::from_millis(200);

/// What a party is given that holds the charter of a number.
#[must_use]
pub fn after(charter: &Charter, number: u64) -> wire::ChartersResponse {
    let next = number.saturating_add(1)..=charter.number();
    let charters = next.filter_map(|number| charter.numbered(number)).take(limits::CHARTERS);
    wire::ChartersResponse { charters: charters.map(Charter::record).collect(), newest: charter.number() }
}

/// Enters every charter that the directory log does not have yet; never into a log that may lack entries.
pub async fn enter(
    charter: Arc<Charter>,
    directory: Arc<RwLock<Directory>>,
    log: Committer<DirectoryEvent>,
    gate: Arc<Gate>,
) {
    loop {
        let entered = directory.read().unwrap_or_else(PoisonError::into_inner).charters();
        let Some(next) = charter.numbered(entered + 1) else { return };
        // A successor of the exchange log waits for its charter.
        if !gate.has_only(&[Reason::Succession, Reason::Held]) {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let Some(operator) = next.countries().iter().find(|country| country.code == next.file().operator) else {
            return;
        };
        let ticket = Ticket { lane: Lane::Bulk, office: operator.contact_point, bytes: limits::CHARTER_BYTES };
        let record = wire::DirectoryRecord { record: Some(Record::Charter(next.record())) };
        match log.commit(ticket, DirectoryEvent::Publish(Box::new(record))).await {
            Ok(_) => tracing::warn!(number = next.number(), sha256 = next.fingerprint(), "a new charter was entered"),
            Err(refusal) => {
                tracing::error!(%refusal, number = next.number(), "the new charter was not entered yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
