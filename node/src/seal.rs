//! Sealing: the officer signs the content for this envelope, the body is encrypted, the content key is wrapped to every
//! recipient's current key in the directory.

use liaison_proto::{
    Bytes, ProtoMessage as _,
    directory::Directory,
    entropy::Entropy,
    header::{Core, Header},
    ids::{MessageId, OfficeId},
    officer::{self, Officer},
    refusal::{Refusal, RefusalCode},
    seal::{ContentKey, SealError},
    sha256, wire,
};
use zeroize::Zeroizing;

use crate::{compose::Draft, keystore::OfficerKey};

/// A draft sealed to its recipients, with the header that commits to all of it, not yet signed by the office.
#[derive(Debug)]
pub struct Sealed {
    pub(crate) message_id: MessageId,
    pub(crate) thread_id: MessageId,
    pub(crate) header: Bytes,
    pub(crate) erasable: wire::ErasableSide,
    pub(crate) body: Bytes,
    pub(crate) content_key: ContentKey,
}

fn failed(error: SealError) -> Refusal {
    let code = if error == SealError::TooLarge { RefusalCode::TooLarge } else { RefusalCode::UnknownKey };
    Refusal::new(code, error.to_string())
}

/// The persons who signed a content: who wrote it, and a supervisor where two are needed.
#[derive(Clone, Debug)]
pub struct Signatures {
    /// Who wrote it.
    pub officer: wire::OfficerSignature,
    /// The supervisor.
    pub countersigners: Vec<wire::OfficerSignature>,
}

impl Draft {
    /// Signs as an officer. What the counterpart would reject is better refused here.
    ///
    /// # Errors
    /// `UNKNOWN_ORIGINATOR` or `BAD_SIGNATURE` when the officer's credential is not valid at the time of writing.
    pub fn sign(&self, officer: &OfficerKey, directory: &Directory) -> Result<wire::OfficerSignature, Refusal> {
        let signature = officer::sign_content(&self.core_bytes, &self.content, &officer.credential, &officer.key);
        self.verify(&signature, directory)?;
        Ok(signature)
    }

    /// Verifies an officer's signature, as the counterpart will.
    ///
    /// # Errors
    /// The same.
    pub fn verify(&self, signature: &wire::OfficerSignature, directory: &Directory) -> Result<Officer, Refusal> {
        let Core { from, created_at, .. } = self.core;
        let own = directory.signing_keys(from, directory.size(), created_at);
        let own =
            own.ok_or_else(|| Refusal::new(RefusalCode::UnknownOriginator, "the own office has no valid record"))?;
        officer::verify_content(&self.core_bytes, &self.content, Some(signature), from, &own, created_at)
            .map_err(|e| Refusal::new(RefusalCode::BadSignature, e.to_string()))
    }

    /// Seals to the recipients.
    ///
    /// # Errors
    /// `UNKNOWN_RECIPIENT` or `UNKNOWN_KEY` when the directory has no record or key for a recipient, `TOO_LARGE` when
    /// the body passes its limit.
    pub fn seal(self, signatures: Signatures, directory: &Directory, entropy: &dyn Entropy) -> Result<Sealed, Refusal> {
        let plaintext = wire::Plaintext {
            content: self.content.clone(),
            officer: Some(signatures.officer),
            countersigners: signatures.countersigners,
        };
        let plaintext = Zeroizing::new(plaintext.encode_to_vec());
        let content_key = self.content_key.clone();
        let body = Bytes::from(content_key.seal_body(&self.core_bytes, &plaintext).map_err(failed)?);
        let (mut wraps, mut recipients) = (Vec::new(), Vec::new());
        for &to in &self.core.to {
            let (wrap, key_sha256) = self.wrap(&content_key, to, directory, entropy)?;
            recipients.push(wire::RecipientCommitment {
                key_sha256: Bytes::copy_from_slice(&key_sha256),
                wrap_sha256: Bytes::copy_from_slice(&sha256(&[&wrap])),
            });
            wraps.push(Bytes::from(wrap));
        }
        let (stat_block, stat_salt, stat_sha256) = self
            .statistics
            .map(|statistics| (statistics.block, statistics.salt, statistics.sha256))
            .unwrap_or_default();
        let commitments = wire::Commitments {
            body_sha256: Bytes::copy_from_slice(&sha256(&[&body])),
            body_size: body.len() as u64,
            key_commitment: Bytes::copy_from_slice(&content_key.commitment()),
            recipients,
            attachments: self.attachments,
            stat_sha256,
        };
        let header = wire::Header { core: self.core_bytes, commitments: Some(commitments) };
        let header = Bytes::from(header.encode_to_vec());
        // What no broker would take must not get into the outbox.
        Header::parse(header.clone())?;
        Ok(Sealed {
            message_id: self.core.message_id,
            thread_id: self.core.thread_id,
            header,
            erasable: wire::ErasableSide { wraps, stat_block, stat_salt },
            body,
            content_key,
        })
    }

    fn wrap(
        &self,
        content_key: &ContentKey,
        to: OfficeId,
        directory: &Directory,
        entropy: &dyn Entropy,
    ) -> Result<(Vec<u8>, [u8; 32]), Refusal> {
        let size = directory.size();
        if directory.office(to, size).is_none() {
            return Err(Refusal::new(RefusalCode::UnknownRecipient, format!("{to} has no valid office record")));
        }
        let key = directory
            .newest_key(to, self.core.suite, self.core.created_at, size)
            .ok_or_else(|| Refusal::new(RefusalCode::UnknownKey, format!("{to} has no key of this suite")))?;
        let wrap = content_key.wrap(&self.core_bytes, self.core.message_id, &key.key, entropy).map_err(failed)?;
        Ok((wrap, key.sha256))
    }
}
