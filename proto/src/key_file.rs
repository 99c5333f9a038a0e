//! Private keys in files: one commented line of text, mode 0600, never overwritten.

use std::{
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{
    seal::{DecryptionKey, Suite},
    sign::SigningKey,
};

const MAGIC: &str = "liaison-key-v1";
/// A key file is a comment line and a key line.
const MAX_BYTES: u64 = 16 * 1024;

/// A private key of a file.
#[derive(Debug)]
pub enum PrivateKey {
    /// Ed25519 seed.
    Signing(SigningKey),
    /// Key to open what was sealed.
    Decryption(DecryptionKey),
}

/// Why a key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Reading or writing failed.
    #[error("key file {path} could not be read or written")]
    Io {
        /// The file.
        path: String,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// Not a key file of the kind wanted.
    #[error("key file {path} does not hold {wanted}")]
    Malformed {
        /// The file.
        path: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Readable by others.
    #[error("key file {path} is readable by others; run: chmod 600 {path}")]
    Permissions {
        /// The file.
        path: String,
    },
}

/// Writes a file only its owner can read; it must not exist.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// When others may read it, or it cannot be read.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let io_error = |source| KeyFileError::Io { path: path.display().to_string(), source };
    let file = OpenOptions::new().read(true).open(path).map_err(io_error)?;
    if file.metadata().map_err(io_error)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.display().to_string() });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(io_error)?;
    Ok(bytes)
}

impl PrivateKey {
    fn kind(&self) -> &'static str {
        match self {
            Self::Signing(_) => "ed25519",
            Self::Decryption(key) => match key.suite() {
                Suite::X25519 => "hpke-x25519",
                Suite::XWing => "hpke-xwing",
            },
        }
    }

    /// Writes the key with a comment that says whose it is.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn write(&self, path: &Path, comment: &str) -> Result<(), KeyFileError> {
        write_private(path, self.to_text(comment).as_bytes())
            .map_err(|source| KeyFileError::Io { path: path.display().to_string(), source })
    }

    /// The text of a key file.
    #[must_use]
    pub fn to_text(&self, comment: &str) -> Zeroizing<String> {
        let secret = Zeroizing::new(match self {
            Self::Signing(key) => STANDARD.encode(key.seed()),
            Self::Decryption(key) => STANDARD.encode(key.secret()),
        });
        Zeroizing::new(format!("# {comment}\n{MAGIC} {} {}\n", self.kind(), *secret))
    }

    /// Reads any private key.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = read_private(path)?;
        Self::parse(&bytes).ok_or_else(|| KeyFileError::Malformed {
            path: path.display().to_string(),
            wanted: "a private key of liaison",
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let line = text.lines().find(|line| !line.starts_with('#'))?;
        let mut words = line.split(' ');
        let (Some(MAGIC), Some(kind), Some(secret), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return None;
        };
        let secret = Zeroizing::new(STANDARD.decode(secret).ok()?);
        match kind {
            "ed25519" => Some(Self::Signing(SigningKey::from_seed(secret.as_slice().try_into().ok()?))),
            "hpke-x25519" => DecryptionKey::parse(Suite::X25519, &secret).ok().map(Self::Decryption),
            "hpke-xwing" => DecryptionKey::parse(Suite::XWing, &secret).ok().map(Self::Decryption),
            _ => None,
        }
    }

    /// Reads a signing key.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read_signing(path: &Path) -> Result<SigningKey, KeyFileError> {
        match Self::read(path)? {
            Self::Signing(key) => Ok(key),
            Self::Decryption(_) => {
                Err(KeyFileError::Malformed { path: path.display().to_string(), wanted: "a signing key" })
            }
        }
    }
}
