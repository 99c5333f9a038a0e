//! Attachments of what arrived are fetched in the background, from where the own copy ends, and kept once their hash
//! was checked.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    time::Duration,
};

use liaison_log::{remote::within, work};
use liaison_proto::{Bytes, file_sha256, wire};
use tokio::{io::AsyncWriteExt as _, time::Instant};

use super::{AttachmentFiles, Name};
use crate::{
    link::Link,
    record::{Downloaded, NodeRecord},
    retry::Backoff,
    store::StoreError,
};

const CALL: Duration = Duration::from_secs(30);
/// Between looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long one that does not come is left alone.
const COOL: Duration = Duration::from_secs(5);
/// How long the next part may take.
const PART: Duration = Duration::from_secs(90);

/// Fetches what received messages name, until the store stops.
///
/// # Errors
/// [`StoreError::Stopped`].
pub async fn run(link: Link, files: AttachmentFiles, reserve_bytes: u64) -> Result<(), StoreError> {
    let mut changes = link.store.changes();
    let mut backoff = Backoff::default();
    let mut bad: HashSet<Name> = HashSet::new();
    // One that does not come does not stand before the others.
    let mut later: HashMap<Name, Instant> = HashMap::new();
    loop {
        changes.mark_unchanged();
        let next = {
            let state = link.store.state();
            let ready =
                |name: &Name| !bad.contains(name) && later.get(name).is_none_or(|until| *until <= Instant::now());
            state.to_download.iter().find(|(name, _)| ready(name)).map(|(name, size)| (*name, *size))
        };
        let Some((name, size)) = next else {
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| StoreError::Stopped)?,
                () = tokio::time::sleep(LOOK) => {}
            }
            continue;
        };
        // Room for what comes by itself stays: photos must never keep a call for help from being written.
        let room = files.available().unwrap_or(0) > size.saturating_add(reserve_bytes.saturating_mul(4));
        let full = || "an attachment is not fetched: there is too little room on the disk".to_owned();
        link.health.note("attachments", (!room).then(full));
        if !room {
            later.insert(name, Instant::now() + COOL);
            continue;
        }
        match fetch(&link, &files, name, size).await {
            Ok(true) => {
                let sha256 = Bytes::copy_from_slice(&name);
                link.store.write(vec![NodeRecord::Downloaded(Downloaded { sha256 }).into()]).await?;
                backoff.reset();
            }
            Ok(false) => {
                link.alarm("the broker delivered an attachment that is not what its name says", Bytes::new()).await?;
                bad.insert(name);
            }
            Err(error) => {
                tracing::debug!(%error, "an attachment is not here yet");
                later.insert(name, Instant::now() + COOL);
                tokio::time::sleep(backoff.pause(link.entropy.as_ref())).await;
            }
        }
    }
}

/// Fetches the rest of an attachment; false when the whole is not what its name says.
async fn fetch(link: &Link, files: &AttachmentFiles, name: Name, size: u64) -> io::Result<bool> {
    let part = files.part(&name);
    let mut held = fs::metadata(&part).map_or(0, |found| found.len());
    if held > size {
        fs::remove_file(&part)?;
        held = 0;
    }
    if held < size {
        let request = wire::DownloadRequest { sha256: Bytes::copy_from_slice(&name), offset: held };
        let answer = within(CALL, link.attachments().download(request)).await.map_err(io::Error::other)?;
        let mut parts = answer.into_inner();
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).mode(0o600).open(&part).await?;
        while let Some(next) = tokio::time::timeout(PART, parts.message()).await?.map_err(io::Error::other)? {
            if held + next.data.len() as u64 > size {
                break;
            }
            file.write_all(&next.data).await?;
            held += next.data.len() as u64;
        }
        file.flush().await?;
        file.sync_all().await?;
    }
    if held < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (files, path) = (files.clone(), part);
    let checked = work::blocking(move || {
        if file_sha256(&path)? == name {
            files.keep(&path, &name).map(|()| true)
        } else {
            fs::remove_file(&path).map(|()| false)
        }
    });
    checked.await.map_err(io::Error::other)?
}
