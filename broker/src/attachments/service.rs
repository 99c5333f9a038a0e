//! The `Attachments` service: resumable both ways, in small parts, never whole in memory.

use std::{
    collections::HashMap,
    io::SeekFrom,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use liaison_log::work;
use liaison_proto::{
    Bytes,
    ids::OfficeId,
    limits,
    refusal::{Refusal, RefusalCode},
    wire::{self, attachments_server},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{AttachmentStore, Name};
use crate::{server::Enrolment, share::Shares};

/// Transfers of one office at the same time.
const TRANSFERS: usize = 8;
/// How long a part may take: 256 KiB at 64 kbit/s and as much again.
const PART: Duration = Duration::from_secs(90);

/// The service.
#[derive(Clone)]
pub struct AttachmentService {
    store: Arc<AttachmentStore>,
    enrolment: Enrolment,
    shares: Arc<Shares>,
    stopping: watch::Receiver<bool>,
    transfers: Arc<Mutex<HashMap<OfficeId, Arc<Semaphore>>>>,
}

fn name(bytes: &[u8]) -> Result<Name, Refusal> {
    bytes.try_into().map_err(|_| Refusal::new(RefusalCode::MalformedEnvelope, "sha256 is not 32 bytes"))
}

fn interrupted<E>(_: E) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the transfer was interrupted")
}

impl AttachmentService {
    /// The service of a store.
    #[must_use]
    pub fn new(
        store: Arc<AttachmentStore>,
        enrolment: Enrolment,
        shares: Arc<Shares>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { store, enrolment, shares, stopping, transfers: Arc::default() }
    }

    fn transfer(&self, office: OfficeId) -> Result<OwnedSemaphorePermit, Refusal> {
        let mut all = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(office).or_insert_with(|| Arc::new(Semaphore::new(TRANSFERS)));
        let detail = || format!("{office} has {TRANSFERS} transfers under way");
        Arc::clone(own).try_acquire_owned().map_err(|_| Refusal::new(RefusalCode::TooMany, detail()))
    }

    async fn part(&self, parts: &mut Streaming<wire::UploadPart>) -> Result<Option<wire::UploadPart>, Refusal> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            part = tokio::time::timeout(PART, parts.message()) => {
                part.map_err(interrupted)?.map_err(interrupted)
            }
            _ = stopping.wait_for(|stopping| *stopping) => Err(interrupted(())),
        }
    }
}

#[tonic::async_trait]
impl attachments_server::Attachments for AttachmentService {
    async fn held(&self, request: Request<wire::HeldRequest>) -> Result<Response<wire::HeldResponse>, Status> {
        let office = self.enrolment.office(&request)?;
        self.shares.read(office).await?;
        let name = name(&request.into_inner().sha256)?;
        let (size, complete) = self.store.held(office, &name);
        Ok(Response::new(wire::HeldResponse { size, complete }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadPart>>,
    ) -> Result<Response<wire::UploadResponse>, Status> {
        let office = self.enrolment.office(&request)?;
        self.shares.read(office).await?;
        let _place = self.transfer(office)?;
        let mut parts = request.into_inner();
        let missing = || Refusal::new(RefusalCode::MalformedEnvelope, "there is no first part");
        let first = self.part(&mut parts).await?.ok_or_else(missing)?;
        let sha256 = name(&first.sha256)?;
        if let (size, true) = self.store.held(office, &sha256) {
            return Ok(Response::new(wire::UploadResponse { size, complete: true }));
        }
        let mut upload = self.store.upload(office, sha256, first.size, first.offset)?;
        let mut next = Some(first);
        let mut ended = Ok(());
        while let Some(part) = next.take() {
            if !self.store.has_room() {
                ended = Err(Refusal::new(RefusalCode::StorageFull, "the broker's disk is full"));
                break;
            }
            let appended;
            (upload, appended) = work::blocking(move || {
                let appended = upload.append(&part.data);
                (upload, appended)
            })
            .await
            .map_err(interrupted)?;
            match appended {
                Ok(()) => match self.part(&mut parts).await {
                    Ok(part) => next = part,
                    Err(refusal) => ended = Err(refusal),
                },
                Err(refusal) => ended = Err(refusal),
            }
        }
        let size = upload.held();
        // Whatever ended it: what came is kept, and the next upload goes on from there.
        let complete = work::blocking(move || upload.finish()).await.map_err(interrupted)??;
        if complete {
            self.store.settle(office, sha256);
        }
        ended?;
        Ok(Response::new(wire::UploadResponse { size, complete }))
    }

    type DownloadStream = ReceiverStream<Result<wire::DownloadPart, Status>>;

    async fn download(
        &self,
        request: Request<wire::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let office = self.enrolment.office(&request)?;
        self.shares.read(office).await?;
        let place = self.transfer(office)?;
        let request = request.into_inner();
        let unknown = || Refusal::new(RefusalCode::UnknownMessage, "no message of this office names this attachment");
        let path = self.store.for_party(office, &name(&request.sha256)?).ok_or_else(unknown)?;
        let mut file = tokio::fs::File::open(path).await.map_err(interrupted)?;
        let size = file.metadata().await.map_err(interrupted)?.len();
        if request.offset > size {
            return Err(Refusal::new(RefusalCode::OutOfRange, format!("the attachment has {size} bytes")).into());
        }
        file.seek(SeekFrom::Start(request.offset)).await.map_err(interrupted)?;
        let (sender, parts) = mpsc::channel(2);
        let mut stopping = self.stopping.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut piece = vec![0; limits::CHUNK_BYTES];
            loop {
                let part = match file.read(&mut piece).await {
                    Ok(0) => return,
                    Ok(read) => Ok(wire::DownloadPart { data: Bytes::copy_from_slice(&piece[..read]) }),
                    Err(error) => Err(interrupted(error).into()),
                };
                let failed = part.is_err();
                let sent = tokio::select! {
                    sent = sender.send_timeout(part, PART) => sent.is_ok(),
                    _ = stopping.wait_for(|stopping| *stopping) => false,
                };
                // Whoever asked may have gone away, or reads nothing.
                if failed || !sent {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(parts)))
    }
}
