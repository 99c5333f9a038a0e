//! The `Log` service: hashes for every party, the directory's entries for every party, the exchange log's bundles for
//! auditors and its single entries for their parties.

use std::sync::Arc;

use liaison_log::{
    leaf::{Event, ExchangeLeaf},
    reader::LogReader,
};
use liaison_proto::{
    Bytes,
    charter::Charter,
    ids::LogIndex,
    refusal::{Refusal, RefusalCode},
    wire::{self, log_server},
};
use tonic::{Request, Response, Status};

use crate::{charters, gate::Gate, identity::Party, server::party, share::Shares};

/// Reads of both logs.
#[derive(Clone)]
pub struct LogService {
    /// The directory log.
    pub directory: Arc<LogReader>,
    /// The exchange log.
    pub exchange: Arc<LogReader>,
    /// Closed while entries are missing: an old checkpoint would look like a rollback.
    pub gate: Arc<Gate>,
    /// The newest charter, with those before it.
    pub charter: Arc<Charter>,
    /// Fair shares.
    pub shares: Arc<Shares>,
}

fn not_permitted(detail: &str) -> Refusal {
    Refusal::new(RefusalCode::NotPermitted, detail)
}

impl LogService {
    /// Who asks, within its share. Auditors read as fast as they can: there are few, and they are slow to fill a link.
    async fn party<T>(&self, request: &Request<T>) -> Result<Party, Refusal> {
        let party = party(request)?;
        if let Party::Office(office) = &party {
            self.shares.read(*office).await?;
        }
        Ok(party)
    }

    fn reader(&self, log: wire::LogName) -> Result<&LogReader, Refusal> {
        match log {
            wire::LogName::Directory => Ok(&self.directory),
            wire::LogName::Exchange => Ok(&self.exchange),
            wire::LogName::Unspecified => Err(Refusal::new(RefusalCode::OutOfRange, "there is no such log")),
        }
    }
}

/// Whether a party is one of the message's: its originator or a recipient.
fn is_party(caller: &Party, leaf: &Bytes, exchange: &LogReader) -> Result<bool, Refusal> {
    let Party::Office(office) = caller else { return Ok(true) };
    let parse =
        |leaf: &Bytes| ExchangeLeaf::parse(leaf).map_err(|e| Refusal::new(RefusalCode::Unavailable, e.to_string()));
    let event = parse(leaf)?.event;
    // About the log itself: every node keeps it.
    if matches!(event, Event::Succeeded(_)) {
        return Ok(true);
    }
    let accepted = match event.accepted() {
        Some(accepted) => parse(&exchange.leaf(accepted)?)?.event,
        None => event,
    };
    Ok(match accepted {
        Event::Accepted { header, .. } => header.core().from == *office || header.core().to.contains(office),
        _ => false,
    })
}

#[tonic::async_trait]
impl log_server::Log for LogService {
    async fn checkpoint(
        &self,
        request: Request<wire::CheckpointRequest>,
    ) -> Result<Response<wire::CheckpointResponse>, Status> {
        self.party(&request).await?;
        let log = request.into_inner().log();
        self.gate.shows(log)?;
        let checkpoint = self.reader(log)?.checkpoint();
        Ok(Response::new(wire::CheckpointResponse { checkpoint: checkpoint.note().clone() }))
    }

    async fn charters(
        &self,
        request: Request<wire::ChartersRequest>,
    ) -> Result<Response<wire::ChartersResponse>, Status> {
        self.party(&request).await?;
        Ok(Response::new(charters::after(&self.charter, request.into_inner().after)))
    }

    async fn consistency(
        &self,
        request: Request<wire::ConsistencyRequest>,
    ) -> Result<Response<wire::ConsistencyResponse>, Status> {
        self.party(&request).await?;
        let request = request.into_inner();
        self.gate.shows(request.log())?;
        let hashes = self.reader(request.log())?.consistency(request.old_size, request.new_size)?;
        Ok(Response::new(wire::ConsistencyResponse { hashes }))
    }

    async fn tile(&self, request: Request<wire::TileRequest>) -> Result<Response<wire::TileResponse>, Status> {
        self.party(&request).await?;
        let request = request.into_inner();
        let level = u8::try_from(request.level)
            .ok()
            .filter(|level| *level < 8)
            .ok_or_else(|| Refusal::new(RefusalCode::OutOfRange, "there is no such tile"))?;
        let hashes = self.reader(request.log())?.tile(level, request.index, request.width)?;
        Ok(Response::new(wire::TileResponse { hashes: hashes.into() }))
    }

    async fn entries(&self, request: Request<wire::EntriesRequest>) -> Result<Response<wire::EntriesResponse>, Status> {
        let party = self.party(&request).await?;
        let request = request.into_inner();
        if request.log() == wire::LogName::Exchange && !matches!(party, Party::Auditor(_)) {
            return Err(not_permitted("bundles of the exchange log are for auditors").into());
        }
        let bundle = self.reader(request.log())?.bundle(request.index, request.width, request.skip)?;
        Ok(Response::new(wire::EntriesResponse { bundle: bundle.into() }))
    }

    async fn entry(&self, request: Request<wire::EntryRequest>) -> Result<Response<wire::EntryResponse>, Status> {
        let party = self.party(&request).await?;
        let request = request.into_inner();
        let receipt = self.reader(request.log())?.receipt(LogIndex(request.index))?;
        if request.log() == wire::LogName::Exchange && !is_party(&party, &receipt.leaf, &self.exchange)? {
            return Err(not_permitted("single entries are for the parties of their message").into());
        }
        Ok(Response::new(wire::EntryResponse { receipt: Some(receipt) }))
    }
}
