//! The `Repair` service. Any office may show and hand back what it has, also one that the broker's directory has lost:
//! what counts is the log's own signature.

use std::sync::Arc;

use liaison_log::work;
use liaison_proto::{
    Bytes,
    ids::{Lane, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    wire::{self, repair_server},
};
use tonic::{Request, Response, Status, Streaming};

use super::Repair;
use crate::{attachments::AttachmentStore, intake::note, server::office, share::Shares};

/// The service.
#[derive(Clone)]
pub struct RepairService {
    repair: Arc<Repair>,
    attachments: Arc<AttachmentStore>,
    shares: Arc<Shares>,
}

fn failed<E>(_: E) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the broker could not look at it")
}

impl RepairService {
    /// The service of a repair.
    #[must_use]
    pub const fn new(repair: Arc<Repair>, attachments: Arc<AttachmentStore>, shares: Arc<Shares>) -> Self {
        Self { repair, attachments, shares }
    }

    async fn take(&self, office: OfficeId, request: wire::HandBackRequest) -> Result<bool, Refusal> {
        let body = request.kept.as_ref().map_or(0, |kept| kept.body.len());
        self.shares.take_patiently(office, Lane::Bulk, body).await;
        let repair = Arc::clone(&self.repair);
        match work::blocking(move || repair.take(office, &request)).await.map_err(failed)? {
            // One bad entry holds nobody up: there may be good ones behind it.
            Err(refusal) if refusal.retry_after.is_none() => {
                note(office, &refusal);
                Ok(false)
            }
            taken => taken,
        }
    }
}

#[tonic::async_trait]
impl repair_server::Repair for RepairService {
    async fn present(&self, request: Request<wire::PresentRequest>) -> Result<Response<wire::PresentResponse>, Status> {
        let office = office(&request)?;
        self.shares.read(office).await?;
        let (repair, request) = (Arc::clone(&self.repair), request.into_inner());
        let presented = work::blocking(move || {
            repair.present(office, &request)?;
            Ok::<_, Refusal>((repair.lost(), repair.is_closed()))
        });
        let (lost, closed) = presented.await.map_err(failed)?.inspect_err(|refusal| note(office, refusal))?;
        let attachments = self.attachments.lost(office, limits::REPAIR_GAPS).into_iter();
        let attachments = attachments.map(|name| Bytes::copy_from_slice(&name)).collect();
        Ok(Response::new(wire::PresentResponse { lost, attachments, closed }))
    }

    async fn hand_back(
        &self,
        request: Request<Streaming<wire::HandBackRequest>>,
    ) -> Result<Response<wire::HandBackResponse>, Status> {
        let office = office(&request)?;
        let _place = self.shares.stream(office).await?;
        let mut requests = request.into_inner();
        let mut taken = 0;
        let mut ended = Ok(());
        // A stream that breaks has handed back what came.
        while let Ok(Some(request)) = requests.message().await {
            match self.take(office, request).await {
                Ok(new) => taken += u64::from(new),
                Err(refusal) => {
                    ended = Err(refusal);
                    break;
                }
            }
        }
        // Not in the call: a caller that goes away must not stop what it made complete.
        tokio::spawn(Arc::clone(&self.repair).mend());
        ended?;
        Ok(Response::new(wire::HandBackResponse { taken }))
    }
}
