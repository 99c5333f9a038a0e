//! What leaves: messages with their attachments, answers, and what takes a message back.

use std::sync::Arc;

use liaison_casework::{
    advice::{self, Advice},
    amend,
    case_file::{self, CaseFile},
    catalogue,
    content::{Attachment, Gossip},
    tables::Tables,
    thread::out_of_step::OutOfStep,
    validate::Problem,
};
use liaison_link::local::{PeerUid, RequestBody};
use liaison_proto::{
    Bytes,
    clock::UnixMillis,
    failure::chain,
    header::Core,
    ids::{Lane, MessageId, OfficeId},
    limits,
    refusal::{Refusal, RefusalCode},
    wire::{Kind, Priority},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, sync::SemaphorePermit};

use super::{Failure, LocalApi, find};
use crate::{
    compose::Attached,
    keystore::OfficeKeys,
    metadata::{self, FileKind},
    open::Opened,
    record::{Cancelled, NodeRecord},
    seal::Signatures,
    sign::Signed,
    state::{Outgoing, Submission},
    store::StoreError,
    view,
};

/// Bytes of a file that say what it is.
const HEAD: u64 = 1024;

/// A file that follows a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttachedFile {
    name: String,
    size: u64,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                Refusal::new(RefusalCode::StorageFull, "the node's disk is full; nothing was kept").into()
            }
            error => Self::Failed(chain(&error)),
        }
    }
}

fn problem(field: impl Into<String>, rule: &'static str, advice: Advice) -> Failure {
    Failure::Problems(vec![Problem { field: field.into(), rule, advice }])
}

/// The name without directories or control characters, as the counterpart sees it.
fn plain_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars().filter(|c| !c.is_control()).take(limits::DISPLAY_NAME_CHARS).collect()
}

fn media_type(kind: &FileKind, name: &str) -> &'static str {
    match kind {
        FileKind::Jpeg => "image/jpeg",
        FileKind::Png => "image/png",
        FileKind::Webp => "image/webp",
        FileKind::Gif => "image/gif",
        FileKind::OtherImage | FileKind::Other => match name.rsplit('.').next().map(str::to_ascii_lowercase).as_deref()
        {
            Some("pdf") => "application/pdf",
            Some("txt") => "text/plain",
            Some("mp4") => "video/mp4",
            _ => "application/octet-stream",
        },
    }
}

impl LocalApi {
    pub(super) async fn send_file(
        &self,
        uid: PeerUid,
        file: &str,
        attachments: &[AttachedFile],
        keep_metadata: bool,
        countersign: bool,
        body: &mut RequestBody,
    ) -> Result<Value, Failure> {
        let case = case_file::parse_by(file, &self.tables_in_force()).map_err(Failure::Problems)?;
        // Before a gigabyte is sealed for nothing.
        self.vault.officer(uid)?;
        let attached = self.attach(&case, attachments, keep_metadata, body).await?;
        self.compose(uid, &case, attached, countersign).await
    }

    /// The tables that the countries have agreed on, as this node has the directory.
    pub(super) fn tables_in_force(&self) -> Arc<Tables> {
        let directory = self.directory.directory();
        Tables::of(&directory, directory.size())
    }

    /// Seals the files that follow a request, pictures without their metadata.
    async fn attach(
        &self,
        case: &CaseFile,
        files: &[AttachedFile],
        keep_metadata: bool,
        body: &mut RequestBody,
    ) -> Result<Attached, Failure> {
        let mut attached = Attached::nothing(self.composer.entropy.as_ref());
        if files.len() > limits::ATTACHMENTS {
            return Err(problem("attachments", "too many files", advice::MOST_FILES));
        }
        if !files.is_empty() && Lane::of(case.priority) == Some(Lane::Flash) {
            return Err(problem("attachments", "FLASH carries no files", advice::FILES_APART));
        }
        for (position, file) in (0_u32..).zip(files) {
            let field = || format!("attachments[{position}]");
            let mut head = vec![0; usize::try_from(file.size.min(HEAD)).unwrap_or_default()];
            let short = |_| problem(field(), "shorter than announced", advice::SEND_AGAIN);
            body.read_exact(&mut head).await.map_err(short)?;
            let kind = metadata::kind(&head);
            let name = plain_name(&file.name);
            let media_type = media_type(&kind, &name).to_owned();
            let picture = !matches!(kind, FileKind::Other);
            let mut whole = head.as_slice().chain(body.take(file.size - head.len() as u64));
            let (files, key) = (&self.files, &attached.content_key);
            let entropy = self.composer.entropy.as_ref();
            let (commitment, size) = if picture && !keep_metadata {
                if file.size > metadata::MAX_PICTURE_BYTES as u64 {
                    return Err(problem(field(), "picture too large", advice::SMALLER_PICTURE));
                }
                let mut bytes = Vec::new();
                whole.read_to_end(&mut bytes).await.map_err(|e| Failure::Failed(e.to_string()))?;
                let stripped = metadata::strip(&bytes)
                    .map_err(|e| problem(field(), "metadata stays", advice::NO_METADATA.with(e)))?;
                let size = stripped.len() as u64;
                (files.seal(key, position, &mut stripped.as_slice(), size, entropy).await, size)
            } else {
                (files.seal(key, position, &mut whole, file.size, entropy).await, file.size)
            };
            let commitment = commitment.map_err(|e| Failure::Refused(e.into()))?;
            attached.attachments.push(Attachment { sha256: commitment.sha256.clone(), name, media_type, size });
            attached.commitments.push(commitment);
        }
        Ok(attached)
    }

