//! Keys at rest. The office's secrets are sealed under a random office key; each officer has a slot, sealed under the
//! officer's passphrase, that holds the office key and the officer's own signing key.
//!
//! Readable without a passphrase: the TLS key (to connect) and the receipt key (to sign DELIVERED while locked).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use liaison_proto::{
    clock::UnixMillis,
    entropy::{Entropy, random},
    key_file::{KeyFileError, PrivateKey, read_private, write_private},
    limits,
    officer::{SignedCredential, is_officer_id},
    seal::{DecryptionKey, SealError, Suite},
    sign::SigningKey,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::secret_box::{self, DoesNotOpen};

mod at_rest;
mod change;
mod succession;

pub use change::Change;

/// What guessing a passphrase costs: Argon2id's parameters (RFC 9106).
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// RFC 9106, second recommended option.
    pub const RECOMMENDED: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
}

/// Days that a replaced private key is kept: the longest delivery, and the horizon of message ids.
pub const KEPT_DAYS: i64 = limits::DELIVERY_DAYS + limits::DEDUP_DAYS;

const OFFICE_LABEL: &[u8] = b"liaison/node/office-secrets/v1";
const SLOT_LABEL: &[u8] = b"liaison/node/officer-slot/v1";

/// Why keys could not be read, written or unlocked.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Reading or writing failed.
    #[error("{path} could not be read or written")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// A key file cannot be used.
    #[error("a key file cannot be used")]
    KeyFile(#[from] KeyFileError),
    /// A stored file is malformed.
    #[error("{0} is malformed")]
    Malformed(PathBuf),
    /// No such officer.
    #[error("this office has no officer {0}")]
    UnknownOfficer(String),
    /// The passphrase is wrong, or the slot was changed.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The passphrase was right, and the office's keys do not open.
    #[error("{0} does not open under this officer's slot: it is damaged, or the slot is of too long ago")]
    OfficeDoesNotOpen(PathBuf),
    /// Officers have not unlocked since too many changes.
    #[error("these officers must unlock first, so that their slots get the office key: {}", .0.join(", "))]
    TooManyLinks(Vec<String>),
    /// Sealing failed.
    #[error("the keys could not be sealed")]
    Seal(#[from] DoesNotOpen),
    /// A decryption key is malformed.
    #[error("an encryption key is malformed")]
    DecryptionKey(#[from] SealError),
    /// Deriving a key from the passphrase failed.
    #[error("deriving a key from the passphrase failed: {0}")]
    Derive(String),
}

/// The public halves of the office's keys, readable while locked: what the directory says of the office is held
/// against them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    /// Ed25519.
    pub signing: [u8; 32],
    /// Ed25519.
    pub receipt: [u8; 32],
    /// Names of the encryption keys, as in headers.
    pub encryption: Vec<[u8; 32]>,
    /// Signing and receipt keys of every record that this office ordered, in their order.
    #[serde(default)]
    pub ordered: Vec<KeyPair>,
    /// Those that are not in use yet.
    #[serde(default)]
    pub next: Option<KeyPair>,
}

/// Public halves of the keys of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// Ed25519.
    pub signing: [u8; 32],
    /// Ed25519.
    pub receipt: [u8; 32],
}

/// What an unlocked office holds.
#[derive(Clone)]
pub struct OfficeKeys {
    /// Signs headers, RETRIEVED and CANNOT_OPEN.
    pub signing: SigningKey,
    /// Signs once the directory has it.
    pub next_signing: Option<SigningKey>,
    /// Open what is sealed to the office, the newest of each suite first.
    pub decryption: Vec<OwnKey>,
    /// Seals the key table.
    pub storage: StorageKey,
    /// Seals these keys at rest; in every officer's slot.
    pub(crate) office_key: Zeroizing<[u8; 32]>,
}

/// A decryption key and what became of it.
#[derive(Clone)]
pub struct OwnKey {
    /// The private half.
    pub key: DecryptionKey,
    /// When it was replaced by a newer one of its suite; it opens what was sealed before.
    pub replaced: Option<UnixMillis>,
}

