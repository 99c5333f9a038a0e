//! What a node keeps of the successor of a closed log beside its own messages: the entry with which it begins, and new proofs
//! of what stands before the end and was proven by a tree beyond it.

use std::time::Duration;

use liaison_log::{
    checkpoint::claimed,
    leaf::{Event, ExchangeLeaf},
    proof::TlogProof,
    remote::within,
    succession, work,
};
use liaison_proto::{
    Bytes,
    ids::{Lane, LogIndex},
    wire::{self, LogName, log_client::LogClient},
};

use crate::{
    link::Link,
    record::{Evidence, NodeRecord, Proven},
    store::StoreError,
};

const CALL: Duration = Duration::from_secs(30);
/// Entries proven anew in one turn.
const AT_ONCE: usize = 256;

/// How far this process has followed.
#[derive(Default)]
pub struct Successor {
    /// Ends of the log whose entries before it are all proven.
    proven: usize,
}

impl Successor {
    /// Fetches what is missing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn follow(&mut self, link: &Link) -> Result<(), StoreError> {
        hold_beginnings(link).await?;
        let ends = link.store.state().ends.len();
        if self.proven < ends {
            let looking = link.clone();
            let Ok(unproven) = work::blocking(move || unproven(&looking)).await else { return Ok(()) };
            let all = unproven.len() <= AT_ONCE;
            for (index, wrap) in unproven.into_iter().take(AT_ONCE) {
                if !prove(link, index, wrap).await? {
                    return Ok(());
                }
            }
            if all {
                self.proven = ends;
            }
        }
        Ok(())
    }
}

/// Entries whose proof is of a tree that does not count any more, with the wrap that is kept beside a REWRAPPED.
fn unproven(link: &Link) -> Vec<(LogIndex, Bytes)> {
    let charter = link.charters.get();
    let held: Vec<_> = link.store.state().entries.iter().map(|(index, held)| (*index, held.record)).collect();
    let unproven = |(index, record)| {
        let record = link.store.record(record).ok()?;
        let (receipt, wrap) = record.entry()?;
        let proof = TlogProof::parse(&receipt.proof).ok()?;
        let (origin, size) = claimed(&proof.checkpoint)?;
        let counts = charter.exchange_log().keys(origin, size).next().is_some();
        (!counts).then(|| (index, wrap.cloned().unwrap_or_default()))
    };
    held.into_iter().filter_map(unproven).collect()
}

/// Keeps a new proof of an entry; false when the broker did not give it.
async fn prove(link: &Link, index: LogIndex, wrap: Bytes) -> Result<bool, StoreError> {
    let Some(receipt) = entry(link, index).await else { return Ok(false) };
    let Some(verified) = link.verified(&receipt, Lane::Bulk).await? else { return Ok(false) };
    let known = {
        let record = link.store.state().entries.get(&index).map(|held| held.record);
        let record = record.and_then(|record| link.store.record(record).ok());
        record.and_then(|record| record.entry().map(|(receipt, _)| receipt.leaf.clone()))
    };
    if verified.index != index || known.is_some_and(|leaf| leaf != verified.leaf) {
        link.alarm(format!("entry {index} is another one in the successor of the closed log"), receipt.leaf).await?;
        return Ok(true);
    }
    link.store.write(vec![NodeRecord::Proven(Proven { receipt: Some(receipt), wrap }).into()]).await?;
    Ok(true)
}

async fn entry(link: &Link, index: LogIndex) -> Option<wire::Receipt> {
    let mut log = LogClient::new(link.connections.lanes[Lane::Bulk as usize].clone());
    let request = wire::EntryRequest { log: LogName::Exchange.into(), index: index.0 };
    within(CALL, log.entry(request)).await.ok()?.into_inner().receipt
}

/// Keeps the first entry of every successor of a closed log: it is nobody's message, and a broker that lost it must get
/// it back, too.
async fn hold_beginnings(link: &Link) -> Result<(), StoreError> {
    let missing: Vec<u64> = {
        let state = link.store.state();
        let ends = state.ends.iter().map(|end| end.size);
        ends.filter(|size| !state.entries.contains_key(&LogIndex(*size)) && link.view.seen_size() > *size).collect()
    };
    for index in missing {
        let Some(receipt) = entry(link, LogIndex(index)).await else { return Ok(()) };
        let Some(verified) = link.verified(&receipt, Lane::Bulk).await? else { return Ok(()) };
        let charter = link.charters.get();
        let checked = match ExchangeLeaf::parse(&verified.leaf).map(|leaf| leaf.event) {
            Ok(Event::Succeeded(begun)) if verified.index.0 == index => succession::check(&begun, &charter).is_ok(),
            _ => false,
        };
        if checked {
            let evidence = Evidence { receipt: Some(receipt), wrap: Bytes::new() };
            link.store.write(vec![NodeRecord::Evidence(evidence).into()]).await?;
        } else {
            let what = format!("entry {index} is not the beginning of the successor that the charter names");
            link.alarm(what, receipt.leaf).await?;
        }
    }
    Ok(())
}
