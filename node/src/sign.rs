//! The office's signature over the header, and the way into the outbox.

use liaison_proto::{
    clock::UnixMillis,
    ids::MessageId,
    seal::ContentKey,
    sign::{PayloadType, SigningKey},
    wire,
};

use crate::{
    record::{NodeRecord, Queued},
    seal::Sealed,
    store::Write,
};

/// A sealed message that the office has signed: what goes into the outbox, and then to the broker, unchanged.
#[derive(Debug)]
pub struct Signed {
    message_id: MessageId,
    thread_id: MessageId,
    content_key: ContentKey,
    envelope: wire::Envelope,
}

impl Sealed {
    /// Signs the header as the office.
    #[must_use]
    pub fn sign(self, office_key: &SigningKey) -> Signed {
        let signature = office_key.sign(PayloadType::Header, &self.header);
        let envelope = wire::Envelope {
            header: self.header,
            office_signature: Some(signature),
            erasable: Some(self.erasable),
            body: self.body,
        };
        let Self { message_id, thread_id, content_key, .. } = self;
        Signed { message_id, thread_id, content_key, envelope }
    }
}

impl Signed {
    /// The message's id.
    #[must_use]
    pub const fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// The thread's id.
    #[must_use]
    pub const fn thread_id(&self) -> MessageId {
        self.thread_id
    }

    /// The content key, for the key table.
    #[must_use]
    pub const fn content_key(&self) -> &ContentKey {
        &self.content_key
    }

    /// The envelope.
    #[must_use]
    pub const fn envelope(&self) -> &wire::Envelope {
        &self.envelope
    }

    /// What the outbox keeps; it does not leave before a time.
    #[must_use]
    pub fn into_write(self, not_before: UnixMillis) -> Write {
        let wire::Envelope { header, office_signature, erasable, body } = self.envelope;
        let body = wire::Envelope { erasable, body, ..wire::Envelope::default() };
        Write {
            record: NodeRecord::Queued(Queued { header, office_signature, not_before_ms: not_before.0 }),
            body: Some(body),
        }
    }
}
