//! Passphrases: from a file that only its owner can read, or typed without echo. Never from the command line, which
//! other users can see.

use std::{io, path::Path};

use liaison_proto::key_file::{KeyFileError, read_private};
use zeroize::Zeroizing;

/// Why no passphrase could be read.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The file cannot be used.
    #[error("the passphrase file cannot be used")]
    File(#[from] KeyFileError),
    /// Nobody can be asked.
    #[error("no passphrase was typed; give --passphrase-file where there is no terminal")]
    Terminal(#[source] io::Error),
    /// Empty, or not text.
    #[error("the passphrase is empty or not UTF-8")]
    Empty,
}

/// Reads a passphrase; a line break at the end of a file does not count.
///
/// # Errors
/// [`PassphraseError`].
pub fn read(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>, PassphraseError> {
    let text = match file {
        None => Zeroizing::new(rpassword::prompt_password(prompt).map_err(PassphraseError::Terminal)?),
        Some(path) => {
            let bytes = read_private(path)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| PassphraseError::Empty)?;
            Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())
        }
    };
    if text.is_empty() { Err(PassphraseError::Empty) } else { Ok(text) }
}
