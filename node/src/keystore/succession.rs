//! New signing and receipt keys of the office, and new credentials of its officers.
//!
//! The way of new office keys: [`Keystore::prepare_next`] makes them and a request -> the country's authority signs the
//! request -> the record is published -> once the directory has it, [`Keystore::adopt_receipt`] (also while locked) and
//! [`Keystore::adopt_signing`] (when unlocked) go on with them. What was signed before stays good for some days.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{
    Bytes, ProtoMessage as _,
    clock::{DAY_MS, UnixMillis},
    entropy::Entropy,
    key_file::{PrivateKey, read_private},
    limits,
    office::Office,
    officer::SignedCredential,
    sign::SigningKey,
    wire,
};

use super::{KeyPair, Keystore, KeystoreError, OfficeKeys, OfficerKey, SlotFile, io_error, replace};

/// How far a new credential's validity begins before now: clocks differ.
const BEFORE_MS: i64 = DAY_MS;

impl Keystore {
    fn next_receipt_path(&self) -> std::path::PathBuf {
        self.directory.join("receipt.key.next")
    }

    fn slot(&self, officer: &str) -> Result<(std::path::PathBuf, SlotFile), KeystoreError> {
        let path = self.slot_path(officer)?;
        if !path.exists() {
            return Err(KeystoreError::UnknownOfficer(officer.to_owned()));
        }
        let slot = serde_json::from_slice(&read_private(&path)?).map_err(|_| KeystoreError::Malformed(path.clone()))?;
        Ok((path, slot))
    }

    /// Makes the office's next signing and receipt key, or takes those that were made and are not in the directory yet,
    /// unless `fresh` ones are wanted. Returns the keys with them, and the record for the country's authority to sign.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn prepare_next(
        &self,
        keys: &OfficeKeys,
        current: &Office,
        fresh: bool,
        entropy: &dyn Entropy,
    ) -> Result<(OfficeKeys, wire::Office), KeystoreError> {
        let made = self.public_keys()?.next.filter(|next| !fresh && self.has_next(keys, next));
        let (keys, next) = match made {
            Some(next) => (keys.clone(), next),
            None => self.make_next(keys, entropy)?,
        };
        let request = wire::Office {
            version: 1,
            office: current.id.to_string(),
            names: current.names.clone(),
            gate: current.gate.clone().unwrap_or_default(),
            signing_key: Bytes::copy_from_slice(&next.signing),
            receipt_key: Bytes::copy_from_slice(&next.receipt),
            serial: current.serial + 1,
            previous_sha256: Bytes::copy_from_slice(&current.sha256),
        };
        Ok((keys, request))
    }

    /// Whether both private halves are here.
    fn has_next(&self, keys: &OfficeKeys, next: &KeyPair) -> bool {
        let receipt = PrivateKey::read_signing(&self.next_receipt_path());
        keys.next_signing.as_ref().is_some_and(|key| key.verifying_key().as_bytes() == &next.signing)
            && receipt.is_ok_and(|key| key.verifying_key().as_bytes() == &next.receipt)
    }

    fn make_next(&self, keys: &OfficeKeys, entropy: &dyn Entropy) -> Result<(OfficeKeys, KeyPair), KeystoreError> {
        let (signing, receipt) = (SigningKey::generate(entropy), SigningKey::generate(entropy));
        let next =
            KeyPair { signing: *signing.verifying_key().as_bytes(), receipt: *receipt.verifying_key().as_bytes() };
        let text = PrivateKey::Signing(receipt).to_text("the office's next receipt key");
        replace(&self.next_receipt_path(), text.as_bytes())?;
        let keys = OfficeKeys { next_signing: Some(signing), ..keys.clone() };
        self.write_office(&keys, entropy)?;
        // Last: until it says so there are no next keys, whatever lies there.
        let mut public = self.public_keys()?;
        if public.ordered.is_empty() {
            public.ordered.push(KeyPair { signing: public.signing, receipt: public.receipt });
        }
        public.ordered.push(next);
        public.next = Some(next);
        self.replace_public(&public)?;
        Ok((keys, next))
    }

    /// Goes on with the receipt key of the next record, which the directory has, and returns it.
    ///
    /// # Errors
    /// [`KeystoreError`]; nothing is changed when the key that lies there is another one.
    pub fn adopt_receipt(&self, next: &KeyPair) -> Result<SigningKey, KeystoreError> {
        let present = self.receipt_key()?;
        if present.verifying_key().as_bytes() == &next.receipt {
            return Ok(present);
        }
        let path = self.next_receipt_path();
        let key = PrivateKey::read_signing(&path)?;
        if key.verifying_key().as_bytes() != &next.receipt {
            return Err(KeystoreError::Malformed(path));
        }
        let mut public = self.public_keys()?;
        public.receipt = next.receipt;
        self.replace_public(&public)?;
        fs::rename(&path, self.directory.join("receipt.key")).map_err(io_error(&path))?;
        fs::File::open(&self.directory).and_then(|d| d.sync_all()).map_err(io_error(&self.directory))?;
        Ok(key)
    }

    /// Goes on with the signing key of the next record, which the directory has, and signs every officer's credential
    /// with it. A slot that cannot be read is that officer's trouble, and tried again when the officer unlocks.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn adopt_signing(
        &self,
        keys: &OfficeKeys,
        next: &KeyPair,
        entropy: &dyn Entropy,
    ) -> Result<OfficeKeys, KeystoreError> {
        let is_next = |key: &&SigningKey| key.verifying_key().as_bytes() == &next.signing;
        // In use already when the last turn was cut short.
        let signing = keys.next_signing.iter().chain([&keys.signing]).find(is_next).cloned();
        let signing = signing.ok_or_else(|| KeystoreError::Malformed(self.directory.join("office.sealed")))?;
        let keys = OfficeKeys { signing, next_signing: None, ..keys.clone() };
        self.write_office(&keys, entropy)?;
        for officer in self.officers()? {
            if let Err(error) = self.issue(&officer, &keys.signing, |_| {}) {
                tracing::error!(%error, "an officer's credential was not signed anew");
            }
        }
        let mut public = self.public_keys()?;
        (public.signing, public.next) = (next.signing, None);
        self.replace_public(&public)?;
        Ok(keys)
    }

    /// Signs an officer's credential anew when it is not by the office's present key: its slot was out of the way when
    /// the key was replaced.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn refresh(&self, keys: &OfficeKeys, officer: OfficerKey) -> Result<OfficerKey, KeystoreError> {
        if officer.credential.is_by(&keys.signing.verifying_key()) {
            return Ok(officer);
        }
        let credential = self.issue(&officer.officer_id, &keys.signing, |_| {})?;
        Ok(OfficerKey { credential, ..officer })
    }

    /// Every officer with the credential in the slot; those that cannot be read are left out.
    ///
    /// # Errors
    /// When the slots cannot be listed.
    pub fn credentials(&self) -> Result<Vec<(String, SignedCredential)>, KeystoreError> {
        let read = |officer: String| Some((officer.clone(), self.credential(&officer).ok()?));
        Ok(self.officers()?.into_iter().filter_map(read).collect())
    }

    /// An officer's credential.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn credential(&self, officer: &str) -> Result<SignedCredential, KeystoreError> {
        let (path, slot) = self.slot(officer)?;
        let (bytes, signature) = stored_credential(&path, &slot)?;
        Ok(SignedCredential::from_parts(bytes, signature))
    }

    pub(super) fn officers(&self) -> Result<Vec<String>, KeystoreError> {
        let directory = self.directory.join("slots");
        let listing = fs::read_dir(&directory).map_err(io_error(&directory))?;
        let names = listing.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.filter_map(|name| name.strip_suffix(".slot").map(str::to_owned)).collect())
    }

    /// Changes an officer's credential and signs it; the officer's passphrase is not needed.
    fn issue(
        &self,
        officer: &str,
        signing: &SigningKey,
        change: impl FnOnce(&mut wire::OfficerCredential),
    ) -> Result<SignedCredential, KeystoreError> {
        let (path, mut slot) = self.slot(officer)?;
        let (signed, stored) = reissue(&path, &slot, signing, change)?;
        slot.credential = STANDARD.encode(stored);
        let text = serde_json::to_vec_pretty(&slot).map_err(|_| KeystoreError::Malformed(path.clone()))?;
        replace(&path, &text)?;
        Ok(signed)
    }

    /// Gives an officer a credential for the longest time from now.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn renew_credential(
        &self,
        keys: &OfficeKeys,
        officer: &str,
        now: UnixMillis,
    ) -> Result<SignedCredential, KeystoreError> {
        self.issue(officer, &keys.signing, |credential| extend(credential, now))
    }

    /// Gives an officer a new key of their own and a credential for it.
    ///
    /// # Errors
    /// As [`Keystore::unlock`].
    pub fn renew_officer_key(
        &self,
        keys: &OfficeKeys,
        officer: &str,
        passphrase: &[u8],
        now: UnixMillis,
        entropy: &dyn Entropy,
    ) -> Result<(SigningKey, SignedCredential), KeystoreError> {
        // The passphrase is the officer's: nobody else gives them a key.
        let (office_key, _) = self.open_slot(officer, passphrase)?;
        let (path, slot) = self.slot(officer)?;
        let key = SigningKey::generate(entropy);
        let (signed, stored) = reissue(&path, &slot, &keys.signing, |credential| {
            credential.public_key = Bytes::copy_from_slice(key.verifying_key().as_bytes());
            extend(credential, now);
        })?;
        self.write_slot(officer, &office_key, &key, &stored, passphrase, entropy)?;
        Ok((key, signed))
    }
}

