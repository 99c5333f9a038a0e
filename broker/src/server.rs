//! gRPC to typed calls: who is calling, what is asked. No decisions are made here.

use std::{
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use liaison_log::{committer::Committer, fair::Ticket, leaf::Statement, work};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    directory::Directory,
    ids::{Lane, LogIndex, MessageId, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    wire::{self, directory_server, exchange_server},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    accept::Caller,
    admit,
    deliver::{Deliverer, Items},
    directory_log::DirectoryEvent,
    gate::repairing,
    identity::Party,
    index::SledIndex,
    intake::{Intake, note},
    numbers,
    sequence::Event,
    share::Place,
};

/// When to come again while another node is looked for.
const LOOKING: Duration = Duration::from_secs(5);
/// Envelopes of one stream whose answers are not there yet.
const UNANSWERED: usize = 128;

/// The `Exchange` and `Directory` services.
#[derive(Clone)]
pub struct Service {
    /// Takes envelopes in.
    pub intake: Arc<Intake>,
    /// Writes the directory log.
    pub directory_log: Committer<DirectoryEvent>,
    /// What the streams read from.
    pub deliverer: Deliverer,
    /// The index, to look for what a node lost.
    pub index: Arc<SledIndex>,
    /// Whose turn it is to look.
    pub looking: Arc<Semaphore>,
}

/// Who is calling, from the connection's certificate.
///
/// # Errors
/// `UNKNOWN_PARTY`, or `TOO_MANY` on a connection beyond the party's number.
pub fn party<T>(request: &Request<T>) -> Result<Party, Refusal> {
    let unknown = || Refusal::new(RefusalCode::UnknownParty, "the connection has no verified certificate");
    let caller = request.extensions().get::<Caller>().ok_or_else(unknown)?;
    if caller.excess {
        return Err(Refusal::new(RefusalCode::TooMany, format!("{} has too many connections", caller.party)));
    }
    Ok(caller.party.clone())
}

/// The office that is calling.
///
/// # Errors
/// As [`party`], or `NOT_PERMITTED`.
pub fn office<T>(request: &Request<T>) -> Result<OfficeId, Refusal> {
    match party(request)? {
        Party::Office(office) => Ok(office),
        Party::Auditor(_) => Err(Refusal::new(RefusalCode::NotPermitted, "auditors read the log and nothing else")),
    }
}

/// Who is enrolled now.
#[derive(Clone)]
pub struct Enrolment(pub Arc<RwLock<Directory>>);

impl Enrolment {
    /// The calling office, when it is enrolled.
    ///
    /// # Errors
    /// As [`party`], or `NOT_PERMITTED` or `UNKNOWN_ORIGINATOR`.
    pub fn office<T>(&self, request: &Request<T>) -> Result<OfficeId, Refusal> {
        let office = office(request)?;
        let directory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let record = directory.office(office, directory.size());
        let unknown = || Refusal::new(RefusalCode::UnknownOriginator, format!("{office} has no valid office record"));
        record.map(|_| office).ok_or_else(unknown)
    }
}

impl Service {
    /// Streams are for offices that are enrolled now.
    fn enrolled<T>(&self, request: &Request<T>) -> Result<OfficeId, Refusal> {
        Enrolment(Arc::clone(&self.intake.directory)).office(request)
    }

    /// The receipt of what an office has stated before.
    fn known_statement(&self, office: OfficeId, request: &wire::AttestRequest) -> Option<wire::Receipt> {
        let statement = Statement::parse(&request.attested.as_ref()?.statement).ok()?;
        let stated = self.intake.state().check_statement(request.kind(), &statement).ok()?.1?;
        (statement.office == office).then(|| self.intake.reader.receipt(stated).ok())?
    }

    /// The lane of the message that a statement speaks of; both kinds begin with the message's id.
    fn lane_of(&self, statement: Option<&Bytes>) -> Lane {
        let statement = statement.filter(|bytes| bytes.len() <= limits::RECORD_BYTES);
        let id = statement.and_then(|bytes| wire::Statement::decode(bytes.clone()).ok());
        let id = id.and_then(|statement| MessageId::from_wire(&statement.message_id).ok());
        id.map_or(Lane::Bulk, |id| self.intake.lane(id))
    }

    async fn enter(&self, office: OfficeId, lane: Lane, event: Event) -> Result<wire::Receipt, Refusal> {
        self.intake.exchange.commit(Ticket { lane, office, bytes: 1024 }, event).await
    }
}

/// A stream that an office holds, in its place. What was read for it stays in memory until it is sent or dropped.
pub struct Held<T> {
    items: Items<T>,
    _place: Place,
}

impl<T> Stream for Held<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_recv(cx)
    }
}