    /// Signs, seals and queues a message.
    pub(super) async fn send(&self, uid: PeerUid, case: &CaseFile, attached: Attached) -> Result<Value, Failure> {
        self.compose(uid, case, attached, false).await
    }

    /// The same; where two persons are needed, or wanted, it waits for the second one.
    async fn compose(
        &self,
        uid: PeerUid,
        case: &CaseFile,
        attached: Attached,
        countersign: bool,
    ) -> Result<Value, Failure> {
        let _turn = self.turn(Lane::of(case.priority)).await;
        let officer = self.vault.officer(uid)?;
        let keys = self.vault.office()?;
        let gossip = self.gossip(&case.to).await;
        let thread = self.answered_thread(case.in_reply_to, &keys);
        let step = thread.as_ref().map_or(case.step, |thread| thread.step(case, self.office));
        let case = &CaseFile { step, ..case.clone() };
        self.check_amended(case, &keys)?;
        let ready = {
            let directory = self.directory.directory();
            if directory.size() == 0 {
                let detail = "the directory has not been fetched yet; connect to the broker once";
                return Err(Refusal::new(RefusalCode::UnknownRecipient, detail).into());
            }
            let draft = self.composer.draft(case, &directory, &self.store.state(), gossip, attached)?;
            let waits = match self.check_thread(&draft, thread.as_ref(), false) {
                Err(Failure::OutOfStep(OutOfStep::NotCountersigned, _)) => true,
                checked => checked.map(|()| countersign)?,
            };
            if waits {
                self.check_thread(&draft, thread.as_ref(), true)?;
            }
            self.check_agreements(&directory, draft.questions())?;
            let signature = draft.sign(&officer, &directory)?;
            if waits {
                Err((draft, signature))
            } else {
                let signatures = Signatures { officer: signature, countersigners: Vec::new() };
                Ok(draft.seal(signatures, &directory, self.composer.entropy.as_ref())?.sign(&keys.signing))
            }
        };
        match ready {
            Ok(signed) => self.queue(signed, self.leaves(case.priority, case.kind), &keys).await,
            Err((draft, signature)) => self.wait(draft, &signature, &keys).await,
        }
    }