fn extend(credential: &mut wire::OfficerCredential, now: UnixMillis) {
    let not_before = now.plus(-BEFORE_MS);
    credential.not_before_ms = not_before.0;
    credential.not_after_ms = not_before.plus(limits::CREDENTIAL_DAYS * DAY_MS).0;
    credential.serial += 1;
}

pub(super) fn stored_credential(
    path: &std::path::Path,
    slot: &SlotFile,
) -> Result<(Bytes, wire::Signature), KeystoreError> {
    let malformed = || KeystoreError::Malformed(path.to_path_buf());
    let stored = STANDARD.decode(&slot.credential).map_err(|_| malformed())?;
    let stored = wire::OfficerSignature::decode(Bytes::from(stored)).map_err(|_| malformed())?;
    Ok((stored.credential, stored.credential_signature.ok_or_else(malformed)?))
}

/// A slot's credential, changed and signed; and its stored form.
fn reissue(
    path: &std::path::Path,
    slot: &SlotFile,
    signing: &SigningKey,
    change: impl FnOnce(&mut wire::OfficerCredential),
) -> Result<(SignedCredential, Vec<u8>), KeystoreError> {
    let (bytes, _) = stored_credential(path, slot)?;
    let malformed = |_| KeystoreError::Malformed(path.to_path_buf());
    let mut credential = wire::OfficerCredential::decode(bytes).map_err(malformed)?;
    change(&mut credential);
    let signed = SignedCredential::issue(&credential, signing);
    let stored = signed.to_stored();
    Ok((signed, stored))
}
