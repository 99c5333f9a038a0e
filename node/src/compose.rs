//! Composition: from a validated case file to a draft with its envelope core and content.

use std::sync::Arc;

use liaison_casework::{
    case_file::CaseFile,
    content::{Attachment, Content, Gossip},
    statistics,
    thread::event::{Digest, Event},
};
use liaison_policy::Question;
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::Clock,
    directory::Directory,
    entropy::{Entropy, SharedEntropy, random},
    header::{Core, VERSION},
    ids::{MessageId, OfficeId},
    refusal::{Refusal, RefusalCode},
    seal::{ContentKey, Suite},
    sha256, wire,
};

use crate::state::State;

/// Version of the casework schema that this node writes.
const SCHEMA_VERSION: u32 = 1;

/// Who composes, when, and with what.
#[derive(Clone)]
pub struct Composer {
    /// The office.
    pub office: OfficeId,
    /// Minutes east of UTC.
    pub utc_offset_minutes: i32,
    /// Sealing suite.
    pub suite: Suite,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: SharedEntropy,
}

/// A message that is written and not yet sealed.
#[derive(Debug)]
pub struct Draft {
    pub(crate) core: Core,
    pub(crate) core_bytes: Bytes,
    pub(crate) content: Bytes,
    pub(crate) digest: Digest,
    pub(crate) statistics: Option<Statistics>,
    pub(crate) content_key: ContentKey,
    pub(crate) attachments: Vec<wire::AttachmentCommitment>,
}

/// What was sealed before the message that names it: its content key, and the attachments under that key.
#[derive(Debug)]
pub struct Attached {
    /// The content key of the message to be.
    pub content_key: ContentKey,
    /// What the attachments are.
    pub attachments: Vec<Attachment>,
    /// Their hashes and sizes, in the same order.
    pub commitments: Vec<wire::AttachmentCommitment>,
}

impl Attached {
    /// Nothing attached, under a new content key.
    #[must_use]
    pub fn nothing(entropy: &dyn Entropy) -> Self {
        Self { content_key: ContentKey::generate(entropy), attachments: Vec::new(), commitments: Vec::new() }
    }
}

#[derive(Debug)]
pub(crate) struct Statistics {
    pub(crate) block: Bytes,
    pub(crate) salt: Bytes,
    pub(crate) sha256: Bytes,
}

impl Draft {
    /// What it does in its thread, with or without a supervisor's signature.
    #[must_use]
    pub(crate) fn event(&self, countersigned: bool) -> Event {
        Event::new(&self.core, None, Some(Digest { countersigned, ..self.digest.clone() }))
    }

    /// What agreements are asked about it: once for each recipient.
    pub(crate) fn questions(&self) -> impl Iterator<Item = Question> {
        Question::of(&self.core)
    }

    /// The message's id.
    #[must_use]
    pub const fn message_id(&self) -> MessageId {
        self.core.message_id
    }
}

fn refuse(code: RefusalCode, detail: impl Into<String>) -> Refusal {
    Refusal::new(code, detail)
}

impl Composer {
    /// Makes a draft. An answer joins the thread of the message it answers.
    ///
    /// # Errors
    /// `MALFORMED_HEADER` when the charter has no corridor between the offices, `UNKNOWN_MESSAGE` when the message
    /// answered is not here.
    pub fn draft(
        &self,
        case: &CaseFile,
        directory: &Directory,
        state: &State,
        gossip: Gossip,
        attached: Attached,
    ) -> Result<Draft, Refusal> {
        let now = self.clock.now();
        let message_id = MessageId::new(now, self.entropy.as_ref());
        let thread_id = match case.in_reply_to {
            None => message_id,
            Some(answered) => {
                // Of the same messages as its thread is read from: nothing follows what never left.
                let missing = || refuse(RefusalCode::UnknownMessage, "the message answered is not here, or never left");
                state.header(answered).ok_or_else(missing)?.core().thread_id
            }
        };
        if case.to.contains(&self.office) {
            return Err(refuse(RefusalCode::MalformedHeader, "to names the own office"));
        }
        let corridor = directory
            .charter()
            .corridor(self.office, &case.to)
            .ok_or_else(|| refuse(RefusalCode::MalformedHeader, "the charter has no corridor between these offices"))?;
        let statistics = statistics::stat_block(case.kind, &case.content).map(|block| {
            let block = Bytes::from(block.encode_to_vec());
            let salt = Bytes::copy_from_slice(&random::<32>(self.entropy.as_ref()));
            let sha256 = Bytes::copy_from_slice(&sha256(&[&salt, &block]));
            Statistics { block, salt, sha256 }
        });
        let stat_sha256 = statistics.as_ref().map(|statistics| statistics.sha256.clone()).unwrap_or_default();
        let Attached { content_key, attachments, commitments } = attached;
        let content = Content::new(case.kind, case.content.clone(), gossip, attachments, stat_sha256)
            .encode()
            .map_err(|e| refuse(RefusalCode::MalformedHeader, e.to_string()))?;
        let id = |id: MessageId| Bytes::copy_from_slice(id.as_bytes());
        let core = wire::Core {
            version: VERSION,
            message_id: id(message_id),
            thread_id: id(thread_id),
            kind: case.kind.into(),
            step: case.step.into(),
            schema_version: SCHEMA_VERSION,
            in_reply_to: case.in_reply_to.map(id).unwrap_or_default(),
            supersedes: case.supersedes.map(id).unwrap_or_default(),
            from: self.office.to_string(),
            to: case.to.iter().map(ToString::to_string).collect(),
            corridor,
            created_at_ms: now.0,
            created_offset_minutes: self.utc_offset_minutes,
            due_at_ms: case.due_at.unwrap_or_default().0,
            retain_until_ms: case.retain_until.unwrap_or_default().0,
            priority: case.priority.into(),
            handling: case.handling.into(),
            tlp: case.tlp.into(),
            data_class: case.data_class.into(),
            legal_basis: case.legal_basis.iter().map(|&basis| basis.into()).collect(),
            purpose: case.purpose.into(),
            language: case.language.clone(),
            exercise: case.exercise,
            suite: self.suite.to_wire(),
        };
        let core_bytes = Bytes::from(core.encode_to_vec());
        Ok(Draft {
            core: Core::parse(&core_bytes)?,
            core_bytes,
            content: content.into(),
            digest: Digest::of(case.kind, &case.content, false),
            statistics,
            content_key,
            attachments: commitments,
        })
    }
}
