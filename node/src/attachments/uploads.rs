//! Attachments go to the broker before the message that names them, on a connection of their own, and go on after any
//! break from where the broker's copy ends.

use std::{collections::HashMap, io::SeekFrom, time::Duration};

use liaison_log::remote::within;
use liaison_proto::{Bytes, ids::MessageId, limits, refusal::Refusal, wire};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{AttachmentFiles, Name};
use crate::{link::Link, retry::Backoff, state::Submission, store::StoreError};

const CALL: Duration = Duration::from_secs(30);
/// Longest upload before the connection is looked at again: 2 GiB at 2 Mbit/s; what was sent is not lost.
const WHOLE: Duration = Duration::from_secs(3 * 60 * 60);

/// Uploads what messages of the outbox name, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link, files: AttachmentFiles) -> Result<(), StoreError> {
    let mut changes = link.store.changes();
    let mut uploads = link.uploads.changes();
    let mut backoff = Backoff::default();
    // One that does not go does not stand before the others.
    let mut later: HashMap<MessageId, Instant> = HashMap::new();
    loop {
        changes.mark_unchanged();
        uploads.mark_unchanged();
        let next = {
            let (state, now) = (link.store.state(), link.clock.now());
            let waiting = state.to_submit.iter().map(|(_, _, id)| *id).filter(|id| !link.uploads.are_done(&state, *id));
            let waiting = waiting.chain(link.uploads.to_look_at());
            // What may still be taken back has not left: neither message nor attachment.
            let waiting = waiting.filter(|id| later.get(id).is_none_or(|until| *until <= Instant::now()));
            let ready = waiting.filter_map(|id| Some((id, state.outgoing.get(&id)?)));
            let mut ready = ready.filter(|(_, outgoing)| outgoing.not_before <= now);
            ready.next().map(|(id, outgoing)| (id, outgoing.header.commitments().attachments.clone()))
        };
        let Some((id, attachments)) = next else {
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| StoreError::Stopped)?,
                _ = uploads.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            continue;
        };
        let mut failed = None;
        for attachment in &attachments {
            if let Err(error) = upload(&link, &files, attachment).await {
                failed = Some(error);
                break;
            }
        }
        match failed {
            None => {
                link.uploads.set_done(id);
                link.health.note("uploads", None);
                backoff.reset();
            }
            Some(Failed::Local(error)) => {
                link.alarm(format!("an attachment of {id} cannot be read: {error}"), Bytes::new()).await?;
                // Of an accepted message it is as lost here as at the broker.
                if link.store.state().outgoing.get(&id).is_some_and(|o| o.submission != Submission::Queued) {
                    link.uploads.set_done(id);
                }
                later.insert(id, Instant::now() + Duration::from_secs(60));
            }
            Some(Failed::Remote(status)) => {
                tracing::debug!(message = %id, code = ?status.code(), "an attachment was not uploaded yet");
                let asked = Refusal::from_status(&status).and_then(|refusal| refusal.retry_after);
                let pause = asked.unwrap_or_default().max(backoff.pause(link.entropy.as_ref()));
                later.insert(id, Instant::now() + pause.min(Duration::from_secs(60)));
                let refusal = Refusal::from_status(&status);
                link.health.note("uploads", refusal.map(|refusal| format!("an attachment does not go: {refusal}")));
            }
        }
    }
}

enum Failed {
    Local(std::io::Error),
    Remote(tonic::Status),
}

async fn upload(link: &Link, files: &AttachmentFiles, attachment: &wire::AttachmentCommitment) -> Result<(), Failed> {
    let sha256 = attachment.sha256.clone();
    let malformed = || Failed::Local(std::io::ErrorKind::InvalidData.into());
    let name = Name::try_from(sha256.as_ref()).map_err(|_| malformed())?;
    let held = within(CALL, link.attachments().held(wire::HeldRequest { sha256: sha256.clone() })).await;
    let held = held.map_err(Failed::Remote)?.into_inner();
    if held.complete {
        return Ok(());
    }
    let mut file = tokio::fs::File::open(files.path(&name)).await.map_err(Failed::Local)?;
    file.seek(SeekFrom::Start(held.size)).await.map_err(Failed::Local)?;
    let (parts, stream) = mpsc::channel(2);
    let size = attachment.size;
    let reading = tokio::spawn(async move {
        let mut offset = held.size;
        let mut first = true;
        while first || offset < size {
            let mut data = vec![0; limits::CHUNK_BYTES];
            let read = file.read(&mut data).await?;
            if read == 0 && offset < size {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            data.truncate(read);
            let named = if first { sha256.clone() } else { Bytes::new() };
            let part = wire::UploadPart { sha256: named, size, offset, data: data.into() };
            first = false;
            offset += read as u64;
            if parts.send(part).await.is_err() {
                // The broker ended the call, and says why.
                break;
            }
        }
        Ok(())
    });
    let answer = within(WHOLE, link.attachments().upload(ReceiverStream::new(stream))).await;
    if let Ok(Err(error)) = reading.await {
        return Err(Failed::Local(error));
    }
    let answer = answer.map_err(Failed::Remote)?.into_inner();
    if answer.complete { Ok(()) } else { Err(Failed::Remote(tonic::Status::unavailable("not all of it arrived"))) }
}
