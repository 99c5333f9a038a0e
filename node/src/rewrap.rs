//! A recipient who could not open a message because its key had gone gets the same content key sealed to its current
//! one: id, number and body stay.

use std::{collections::HashMap, sync::Arc, time::Duration};

use liaison_log::{
    leaf::{Event, ExchangeLeaf, RewrapStatement},
    remote::within,
};
use liaison_proto::{
    Bytes,
    failure::chain,
    ids::{MessageId, OfficeId},
    limits,
    refusal::is_final_refusal,
    sha256,
    sign::PayloadType,
    wire,
};

use crate::{
    directory::DirectoryReplica,
    key_table::KeyTable,
    keystore::OfficeKeys,
    link::Link,
    record::{NodeRecord, RewrapReceipted},
    state::{Said, Submission},
    store::StoreError,
    submit::refusal_of,
    vault::Vault,
};

const CALL: Duration = Duration::from_secs(30);
/// How often it is looked whether the recipient has published another key.
const LOOK: Duration = Duration::from_secs(2);

/// What sealing anew needs beside the link.
#[derive(Clone)]
pub struct Rewrapper {
    /// The link.
    pub link: Link,
    /// Offices and keys.
    pub directory: Arc<DirectoryReplica>,
    /// Unlocked keys.
    pub vault: Arc<Vault>,
    /// Content keys at rest.
    pub key_table: Arc<KeyTable>,
}

type Wanted = (MessageId, OfficeId);

enum Step {
    Done,
    /// The recipient has no other key yet, or the office is locked.
    Later,
    /// It will never succeed; why.
    Never(String),
}

impl Rewrapper {
    /// Seals anew what is asked for, until the store stops.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn run(self) -> Result<(), StoreError> {
        let mut changes = self.link.store.changes();
        // Asked of the broker with this key; the entry comes as evidence.
        let mut asked: HashMap<Wanted, [u8; 32]> = HashMap::new();
        loop {
            changes.mark_unchanged();
            let wanted: Vec<Wanted> = self.link.store.state().to_rewrap.iter().copied().collect();
            asked.retain(|wanted_before, _| wanted.contains(wanted_before));
            for (message, recipient) in wanted {
                let before = asked.get(&(message, recipient)).copied();
                match self.rewrap(message, recipient, before).await {
                    Ok((key, Step::Done)) => {
                        asked.insert((message, recipient), key);
                    }
                    Ok((_, Step::Later)) => {}
                    Ok((key, Step::Never(why))) => {
                        asked.insert((message, recipient), key);
                        let what = format!("message {message} cannot be sealed to {recipient} anew: {why}");
                        self.link.alarm(what, Bytes::new()).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
            tokio::select! {
                changed = changes.changed() => changed.map_err(|_| StoreError::Stopped)?,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Names the key sealed to, and says what became of it.
    async fn rewrap(
        &self,
        message: MessageId,
        recipient: OfficeId,
        before: Option<[u8; 32]>,
    ) -> Result<([u8; 32], Step), StoreError> {
        let none = [0; 32];
        let Ok(keys) = self.vault.office() else { return Ok((none, Step::Later)) };
        let Some((key_sha256, request)) = self.request(message, recipient, before, &keys) else {
            return Ok((none, Step::Later));
        };
        let (statement, request) = match request {
            Ok(made) => made,
            Err(why) => return Ok((key_sha256, Step::Never(why))),
        };
        let wrap = request.wrap.clone();
        let lane = self.link.store.state().outgoing.get(&message).map(|outgoing| outgoing.header.core().lane);
        let Some(lane) = lane else { return Ok((none, Step::Later)) };
        let receipt = match within(CALL, self.link.exchange(lane).rewrap(request)).await {
            Ok(answer) => answer.into_inner().receipt.unwrap_or_default(),
            Err(status) if is_final_refusal(&status) => {
                return Ok((key_sha256, Step::Never(refusal_of(&status))));
            }
            Err(_) => return Ok((none, Step::Later)),
        };
        let Some(verified) = self.link.verified(&receipt, lane).await? else { return Ok((none, Step::Later)) };
        let ours = matches!(
            ExchangeLeaf::parse(&verified.leaf).map(|leaf| leaf.event),
            Ok(Event::Rewrapped { bytes, .. }) if bytes == statement
        );
        if !ours {
            return Ok((key_sha256, Step::Never("the broker's receipt is of something else".into())));
        }
        // Until the recipient has it, this is the only wrap beside the broker's.
        let record = NodeRecord::RewrapReceipted(RewrapReceipted { receipt: Some(receipt), wrap });
        self.link.store.write(vec![record.into()]).await?;
        tracing::info!(%message, %recipient, "sealed anew");
        Ok((key_sha256, Step::Done))
    }

    /// The signed statement and its wrap, to the recipient's newest key; none when that key was tried before.
    #[expect(clippy::type_complexity, reason = "a key's name with what was made for it")]
    fn request(
        &self,
        message: MessageId,
        recipient: OfficeId,
        before: Option<[u8; 32]>,
        keys: &OfficeKeys,
    ) -> Option<([u8; 32], Result<(Bytes, wire::RewrapRequest), String>)> {
        // The directory first, everywhere: two locks have one order.
        let directory = self.directory.directory();
        let state = self.link.store.state();
        let outgoing = state.outgoing.get(&message)?;
        let core = outgoing.header.core();
        let Submission::Receipted { index, .. } = &outgoing.submission else { return None };
        let position = core.to.iter().position(|to| *to == recipient)?;
        let first = &outgoing.header.commitments().recipients.get(position)?.key_sha256;
        let rewraps = outgoing.evidence.iter().filter(|e| e.office == recipient && e.said == Said::Rewrapped).count();
        let key = directory.newest_key(recipient, core.suite, self.link.clock.now(), directory.size())?;
        if rewraps == 0 && key.sha256[..] == first[..] || before == Some(key.sha256) {
            return None;
        }
        if rewraps >= limits::REWRAPS as usize {
            return Some((key.sha256, Err("it was sealed anew too often".into())));
        }
        let content_key = match self.key_table.find(core.thread_id, message, &keys.storage) {
            Ok(content_key) => content_key,
            Err(error) => return Some((key.sha256, Err(chain(&error)))),
        };
        let entropy = self.link.entropy.as_ref();
        let wrap = match content_key.wrap(outgoing.header.core_bytes(), message, &key.key, entropy) {
            Ok(wrap) => Bytes::from(wrap),
            Err(error) => return Some((key.sha256, Err(error.to_string()))),
        };
        let statement = RewrapStatement {
            message_id: message,
            office: core.from,
            recipient,
            accepted: *index,
            key_sha256: key.sha256,
            wrap_sha256: sha256(&[&wrap]),
        }
        .encode();
        let signature = Some(keys.signing.sign(PayloadType::Rewrapped, &statement));
        let rewrapped = Some(wire::Rewrapped { statement: statement.clone(), signature });
        let seen_size = self.link.view.seen_size();
        Some((key.sha256, Ok((statement, wire::RewrapRequest { rewrapped, wrap, seen_size }))))
    }
}
