//! Attachments of this office's messages, as ciphertext named by its SHA-256: sealed chunk by chunk on the way out,
//! fetched on the way in, opened chunk by chunk for an officer. Never whole in memory, but for pictures that lose their
//! metadata.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use liaison_log::disk::{Disk as _, OsDisk};
use liaison_proto::{
    Bytes, Sha256,
    entropy::{Entropy, random},
    limits::CHUNK_BYTES,
    refusal::{Refusal, RefusalCode},
    seal::{ContentKey, SealError},
    stream::{ChunkCipher, SEALED_CHUNK_BYTES, sealed_size},
    wire,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::state::State;

pub mod downloads;
pub mod uploaded;
pub mod uploads;

/// SHA-256 of a ciphertext.
pub type Name = [u8; 32];

/// Why an attachment could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// Reading or writing failed.
    #[error("the attachment could not be read or written")]
    Io(#[from] io::Error),
    /// It ended before its announced length.
    #[error("the attachment is shorter than announced")]
    Short,
    /// Larger than an attachment may be.
    #[error("the attachment is larger than an attachment may be")]
    TooLarge,
    /// It does not open.
    #[error("the attachment does not open under its key")]
    Seal(#[from] SealError),
}

impl From<AttachmentError> for Refusal {
    fn from(error: AttachmentError) -> Self {
        let code = match &error {
            AttachmentError::TooLarge => RefusalCode::TooLarge,
            AttachmentError::Io(e) if e.kind() == io::ErrorKind::StorageFull => RefusalCode::StorageFull,
            AttachmentError::Io(_) => RefusalCode::Unavailable,
            AttachmentError::Short | AttachmentError::Seal(_) => RefusalCode::CommitmentMismatch,
        };
        Self::new(code, liaison_proto::failure::chain(&error))
    }
}

/// The files.
#[derive(Clone, Debug)]
pub struct AttachmentFiles {
    root: PathBuf,
}

impl AttachmentFiles {
    /// The files below a directory, which is made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// The files below a directory that is only read.
    #[must_use]
    pub const fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where an attachment is, when it is here whole.
    #[must_use]
    pub fn path(&self, name: &Name) -> PathBuf {
        self.root.join(name.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// When the device fails.
    pub fn available(&self) -> io::Result<u64> {
        OsDisk::new(&self.root).available()
    }

    fn part(&self, name: &Name) -> PathBuf {
        self.path(name).with_extension("part")
    }

    /// Gives a synced file its name.
    fn keep(&self, from: &Path, name: &Name) -> io::Result<()> {
        fs::rename(from, self.path(name))?;
        fs::File::open(&self.root)?.sync_all()
    }

    /// Seals `size` bytes as the attachment at a position of a message, durably.
    ///
    /// # Errors
    /// [`AttachmentError`]; nothing stays then.
    pub async fn seal(
        &self,
        key: &ContentKey,
        position: u32,
        plain: &mut (dyn AsyncRead + Send + Unpin),
        size: u64,
        entropy: &dyn Entropy,
    ) -> Result<wire::AttachmentCommitment, AttachmentError> {
        let sealed = sealed_size(size).ok_or(AttachmentError::TooLarge)?;
        let unique: String = random::<16>(entropy).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.root.join(format!("{unique}.new"));
        let name = match seal_into(&path, ChunkCipher::new(key, position)?, plain, size).await {
            Ok(name) => name,
            Err(error) => {
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        };
        self.keep(&path, &name)?;
        Ok(wire::AttachmentCommitment { sha256: Bytes::copy_from_slice(&name), size: sealed })
    }

    /// Opens an attachment into a writer, chunk by chunk. A chunk that does not open ends it: what was written before is
    /// good, and not all.
    ///
    /// # Errors
    /// [`AttachmentError`].
    pub async fn open_into(
        &self,
        key: &ContentKey,
        position: u32,
        attachment: &wire::AttachmentCommitment,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<(), AttachmentError> {
        let name = Name::try_from(attachment.sha256.as_ref()).map_err(|_| AttachmentError::Short)?;
        let mut file = tokio::fs::File::open(self.path(&name)).await?;
        let mut cipher = ChunkCipher::new(key, position)?;
        let mut left = attachment.size;
        while left > 0 {
            let length = left.min(SEALED_CHUNK_BYTES as u64);
            left -= length;
            let mut chunk = vec![0; usize::try_from(length).map_err(|_| AttachmentError::TooLarge)?];
            file.read_exact(&mut chunk).await?;
            cipher.open(&mut chunk, left == 0)?;
            out.write_all(&chunk).await?;
        }
        out.shutdown().await?;
        Ok(())
    }

    /// Removes what no message of the store names: what was sealed and never sent, what was taken back.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn collect(&self, state: &State) -> io::Result<()> {
        let outgoing = state.outgoing.values().map(|outgoing| &outgoing.header);
        let incoming = state.incoming.values().map(|incoming| &incoming.header);
        // What was received in a log that was closed has its files already.
        let unproven = state.unproven.values().map(|unproven| &unproven.header);
        let headers = outgoing.chain(incoming).chain(unproven);
        let names = headers.flat_map(|header| header.commitments().attachments.iter().map(|named| &named.sha256));
        let waiting = state.waiting.values().flat_map(|waiting| &waiting.attachments);
        let named: HashSet<PathBuf> = names
            .chain(waiting)
            .filter_map(|sha256| Name::try_from(sha256.as_ref()).ok())
            .flat_map(|name| [self.path(&name), self.part(&name)])
            .collect();
        for file in fs::read_dir(&self.root)? {
            let path = file?.path();
            if !named.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Plain size of a sealed attachment.
#[must_use]
pub const fn plain_size(sealed: u64) -> u64 {
    sealed.saturating_sub(sealed.div_ceil(SEALED_CHUNK_BYTES as u64) * 16)
}

async fn seal_into(
    path: &Path,
    mut cipher: ChunkCipher,
    plain: &mut (dyn AsyncRead + Send + Unpin),
    size: u64,
) -> Result<Name, AttachmentError> {
    let mut file = tokio::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).await?;
    let mut hash = Sha256::default();
    let mut left = size;
    loop {
        let length = left.min(CHUNK_BYTES as u64);
        left -= length;
        let mut chunk = Vec::with_capacity(SEALED_CHUNK_BYTES);
        chunk.resize(usize::try_from(length).map_err(|_| AttachmentError::TooLarge)?, 0);
        plain.read_exact(&mut chunk).await.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => AttachmentError::Short,
            _ => e.into(),
        })?;
        cipher.seal(&mut chunk, left == 0)?;
        hash.update(&chunk);
        file.write_all(&chunk).await?;
        if left == 0 {
            break;
        }
    }
    file.flush().await?;
    file.sync_all().await?;
    Ok(hash.finish())
}
