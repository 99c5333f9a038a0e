//! Opening: an unlocked office unwraps what arrived, verifies who wrote it, keeps the content key and states RETRIEVED,
//! or CANNOT_OPEN with the reason.

use std::{io, sync::Arc, time::Duration};

use liaison_casework::content::Content;
use liaison_log::{
    checkpoint,
    leaf::{Statement, payload_type},
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    envelope::{SignedEnvelope, UnverifiedEnvelope},
    failure::chain,
    ids::{Lane, MessageId, OfficeId},
    officer::{self, Officer},
    seal::ContentKey,
    sign::KeyRing,
    wire::{self, CannotOpenReason, StatementKind},
};

use crate::{
    directory::DirectoryReplica,
    key_table::{KeyTable, KeyTableError},
    keystore::{OfficeKeys, OwnKey},
    link::Link,
    record::{Gossip, NodeRecord, Stated},
    retry::gather,
    state::{Incoming, Rewrap, UnprovenIncoming},
    store::StoreError,
    vault::Vault,
};

/// What opening needs beside the link.
#[derive(Clone)]
pub struct Opener {
    /// The link.
    pub link: Link,
    /// The office.
    pub office: OfficeId,
    /// Offices and keys.
    pub directory: Arc<DirectoryReplica>,
    /// Unlocked keys.
    pub vault: Arc<Vault>,
    /// Content keys at rest.
    pub key_table: Arc<KeyTable>,
}

/// A message as opened: what it says, and the officer who signed it.
#[derive(Debug)]
pub struct Opened {
    /// The content.
    pub content: Content,
    /// The officer.
    pub officer: Officer,
    /// Supervisors who signed it, too.
    pub countersigners: Vec<Officer>,
}

/// Signatures beside the officer's that are looked at: each costs a verification.
const COUNTERSIGNERS: usize = 4;

/// Opens a plaintext: the officer's signature first, then the content against the header.
///
/// # Errors
/// The reason for CANNOT_OPEN.
pub fn read_plaintext(
    plaintext: &[u8],
    envelope: &SignedEnvelope,
    signing_keys: &KeyRing,
) -> Result<Opened, CannotOpenReason> {
    let header = envelope.header();
    let plaintext = wire::Plaintext::decode(plaintext).map_err(|_| CannotOpenReason::Content)?;
    let core = header.core();
    let officer = officer::verify_content(
        header.core_bytes(),
        &plaintext.content,
        plaintext.officer.as_ref(),
        core.from,
        signing_keys,
        core.created_at,
    )
    .map_err(|_| CannotOpenReason::Officer)?;
    // Who countersigned is shown; so each countersignature must hold, and be that of another person, a supervisor.
    if plaintext.countersigners.len() > COUNTERSIGNERS {
        return Err(CannotOpenReason::Officer);
    }
    let countersigner = |signed: &wire::OfficerSignature| {
        let (core_bytes, content) = (header.core_bytes(), &plaintext.content);
        officer::verify_content(core_bytes, content, Some(signed), core.from, signing_keys, core.created_at)
            .ok()
            .filter(|found| found.role == wire::Role::Supervisor && found.officer_id != officer.officer_id)
            .ok_or(CannotOpenReason::Officer)
    };
    let countersigners = plaintext.countersigners.iter().map(countersigner).collect::<Result<Vec<_>, _>>()?;
    let commitments = header.commitments();
    let attachments: Vec<Bytes> = commitments.attachments.iter().map(|a| a.sha256.clone()).collect();
    let content = Content::decode(&plaintext.content, core.kind, &attachments, &commitments.stat_sha256)
        .map_err(|_| CannotOpenReason::Content)?;
    Ok(Opened { content, officer, countersigners })
}