/// Reads a stream of envelopes within the office's share and puts each in line; the answers follow in order.
async fn read_submissions(
    intake: Arc<Intake>,
    office: OfficeId,
    mut requests: Streaming<wire::SubmitRequest>,
    taken: mpsc::Sender<Result<crate::intake::Taken, Refusal>>,
) {
    while let Ok(place) = taken.reserve().await {
        let request = match requests.message().await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(_) => {
                // Nothing behind it can be read; its sender must know which one it was.
                let detail = "a request is malformed, or larger than a request may be";
                place.send(Err(Refusal::new(RefusalCode::TooLarge, detail)));
                return;
            }
        };
        let (lane, bytes) = Intake::weight(request.envelope.as_ref());
        intake.shares.take_patiently(office, lane, bytes).await;
        place.send(Ok(intake.take(office, request)));
    }
}

#[tonic::async_trait]
impl exchange_server::Exchange for Service {
    async fn submit(&self, request: Request<wire::SubmitRequest>) -> Result<Response<wire::SubmitResponse>, Status> {
        let office = office(&request)?;
        let _place = self.intake.shares.call(office).await.inspect_err(|refusal| note(office, refusal))?;
        // Its share first, whatever it is: a refusal costs the broker time, too.
        let request = request.into_inner();
        let (lane, bytes) = Intake::weight(request.envelope.as_ref());
        self.intake.shares.take(office, lane, bytes).await.inspect_err(|refusal| note(office, refusal))?;
        let taken = self.intake.take(office, request);
        let receipt = self.intake.answer(taken).await?;
        Ok(Response::new(wire::SubmitResponse { receipt: Some(receipt) }))
    }

