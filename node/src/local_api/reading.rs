//! What is read: messages with their history and answers, receipts, attachments.

use liaison_casework::{
    amend::{self, Corrected},
    catalogue,
    content::Content,
    labels::Language,
    print::{self, Reader},
    thread::{Mark, Taken, Thread},
};
use liaison_link::local::{PeerUid, Reply};
use liaison_log::proof::TlogProof;
use liaison_proto::{
    Bytes,
    failure::chain,
    header::Core,
    ids::MessageId,
    officer::Officer,
    refusal::{Refusal, RefusalCode},
    wire::{DataClass, Kind},
};
use serde_json::{Value, json};

use super::{Failure, LocalApi, countersigning::TakenUp, find};
use crate::{attachments::plain_size, keystore::OfficeKeys, open::Opened, state::Submission, view};

/// Corrections of a message that are shown with it, the newest.
const CORRECTIONS: usize = 20;
/// Newest events and answers that are shown with a message: whoever may answer writes them.
const HISTORY: usize = 1_000;
const ANSWERS: usize = 500;
/// Bytes of answers that are shown with a message: the whole answer over the local socket has 8 MiB.
const ANSWERS_BYTES: usize = 2 * 1024 * 1024;
/// Bytes between the opening of an attachment and the socket.
const PIPE_BYTES: usize = 256 * 1024;

/// Officers by the names that they show.
fn names(officers: &[Officer]) -> Value {
    json!(officers.iter().map(|officer| print::plain(&officer.display_name)).collect::<Vec<_>>())
}

impl LocalApi {
    pub(super) fn show(&self, uid: PeerUid, id: MessageId, language: Language) -> Result<Value, Failure> {
        let tables = self.tables_in_force();
        let reader = Reader { highest: DataClass::P3, tables: &tables, language };
        if self.store.state().waiting.contains_key(&id) {
            return self.show_waiting(uid, id, reader);
        }
        let state = self.store.state();
        let mut shown = if let Some(incoming) = state.incoming.get(&id) {
            view::incoming(&state, incoming)
        } else if let Some(outgoing) = state.outgoing.get(&id) {
            view::outgoing(&state, outgoing)
        } else if let Some(unproven) = state.unproven.get(&id) {
            view::unproven(&state, unproven)
        } else {
            return Err(Refusal::new(RefusalCode::UnknownMessage, "no such message here").into());
        };
        let history = view::history(&state, id);
        shown["history"] = json!(history[history.len().saturating_sub(HISTORY)..]);
        let answers: Vec<(MessageId, Core)> = state
            .replies
            .get(&id)
            .into_iter()
            .flatten()
            .filter_map(|reply| Some((*reply, state.received(*reply)?.core().clone())))
            .collect();
        let thread = state.header(id).map(|header| header.core().thread_id);
        drop(state);
        shown["proof"] = self.receipt(id).map_or(Value::Null, |receipt| receipt["proof"].clone());
        // Content is for officers who unlocked; everything else is the envelope.
        match self.vault.officer(uid).and_then(|_| self.vault.office()) {
            Ok(keys) => match self.opener.read(id, &keys) {
                Ok(_) if shown["state"] == "RECALLED" => {
                    shown["content_missing"] = json!("its sender recalled it: it went to the wrong office");
                }
                Ok(opened) => {
                    shown["attachments"] = self.attachments(&opened.content);
                    shown["officer"] =
                        json!({"id": opened.officer.officer_id, "name": print::plain(&opened.officer.display_name)});
                    shown["countersigned_by"] = names(&opened.countersigners);
                    shown["content"] = print::to_json(opened.content.message(), DataClass::P3);
                    shown["text"] = json!(print::to_text(opened.content.message(), reader));
                    if let Some(read) = thread.and_then(|thread| self.read_thread(thread, Some(&keys))) {
                        shown["superseded_by"] = json!(read.superseded_by(id));
                        shown["corrections"] = self.corrections(id, &opened, &read, reader, &keys);
                    }
                }
                Err(error) => shown["content_missing"] = json!(chain(&error)),
            },
            Err(locked) => shown["content_missing"] = json!(locked.to_string()),
        }
        let keys = self.vault.officer(uid).and_then(|_| self.vault.office()).ok();
        let mut left = ANSWERS_BYTES;
        let answer = |(reply, core): &(MessageId, Core)| {
            let keys = keys.as_ref().filter(|_| left > 0);
            let opened = keys.and_then(|keys| self.opener.read(*reply, keys).ok());
            let officer = opened.as_ref().map(|opened| print::plain(&opened.officer.display_name));
            let text = opened.map(|opened| print::to_text(opened.content.message(), reader));
            // What is longer is shown by itself.
            let text = text.filter(|text| text.len() <= left);
            left = left.saturating_sub(text.as_ref().map_or(0, String::len));
            json!({
                "message": reply, "kind": catalogue::kind_name(core.kind), "from": core.from,
                "officer": officer, "text": text,
            })
        };
        shown["answers"] =
            json!(answers.iter().skip(answers.len().saturating_sub(ANSWERS)).map(answer).collect::<Vec<_>>());
        Ok(shown)
    }

    /// What waits for a second signature, for whoever is to sign it.
    fn show_waiting(&self, uid: PeerUid, id: MessageId, reader: Reader<'_>) -> Result<Value, Failure> {
        let mut shown = self.store.state().waiting.get(&id).map(view::waiting).unwrap_or_default();
        match self.vault.officer(uid).and_then(|_| self.vault.office()) {
            Ok(keys) => {
                let TakenUp { content, officer, .. } = self.take_up(id, &keys)?;
                shown["attachments"] = self.attachments(&content);
                shown["officer"] = json!({"id": officer.officer_id, "name": print::plain(&officer.display_name)});
                shown["content"] = print::to_json(content.message(), DataClass::P3);
                shown["text"] = json!(print::to_text(content.message(), reader));
            }
            Err(locked) => shown["content_missing"] = json!(locked.to_string()),
        }
        Ok(shown)
    }

