//! Creating a node: keys imported and sealed, empty store, empty key table. Only `node init` does.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use liaison_link::{
    charter_files::{self, CharterFileError},
    dial::BadBrokerName,
    process::build_directory,
    tls::TlsError,
};
use liaison_log::disk::{Disk, Disks, os_disks};
use liaison_proto::{clock::Clock, entropy::Entropy, ids::OfficeId, officer::OfficerError};

use crate::{
    config::Config,
    key_table::KeyTable,
    keystore::{Keystore, KeystoreError},
    store::{self, StoreError},
};

/// Why a node could not be set up or started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The charter cannot be used.
    #[error("the charter cannot be used")]
    Charter(#[from] CharterFileError),
    /// The keystore cannot be used.
    #[error("the keystore cannot be used")]
    Keystore(#[from] KeystoreError),
    /// The store cannot be used.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The charter's broker name is not usable.
    #[error("the broker cannot be dialled")]
    BrokerName(#[from] BadBrokerName),
    /// The office is of no member country.
    #[error("{0} is of a country that is not in the charter")]
    Country(OfficeId),
    /// There is no node.
    #[error("there is no node in {0}; create one with: node init")]
    Missing(PathBuf),
    /// A part of the node is gone.
    #[error("{0} is missing: restore it from a backup; node init would make another node")]
    Incomplete(PathBuf),
    /// Material of another office, or not in force.
    #[error("the key material is not this office's")]
    Material(#[source] OfficerError),
    /// There is a node already.
    #[error("there is a node in {0} already; nothing was changed")]
    Exists(PathBuf),
    /// Reading, writing or listening failed.
    #[error("{what}")]
    Io {
        /// The operation.
        what: String,
        /// What failed.
        #[source]
        source: io::Error,
    },
}

impl From<io::Error> for NodeError {
    fn from(source: io::Error) -> Self {
        io_failed("creating the data directory")(source)
    }
}

/// An I/O failure with the operation that failed.
pub(crate) fn io_failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> NodeError {
    let what = what.into();
    |source| NodeError::Io { what, source }
}

/// The keystore of a node.
#[must_use]
pub fn keystore(config: &Config) -> Keystore {
    Keystore::new(config.data.join("keystore"))
}

/// A part of the node's own directory.
#[must_use]
pub fn disk(config: &Config, disks: &Disks, part: &str) -> Arc<dyn Disk> {
    disks(&config.data.join(part))
}

/// Creates a node from the office's key material; every officer found gets `passphrase`, to be changed.
///
/// # Errors
/// [`NodeError`]; when there is a node already, nothing is changed.
pub fn init(
    config: &Config,
    material: &Path,
    passphrase: &[u8],
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Vec<String>, NodeError> {
    let charter = charter_files::load(&config.charter, Some(&config.charter_sha256))?;
    if charter.country(config.office.country()).is_none() {
        return Err(NodeError::Country(config.office));
    }
    if config.data.exists() {
        return Err(NodeError::Exists(config.data.clone()));
    }
    build_directory(&config.data, |place| {
        let building = Config { data: place.to_path_buf(), ..config.clone() };
        let disk = disk(&building, &os_disks(), "store");
        store::create(&disk, config.segment_bytes(), entropy).map_err(io_failed("creating the store"))?;
        KeyTable::create(disk.as_ref()).map_err(io_failed("creating the key table"))?;
        let officers = keystore(&building).import(material, passphrase, entropy)?;
        for officer in &officers {
            let (keys, opened) = keystore(&building).unlock(officer, passphrase)?;
            opened
                .credential
                .verify(config.office, &keys.signing.verifying_key().into(), clock.now())
                .map_err(NodeError::Material)?;
        }
        Ok(officers)
    })
}