/// Unwraps the content key with whichever of the office's keys the header, or a later rewrap, names.
fn unwrap(
    envelope: &SignedEnvelope,
    office: OfficeId,
    rewrap: Option<&Rewrap>,
    keys: &OfficeKeys,
) -> Result<ContentKey, CannotOpenReason> {
    let (wrap, key_sha256) = match rewrap {
        Some(rewrap) => (&rewrap.wrap, &rewrap.key_sha256[..]),
        None => {
            let (wrap, commitment) = envelope.wrap_for(office).ok_or(CannotOpenReason::NoKey)?;
            (wrap, &commitment.key_sha256[..])
        }
    };
    let named = |own: &&OwnKey| own.key.public().sha256()[..] == *key_sha256;
    let key = keys.decryption.iter().find(named).ok_or(CannotOpenReason::NoKey)?;
    let header = envelope.header();
    ContentKey::unwrap(header.core_bytes(), header.core().message_id, &key.key, wrap)
        .map_err(|_| CannotOpenReason::Seal)
}

/// Messages that are opened before what is stated about them is written, together.
const TOGETHER: usize = 16;
/// When what could not be kept is tried again.
const KEEP_AGAIN: Duration = Duration::from_millis(200);

/// A message that was opened, or found not to open.
struct Examined {
    id: MessageId,
    thread: MessageId,
    key: Option<ContentKey>,
    records: Vec<NodeRecord>,
}

