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
    /// Too short to protect a stolen disk.
    #[error("a new passphrase needs at least {MIN_CHARS} characters")]
    TooShort,
    /// Typed differently the second time.
    #[error("the two passphrases are not the same")]
    Differ,
    /// Empty, or not text.
    #[error("the passphrase is empty or not UTF-8")]
    Empty,
}

/// Characters of a new passphrase: four words, say.
const MIN_CHARS: usize = 12;

/// Reads a new passphrase: long enough, and typed twice where it is typed.
///
/// # Errors
/// [`PassphraseError`].
pub fn read_new(file: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>, PassphraseError> {
    let first = read(file, prompt)?;
    if first.chars().count() < MIN_CHARS {
        return Err(PassphraseError::TooShort);
    }
    if file.is_none() && read(None, "Again: ")? != first {
        return Err(PassphraseError::Differ);
    }
    Ok(first)
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
