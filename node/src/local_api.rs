//! What officers can ask of their node over the local socket. One request, one answer; the kernel says which user asks.

use std::sync::Arc;

use liaison_casework::{
    case_file::{self, CaseFile},
    catalogue,
    content::Gossip,
    print,
    validate::Problem,
};
use liaison_link::local::PeerUid;
use liaison_log::proof::TlogProof;
use liaison_proto::{
    Bytes,
    failure::chain,
    header::Core,
    ids::{MessageId, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire::{DataClass, Kind},
};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    compose::Composer,
    contact::Contact,
    directory::DirectoryReplica,
    key_table::KeyTable,
    keystore::KeystoreError,
    log_view::LogView,
    open::Opener,
    record::NodeRecord,
    state::Submission,
    store::Store,
    vault::{Locked, Vault},
    view,
};

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
    /// A case file's text.
    Send {
        file: String,
    },
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
    },
    Receipt {
        message: String,
    },
    Alarms,
}

/// Why a request was not done.
#[derive(Debug)]
enum Failure {
    /// What was written has problems.
    Problems(Vec<Problem>),
    /// Refused with a code.
    Refused(Refusal),
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

impl Failure {
    fn to_json(&self) -> Value {
        match self {
            Self::Problems(problems) => {
                json!({"error": "refused", "message": "the case file has problems", "problems": problems})
            }
            Self::Refused(refusal) => json!({
                "error": "refused", "code": refusal.code.as_str(), "message": refusal.to_string(),
                "advice": refusal.code.advice(),
            }),
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
    /// Makes drafts.
    pub composer: Composer,
    /// Opens kept messages.
    pub opener: Opener,
    /// The node's view of the log.
    pub view: Arc<LogView>,
    /// Whether the broker is reached.
    pub contact: Arc<Contact>,
}

impl LocalApi {
    /// Answers a request.
    pub async fn answer(&self, uid: PeerUid, request: Value) -> Value {
        let answered = match serde_json::from_value(request) {
            Ok(request) => self.dispatch(uid, request).await,
            Err(_) => Err(Failure::Failed("the node does not know this request; are both of one version?".into())),
        };
        answered.unwrap_or_else(|failure| failure.to_json())
    }

    async fn dispatch(&self, uid: PeerUid, request: Request) -> Result<Value, Failure> {
        match request {
            Request::Status => Ok(self.status(uid)),
            Request::Unlock { officer, passphrase } => self.unlock(uid, officer, passphrase).await,
            Request::Lock => {
                self.vault.lock();
                Ok(json!({"locked": true}))
            }
            Request::Send { file } => {
                let case = case_file::parse(&file).map_err(Failure::Problems)?;
                self.send(uid, &case).await
            }
            Request::Reply { message, kind, content } => {
                let case = self.reply(&message, &kind, content)?;
                self.send(uid, &case).await
            }
            Request::Inbox { limit } => {
                let state = self.store.state();
                let mut messages: Vec<_> = state.incoming.values().collect();
                messages.sort_by_key(|incoming| incoming.index);
                Ok(newest(&messages, limit, |message| view::incoming(&state, message)))
            }
            Request::Outbox { limit } => {
                let state = self.store.state();
                let mut messages: Vec<_> = state.outgoing.values().collect();
                messages.sort_by_key(|outgoing| outgoing.order);
                Ok(newest(&messages, limit, |message| view::outgoing(&state, message)))
            }
            Request::Show { message } => self.show(uid, find(&message)?),
            Request::Receipt { message } => self.receipt(find(&message)?),
            Request::Alarms => {
                let state = self.store.state();
                let alarms =
                    state.alarms.iter().rev().take(MOST).map(|a| json!({"at": a.at.to_string(), "what": a.what}));
                Ok(json!({"alarms": alarms.collect::<Vec<_>>()}))
            }
        }
    }

    fn status(&self, uid: PeerUid) -> Value {
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
            "directory_entries": self.directory.directory().size(),
            "to_submit": state.to_submit.len(),
            "to_confirm": state.to_state.len(),
            "to_open": state.to_open.len(),
            "received": state.incoming.len(),
            "sent": state.outgoing.len(),
            "missing_numbers": missing,
            "alarms": state.alarms.len(),
        })
    }

    async fn unlock(&self, uid: PeerUid, officer: String, passphrase: Zeroizing<String>) -> Result<Value, Failure> {
        let vault = Arc::clone(&self.vault);
        let name = officer.clone();
        // Deriving the key takes a fraction of a second by design: not on the threads that serve messages.
        let unlocked = tokio::task::spawn_blocking(move || vault.unlock(uid, &name, passphrase.as_bytes())).await;
        match unlocked {
            Ok(Ok(until)) => Ok(json!({"officer": officer, "until": until.to_string()})),
            Ok(Err(error @ (KeystoreError::WrongPassphrase | KeystoreError::UnknownOfficer(_)))) => {
                Err(Failure::Locked(error.to_string()))
            }
            Ok(Err(error)) => Err(Failure::Failed(chain(&error))),
            Err(error) => Err(Failure::Failed(error.to_string())),
        }
    }

