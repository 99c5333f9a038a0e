//! Whether the data directory is the one that the broker wrote last, or a copy of it from some time: a restored backup
//! looks like a good log, and only the offices know what it lacks.
//!
//! What a copy cannot have is the identity of the original's files: number and time of birth. A snapshot of a whole disk
//! has both; whoever brings one back removes the note.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, time::UNIX_EPOCH};

use liaison_log::disk::{OsDisk, replace_file};

const NOTE: &str = "continuity";
const LOGS: [&str; 2] = ["directory", "exchange"];

fn identity(data: &Path) -> io::Result<String> {
    let mut text = String::new();
    for log in LOGS {
        let found = fs::metadata(data.join(log).join("leaves/00000000.segment"))?;
        // Not every file system knows when a file was made.
        let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let nanos = born.map_or(0, |born| born.as_nanos());
        text.push_str(&format!("{log} {} {nanos}\n", found.ino()));
    }
    Ok(text)
}

/// Whether these are the files that the note is about.
///
/// # Errors
/// When they cannot be looked at.
pub fn is_unbroken(data: &Path) -> io::Result<bool> {
    match fs::read_to_string(data.join(NOTE)) {
        Ok(noted) => Ok(noted == identity(data)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Notes that these files are the newest.
///
/// # Errors
/// When it cannot be written.
pub fn confirm(data: &Path) -> io::Result<()> {
    replace_file(&OsDisk::new(data), NOTE, identity(data)?.as_bytes())
}