impl Opener {
    /// Opens what arrived whenever the office is unlocked, until the store stops.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn run(self) -> Result<(), StoreError> {
        let (mut arrivals, mut unlocks) = (self.link.store.changes(), self.vault.changes());
        let mut stuck: Vec<MessageId> = Vec::new();
        loop {
            arrivals.mark_unchanged();
            if unlocks.has_changed().unwrap_or(true) {
                stuck.clear();
            }
            unlocks.mark_unchanged();
            let next = self.next(&stuck);
            let ready = self.vault.office().ok().filter(|_| !next.is_empty());
            let Some(keys) = ready else {
                tokio::select! {
                    changed = arrivals.changed() => changed.map_err(|_| StoreError::Stopped)?,
                    changed = unlocks.changed() => {
                        changed.map_err(|_| StoreError::Stopped)?;
                        stuck.clear();
                    }
                }
                continue;
            };
            let lane = self.link.store.state().to_open.first().map(|(lane, ..)| *lane);
            gather(lane.unwrap_or(Lane::Bulk)).await;
            let mut examined = Vec::new();
            for id in self.next(&stuck) {
                // Opening costs a third of a millisecond: whoever waits for this thread gets a turn in between.
                tokio::task::yield_now().await;
                match self.examine(id, &keys) {
                    Ok(found) => examined.extend(found),
                    // One message's trouble must not hold up the others; it is tried again at the next unlocking.
                    Err(error) => {
                        let what = format!("message {id} cannot be opened: {}", chain(&error));
                        self.link.alarm(what, Bytes::new()).await?;
                        stuck.push(id);
                    }
                }
            }
            match self.keep(&examined, &keys).await {
                Ok(()) => {}
                Err(OpenFailed::Store(error)) => return Err(error),
                // It is opened again by the new keys.
                Err(OpenFailed::Key(KeyTableError::Retired)) => tokio::time::sleep(KEEP_AGAIN).await,
                Err(_) => self.keep_singly(examined, &keys, &mut stuck).await?,
            }
        }
    }

    /// What is to be opened next, together: of the most urgent lane.
    fn next(&self, stuck: &[MessageId]) -> Vec<MessageId> {
        let state = self.link.store.state();
        let mut waiting = state.to_open.iter().filter(|(.., id)| !stuck.contains(id)).peekable();
        let lane = waiting.peek().map(|(lane, ..)| *lane);
        waiting.take_while(|(of, ..)| Some(*of) == lane).take(TOGETHER).map(|(.., id)| *id).collect()
    }

    /// Keeps the keys of what was opened, then what is stated about it.
    async fn keep(&self, examined: &[Examined], keys: &OfficeKeys) -> Result<(), OpenFailed> {
        let opened: Vec<_> = examined.iter().filter_map(|e| Some((e.thread, e.id, e.key.as_ref()?))).collect();
        self.key_table.put(&opened, &keys.storage, self.link.entropy.as_ref())?;
        let records = examined.iter().flat_map(|examined| examined.records.clone()).map(Into::into);
        self.link.store.write(records.collect()).await?;
        Ok(())
    }

    /// One of several could not be kept: the others are.
    async fn keep_singly(
        &self,
        examined: Vec<Examined>,
        keys: &OfficeKeys,
        stuck: &mut Vec<MessageId>,
    ) -> Result<(), StoreError> {
        for one in examined {
            match self.keep(std::slice::from_ref(&one), keys).await {
                Ok(()) => {}
                Err(OpenFailed::Store(error)) => return Err(error),
                Err(error) => {
                    let what = format!("message {} cannot be opened: {}", one.id, chain(&error));
                    self.link.alarm(what, Bytes::new()).await?;
                    stuck.push(one.id);
                }
            }
        }
        Ok(())
    }

    /// Opens a message, and says what is to be kept and stated about it; none when it is gone.
    fn examine(&self, id: MessageId, keys: &OfficeKeys) -> Result<Option<Examined>, OpenFailed> {
        let Some(incoming) = self.link.store.state().incoming.get(&id).cloned() else { return Ok(None) };
        let (envelope, signing_keys) = self.envelope(&incoming)?;
        let content_key = unwrap(&envelope, self.office, incoming.rewrap.as_ref(), keys);
        let opened = content_key.and_then(|key| {
            let header = envelope.header();
            let commitment = &header.commitments().key_commitment;
            let plaintext = key
                .open_body(header.core_bytes(), commitment, &envelope.wire().body)
                .map_err(|_| CannotOpenReason::Seal)?;
            read_plaintext(&plaintext, &envelope, &signing_keys).map(|opened| (key, opened))
        });
        let mut gossip = None;
        let (kind, reason, key) = match opened {
            Ok((key, opened)) => {
                let note = opened.content.gossip().checkpoint.clone();
                if (1..=checkpoint::MAX_BYTES).contains(&note.len()) {
                    gossip = Some(NodeRecord::Gossip(Gossip { note, compared: false }));
                }
                (StatementKind::Retrieved, CannotOpenReason::Unspecified, Some(key))
            }
            Err(reason) => {
                tracing::warn!(message = %id, ?reason, "a message could not be opened");
                (StatementKind::CannotOpen, reason, None)
            }
        };
        let statement = Statement {
            message_id: id,
            office: self.office,
            accepted: incoming.index,
            header_sha256: incoming.header.sha256(),
            number: incoming.number,
            at: self.link.clock.now(),
            reason,
        }
        .encode();
        let signature = payload_type(kind).map(|payload| keys.signing.sign(payload, &statement));
        let record = NodeRecord::Stated(Stated {
            message_id: Bytes::copy_from_slice(id.as_bytes()),
            kind: kind.into(),
            attested: Some(wire::Attested { statement, signature }),
        });
        let (thread, records) = (incoming.header.core().thread_id, gossip.into_iter().chain([record]).collect());
        Ok(Some(Examined { id, thread, key, records }))
    }

    fn envelope(&self, incoming: &Incoming) -> Result<(SignedEnvelope, KeyRing), OpenFailed> {
        let envelope = self
            .link
            .store
            .envelope(&incoming.header, incoming.signature.as_ref(), incoming.body)
            .map_err(OpenFailed::Read)?;
        let directory = self.directory.directory();
        let from = incoming.header.core().from;
        let keys = directory.signing_keys(from, incoming.directory_size, incoming.time);
        let keys = keys.ok_or(OpenFailed::Originator)?;
        let signed = UnverifiedEnvelope::parse(envelope).and_then(|e| e.verify(&keys));
        Ok((signed.map_err(OpenFailed::Envelope)?, keys))
    }

    /// Opens a kept message for reading, from its content key at rest.
    ///
    /// # Errors
    /// What is missing or does not verify any more.
    pub fn read(&self, id: MessageId, own: &OfficeKeys) -> Result<Opened, OpenFailed> {
        let unproven = self.link.store.state().unproven.get(&id).cloned();
        if let Some(unproven) = unproven {
            return self.read_unproven(&unproven, own);
        }
        let (header, signature, body, keys) = {
            let directory = self.directory.directory();
            let state = self.link.store.state();
            if let Some(incoming) = state.incoming.get(&id) {
                let from = incoming.header.core().from;
                let keys = directory.signing_keys(from, incoming.directory_size, incoming.time);
                let keys = keys.ok_or(OpenFailed::Originator)?;
                (incoming.header.clone(), incoming.signature.clone(), incoming.body, keys)
            } else {
                let outgoing = state.outgoing.get(&id).ok_or(OpenFailed::Key(KeyTableError::Missing))?;
                // Its own: by whichever key the office had then.
                let own = directory.records(self.office).map(|record| record.signing_key);
                let keys = KeyRing::new(own);
                let body = outgoing.body.ok_or(OpenFailed::Key(KeyTableError::Missing))?;
                (outgoing.header.clone(), outgoing.signature.clone(), body, keys)
            }
        };
        let envelope = self.link.store.envelope(&header, signature.as_ref(), body).map_err(OpenFailed::Read)?;
        let envelope =
            UnverifiedEnvelope::parse(envelope).and_then(|e| e.verify(&keys)).map_err(OpenFailed::Envelope)?;
        let content_key = self.key_table.find(header.core().thread_id, id, &own.storage)?;
        let plaintext = content_key
            .open_body(header.core_bytes(), &header.commitments().key_commitment, &envelope.wire().body)
            .map_err(|_| OpenFailed::Content)?;
        read_plaintext(&plaintext, &envelope, &keys).map_err(|_| OpenFailed::Content)
    }
}