    /// A turn to compose what can wait.
    pub(super) async fn turn(&self, lane: Option<Lane>) -> Option<SemaphorePermit<'_>> {
        // Fails only when the semaphore is closed, which it never is.
        if lane == Some(Lane::Bulk) { self.turns.acquire().await.ok() } else { None }
    }

    /// Keeps a message that is signed, to be submitted.
    pub(super) async fn queue(&self, signed: Signed, leaves: UnixMillis, keys: &OfficeKeys) -> Result<Value, Failure> {
        let (message, thread) = (signed.message_id(), signed.thread_id());
        // The key first: a key without a message is harmless, a message without its key cannot be read again.
        self.key_table
            .put(&[(thread, message, signed.content_key())], &keys.storage, self.composer.entropy.as_ref())
            .map_err(|e| Failure::Failed(chain(&e)))?;
        self.store.try_write(vec![signed.into_write(leaves)]).await?;
        let mut answer = json!({"message": message, "thread": thread});
        if leaves.0 > 0 {
            answer["leaves_at"] = json!(leaves.to_string());
        }
        Ok(answer)
    }

    /// What a correction or a translation names must be there, as far as it can be read here.
    fn check_amended(&self, case: &CaseFile, keys: &OfficeKeys) -> Result<(), Failure> {
        if !matches!(case.kind, Kind::Correction | Kind::Translation) {
            return Ok(());
        }
        let named = amend::messages(&case.content);
        let opened: Vec<Opened> = named.iter().filter_map(|id| self.opener.read(*id, keys).ok()).collect();
        let about: Vec<_> = opened.iter().map(|opened| opened.content.message()).collect();
        let problems = if about.is_empty() { Vec::new() } else { amend::check(&case.content, &about) };
        if problems.is_empty() { Ok(()) } else { Err(Failure::Problems(problems)) }
    }

    /// When a message leaves: at once where somebody waits for it, else after a pause in which it can be taken back.
    pub(super) fn leaves(&self, priority: Priority, kind: Kind) -> UnixMillis {
        let waits =
            Lane::of(priority) == Some(Lane::Flash) || matches!(kind, Kind::Ack | Kind::Withdraw | Kind::Recall);
        if waits || self.hold_ms == 0 { UnixMillis(0) } else { self.composer.clock.now().plus(self.hold_ms) }
    }

    /// What the counterpart's node compares with its own view.
    async fn gossip(&self, to: &[OfficeId]) -> Gossip {
        let checkpoint = self.view.newest().await.map(|checkpoint| checkpoint.note().clone()).unwrap_or_default();
        let state = self.store.state();
        let mut numbers: Vec<(String, u32, u64)> = state
            .sent_numbers
            .iter()
            .filter(|(channel, _)| to.contains(&channel.to))
            .map(|(channel, number)| {
                (channel.to.to_string(), u32::try_from(i32::from(channel.lane.to_wire())).unwrap_or(0), number.last)
            })
            .collect();
        numbers.sort();
        Gossip { checkpoint, numbers }
    }

    /// The codes of a message in the same matter: same priority, handling and basis; TLP never widens.
    pub(super) fn in_the_same_matter(
        &self,
        core: &Core,
        kind: &str,
        to: &[OfficeId],
        content: &Value,
    ) -> Result<CaseFile, Failure> {
        let codes = view::core(core);
        let case = json!({
            "kind": kind,
            "to": to,
            "priority": codes["priority"],
            "handling": codes["handling"],
            "tlp": codes["tlp"],
            "legal_basis": codes["legal_basis"],
            "purpose": codes["purpose"],
            "language": self.language,
            "exercise": core.exercise,
            "in_reply_to": core.message_id,
            "content": content,
        });
        case_file::from_json(&case, Tables::built_in()).map_err(Failure::Problems)
    }

    /// An answer to a received message.
    pub(super) fn reply(&self, message: &str, kind: &str, mut content: Value) -> Result<CaseFile, Failure> {
        let id = find(message)?;
        let state = self.store.state();
        let unknown = || Refusal::new(RefusalCode::UnknownMessage, "no such message in the inbox");
        let answered: &Core = state.received(id).ok_or_else(unknown)?.core();
        if matches!(answered.kind, Kind::Ack | Kind::Decline) {
            return Err(Refusal::new(RefusalCode::AlreadyAnswered, "an answer is not answered").into());
        }
        // An acknowledged message may still be declined; nothing else is answered twice.
        match view::own_answer(&state, id) {
            None => {}
            Some("ACKED") if kind == catalogue::kind_name(Kind::Decline) => {}
            Some(before) => {
                let detail = format!("this office has {} the message", before.to_ascii_lowercase());
                return Err(Refusal::new(RefusalCode::AlreadyAnswered, detail).into());
            }
        }
        if kind == catalogue::kind_name(Kind::Ack)
            && let Value::Object(fields) = &mut content
        {
            let now = self.composer.clock.now();
            fields.entry("received_at").or_insert_with(|| json!(now.to_string()));
        }
        self.in_the_same_matter(answered, kind, &[answered.from], &content)
    }

    fn cancelled(&self, id: MessageId) -> NodeRecord {
        let message_id = Bytes::copy_from_slice(id.as_bytes());
        NodeRecord::Cancelled(Cancelled { message_id, at_ms: self.composer.clock.now().0 })
    }

    /// Takes an own message back: before it leaves nobody ever sees it; afterwards its recipients are told.
    pub(super) async fn take_back(
        &self,
        uid: PeerUid,
        message: &str,
        kind: &str,
        reason: &str,
        text: Option<&str>,
    ) -> Result<Value, Failure> {
        let id = find(message)?;
        self.vault.officer(uid)?;
        let only = self.countersigning.lock().await;
        if self.store.state().waiting.contains_key(&id) {
            self.store.try_write(vec![self.cancelled(id).into()]).await?;
            return Ok(json!({"message": id, "taken_back": "BEFORE_IT_LEFT"}));
        }
        drop(only);
        let leaving = &self.opener.link.leaving;
        let (core, stays) = {
            let state = self.store.state();
            let unknown = || Refusal::new(RefusalCode::UnknownMessage, "no such message in the outbox");
            let outgoing: &Outgoing = state.outgoing.get(&id).ok_or_else(unknown)?;
            match outgoing.submission {
                Submission::Cancelled | Submission::Refused { .. } => {
                    return Err(Refusal::new(RefusalCode::AlreadyAnswered, "the message never left").into());
                }
                Submission::Queued | Submission::Receipted { .. } => {}
            }
            // What had a receipt of a log that was closed has left once. Decided under the state's lock: an answer that comes
            // now is applied, and its message forgotten by `leaving`, only afterwards.
            let waits = outgoing.submission == Submission::Queued && !outgoing.again;
            (outgoing.header.core().clone(), waits && leaving.take_back(id))
        };
        if stays {
            let written = self.store.try_write(vec![self.cancelled(id).into()]).await;
            // After any other failure the record may be there all the same.
            if matches!(written, Err(StoreError::Full)) {
                leaving.let_go(id);
            }
            written?;
            return Ok(json!({"message": id, "taken_back": "BEFORE_IT_LEFT"}));
        }
        let mut content = json!({"message_ids": [id], "reason": reason});
        if let Some(text) = text {
            content["text"] = json!(text);
        }
        let case = self.in_the_same_matter(&core, kind, &core.to, &content)?;
        let attached = Attached::nothing(self.composer.entropy.as_ref());
        let mut answer = self.send(uid, &case, attached).await?;
        answer["taken_back"] = json!("RECIPIENTS_ARE_TOLD");
        Ok(answer)
    }
}
