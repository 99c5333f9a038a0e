//! New keys: of the office, by its country's authority, and of its officers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_link::local::PeerUid;
use liaison_proto::{
    ProtoMessage as _,
    failure::chain,
    office::Office,
    refusal::{Refusal, RefusalCode},
    wire::{self, Role, directory_record::Record},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Failure, LocalApi};
use crate::keystore::KeystoreError;
use crate::vault::RotateError;

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
            error @ RotateError::Keystore(_) => Self::Failed(chain(&error)),
        }
    }
}

impl LocalApi {
    /// New encryption keys.
    pub(super) fn rotate_keys(&self, uid: PeerUid) -> Result<Value, Failure> {
        self.vault.officer(uid)?;
        let made = self.vault.rotate(self.office, self.composer.entropy.as_ref())?;
        Ok(json!({"new_keys": made}))
    }

    /// New signing and receipt keys: what the country's authority is to sign.
    pub(super) fn renew_office_keys(&self, uid: PeerUid) -> Result<Value, Failure> {
        self.vault.officer(uid)?;
        let current = {
            let directory = self.directory.directory();
            directory.office(self.office, directory.size()).cloned()
        };
        let missing = || refused(RefusalCode::UnknownOriginator, "the directory has no valid record of this office");
        let request = self.vault.prepare_next(&current.ok_or_else(missing)?, self.composer.entropy.as_ref())?;
        Ok(json!({"serial": request.serial, "request": STANDARD.encode(request.encode_to_vec())}))
    }

    /// Takes the office's next record, as its authority signed it, to be published.
    pub(super) fn publish_record(&self, uid: PeerUid, record: &str) -> Result<Value, Failure> {
        self.vault.officer(uid)?;
        let bad = |detail: &str| refused(RefusalCode::BadRecord, detail);
        let bytes = STANDARD.decode(record.trim()).map_err(|_| bad("it is not base64"))?;
        let decoded =
            wire::DirectoryRecord::decode(bytes.as_slice()).map_err(|_| bad("it is not a directory record"))?;
        let Some(Record::Office(signed)) = &decoded.record else { return Err(bad("it is not an office record")) };
        let office = {
            let directory = self.directory.directory();
            let country = directory.charter().country(self.office.country());
            let authority = country.ok_or_else(|| bad("the charter does not have this country"))?.authority;
            Office::verify(signed, &authority).map_err(|e| bad(&e.to_string()))?
        };
        let own = self.vault.keystore().public_keys().map_err(|e| Failure::Failed(chain(&e)))?;
        let keys = [office.signing_key, office.receipt_key];
        if office.id != self.office || !keys.iter().all(|key| own.knows(key.as_bytes())) {
            return Err(bad("it is of another office, or names keys that this node does not have"));
        }
        let kept = self.vault.keystore().to_publish(&format!("office-{:06}", office.serial), &bytes);
        kept.map_err(|e| Failure::Failed(chain(&e)))?;
        Ok(json!({"serial": office.serial}))
    }

    /// A new credential, and with the officer's passphrase a new key. An officer renews their own while it is valid;
    /// a supervisor or administrator anybody's.
    pub(super) async fn renew_officer(
        &self,
        uid: PeerUid,
        officer: String,
        passphrase: Option<Zeroizing<String>>,
    ) -> Result<Value, Failure> {
        let asking = self.vault.officer(uid)?;
        let may = asking.officer_id == officer
            || matches!(asking.credential.claimed_role(), Role::Supervisor | Role::Administrator);
        if !may {
            return Err(refused(RefusalCode::NotPermitted, "another officer's credential is renewed by a supervisor"));
        }
        let own_is_valid = {
            let directory = self.directory.directory();
            let now = self.composer.clock.now();
            let keys = directory.signing_keys(self.office, directory.size(), now);
            keys.is_some_and(|keys| asking.credential.verify(self.office, &keys, now).is_ok())
        };
        if !own_is_valid {
            return Err(refused(RefusalCode::NotPermitted, "your own credential has run out; ask a supervisor"));
        }
        let (vault, entropy) = (std::sync::Arc::clone(&self.vault), std::sync::Arc::clone(&self.composer.entropy));
        let name = officer.clone();
        // Deriving the key takes a fraction of a second by design.
        let renewed = tokio::task::spawn_blocking(move || {
            vault.renew_officer(&name, passphrase.as_ref().map(|text| text.as_bytes()), entropy.as_ref())
        });
        renewed.await.map_err(|e| Failure::Failed(e.to_string()))??;
        Ok(json!({"officer": officer}))
    }
}
