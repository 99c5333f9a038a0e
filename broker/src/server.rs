//! gRPC to typed calls: who is calling, what is asked. No decisions are made here.

use std::sync::{Arc, PoisonError, RwLock};

use liaison_log::{
    committer::Committer,
    exchange::ExchangeState,
    leaf::{Event as LeafEvent, ExchangeLeaf, Statement},
};
use liaison_proto::{
    clock::Clock,
    directory::Directory,
    envelope::UnverifiedEnvelope,
    ids::{LogIndex, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire::{self, directory_server, exchange_server},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    admit::{self, Submission},
    deliver::Deliverer,
    identity::Party,
    sequence::Event,
};

/// The `Exchange` and `Directory` services.
#[derive(Clone)]
pub struct Service {
    /// Writes the exchange log.
    pub exchange: Committer<Event>,
    /// Writes the directory log.
    pub directory_log: Committer<wire::DirectoryRecord>,
    /// Durable directory entries.
    pub directory: Arc<RwLock<Directory>>,
    /// The exchange log's state; it may be ahead of what is durable.
    pub state: Arc<RwLock<ExchangeState>>,
    /// What the streams read from.
    pub deliverer: Deliverer,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Who is calling, from the connection's certificate.
///
/// # Errors
/// `UNKNOWN_PARTY`.
pub fn party<T>(request: &Request<T>) -> Result<Party, Refusal> {
    let unknown = || Refusal::new(RefusalCode::UnknownParty, "the connection has no verified certificate");
    request.extensions().get::<Party>().cloned().ok_or_else(unknown)
}

fn office<T>(request: &Request<T>) -> Result<OfficeId, Refusal> {
    match party(request)? {
        Party::Office(office) => Ok(office),
        Party::Auditor(_) => Err(Refusal::new(RefusalCode::NotPermitted, "auditors read the log and nothing else")),
    }
}

impl Service {
    /// The receipt of a message that was accepted before: a retry of the same bytes gets the same leaf, whatever has
    /// changed since in directory or clock.
    fn known_message(&self, office: OfficeId, envelope: &wire::Envelope) -> Option<wire::Receipt> {
        let unverified = UnverifiedEnvelope::parse(envelope.clone()).ok()?;
        let header = unverified.header();
        let accepted = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let known = state.message(header.core().message_id)?;
            (known.from == office && known.header_sha256 == header.sha256()).then_some(known.accepted)?
        };
        // Not durable yet: the committer answers then.
        let receipt = self.deliverer.reader.receipt(accepted).ok()?;
        let same_signature = match ExchangeLeaf::parse(&receipt.leaf).ok()?.event {
            LeafEvent::Accepted { signature, .. } => signature == envelope.office_signature,
            LeafEvent::Attested { .. } => false,
        };
        (same_signature && unverified.check_commitments().is_ok()).then_some(receipt)
    }

    /// The receipt of what an office has stated before.
    fn known_statement(&self, office: OfficeId, request: &wire::AttestRequest) -> Option<wire::Receipt> {
        let statement = Statement::parse(&request.attested.as_ref()?.statement).ok()?;
        let stated = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            state.check_statement(request.kind(), &statement).ok().flatten()?
        };
        (statement.office == office).then(|| self.deliverer.reader.receipt(stated).ok())?
    }

    /// Streams are for offices that are enrolled now.
    fn enrolled<T>(&self, request: &Request<T>) -> Result<OfficeId, Refusal> {
        let office = office(request)?;
        let directory = self.directory();
        let record = directory.office(office, directory.size());
        let unknown = || Refusal::new(RefusalCode::UnknownOriginator, format!("{office} has no valid office record"));
        record.map(|_| office).ok_or_else(unknown)
    }

    fn directory(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl exchange_server::Exchange for Service {
    async fn submit(&self, request: Request<wire::SubmitRequest>) -> Result<Response<wire::SubmitResponse>, Status> {
        let office = office(&request)?;
        let missing = || Refusal::new(RefusalCode::MalformedEnvelope, "there is no envelope");
        let envelope = request.into_inner().envelope.ok_or_else(missing)?;
        if let Some(receipt) = self.known_message(office, &envelope) {
            return Ok(Response::new(wire::SubmitResponse { receipt: Some(receipt) }));
        }
        let admitted = admit::admit(Submission { office, envelope }, &self.directory(), self.clock.now());
        let admitted = admitted.inspect_err(|refusal| tracing::info!(%office, code = %refusal.code, "refused"))?;
        let receipt = self.exchange.commit(Event::Submit(Box::new(admitted))).await?;
        Ok(Response::new(wire::SubmitResponse { receipt: Some(receipt) }))
    }

    type ReceiveStream = ReceiverStream<Result<wire::Delivery, Status>>;

    async fn receive(&self, request: Request<wire::ReceiveRequest>) -> Result<Response<Self::ReceiveStream>, Status> {
        let office = self.enrolled(&request)?;
        Ok(Response::new(ReceiverStream::new(self.deliverer.clone().receive(office))))
    }

    async fn attest(&self, request: Request<wire::AttestRequest>) -> Result<Response<wire::AttestResponse>, Status> {
        let office = office(&request)?;
        let request = request.into_inner();
        if let Some(receipt) = self.known_statement(office, &request) {
            return Ok(Response::new(wire::AttestResponse { receipt: Some(receipt) }));
        }
        let admitted = admit::admit_statement(office, request, &self.directory());
        let admitted = admitted.inspect_err(|refusal| tracing::info!(%office, code = %refusal.code, "refused"))?;
        let receipt = self.exchange.commit(Event::Attest(Box::new(admitted))).await?;
        Ok(Response::new(wire::AttestResponse { receipt: Some(receipt) }))
    }

    type EvidenceStream = ReceiverStream<Result<wire::EvidenceItem, Status>>;

    async fn evidence(
        &self,
        request: Request<wire::EvidenceRequest>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        let office = self.enrolled(&request)?;
        let from = LogIndex(request.into_inner().from_index);
        Ok(Response::new(ReceiverStream::new(self.deliverer.clone().evidence(office, from))))
    }
}

#[tonic::async_trait]
impl directory_server::Directory for Service {
    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        // Who brings a record does not matter; who signed it does.
        office(&request)?;
        let missing = || Refusal::new(RefusalCode::BadRecord, "there is no record");
        let record = request.into_inner().record.ok_or_else(missing)?;
        let receipt = self.directory_log.commit(record).await?;
        Ok(Response::new(wire::PublishResponse { receipt: Some(receipt) }))
    }
}