    type SubmitStreamStream = ReceiverStream<Result<wire::SubmitAnswer, Status>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<wire::SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let office = self.enrolled(&request)?;
        let place = (self.intake.shares.call(office).await?, self.intake.shares.submissions(office).await?);
        let (sender, mut taken) = mpsc::channel(UNANSWERED);
        let (answers, stream) = mpsc::channel(UNANSWERED);
        tokio::spawn(read_submissions(Arc::clone(&self.intake), office, request.into_inner(), sender));
        let intake = Arc::clone(&self.intake);
        let mut stopping = self.deliverer.stopping.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut position = 0;
            loop {
                let next = tokio::select! {
                    next = taken.recv() => next,
                    _ = stopping.wait_for(|stopping| *stopping) => None,
                };
                let Some(next) = next else { return };
                let answer = match next {
                    Ok(taken) => intake.answer(taken).await,
                    Err(refusal) => Err(refusal),
                };
                let answer = match answer {
                    Ok(receipt) => wire::submit_answer::Answer::Receipt(receipt),
                    Err(refusal) => wire::submit_answer::Answer::Refusal(refusal.to_answer()),
                };
                if answers.send(Ok(wire::SubmitAnswer { position, answer: Some(answer) })).await.is_err() {
                    return;
                }
                position += 1;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type ReceiveStream = Held<wire::Delivery>;

    async fn receive(
        &self,
        request: Request<Streaming<wire::ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        let office = self.enrolled(&request)?;
        let place = self.intake.shares.stream(office).await.inspect_err(|refusal| note(office, refusal))?;
        let mut requests = request.into_inner();
        let no_lane = || Refusal::new(RefusalCode::MalformedEnvelope, "the first request names no lane");
        let first = requests.message().await?.ok_or_else(no_lane)?;
        let lane = Lane::from_wire(first.lane).ok_or_else(no_lane)?;
        let items = self.deliverer.clone().receive(office, lane, first.credit, requests);
        Ok(Response::new(Held { items, _place: place }))
    }

    async fn attest(&self, request: Request<wire::AttestRequest>) -> Result<Response<wire::AttestResponse>, Status> {
        let office = office(&request)?;
        let request = request.into_inner();
        if self.intake.check_seen(request.seen_size).is_ok()
            && let Some(receipt) = self.known_statement(office, &request)
        {
            return Ok(Response::new(wire::AttestResponse { receipt: Some(receipt) }));
        }
        // Its share first: a signature costs more to check than to send.
        let lane = self.lane_of(request.attested.as_ref().map(|attested| &attested.statement));
        self.intake.shares.take(office, lane, 0).await?;
        self.intake.gate.pass()?;
        self.intake.check_seen(request.seen_size)?;
        let admitted = admit::admit_statement(
            office,
            request,
            &self.intake.directory(),
            self.intake.clock.now(),
            self.intake.marks(office),
        );
        let admitted = admitted.inspect_err(|refusal| note(office, refusal))?;
        let receipt = self.enter(office, lane, Event::Attest(Box::new(admitted))).await?;
        Ok(Response::new(wire::AttestResponse { receipt: Some(receipt) }))
    }

    async fn rewrap(&self, request: Request<wire::RewrapRequest>) -> Result<Response<wire::RewrapResponse>, Status> {
        let office = office(&request)?;
        let (marks, request) = (self.intake.marks(office), request.into_inner());
        let lane = self.lane_of(request.rewrapped.as_ref().map(|rewrapped| &rewrapped.statement));
        self.intake.shares.take(office, lane, 0).await?;
        self.intake.gate.pass()?;
        self.intake.check_seen(request.seen_size)?;
        let admitted = admit::admit_rewrap(office, request, &self.intake.directory(), self.intake.clock.now(), marks);
        let admitted = admitted.inspect_err(|refusal| note(office, refusal))?;
        let receipt = self.enter(office, lane, Event::Rewrap(Box::new(admitted))).await?;
        Ok(Response::new(wire::RewrapResponse { receipt: Some(receipt) }))
    }

    type EvidenceStream = Held<wire::EvidenceItem>;

    async fn evidence(
        &self,
        request: Request<wire::EvidenceRequest>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        let office = self.enrolled(&request)?;
        let place = self.intake.shares.stream(office).await.inspect_err(|refusal| note(office, refusal))?;
        let from = LogIndex(request.into_inner().from_index);
        Ok(Response::new(Held { items: self.deliverer.clone().evidence(office, from), _place: place }))
    }

    async fn numbers(&self, request: Request<wire::NumbersRequest>) -> Result<Response<wire::NumbersResponse>, Status> {
        let office = self.enrolled(&request)?;
        self.intake.shares.read(office).await?;
        self.deliverer.gate.pass()?;
        let channels = numbers::of(&self.intake.state(), office)?;
        Ok(Response::new(wire::NumbersResponse { channels }))
    }

    type RedeliverStream = Held<wire::Delivery>;

    async fn redeliver(
        &self,
        request: Request<wire::RedeliverRequest>,
    ) -> Result<Response<Self::RedeliverStream>, Status> {
        let office = self.enrolled(&request)?;
        self.intake.shares.read(office).await?;
        self.deliverer.gate.pass()?;
        let place = self.intake.shares.stream(office).await.inspect_err(|refusal| note(office, refusal))?;
        let request = request.into_inner();
        if request.numbers.len() > limits::REDELIVERIES {
            let detail = format!("more than {} numbers at once", limits::REDELIVERIES);
            return Err(Refusal::new(RefusalCode::TooLarge, detail).into());
        }
        // Every row is read: one after the other, and not on the threads that serve.
        let busy = || Refusal::new(RefusalCode::TooMany, "another node is looking for what it lost").after(LOOKING);
        let looking = Arc::clone(&self.looking).try_acquire_owned().map_err(|_| busy())?;
        let index = Arc::clone(&self.index);
        let entries = work::blocking(move || {
            let _looking = looking;
            numbers::entries(index.as_ref(), office, &request)
        });
        let entries = entries.await.map_err(|_| Refusal::new(RefusalCode::Unavailable, "looking failed"))??;
        Ok(Response::new(Held { items: self.deliverer.clone().again(entries), _place: place }))
    }
}

#[tonic::async_trait]
impl directory_server::Directory for Service {
    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        // Who brings a record does not matter; who signed it does.
        let office = office(&request)?;
        self.intake.shares.take(office, Lane::Bulk, 0).await?;
        let missing = || Refusal::new(RefusalCode::BadRecord, "there is no record");
        let wire::PublishRequest { record, seen_size } = request.into_inner();
        if seen_size > self.intake.directory().size() {
            return Err(repairing().into());
        }
        let record = record.ok_or_else(missing)?;
        let ticket = Ticket { lane: Lane::Bulk, office, bytes: 1024 };
        let receipt = self.directory_log.commit(ticket, DirectoryEvent::Publish(Box::new(record))).await?;
        Ok(Response::new(wire::PublishResponse { receipt: Some(receipt) }))
    }
}