/// The key under which the key table's thread keys are sealed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StorageKey {
    /// Seals.
    pub(crate) key: [u8; 32],
    /// Opens what is not sealed anew yet.
    pub(crate) former: Option<[u8; 32]>,
}

/// An officer's own key and credential.
#[derive(Clone)]
pub struct OfficerKey {
    /// Short id.
    pub officer_id: String,
    /// Signs content.
    pub key: SigningKey,
    /// As carried in content.
    pub credential: SignedCredential,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfficeFile {
    version: u32,
    signing: String,
    #[serde(default)]
    next_signing: Option<String>,
    storage: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former_storage: Option<String>,
    decryption: Vec<DecryptionEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecryptionEntry {
    suite: u32,
    secret: String,
    #[serde(default)]
    replaced_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotFile {
    version: u32,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    /// Office key (32 bytes) and officer's seed (32 bytes), sealed.
    sealed: String,
    /// Encoded `OfficerSignature` without its last field: the credential.
    credential: String,
}

/// The keystore's directory.
#[derive(Clone, Debug)]
pub struct Keystore {
    directory: PathBuf,
    cost: Cost,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KeystoreError {
    let path = path.to_path_buf();
    |source| KeystoreError::Io { path, source }
}

/// Replaces a private file: after any crash it holds the old bytes or the new ones.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeystoreError> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error(&temporary)(e)),
        _ => {}
    }
    write_private(&temporary, bytes).map_err(io_error(&temporary))?;
    fs::rename(&temporary, path).map_err(io_error(path))?;
    let directory = path.parent().unwrap_or(path);
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error(directory))
}

fn derive(passphrase: &[u8], slot: &SlotFile, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let failed = |e: argon2::Error| KeystoreError::Derive(e.to_string());
    let params = Params::new(slot.memory_kib, slot.passes, slot.lanes, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, key.as_mut())
        .map_err(failed)?;
    Ok(key)
}

impl Keystore {
    /// The keystore in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self::with_cost(directory, Cost::RECOMMENDED)
    }

    /// One whose new passphrases cost something else: simulations unlock a thousand times.
    pub fn with_cost(directory: impl Into<PathBuf>, cost: Cost) -> Self {
        Self { directory: directory.into(), cost }
    }

    /// The TLS certificate chain and key.
    #[must_use]
    pub fn tls(&self) -> (PathBuf, PathBuf) {
        (self.directory.join("tls.pem"), self.directory.join("tls.key"))
    }

