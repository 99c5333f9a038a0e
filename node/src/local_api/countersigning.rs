//! Two persons: what one officer has signed waits, durable, until a supervisor has read and signed it, too.

use liaison_casework::content::Content;
use liaison_link::local::PeerUid;
use liaison_proto::{
    failure::chain,
    ids::MessageId,
    officer::Officer,
    refusal::{Refusal, RefusalCode},
    wire::{self, Role},
};
use serde_json::{Value, json};

use super::{Failure, LocalApi};
use crate::{compose::Draft, keystore::OfficeKeys, seal::Signatures, view::WAITS, waiting};

/// What one officer has signed.
pub(super) struct TakenUp {
    draft: Draft,
    pub(super) content: Content,
    signature: wire::OfficerSignature,
    pub(super) officer: Officer,
}

impl LocalApi {
    /// Keeps what a second person must sign.
    pub(super) async fn wait(
        &self,
        draft: Draft,
        signature: &wire::OfficerSignature,
        keys: &OfficeKeys,
    ) -> Result<Value, Failure> {
        let (message, thread) = (draft.message_id(), draft.core.thread_id);
        let entropy = self.composer.entropy.as_ref();
        // The key first, as for everything that is sent.
        self.key_table
            .put(&[(thread, message, &draft.content_key)], &keys.storage, entropy)
            .map_err(|e| Failure::Failed(chain(&e)))?;
        let kept = waiting::keep(&draft, signature, self.composer.clock.now(), entropy);
        self.store.try_write(vec![kept.map_err(|e| Failure::Failed(chain(&e)))?]).await?;
        Ok(json!({"message": message, "thread": thread, "state": WAITS}))
    }

    /// Opens what waits, with the first officer's signature verified again.
    pub(super) fn take_up(&self, id: MessageId, keys: &OfficeKeys) -> Result<TakenUp, Failure> {
        let failed = |e: &dyn std::error::Error| Failure::Failed(chain(e));
        let kept = self.store.state().waiting.get(&id).cloned();
        let unknown = || Refusal::new(RefusalCode::UnknownMessage, "no such message waits for a signature");
        let kept = kept.ok_or_else(unknown)?;
        let body = self.store.body(kept.body).map_err(|e| failed(&e))?;
        let key = self.key_table.find(kept.core.thread_id, id, &keys.storage).map_err(|e| failed(&e))?;
        let (draft, content, signature) = waiting::take_up(&kept, &body.body, key).map_err(|e| failed(&e))?;
        let officer = draft.verify(&signature, &self.directory.directory())?;
        Ok(TakenUp { draft, content, signature, officer })
    }

    /// A supervisor signs what another officer wrote, and it leaves.
    ///
    /// # Errors
    /// `NOT_PERMITTED` for anybody else; and whatever does not fit any more since it was written.
    pub(super) async fn countersign(&self, uid: PeerUid, id: MessageId) -> Result<Value, Failure> {
        let supervisor = self.vault.officer(uid)?;
        let keys = self.vault.office()?;
        let refused = |detail: &str| Refusal::new(RefusalCode::NotPermitted, detail);
        if supervisor.credential.claimed_role() != Role::Supervisor {
            return Err(refused("a supervisor countersigns").into());
        }
        // Two that sign at once would seal two bodies under one key.
        let _only = self.countersigning.lock().await;
        let TakenUp { draft, signature, officer, .. } = self.take_up(id, &keys)?;
        if officer.officer_id == supervisor.officer_id {
            return Err(refused("another person than the one who wrote it countersigns").into());
        }
        let _turn = self.turn(Some(draft.core.lane)).await;
        let leaves = self.leaves(draft.core.priority, draft.core.kind);
        let thread = self.answered_thread(draft.core.in_reply_to, &keys);
        let signed = {
            let directory = self.directory.directory();
            self.check_thread(&draft, thread.as_ref(), true)?;
            self.check_agreements(&directory, draft.questions())?;
            let countersigners = vec![draft.sign(&supervisor, &directory)?];
            let signatures = Signatures { officer: signature, countersigners };
            draft.seal(signatures, &directory, self.composer.entropy.as_ref())?.sign(&keys.signing)
        };
        self.queue(signed, leaves, &keys).await
    }
}
