//! New keys at rest: the office key, which seals the office's secrets and is in every officer's slot, and the storage key,
//! which seals the key table.
//!
//! A slot opens with its officer's passphrase only, so a new office key reaches the others by a *link*: the new key sealed
//! under the one before. Each officer's slot gets the new key when the officer unlocks next, and a link that no slot needs
//! any more is removed.

use std::{fs, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{
    entropy::{Entropy, random},
    key_file::read_private,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Keystore, KeystoreError, OFFICE_LABEL, OfficeKeys, StorageKey, io_error, replace};
use crate::secret_box;

const LINK_LABEL: &[u8] = b"liaison/node/office-key-link/v1";
/// Office keys that may stand between a slot and the present one: an officer who was away for as many changes.
const MOST_LINKS: usize = 16;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinksFile {
    links: Vec<Link>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    /// The office key after, sealed under the one before.
    sealed: String,
    /// Officers whose slots may hold the one before.
    officers: Vec<String>,
}

impl Keystore {
    fn links_path(&self) -> std::path::PathBuf {
        self.directory.join("office.links")
    }

    fn links(&self) -> Result<LinksFile, KeystoreError> {
        let path = self.links_path();
        if !path.exists() {
            return Ok(LinksFile::default());
        }
        serde_json::from_slice(&read_private(&path)?).map_err(|_| KeystoreError::Malformed(path))
    }

    fn write_links(&self, links: &LinksFile) -> Result<(), KeystoreError> {
        let path = self.links_path();
        if links.links.is_empty() {
            return match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(e)),
                _ => Ok(()),
            };
        }
        let text = serde_json::to_vec(links).map_err(|_| KeystoreError::Malformed(path.clone()))?;
        replace(&path, &text)
    }

    /// Opens the office's secrets with the key of a slot, or with one that links lead to. Returns the key that opened.
    pub(super) fn open_office(&self, slot_key: Zeroizing<[u8; 32]>) -> Result<OpenedOffice, KeystoreError> {
        let path = self.directory.join("office.sealed");
        let sealed = fs::read(&path).map_err(io_error(&path))?;
        let links = self.links()?;
        let mut keys = vec![slot_key];
        for tried in 0..MOST_LINKS {
            let Some(key) = keys.get(tried).cloned() else { break };
            if let Ok(text) = secret_box::open(&key, OFFICE_LABEL, &sealed) {
                return Ok((text, key));
            }
            for link in &links.links {
                let next = STANDARD
                    .decode(&link.sealed)
                    .ok()
                    .and_then(|sealed| secret_box::open(&key, LINK_LABEL, &sealed).ok());
                keys.extend(next.and_then(|next| <[u8; 32]>::try_from(next.as_slice()).ok()).map(Zeroizing::new));
            }
        }
        Err(KeystoreError::OfficeDoesNotOpen(path))
    }

    /// Makes a new office key and a new storage key. The one before of the latter is kept until the key table is sealed anew
    /// ([`Self::forget_former`]).
    ///
    /// # Errors
    /// [`KeystoreError`]; the keys before are in use then.
    pub fn renew_at_rest(&self, keys: &OfficeKeys, entropy: &dyn Entropy) -> Result<OfficeKeys, KeystoreError> {
        let office_key = Zeroizing::new(random(entropy));
        let storage = StorageKey { key: random(entropy), former: Some(keys.storage.key) };
        let mut links = self.links()?;
        if links.links.len() + 1 >= MOST_LINKS {
            return Err(KeystoreError::TooManyLinks(
                links.links.iter().flat_map(|link| link.officers.clone()).collect(),
            ));
        }
        let sealed = secret_box::seal(&keys.office_key, LINK_LABEL, &office_key[..], entropy)?;
        links.links.push(Link { sealed: STANDARD.encode(sealed), officers: self.officers()? });
        // First: the secrets are never under a key that no slot leads to.
        self.write_links(&links)?;
        let keys = OfficeKeys { storage, office_key, ..keys.clone() };
        self.write_office(&keys, entropy)?;
        Ok(keys)
    }

    /// The key table is sealed under the new storage key: the one before is forgotten.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn forget_former(&self, keys: &OfficeKeys, entropy: &dyn Entropy) -> Result<OfficeKeys, KeystoreError> {
        let storage = StorageKey { key: keys.storage.key, former: None };
        let keys = OfficeKeys { storage, ..keys.clone() };
        self.write_office(&keys, entropy)?;
        Ok(keys)
    }

    /// Gives an officer's slot the present office key, and removes links that no slot needs any more.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn renew_slot(
        &self,
        officer: &str,
        passphrase: &[u8],
        keys: &OfficeKeys,
        entropy: &dyn Entropy,
    ) -> Result<(), KeystoreError> {
        let mut links = self.links()?;
        if links.links.is_empty() {
            return Ok(());
        }
        let (slot_key, opened) = self.open_slot(officer, passphrase)?;
        if slot_key != keys.office_key {
            self.write_slot(
                officer,
                &keys.office_key,
                &opened.key,
                &opened.credential.to_stored(),
                passphrase,
                entropy,
            )?;
        }
        let present = self.officers()?;
        for link in &mut links.links {
            link.officers.retain(|name| name != officer && present.contains(name));
        }
        links.links.retain(|link| !link.officers.is_empty());
        self.write_links(&links)
    }

    /// Officers whose slots may still hold an office key that was replaced.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn behind(&self) -> Result<Vec<String>, KeystoreError> {
        let mut officers: Vec<String> = self.links()?.links.into_iter().flat_map(|link| link.officers).collect();
        officers.sort();
        officers.dedup();
        Ok(officers)
    }
}

/// The office's secrets, and the office key that sealed them.
pub(super) type OpenedOffice = (Zeroizing<Vec<u8>>, Zeroizing<[u8; 32]>);
