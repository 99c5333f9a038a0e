//! Entries as they are kept: what stands beside them, and how one that was lost gets into the log again.

use liaison_log::{
    commit::{Moment, Sequenced},
    leaf::{Event as LeafEvent, ExchangeLeaf},
};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    envelope::UnverifiedEnvelope,
    ids::LogIndex,
    refusal::{Refusal, RefusalCode},
    sha256, wire,
};

/// An entry that is entered again as it was.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Where it stood.
    pub index: LogIndex,
    /// Its bytes.
    pub leaf: Bytes,
    /// What is kept beside it.
    pub body: Option<Bytes>,
}

impl Restored {
    /// The entry as it was, at the place where it was.
    #[must_use]
    pub fn at(self, place: Moment) -> Sequenced {
        if self.index == place.index {
            return Sequenced::Append { leaf: self.leaf, body: self.body };
        }
        let detail = "another entry stands where this one is to be restored";
        Sequenced::Refused(Refusal::new(RefusalCode::Unavailable, detail))
    }
}

/// What is kept beside an entry, when it is what the entry commits to.
pub(crate) fn kept_beside(leaf: &Bytes, kept: Option<wire::Envelope>) -> Result<Option<Bytes>, Refusal> {
    let leaf = ExchangeLeaf::parse(leaf).map_err(|e| malformed(e.to_string()))?;
    let none = || malformed("what is kept beside the entry is missing");
    match leaf.event {
        LeafEvent::Accepted { header, signature, .. } => {
            let kept = kept.ok_or_else(none)?;
            let header = header.bytes().clone();
            let envelope = wire::Envelope { header, office_signature: signature, ..kept };
            let unverified = UnverifiedEnvelope::parse(envelope)?;
            unverified.check_commitments()?;
            Ok(Some(stored_body(unverified.wire())))
        }
        LeafEvent::Rewrapped { statement, .. } => {
            let wrap = kept.and_then(|kept| kept.erasable?.wraps.into_iter().next()).ok_or_else(none)?;
            if sha256(&[&wrap]) != statement.wrap_sha256 {
                return Err(Refusal::new(RefusalCode::CommitmentMismatch, "the wrap is not what the entry commits to"));
            }
            Ok(Some(rewrap_body(wrap)))
        }
        LeafEvent::Attested { .. } | LeafEvent::NonDelivery(_) | LeafEvent::Succeeded(_) => Ok(None),
    }
}

/// What is kept beside ACCEPTED: erasable side and body.
pub(crate) fn stored_body(envelope: &wire::Envelope) -> Bytes {
    let (erasable, body) = (envelope.erasable.clone(), envelope.body.clone());
    wire::Envelope { erasable, body, ..wire::Envelope::default() }.encode_to_vec().into()
}

/// What is kept beside REWRAPPED: the one wrap.
pub(crate) fn rewrap_body(wrap: Bytes) -> Bytes {
    let erasable = Some(wire::ErasableSide { wraps: vec![wrap], ..wire::ErasableSide::default() });
    wire::Envelope { erasable, ..wire::Envelope::default() }.encode_to_vec().into()
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::MalformedEnvelope, detail)
}
