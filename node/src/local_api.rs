//! What officers can ask of their node over the local socket. One request, one answer; the kernel says which user asks.

use std::sync::Arc;

use liaison_casework::{labels::Language, tables::calendar, thread::out_of_step::OutOfStep, validate::Problem};
use liaison_link::local::{PeerUid, Reply, RequestBody};
use liaison_log::{disk::Disk, work};
use liaison_proto::{
    failure::chain,
    ids::{Lane, MessageId, OfficeId},
    refusal::{Refusal, RefusalCode},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use zeroize::Zeroizing;

use crate::{
    attachments::AttachmentFiles,
    compose::{Attached, Composer},
    contact::Contact,
    directory::DirectoryReplica,
    health::Health,
    key_table::KeyTable,
    keystore::KeystoreError,
    log_view::LogView,
    open::Opener,
    record::{AlarmsSeen, NodeRecord},
    store::Store,
    vault::{Locked, Vault},
    view,
};

mod agreements;
mod countersigning;
mod keys;
mod reading;
mod reconciling;
mod sending;
mod threads;

use sending::AttachedFile;

/// Messages listed when nobody says how many.
const DEFAULT_LIMIT: usize = 100;
/// Messages listed at most: an answer over the local socket has 8 MiB.
const MOST: usize = 4000;

const fn default_limit() -> usize {
    DEFAULT_LIMIT
}

/// The newest of a list, oldest first, and how many are before them.
fn newest<T>(messages: &[T], limit: usize, show: impl Fn(&T) -> Value) -> Value {
    let shown = &messages[messages.len().saturating_sub(limit.min(MOST))..];
    json!({"messages": shown.iter().map(show).collect::<Vec<_>>(), "earlier": messages.len() - shown.len()})
}

/// A request.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
enum Request {
    Status,
    Unlock {
        officer: String,
        passphrase: Zeroizing<String>,
    },
    Lock,
    /// A case file's text; the files follow the request, one after the other.
    Send {
        file: String,
        #[serde(default)]
        attachments: Vec<AttachedFile>,
        #[serde(default)]
        keep_metadata: bool,
        /// It waits for a supervisor's signature, also where nothing asks for one.
        #[serde(default)]
        countersign: bool,
    },
    /// A supervisor signs what another officer wrote, and it leaves.
    Countersign {
        message: String,
    },
    /// The tables that the countries have agreed on.
    Tables,
    /// An answer to a received message: kind and the fields of its content.
    Reply {
        message: String,
        kind: String,
        content: Value,
    },
    Inbox {
        #[serde(default = "default_limit")]
        limit: usize,
    },
    Outbox {
        #[serde(default = "default_limit")]
        limit: usize,
    },
    Show {
        message: String,
        #[serde(default)]
        language: Language,
    },
    /// What this office holds of a channel, for the counterpart to compare.
    Reconcile {
        office: OfficeId,
        lane: Lane,
        #[serde(default)]
        received: bool,
        legal_basis: String,
    },
    /// Compares a counterpart's claim, and answers it.
    ReconcileAnswer {
        message: String,
    },
    /// What the agreements say of a case file.
    Explain {
        file: String,
    },
    /// Where the thread of a message stands.
    Thread {
        message: String,
        #[serde(default)]
        language: Language,
    },
    /// The newest threads, and what each expects.
    Threads {
        #[serde(default = "default_limit")]
        limit: usize,
        #[serde(default)]
        language: Language,
    },
    Receipt {
        message: String,
    },
    /// Takes an own message back.
    TakeBack {
        message: String,
        kind: String,
        reason: String,
        text: Option<String>,
    },
    /// An attachment of a message, counted from 1; its bytes follow the answer.
    Attachment {
        message: String,
        number: usize,
    },
    /// New encryption keys.
    RotateKeys,
    /// New keys at rest.
    RenewStorageKeys,
    /// New signing and receipt keys of the office.
    RenewOfficeKeys {
        #[serde(default)]
        fresh: bool,
    },
    /// The office's next record, signed by its authority, in base64.
    Publish {
        record: String,
    },
    /// A new credential of an officer; with the officer's passphrase a new key, too.
    RenewOfficer {
        officer: String,
        passphrase: Option<Zeroizing<String>>,
    },
    Alarms,
    /// Alarms up to this time (milliseconds, as they are listed) were seen.
    AlarmsSeen {
        up_to_ms: i64,
    },
}

/// Why a request was not done.
#[derive(Debug)]
enum Failure {
    /// What was written has problems.
    Problems(Vec<Problem>),
    /// Refused with a code.
    Refused(Refusal),
    /// It does not fit its thread.
    OutOfStep(OutOfStep, Refusal),
    /// Nobody unlocked.
    Locked(String),
    /// Anything else.
    Failed(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Locked> for Failure {
    fn from(locked: Locked) -> Self {
        Self::Locked(locked.to_string())
    }
}

fn refused(refusal: &Refusal) -> Value {
    json!({
        "error": "refused", "code": refusal.code.as_str(), "message": refusal.to_string(),
        "advice": refusal.code.advice(),
    })
}

impl Failure {
    fn to_json(&self) -> Value {
        match self {
            Self::Problems(problems) => {
                json!({"error": "refused", "message": "the case file has problems", "problems": problems})
            }
            Self::Refused(refusal) => refused(refusal),
            Self::OutOfStep(reason, refusal) => {
                let mut answer = refused(refusal);
                answer["reason"] = json!(reason.code());
                answer
            }
            Self::Locked(message) => json!({"error": "locked", "message": message}),
            Self::Failed(message) => json!({"error": "failed", "message": message}),
        }
    }
}

/// The local interface of a node.
pub struct LocalApi {
    /// The office.
    pub office: OfficeId,
    /// Language of answers without a case file.
    pub language: String,
    /// The store.
    pub store: Store,
    /// Offices and keys.
    pub directory: Arc<DirectoryReplica>,
    /// Unlocked keys.
    pub vault: Arc<Vault>,
    /// Content keys at rest.
    pub key_table: Arc<KeyTable>,
    /// Where they are.
    pub disk: Arc<dyn Disk>,
    /// Makes drafts.
    pub composer: Composer,
    /// Opens kept messages.
    pub opener: Opener,
    /// The node's view of the log.
    pub view: Arc<LogView>,
    /// Whether the broker is reached.
    pub contact: Arc<Contact>,
    /// Attachments.
    pub files: AttachmentFiles,
    /// How long a message can be taken back before it leaves, milliseconds.
    pub hold_ms: i64,
    /// Turns to compose what can wait: one processor is left for a call for help.
    pub turns: Semaphore,
    /// A turn for what waits for a second signature: sealed once, or taken back.
    pub countersigning: Mutex<()>,
    /// The node's own certificate, and what else may be wrong with it.
    pub health: Arc<Health>,
}

impl LocalApi {
    /// Answers a request.
    pub async fn answer(&self, uid: PeerUid, request: Value, mut body: RequestBody) -> Reply {
        let answered = match serde_json::from_value(request) {
            Ok(Request::Attachment { message, number }) => self.attachment(uid, &message, number),
            Ok(request) => self.dispatch(uid, request, &mut body).await.map(|answer| self.with_clock(answer).into()),
            Err(_) => Err(Failure::Failed("the node does not know this request; are both of one version?".into())),
        };
        answered.unwrap_or_else(|failure| self.with_clock(failure.to_json()).into())
    }

    /// Officers live by the clock on their wall, which is not that of the log.
    fn with_clock(&self, mut answer: Value) -> Value {
        if let Value::Object(answer) = &mut answer {
            answer.insert("clock_minutes".to_owned(), json!(calendar::offset(self.office.country()).seconds() / 60));
        }
        answer
    }

    async fn dispatch(&self, uid: PeerUid, request: Request, body: &mut RequestBody) -> Result<Value, Failure> {
        match request {
            Request::Status => Ok(self.status(uid)),
            Request::Unlock { officer, passphrase } => self.unlock(uid, officer, passphrase).await,
            Request::Lock => {
                self.vault.lock();
                Ok(json!({"locked": true}))
            }
            Request::Send { file, attachments, keep_metadata, countersign } => {
                self.send_file(uid, &file, &attachments, keep_metadata, countersign, body).await
            }
            Request::Countersign { message } => self.countersign(uid, find(&message)?).await,
            Request::Tables => Ok(self.tables()),
            Request::Reply { message, kind, content } => {
                let case = self.reply(&message, &kind, content)?;
                self.send(uid, &case, Attached::nothing(self.composer.entropy.as_ref())).await
            }
            Request::TakeBack { message, kind, reason, text } => {
                self.take_back(uid, &message, &kind, &reason, text.as_deref()).await
            }
            Request::RotateKeys => self.rotate_keys(uid).await,
            Request::RenewStorageKeys => self.renew_storage_keys(uid).await,
            Request::RenewOfficeKeys { fresh } => self.renew_office_keys(uid, fresh).await,
            Request::Publish { record } => self.publish_record(uid, &record),
            Request::RenewOfficer { officer, passphrase } => self.renew_officer(uid, officer, passphrase).await,
            // Answered before, with its bytes.
            Request::Attachment { .. } => Err(Failure::Failed("an attachment is asked for by itself".into())),
            Request::Inbox { limit } => {
                let state = self.store.state();
                let mut messages: Vec<_> = state.incoming.values().collect();
                messages.sort_by_key(|incoming| incoming.index);
                let mut shown = newest(&messages, limit, |message| view::incoming(&state, message));
                // What came without a receipt has no place in the order of the log, and is shown behind it.
                if let Some(lines) = shown["messages"].as_array_mut() {
                    lines.extend(state.unproven.values().map(|unproven| view::unproven(&state, unproven)));
                }
                Ok(shown)
            }
            Request::Outbox { limit } => {
                let state = self.store.state();
                let mut messages: Vec<_> = state.outgoing.values().collect();
                messages.sort_by_key(|outgoing| outgoing.order);
                let mut shown = newest(&messages, limit, |message| view::outgoing(&state, message));
                if let Some(lines) = shown["messages"].as_array_mut() {
                    lines.extend(state.waiting.values().map(view::waiting));
                }
                Ok(shown)
            }
            Request::Show { message, language } => self.show(uid, find(&message)?, language),
            Request::Reconcile { office, lane, received, legal_basis } => {
                self.reconcile(uid, office, lane, received, &legal_basis).await
            }
            Request::ReconcileAnswer { message } => self.answer_reconciliation(uid, &message).await,
            Request::Explain { file } => self.explain(&file),
            Request::Thread { message, language } => self.thread(uid, find(&message)?, language),
            Request::Threads { limit, language } => self.threads(uid, limit.min(MOST), language),
            Request::Receipt { message } => self.receipt(find(&message)?),
            Request::AlarmsSeen { up_to_ms } => {
                let officer = self.vault.officer(uid)?.officer_id.clone();
                let at_ms = self.composer.clock.now().0;
                let record = NodeRecord::AlarmsSeen(AlarmsSeen { at_ms, officer, up_to_ms });
                self.store.try_write(vec![record.into()]).await?;
                Ok(json!({"unseen": self.store.state().unseen_alarms().count()}))
            }
            Request::Alarms => {
                let state = self.store.state();
                let alarms = state.alarms.iter().rev().take(MOST).map(|a| {
                    json!({
                        "at": a.at.to_string(), "at_ms": a.at.0, "what": a.what, "seen_by": a.seen_by,
                    })
                });
                Ok(json!({"alarms": alarms.collect::<Vec<_>>()}))
            }
        }
    }

    fn status(&self, uid: PeerUid) -> Value {
        // Before the state is locked: two locks have one order.
        let directory_entries = self.directory.directory().size();
        let state = self.store.state();
        let missing: Vec<Value> = state
            .missing_numbers()
            .into_iter()
            .map(|(channel, numbers)| json!({"from": channel.from, "lane": channel.lane, "numbers": numbers}))
            .collect();
        json!({
            "office": self.office,
            "office_unlocked": self.vault.office().is_ok(),
            "officer": self.vault.officer(uid).ok().map(|officer| officer.officer_id.clone()),
            "broker": self.contact.to_json(),
            "charter": self.opener.link.charters.get().number(),
            "directory_entries": directory_entries,
            "to_submit": state.to_submit.len(),
            "to_countersign": state.waiting.len(),
            "to_confirm": state.to_state.len(),
            "to_open": state.to_open.len(),
            "unproven": state.unproven.len(),
            "received": state.incoming.len(),
            "sent": state.outgoing.len(),
            "missing_numbers": missing,
            "to_download": state.to_download.len(),
            "alarms": state.unseen_alarms().count(),
            "problems": self.health.problems(),
        })
    }

    async fn unlock(&self, uid: PeerUid, officer: String, passphrase: Zeroizing<String>) -> Result<Value, Failure> {
        let vault = Arc::clone(&self.vault);
        let name = officer.clone();
        // Deriving the key takes a fraction of a second by design: not on the threads that serve messages.
        let (entropy, table, disk) =
            (Arc::clone(&self.composer.entropy), Arc::clone(&self.key_table), Arc::clone(&self.disk));
        let unlocked = work::blocking(move || {
            let until = vault.unlock(uid, &name, passphrase.as_bytes(), entropy.as_ref())?;
            // What a crash left half done.
            if let Err(error) = vault.finish_at_rest(&table, disk.as_ref(), entropy.as_ref()) {
                tracing::error!(error = chain(&error), "the keys at rest are not all new yet");
            }
            Ok(until)
        })
        .await;
        match unlocked {
            Ok(Ok(until)) => Ok(json!({"officer": officer, "until": until.to_string()})),
            Ok(Err(error @ (KeystoreError::WrongPassphrase | KeystoreError::UnknownOfficer(_)))) => {
                Err(Failure::Locked(error.to_string()))
            }
            Ok(Err(error)) => Err(Failure::Failed(chain(&error))),
            Err(error) => Err(Failure::Failed(error.to_string())),
        }
    }
}

fn find(message: &str) -> Result<MessageId, Failure> {
    let unknown = || Refusal::new(RefusalCode::UnknownMessage, "not a message id as inbox and outbox show it");
    Ok(message.parse().map_err(|_| unknown())?)
}
