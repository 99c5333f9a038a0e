//! The charter's two files: `charter.toml` and, beside it, `charter.sig`.

use std::{fs, io, path::Path};

use liaison_proto::charter::{Charter, CharterError, SignatureFile};

/// Why the charter could not be taken from its files.
#[derive(Debug, thiserror::Error)]
pub enum CharterFileError {
    /// A file cannot be read.
    #[error("{path} could not be read")]
    Io {
        /// The file.
        path: String,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// charter.sig is malformed.
    #[error("charter.sig is malformed: {0}")]
    Signatures(String),
    /// Not the charter that was delivered by hand.
    #[error("the charter's SHA-256 is {found}, the one delivered by hand is {wanted}")]
    OtherCharter {
        /// Of the file.
        found: String,
        /// Of the configuration.
        wanted: String,
    },
    /// The charter does not hold.
    #[error("the charter is not good")]
    Charter(#[from] CharterError),
}

/// Reads the charter and verifies that every member country has signed it, and that it is the one whose SHA-256 was
/// delivered by hand: anybody can make a charter that signs itself.
///
/// # Errors
/// [`CharterFileError`].
pub fn load(path: &Path, sha256: Option<&str>) -> Result<(Charter, SignatureFile), CharterFileError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| CharterFileError::Io { path: path.display().to_string(), source })
    };
    let charter = Charter::parse(read(path)?.into())?;
    let signatures = String::from_utf8_lossy(&read(&path.with_extension("sig"))?).into_owned();
    let signatures: SignatureFile =
        toml::from_str(&signatures).map_err(|e| CharterFileError::Signatures(e.message().to_owned()))?;
    charter.verify_signatures(&signatures.to_wire())?;
    if let Some(wanted) = sha256.filter(|wanted| !wanted.eq_ignore_ascii_case(&charter.fingerprint())) {
        return Err(CharterFileError::OtherCharter { found: charter.fingerprint(), wanted: wanted.to_owned() });
    }
    Ok((charter, signatures))
}
