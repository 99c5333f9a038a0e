//! gRPC to typed calls: who is calling, what is asked. No decisions are made here.

use std::sync::{Arc, PoisonError, RwLock};

use liaison_log::committer::Committer;
use liaison_proto::{
    clock::Clock,
    directory::Directory,
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
        let admitted = admit::admit(Submission { office, envelope }, &self.directory(), self.clock.now());
        let admitted = admitted.inspect_err(|refusal| tracing::info!(%office, code = %refusal.code, "refused"))?;
        let receipt = self.exchange.commit(Event::Submit(Box::new(admitted))).await?;
        Ok(Response::new(wire::SubmitResponse { receipt: Some(receipt) }))
    }

    type ReceiveStream = ReceiverStream<Result<wire::Delivery, Status>>;

    async fn receive(&self, request: Request<wire::ReceiveRequest>) -> Result<Response<Self::ReceiveStream>, Status> {
        let office = office(&request)?;
        Ok(Response::new(ReceiverStream::new(self.deliverer.clone().receive(office))))
    }

    async fn attest(&self, request: Request<wire::AttestRequest>) -> Result<Response<wire::AttestResponse>, Status> {
        let office = office(&request)?;
        let admitted = admit::admit_statement(office, request.into_inner(), &self.directory());
        let admitted = admitted.inspect_err(|refusal| tracing::info!(%office, code = %refusal.code, "refused"))?;
        let receipt = self.exchange.commit(Event::Attest(Box::new(admitted))).await?;
        Ok(Response::new(wire::AttestResponse { receipt: Some(receipt) }))
    }

    type EvidenceStream = ReceiverStream<Result<wire::EvidenceItem, Status>>;

    async fn evidence(
        &self,
        request: Request<wire::EvidenceRequest>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        let office = office(&request)?;
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