impl Opener {
    /// Opens a message that came without a receipt, from its wrap: nothing is stated about it, and no key is kept.
    fn read_unproven(&self, unproven: &UnprovenIncoming, keys: &OfficeKeys) -> Result<Opened, OpenFailed> {
        let UnprovenIncoming { header, signature, body, .. } = unproven;
        let envelope = self.link.store.envelope(header, signature.as_ref(), *body).map_err(OpenFailed::Read)?;
        let directory = self.directory.directory();
        // By the directory as it was at its entry, where it had one in a log that was closed.
        let (size, at) = unproven.judged.unwrap_or((directory.size(), unproven.at));
        let signing_keys = directory.signing_keys(header.core().from, size, at);
        let signing_keys = signing_keys.ok_or(OpenFailed::Originator)?;
        let envelope = UnverifiedEnvelope::parse(envelope).and_then(|e| e.verify(&signing_keys));
        let envelope = envelope.map_err(OpenFailed::Envelope)?;
        let kept = self.key_table.find(header.core().thread_id, header.core().message_id, &keys.storage);
        let content_key = match kept {
            Ok(key) => key,
            Err(_) => unwrap(&envelope, self.office, None, keys).map_err(|_| OpenFailed::Content)?,
        };
        let commitment = &header.commitments().key_commitment;
        let plaintext = content_key.open_body(header.core_bytes(), commitment, &envelope.wire().body);
        let plaintext = plaintext.map_err(|_| OpenFailed::Content)?;
        read_plaintext(&plaintext, &envelope, &signing_keys).map_err(|_| OpenFailed::Content)
    }
}

/// Why a message was not opened by this node, though nobody may be at fault.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    /// The store failed.
    #[error("the stored message could not be read")]
    Store(#[from] StoreError),
    /// The stored bytes are damaged.
    #[error("the stored message is damaged")]
    Read(#[source] io::Error),
    /// The key table failed.
    #[error("the content key could not be kept or found")]
    Key(#[from] KeyTableError),
    /// The originator has no record any more.
    #[error("the originator has no valid record at the size that the entry was judged by")]
    Originator,
    /// The stored envelope does not verify.
    #[error("the stored envelope does not verify")]
    Envelope(#[source] liaison_proto::refusal::Refusal),
    /// The stored content does not open.
    #[error("the stored content does not open")]
    Content,
}