    async fn send(&self, uid: PeerUid, case: &CaseFile) -> Result<Value, Failure> {
        let officer = self.vault.officer(uid)?;
        let keys = self.vault.office()?;
        let gossip = self.gossip(&case.to).await;
        let signed = {
            let directory = self.directory.directory();
            if directory.size() == 0 {
                let detail = "the directory has not been fetched yet; connect to the broker once";
                return Err(Refusal::new(RefusalCode::UnknownRecipient, detail).into());
            }
            let draft = self.composer.draft(case, &directory, &self.store.state(), gossip)?;
            draft.seal(&officer, &directory, self.composer.entropy.as_ref())?.sign(&keys.signing)
        };
        let (message, thread) = (signed.message_id(), signed.thread_id());
        // The key first: a key without a message is harmless, a message without its key cannot be read again.
        self.key_table
            .put(thread, message, signed.content_key(), &keys.storage, self.composer.entropy.as_ref())
            .map_err(|e| Failure::Failed(chain(&e)))?;
        self.store.write(vec![signed.into_write()]).await.map_err(|e| Failure::Failed(chain(&e)))?;
        Ok(json!({"message": message, "thread": thread}))
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
                (channel.to.to_string(), u32::try_from(i32::from(channel.lane.to_wire())).unwrap_or(0), *number)
            })
            .collect();
        numbers.sort();
        Gossip { checkpoint, numbers }
    }

    /// An answer takes the envelope's codes from what it answers: same priority, handling and basis; TLP never widens.
    fn reply(&self, message: &str, kind: &str, mut content: Value) -> Result<CaseFile, Failure> {
        let id = find(message)?;
        let state = self.store.state();
        let unknown = || Refusal::new(RefusalCode::UnknownMessage, "no such message in the inbox");
        let answered: &Core = state.incoming.get(&id).ok_or_else(unknown)?.header.core();
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
        let codes = view::core(answered);
        let case = json!({
            "kind": kind,
            "to": [answered.from],
            "priority": codes["priority"],
            "handling": codes["handling"],
            "tlp": codes["tlp"],
            "legal_basis": codes["legal_basis"],
            "purpose": codes["purpose"],
            "language": self.language,
            "exercise": answered.exercise,
            "in_reply_to": id,
            "content": content,
        });
        drop(state);
        case_file::from_json(&case).map_err(Failure::Problems)
    }

    fn show(&self, uid: PeerUid, id: MessageId) -> Result<Value, Failure> {
        let state = self.store.state();
        let mut shown = if let Some(incoming) = state.incoming.get(&id) {
            view::incoming(&state, incoming)
        } else if let Some(outgoing) = state.outgoing.get(&id) {
            view::outgoing(&state, outgoing)
        } else {
            return Err(Refusal::new(RefusalCode::UnknownMessage, "no such message here").into());
        };
        shown["history"] = json!(view::history(&state, id));
        let answers: Vec<(MessageId, Core)> = state
            .replies
            .get(&id)
            .into_iter()
            .flatten()
            .filter_map(|reply| Some((*reply, state.incoming.get(reply)?.header.core().clone())))
            .collect();
        drop(state);
        shown["proof"] = self.receipt(id).map_or(Value::Null, |receipt| receipt["proof"].clone());
        // Content is for officers who unlocked; everything else is the envelope.
        match self.vault.officer(uid).and_then(|_| self.vault.office()) {
            Ok(keys) => match self.opener.read(id, &keys) {
                Ok(opened) => {
                    shown["officer"] =
                        json!({"id": opened.officer.officer_id, "name": print::plain(&opened.officer.display_name)});
                    shown["content"] = print::to_json(opened.content.message(), DataClass::P3);
                    shown["text"] = json!(print::to_text(opened.content.message(), DataClass::P3));
                }
                Err(error) => shown["content_missing"] = json!(chain(&error)),
            },
            Err(locked) => shown["content_missing"] = json!(locked.to_string()),
        }
        let keys = self.vault.officer(uid).and_then(|_| self.vault.office()).ok();
        let answer = |(reply, core): &(MessageId, Core)| {
            let opened = keys.as_ref().and_then(|keys| self.opener.read(*reply, keys).ok());
            let officer = opened.as_ref().map(|opened| print::plain(&opened.officer.display_name));
            let text = opened.map(|opened| print::to_text(opened.content.message(), DataClass::P3));
            json!({
                "message": reply, "kind": catalogue::kind_name(core.kind), "from": core.from,
                "officer": officer, "text": text,
            })
        };
        shown["answers"] = json!(answers.iter().map(answer).collect::<Vec<_>>());
        Ok(shown)
    }

    /// The ACCEPTED entry of a message with its proof, as a C2SP tlog-proof whose extra line carries the entry.
    fn receipt(&self, id: MessageId) -> Result<Value, Failure> {
        let position = {
            let state = self.store.state();
            let own = state.outgoing.get(&id).and_then(|outgoing| match &outgoing.submission {
                Submission::Receipted { receipt, .. } => Some(*receipt),
                _ => None,
            });
            own.or_else(|| state.incoming.get(&id).map(|incoming| incoming.record))
        };
        let missing = || Refusal::new(RefusalCode::UnknownMessage, "there is no receipt for this message yet");
        let record = self.store.record(position.ok_or_else(missing)?).map_err(|e| Failure::Failed(e.to_string()))?;
        let receipt = match record {
            NodeRecord::Receipted(receipted) => receipted.receipt,
            NodeRecord::Arrived(arrived) => arrived.receipt,
            _ => None,
        };
        let receipt = receipt.ok_or_else(missing)?;
        let proof = TlogProof::parse(&receipt.proof).map_err(|e| Failure::Failed(e.to_string()))?;
        let text = TlogProof { extra: Some(receipt.leaf), ..proof }.encode();
        Ok(json!({"proof": String::from_utf8_lossy(&Bytes::from(text))}))
    }
}

fn find(message: &str) -> Result<MessageId, Failure> {
    let unknown = || Refusal::new(RefusalCode::UnknownMessage, "not a message id as inbox and outbox show it");
    Ok(message.parse().map_err(|_| unknown())?)
}
