//! New keys: of the office, by its country's authority, and of its officers.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_link::local::PeerUid;
use liaison_log::work;
use liaison_proto::{
    ProtoMessage as _,
    entropy::Entropy,
    failure::chain,
    office::Office,
    officer::SignedCredential,
    policy_text::PolicyForm,
    refusal::{Refusal, RefusalCode},
    wire::{self, Role, directory_record::Record},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Failure, LocalApi};
use crate::{
    keystore::{KeyPair, KeystoreError},
    vault::{RotateError, Vault},
};

fn refused(code: RefusalCode, detail: impl Into<String>) -> Failure {
    Refusal::new(code, detail).into()
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Locked(locked) => locked.into(),
            RotateError::Keystore(error @ (KeystoreError::WrongPassphrase | KeystoreError::UnknownOfficer(_))) => {
                Self::Locked(error.to_string())
            }
            error @ (RotateError::Keystore(_) | RotateError::KeyTable(_)) => Self::Failed(chain(&error)),
        }
    }
}

impl LocalApi {
    /// Does something with keys that takes a while by design, off the threads that serve messages.
    async fn with_vault<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Vault, &dyn Entropy) -> Result<T, RotateError> + Send + 'static,
    ) -> Result<T, Failure> {
        let (vault, entropy) = (Arc::clone(&self.vault), Arc::clone(&self.composer.entropy));
        let done = work::blocking(move || what(&vault, entropy.as_ref())).await;
        Ok(done.map_err(|e| Failure::Failed(e.to_string()))??)
    }

    /// New encryption keys.
    pub(super) async fn rotate_keys(&self, uid: PeerUid) -> Result<Value, Failure> {
        self.vault.officer(uid)?;
        let office = self.office;
        let made = self.with_vault(move |vault, entropy| vault.rotate(office, entropy)).await?;
        Ok(json!({"new_keys": made}))
    }

    /// New keys at rest. Says whose slots get the new office key when they unlock next.
    pub(super) async fn renew_storage_keys(&self, uid: PeerUid) -> Result<Value, Failure> {
        self.vault.officer(uid)?;
        let (table, disk) = (Arc::clone(&self.key_table), Arc::clone(&self.disk));
        let behind = self.with_vault(move |vault, entropy| vault.renew_at_rest(&table, disk.as_ref(), entropy)).await?;
        Ok(json!({"behind": behind}))
    }

    /// New signing and receipt keys: what the country's authority is to sign.
    pub(super) async fn renew_office_keys(&self, uid: PeerUid, fresh: bool) -> Result<Value, Failure> {
        self.vault.officer(uid)?;
        let own = self.vault.keystore().public_keys().map_err(|e| Failure::Failed(chain(&e)))?;
        if own.next.is_some_and(|next| self.directory.has_next(self.office, &next)) {
            let detail = "the directory has the office's next keys, and they are not in use yet; look at the status";
            return Err(refused(RefusalCode::Unavailable, detail));
        }
        // Also of an office that was revoked: a new record enrols it again.
        let current = self.directory.directory().records(self.office).last().cloned();
        let missing = || refused(RefusalCode::UnknownOriginator, "the directory has no record of this office");
        let current = current.ok_or_else(missing)?;
        let request = self.with_vault(move |vault, entropy| vault.prepare_next(&current, fresh, entropy)).await?;
        Ok(json!({"serial": request.serial, "request": STANDARD.encode(request.encode_to_vec())}))
    }

    /// An agreement or a table that this office's country has signed with the others goes into the directory.
    fn publish_policy(&self, policy: &wire::PolicyRecord, bytes: &[u8]) -> Result<Value, Failure> {
        let bad = |detail: &str| refused(RefusalCode::BadRecord, detail);
        let text = liaison_policy::check(&policy.policy).map_err(|e| bad(&e.to_string()))?;
        if !text.countries.contains(&self.office.country()) {
            return Err(bad("it does not bind this office's country"));
        }
        let record = wire::DirectoryRecord { record: Some(Record::Policy(policy.clone())) };
        let mut directory = self.directory.directory().clone();
        directory.apply(&record, self.composer.clock.now()).map_err(|e| bad(&chain(&e)))?;
        let countries: String = text.countries.iter().map(|country| country.as_str().to_owned()).collect();
        let name = format!("policy-{}-{countries}-{:06}", text.name, text.serial);
        self.vault.keystore().to_publish(&name, bytes).map_err(|e| Failure::Failed(chain(&e)))?;
        let what = if text.form == PolicyForm::Agreement { "agreement" } else { "table" };
        Ok(json!({what: text.name, "serial": text.serial}))
    }

    /// Takes the office's next record, as its authority signed it, to be published.
    pub(super) fn publish_record(&self, uid: PeerUid, record: &str) -> Result<Value, Failure> {
        self.vault.officer(uid)?;
        let bad = |detail: &str| refused(RefusalCode::BadRecord, detail);
        let bytes = STANDARD.decode(record.trim()).map_err(|_| bad("it is not base64"))?;
        let is_request =
            wire::Office::decode(bytes.as_slice()).is_ok_and(|found| found.office == self.office.to_string());
        if is_request {
            return Err(bad("it is the request; your country's authority signs it first"));
        }
        let decoded =
            wire::DirectoryRecord::decode(bytes.as_slice()).map_err(|_| bad("it is not a directory record"))?;
        if let Some(Record::Policy(policy)) = &decoded.record {
            return self.publish_policy(policy, &bytes);
        }
        let Some(Record::Office(signed)) = &decoded.record else { return Err(bad("it is not an office record")) };
        if Office::claimed_id(signed).ok() != Some(self.office) {
            return Err(bad("it is another office's record"));
        }
        let (office, last) = {
            let directory = self.directory.directory();
            let (country, now) = (self.office.country(), self.composer.clock.now());
            let authority = directory.charter().authority_keys(country, now);
            let authority = authority.ok_or_else(|| bad("the charter does not have this country"))?;
            let last = directory.records(self.office).last().map(|last| (last.serial, last.sha256));
            (Office::verify(signed, &authority).map_err(|e| bad(&e.to_string()))?, last)
        };
        let own = self.vault.keystore().public_keys().map_err(|e| Failure::Failed(chain(&e)))?;
        let named = KeyPair { signing: *office.signing_key.as_bytes(), receipt: *office.receipt_key.as_bytes() };
        if (own.signing, own.receipt) == (named.signing, named.receipt) {
            return Err(bad("its keys are in use already"));
        }
        if own.next != Some(named) {
            return Err(bad("it does not name the office's next keys; a newer request was made since"));
        }
        if last != office.previous_sha256.map(|before| (office.serial - 1, before)) {
            return Err(bad("it does not follow the office's newest record; make the request again"));
        }
        let kept = self.vault.keystore().to_publish(&format!("office-{:06}", office.serial), &bytes);
        kept.map_err(|e| Failure::Failed(chain(&e)))?;
        Ok(json!({"serial": office.serial}))
    }

    /// A new credential, and with the officer's passphrase a new key. An officer renews their own while it is valid, and
    /// when no supervisor or administrator has a valid one; those renew anybody's.
    pub(super) async fn renew_officer(
        &self,
        uid: PeerUid,
        officer: String,
        passphrase: Option<Zeroizing<String>>,
    ) -> Result<Value, Failure> {
        let asking = self.vault.officer(uid)?;
        let leads =
            |credential: &SignedCredential| matches!(credential.claimed_role(), Role::Supervisor | Role::Administrator);
        let own = asking.officer_id == officer;
        if !own && !leads(&asking.credential) {
            return Err(refused(RefusalCode::NotPermitted, "another officer's credential is renewed by a supervisor"));
        }
        let now = self.composer.clock.now();
        let is_valid = |credential: &SignedCredential| {
            let directory = self.directory.directory();
            let keys = directory.signing_keys(self.office, directory.size(), now);
            keys.is_some_and(|keys| credential.verify(self.office, &keys, now).is_ok())
        };
        // Where nobody is left who could renew it, the office's own word is enough: whoever unlocked it has its key.
        let others = self.vault.keystore().credentials().map_err(|e| Failure::Failed(chain(&e)))?;
        let somebody =
            others.iter().any(|(other, found)| *other != asking.officer_id && leads(found) && is_valid(found));
        if !is_valid(&asking.credential) && (!own || somebody) {
            return Err(refused(RefusalCode::NotPermitted, "your own credential has run out; ask a supervisor"));
        }
        let name = officer.clone();
        self.with_vault(move |vault, entropy| {
            vault.renew_officer(&name, passphrase.as_ref().map(|text| text.as_bytes()), entropy)
        })
        .await?;
        let renewed = self.vault.keystore().credential(&officer).map_err(|e| Failure::Failed(chain(&e)))?;
        tracing::info!("an officer's credential was renewed");
        Ok(json!({"officer": officer, "until": renewed.claimed_end().to_string()}))
    }
}