    /// The receipt key: usable while locked.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn receipt_key(&self) -> Result<SigningKey, KeystoreError> {
        Ok(PrivateKey::read_signing(&self.directory.join("receipt.key"))?)
    }

    /// Imports what `certs-dev` (or a country's authority) made for the office; every officer found gets a slot under
    /// `passphrase`. The directory must not exist.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn import(
        &self,
        material: &Path,
        passphrase: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<String>, KeystoreError> {
        fs::create_dir_all(self.directory.join("slots")).map_err(io_error(&self.directory))?;
        for name in ["tls.pem", "tls.key", "receipt.key"] {
            let bytes = Zeroizing::new(fs::read(material.join(name)).map_err(io_error(&material.join(name)))?);
            let path = self.directory.join(name);
            write_private(&path, &bytes).map_err(io_error(&path))?;
        }
        let signing = PrivateKey::read_signing(&material.join("signing.key"))?;
        let mut decryption = Vec::new();
        for name in ["encryption-xwing.key", "encryption-x25519.key"] {
            if let PrivateKey::Decryption(key) = PrivateKey::read(&material.join(name))? {
                decryption.push(key);
            }
        }
        let office_key = Zeroizing::new(random(entropy));
        let decryption: Vec<OwnKey> = decryption.into_iter().map(|key| OwnKey { key, replaced: None }).collect();
        let storage = StorageKey { key: random(entropy), former: None };
        let keys = OfficeKeys { signing, next_signing: None, decryption, storage, office_key: office_key.clone() };
        self.write_public(&keys)?;
        self.write_office(&keys, entropy)?;
        let mut officers = Vec::new();
        let directory = material.join("officers");
        for entry in fs::read_dir(&directory).map_err(io_error(&directory))? {
            let path = entry.map_err(io_error(&directory))?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".key")) else { continue };
            let key = PrivateKey::read_signing(&path)?;
            let credential = fs::read(directory.join(format!("{id}.credential"))).map_err(io_error(&path))?;
            self.write_slot(id, &office_key, &key, &credential, passphrase, entropy)?;
            officers.push(id.to_owned());
        }
        officers.sort();
        Ok(officers)
    }

    fn write_public(&self, keys: &OfficeKeys) -> Result<(), KeystoreError> {
        let before = self.public_keys().ok();
        // Names of destroyed keys stay: the directory still shows them as this office's.
        let mut encryption: Vec<[u8; 32]> = before.as_ref().map(|before| before.encryption.clone()).unwrap_or_default();
        for own in &keys.decryption {
            let name = own.key.public().sha256();
            if !encryption.contains(&name) {
                encryption.push(name);
            }
        }
        let signing = *keys.signing.verifying_key().as_bytes();
        let receipt = *self.receipt_key()?.verifying_key().as_bytes();
        let mut ordered: Vec<KeyPair> = before.iter().flat_map(|before| before.ordered.clone()).collect();
        if ordered.is_empty() {
            ordered.push(KeyPair { signing, receipt });
        }
        let next = before.and_then(|before| before.next);
        self.replace_public(&PublicKeys { signing, receipt, encryption, ordered, next })
    }

    fn replace_public(&self, public: &PublicKeys) -> Result<(), KeystoreError> {
        let path = self.directory.join("public.json");
        let text = serde_json::to_vec(public).map_err(|_| KeystoreError::Malformed(path.clone()))?;
        replace(&path, &text)
    }

    /// The public halves of the office's keys.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn public_keys(&self) -> Result<PublicKeys, KeystoreError> {
        let path = self.directory.join("public.json");
        serde_json::from_slice(&read_private(&path)?).map_err(|_| KeystoreError::Malformed(path))
    }

    fn write_office(&self, keys: &OfficeKeys, entropy: &dyn Entropy) -> Result<(), KeystoreError> {
        let decryption = keys.decryption.iter().map(|own| DecryptionEntry {
            suite: own.key.suite().to_wire(),
            secret: STANDARD.encode(own.key.secret()),
            replaced_ms: own.replaced.map(|at| at.0),
        });
        let file = OfficeFile {
            version: 1,
            signing: STANDARD.encode(keys.signing.seed()),
            next_signing: keys.next_signing.as_ref().map(|next| STANDARD.encode(next.seed())),
            storage: STANDARD.encode(keys.storage.key),
            former_storage: keys.storage.former.map(|former| STANDARD.encode(former)),
            decryption: decryption.collect(),
        };
        let path = self.directory.join("office.sealed");
        let text = Zeroizing::new(serde_json::to_vec(&file).map_err(|_| KeystoreError::Malformed(path.clone()))?);
        let sealed = secret_box::seal(&keys.office_key, OFFICE_LABEL, &text, entropy)?;
        replace(&path, &sealed)
    }

    fn slot_path(&self, officer: &str) -> Result<PathBuf, KeystoreError> {
        if is_officer_id(officer) {
            Ok(self.directory.join("slots").join(format!("{officer}.slot")))
        } else {
            Err(KeystoreError::UnknownOfficer(officer.escape_default().take(40).collect()))
        }
    }

    fn write_slot(
        &self,
        officer: &str,
        office_key: &[u8; 32],
        key: &SigningKey,
        credential: &[u8],
        passphrase: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<(), KeystoreError> {
        let salt: [u8; 16] = random(entropy);
        let mut slot = SlotFile {
            version: 1,
            memory_kib: self.cost.memory_kib,
            passes: self.cost.passes,
            lanes: self.cost.lanes,
            salt: STANDARD.encode(salt),
            sealed: String::new(),
            credential: STANDARD.encode(credential),
        };
        let wrapping = derive(passphrase, &slot, &salt)?;
        let secret = Zeroizing::new([&office_key[..], &key.seed()].concat());
        slot.sealed = STANDARD.encode(secret_box::seal(&wrapping, SLOT_LABEL, &secret, entropy)?);
        let path = self.slot_path(officer)?;
        let text = serde_json::to_vec_pretty(&slot).map_err(|_| KeystoreError::Malformed(path.clone()))?;
        replace(&path, &text)
    }

    /// Opens an officer's slot and the office's secrets. Takes a fraction of a second and 64 MiB by design.
    ///
    /// # Errors
    /// [`KeystoreError::UnknownOfficer`], [`KeystoreError::WrongPassphrase`], or what failed.
    pub fn unlock(&self, officer: &str, passphrase: &[u8]) -> Result<(OfficeKeys, OfficerKey), KeystoreError> {
        let (slot_key, officer) = self.open_slot(officer, passphrase)?;
        let malformed = || KeystoreError::Malformed(self.directory.join("office.sealed"));
        let (text, office_key) = self.open_office(slot_key)?;
        let file: OfficeFile = serde_json::from_slice(&text).map_err(|_| malformed())?;
        if file.version != 1 {
            return Err(malformed());
        }
        let seed = |text: &str| -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
            let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| malformed())?);
            Ok(Zeroizing::new(bytes.as_slice().try_into().map_err(|_| malformed())?))
        };
        let mut decryption = Vec::new();
        for entry in &file.decryption {
            let suite = Suite::from_wire(entry.suite).ok_or_else(malformed)?;
            let secret = Zeroizing::new(STANDARD.decode(&entry.secret).map_err(|_| malformed())?);
            let replaced = entry.replaced_ms.map(UnixMillis);
            decryption.push(OwnKey { key: DecryptionKey::parse(suite, &secret)?, replaced });
        }
        let signing = SigningKey::from_seed(&*seed(&file.signing)?);
        let next =
            file.next_signing.as_deref().map(|next| Ok::<_, KeystoreError>(SigningKey::from_seed(&*seed(next)?)));
        let next_signing = next.transpose()?;
        let former = file.former_storage.as_deref().map(seed).transpose()?.map(|former| *former);
        let storage = StorageKey { key: *seed(&file.storage)?, former };
        Ok((OfficeKeys { signing, next_signing, decryption, storage, office_key }, officer))
    }

    fn open_slot(&self, officer: &str, passphrase: &[u8]) -> Result<(Zeroizing<[u8; 32]>, OfficerKey), KeystoreError> {
        let path = self.slot_path(officer)?;
        if !path.exists() {
            return Err(KeystoreError::UnknownOfficer(officer.to_owned()));
        }
        let malformed = || KeystoreError::Malformed(path.clone());
        let slot: SlotFile = serde_json::from_slice(&read_private(&path)?).map_err(|_| malformed())?;
        let costs_allowed = slot.memory_kib <= 1024 * 1024 && slot.passes <= 16 && slot.lanes <= 16;
        if slot.version != 1 || !costs_allowed {
            return Err(malformed());
        }
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| malformed());
        let wrapping = derive(passphrase, &slot, &decode(&slot.salt)?)?;
        let secret = secret_box::open(&wrapping, SLOT_LABEL, &decode(&slot.sealed)?)
            .map_err(|_| KeystoreError::WrongPassphrase)?;
        let (office_key, seed) = secret.split_first_chunk::<32>().ok_or_else(malformed)?;
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| malformed())?);
        let (credential, signature) = succession::stored_credential(&path, &slot)?;
        let officer = OfficerKey {
            officer_id: officer.to_owned(),
            key: SigningKey::from_seed(&seed),
            credential: SignedCredential::from_parts(credential, signature),
        };
        Ok((Zeroizing::new(*office_key), officer))
    }
}
