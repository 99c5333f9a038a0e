//! Two offices sign that they hold the same set on a channel, or get the exact difference.

use std::collections::BTreeMap;

use liaison_casework::{case_file, reconciliation::Claim, tables::Tables};
use liaison_link::local::PeerUid;
use liaison_log::leaf_hash;
use liaison_proto::{
    failure::chain,
    ids::{Channel, Lane, LogIndex, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire::{NonDeliveryReason, StatementKind},
};
use serde_json::{Value, json};

use super::{Failure, LocalApi, find};
use crate::{
    compose::Attached,
    state::{Outgoing, Said, State, Submission},
};

/// The entry that stands for a sent message on a recipient's channel: its own, or the NON_DELIVERY of one that never came.
fn standing(outgoing: &Outgoing, to: OfficeId, accepted: LogIndex) -> LogIndex {
    let of = |wanted: &dyn Fn(&Said) -> bool| {
        outgoing.evidence.iter().filter(|e| e.office == to && wanted(&e.said)).map(|e| e.index).min()
    };
    let given_up =
        of(&|said| matches!(said, Said::NonDelivery(NonDeliveryReason::Withdrawn | NonDeliveryReason::Expired)));
    let arrived = of(&|said| matches!(said, Said::Stated(StatementKind::Delivered | StatementKind::Retrieved, _)));
    given_up.filter(|_| arrived.is_none()).unwrap_or(accepted)
}

/// The entry of each number of a channel, as this office has it.
fn numbers(state: &State, channel: Channel) -> BTreeMap<u64, LogIndex> {
    let mut numbers = BTreeMap::new();
    for outgoing in state.outgoing.values() {
        let Submission::Receipted { index, numbers: given, .. } = &outgoing.submission else { continue };
        let own = outgoing.header.core().channels().zip(given).filter(|(on, _)| *on == channel);
        numbers.extend(own.map(|(_, number)| (*number, standing(outgoing, channel.to, *index))));
    }
    for given_up in state.given_up.values().filter(|given_up| given_up.channel == channel) {
        numbers.insert(given_up.number, given_up.index);
    }
    for incoming in state.incoming.values() {
        if incoming.header.core().channels().any(|on| on == channel) {
            numbers.insert(incoming.number, incoming.index);
        }
    }
    numbers
}

impl LocalApi {
    /// The hash of the entry of each number of a channel that this office holds.
    fn held(&self, channel: Channel) -> Result<BTreeMap<u64, [u8; 32]>, Failure> {
        let places: Vec<_> = {
            let state = self.store.state();
            let numbers = numbers(&state, channel);
            numbers
                .into_iter()
                .filter_map(|(number, index)| Some((number, state.entries.get(&index)?.record)))
                .collect()
        };
        let hash = |(number, position)| {
            let record = self.store.record(position).map_err(|e| Failure::Failed(chain(&e)))?;
            Ok(record.entry().map(|(receipt, _)| (number, leaf_hash(&receipt.leaf).0)))
        };
        places.into_iter().map(hash).filter_map(Result::transpose).collect()
    }

    /// Signs what is held of a channel with an office.
    pub(super) async fn reconcile(
        &self,
        uid: PeerUid,
        office: OfficeId,
        lane: Lane,
        received: bool,
        legal_basis: &str,
    ) -> Result<Value, Failure> {
        let (from, to) = if received { (office, self.office) } else { (self.office, office) };
        let channel = Channel { from, to, lane };
        let claim = Claim::new(channel, &self.held(channel)?);
        if claim.leaves.is_empty() {
            return Err(Refusal::new(RefusalCode::OutOfRange, "nothing was ever sent on this channel").into());
        }
        let case = json!({
            "kind": "RECONCILIATION", "to": [office], "priority": "ROUTINE", "handling": "H0", "tlp": "AMBER",
            "legal_basis": [legal_basis], "purpose": "PREVENT", "language": self.language,
            "content": claim.to_content(None),
        });
        let case = case_file::from_json(&case, Tables::built_in()).map_err(Failure::Problems)?;
        let mut sent = self.send(uid, &case, Attached::nothing(self.composer.entropy.as_ref())).await?;
        sent["numbers"] = json!(claim.leaves.len());
        Ok(sent)
    }

    /// Compares a counterpart's claim with what is held here, and signs the answer.
    pub(super) async fn answer_reconciliation(&self, uid: PeerUid, message: &str) -> Result<Value, Failure> {
        let id = find(message)?;
        self.vault.officer(uid)?;
        let keys = self.vault.office()?;
        let unknown = |detail: &str| Failure::from(Refusal::new(RefusalCode::UnknownMessage, detail));
        let core = self.store.state().received(id).map(|header| header.core().clone());
        let core = core.ok_or_else(|| unknown("no such message in the inbox"))?;
        let opened = self.opener.read(id, &keys).map_err(|e| Failure::Failed(chain(&e)))?;
        let claim = Claim::read(opened.content.message()).ok_or_else(|| unknown("it is no reconciliation"))?;
        // Nobody asks here about a channel between others.
        let ends = [claim.channel.from, claim.channel.to];
        if !ends.contains(&self.office) || !ends.contains(&core.from) {
            return Err(unknown("it is about a channel between others"));
        }
        let own = claim.beside(&self.held(claim.channel)?);
        let differing = claim.differing(&own);
        let content = own.to_content(Some(&differing));
        let case = self.in_the_same_matter(&core, "RECONCILIATION", &[core.from], &content)?;
        let mut sent = self.send(uid, &case, Attached::nothing(self.composer.entropy.as_ref())).await?;
        sent["numbers"] = json!(own.leaves.len());
        sent["differing"] = json!(differing);
        Ok(sent)
    }
}
