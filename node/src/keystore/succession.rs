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

use super::{Keystore, KeystoreError, NextKeys, OfficeKeys, SlotFile, io_error, replace};

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

    /// Makes the office's next signing and receipt key, or takes those that were made and are not in the directory yet.
    /// Returns the keys with them, and the record for the country's authority to sign.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn prepare_next(
        &self,
        keys: &OfficeKeys,
        current: &Office,
        entropy: &dyn Entropy,
    ) -> Result<(OfficeKeys, wire::Office), KeystoreError> {
        let path = self.next_receipt_path();
        if !path.exists() {
            PrivateKey::Signing(SigningKey::generate(entropy)).write(&path, "the office's next receipt key")?;
        }
        let receipt = PrivateKey::read_signing(&path)?.verifying_key();
        let next = keys.next_signing.clone().unwrap_or_else(|| SigningKey::generate(entropy));
        let keys = OfficeKeys { next_signing: Some(next.clone()), ..keys.clone() };
        self.write_office(&keys, entropy)?;
        self.write_public(&keys)?;
        let request = wire::Office {
            version: 1,
            office: current.id.to_string(),
            names: current.names.clone().into_iter().collect(),
            gate: current.gate.clone().unwrap_or_default(),
            signing_key: Bytes::copy_from_slice(next.verifying_key().as_bytes()),
            receipt_key: Bytes::copy_from_slice(receipt.as_bytes()),
            serial: current.serial + 1,
            previous_sha256: Bytes::copy_from_slice(&current.sha256),
        };
        Ok((keys, request))
    }

    /// Public halves of the next keys, for `public.json`: what is not made yet, or in use already, is not next.
    pub(super) fn next_public(&self, keys: &OfficeKeys) -> Result<Option<NextKeys>, KeystoreError> {
        let Some(next) = &keys.next_signing else { return Ok(None) };
        let path = self.next_receipt_path();
        // In use already when the office was locked while the directory took the record.
        let receipt = if path.exists() { PrivateKey::read_signing(&path)? } else { self.receipt_key()? };
        let (signing, receipt) = (*next.verifying_key().as_bytes(), *receipt.verifying_key().as_bytes());
        Ok(Some(NextKeys { signing, receipt }))
    }

    /// Goes on with the next receipt key; none when there is no next one.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn adopt_receipt(&self) -> Result<Option<SigningKey>, KeystoreError> {
        let path = self.next_receipt_path();
        if !path.exists() {
            return Ok(None);
        }
        let key = PrivateKey::read_signing(&path)?;
        let mut public = self.public_keys()?;
        // First: a crash in between leaves a key that is known under both names.
        public.former.push(public.receipt);
        public.receipt = *key.verifying_key().as_bytes();
        self.replace_public(&public)?;
        fs::rename(&path, self.directory.join("receipt.key")).map_err(io_error(&path))?;
        fs::File::open(&self.directory).and_then(|d| d.sync_all()).map_err(io_error(&self.directory))?;
        Ok(Some(key))
    }

    /// Goes on with the next signing key, and signs every officer's credential with it.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn adopt_signing(&self, keys: &OfficeKeys, entropy: &dyn Entropy) -> Result<OfficeKeys, KeystoreError> {
        let signing = keys.next_signing.clone().unwrap_or_else(|| keys.signing.clone());
        // Credentials first: one by the next key with the key before at rest is good in the days of overlap.
        for officer in self.officers()? {
            self.issue(&officer, &signing, |_| {})?;
        }
        let keys = OfficeKeys { signing, next_signing: None, ..keys.clone() };
        self.write_office(&keys, entropy)?;
        self.write_public(&keys)?;
        Ok(keys)
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

    fn officers(&self) -> Result<Vec<String>, KeystoreError> {
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