    /// What its originator has said since to be wrong in a message, field by field, as far as it counts in the thread.
    fn corrections(
        &self,
        id: MessageId,
        about: &Opened,
        read: &Thread,
        reader: Reader<'_>,
        keys: &OfficeKeys,
    ) -> Value {
        let from = read.taken_of(id).map(|taken| taken.from);
        let counts =
            |taken: &&Taken| taken.kind == Kind::Correction && taken.mark == Mark::Noted && Some(taken.from) == from;
        let mut left = ANSWERS_BYTES;
        let shown = |taken: &Taken| {
            let opened = self.opener.read(taken.id, keys).ok()?;
            let content = opened.content.message();
            if !amend::messages(content).contains(&id) {
                return None;
            }
            let fields = amend::corrected(content, about.content.message(), reader);
            left = left.checked_sub(fields.iter().map(Corrected::size).sum())?;
            Some(json!({"message": taken.id, "fields": fields}))
        };
        let newest = read.taken().iter().rev().filter(counts).filter_map(shown).take(CORRECTIONS);
        let mut newest: Vec<Value> = newest.collect();
        newest.reverse();
        json!(newest)
    }

    /// The ACCEPTED entry of a message with its proof, as a C2SP tlog-proof whose extra line carries the entry.
    pub(super) fn receipt(&self, id: MessageId) -> Result<Value, Failure> {
        let position = {
            let state = self.store.state();
            let own = state.outgoing.get(&id).and_then(|outgoing| match &outgoing.submission {
                Submission::Receipted { receipt, .. } => Some(*receipt),
                _ => None,
            });
            own.or_else(|| state.incoming.get(&id).map(|incoming| incoming.record))
        };
        let follows = {
            let state = self.store.state();
            state.unproven.contains_key(&id) || state.outgoing.get(&id).is_some_and(|o| o.held_by_broker.is_some())
        };
        let missing = || match follows {
            true => Refusal::new(RefusalCode::Unavailable, "its receipt follows when the broker's log is whole"),
            false => Refusal::new(RefusalCode::UnknownMessage, "there is no receipt for this message yet"),
        };
        let record = self.store.record(position.ok_or_else(missing)?).map_err(|e| Failure::Failed(e.to_string()))?;
        let receipt = record.entry().map(|(receipt, _)| receipt.clone()).ok_or_else(missing)?;
        let proof = TlogProof::parse(&receipt.proof).map_err(|e| Failure::Failed(e.to_string()))?;
        let text = TlogProof { extra: Some(receipt.leaf), ..proof }.encode();
        Ok(json!({"proof": String::from_utf8_lossy(&Bytes::from(text))}))
    }

    /// The attachments of a message that was opened, and whether they are here.
    fn attachments(&self, content: &Content) -> Value {
        let attachment = |(position, attachment): (usize, &liaison_casework::content::Attachment)| {
            let here = attachment.sha256.as_ref().try_into().is_ok_and(|name| self.files.path(&name).exists());
            json!({
                "number": position + 1,
                "name": print::plain(&attachment.name),
                "media_type": print::plain(&attachment.media_type),
                "size": attachment.size,
                "state": if here { "HERE" } else { "ON_ITS_WAY" },
            })
        };
        json!(content.attachments().iter().enumerate().map(attachment).collect::<Vec<_>>())
    }

    /// An attachment's bytes, opened chunk by chunk while they are read.
    pub(super) fn attachment(&self, uid: PeerUid, message: &str, number: usize) -> Result<Reply, Failure> {
        let id = find(message)?;
        self.vault.officer(uid)?;
        let keys = self.vault.office()?;
        let unknown = |detail: &str| Refusal::new(RefusalCode::UnknownMessage, detail);
        let (header, recalled) = {
            let state = self.store.state();
            let own = state.outgoing.get(&id).map(|outgoing| (outgoing.header.clone(), false));
            let found = own.or_else(|| {
                let incoming = state.incoming.get(&id)?;
                Some((incoming.header.clone(), view::incoming(&state, incoming)["state"] == "RECALLED"))
            });
            found.ok_or_else(|| unknown("no such message here"))?
        };
        if recalled {
            return Err(unknown("its sender recalled it: it went to the wrong office").into());
        }
        let position = number.checked_sub(1).and_then(|position| u32::try_from(position).ok());
        let found = position.zip(number.checked_sub(1).and_then(|n| header.commitments().attachments.get(n)));
        let (position, commitment) = found.ok_or_else(|| unknown("the message has no attachment of this number"))?;
        let here = commitment.sha256.as_ref().try_into().is_ok_and(|name| self.files.path(&name).exists());
        if !here {
            return Err(Refusal::new(RefusalCode::Unavailable, "the attachment is still on its way").into());
        }
        let content_key = self.key_table.find(header.core().thread_id, id, &keys.storage);
        let content_key = content_key.map_err(|e| Failure::Failed(chain(&e)))?;
        let (files, commitment) = (self.files.clone(), commitment.clone());
        let size = plain_size(commitment.size);
        let (mut writer, reader) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(async move {
            // What does not open ends the stream early: whoever reads knows the size.
            if let Err(error) = files.open_into(&content_key, position, &commitment, &mut writer).await {
                tracing::error!(message = %id, error = chain(&error), "an attachment does not open");
            }
        });
        Ok(Reply::with_body(json!({"size": size}), reader))
    }
}
