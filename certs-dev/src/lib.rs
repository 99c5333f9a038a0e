//! A development charter: authorities, certificates and keys of five countries. DEVELOPMENT ONLY: whoever runs this
//! holds every country's keys at once, which no one may in earnest.
//!
//! Out of scope: anything a real country's authority does; see `SECURITY.md`.
//!
//! Invariants:
//! - Private files have mode 0600 and are never overwritten; the output directory must not exist.
//! - Every country's CA is name-constrained to its own subtree; bad certificates are in `bad/` only.

pub mod agreements;
pub mod authority;
pub mod bad;
pub mod cli;
mod files;
pub mod members;
pub mod renewal;
pub mod revocation;
pub mod roles;
pub mod succession;

use std::{io, path::PathBuf};

use liaison_proto::{charter::CharterError, key_file::KeyFileError};

/// What every private file says in its first line.
pub const COMMENT: &str = "DEVELOPMENT ONLY: made by certs-dev; never use in earnest";

/// Why the development charter could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The output directory exists.
    #[error("{0} exists; certs-dev never overwrites keys")]
    Exists(PathBuf),
    /// Reading or writing failed.
    #[error("{path} could not be read or written")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// A record to be signed is malformed.
    #[error("{0} is not the next record of an office")]
    Request(PathBuf),
    /// members.toml is malformed.
    #[error("the list of members is malformed: {0}")]
    Members(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A key file could not be written.
    #[error("a key file could not be written")]
    KeyFile(#[from] KeyFileError),
    /// The charter made breaks its own rules.
    #[error("the charter made is not good")]
    Charter(#[from] CharterError),
}

/// A file that could not be read or written.
pub(crate) fn io_error(path: &std::path::Path) -> impl FnOnce(io::Error) -> CertsError {
    let path = path.to_path_buf();
    |source| CertsError::Io { path, source }
}
