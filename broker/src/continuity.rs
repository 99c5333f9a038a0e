//! Whether the data directory is the one that the broker wrote last, or a copy of it from some time: a restored backup
//! looks like a good log, and only the offices know what it lacks.
//!
//! What a copy cannot have is the identity of the original's files: number and time of birth, the note's own among them,
//! which is written anew at every start. A snapshot of a whole disk has them all; whoever brings one back removes the
//! note.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::UNIX_EPOCH,
};

const NOTE: &str = "continuity";
const LOGS: [&str; 2] = ["directory", "exchange"];

fn identity(data: &Path, note: &Path) -> io::Result<String> {
    let mut text = String::new();
    let logs = LOGS.map(|log| (log, data.join(log).join("leaves/00000000.segment")));
    for (name, path) in logs.into_iter().chain([("note", note.to_path_buf())]) {
        let found = fs::metadata(path)?;
        // Not every file system knows when a file was made.
        let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let nanos = born.map_or(0, |born| born.as_nanos());
        text.push_str(&format!("{name} {} {nanos}\n", found.ino()));
    }
    Ok(text)
}

/// Whether these are the files that the note is about.
///
/// # Errors
/// When they cannot be looked at.
pub fn is_unbroken(data: &Path) -> io::Result<bool> {
    match fs::read_to_string(data.join(NOTE)) {
        Ok(noted) => Ok(noted == identity(data, &data.join(NOTE))?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Notes that these files are the newest.
///
/// # Errors
/// When it cannot be written.
pub fn confirm(data: &Path) -> io::Result<()> {
    let (new, place) = (data.join(format!("{NOTE}.new")), data.join(NOTE));
    let mut file = fs::File::create(&new)?;
    file.write_all(identity(data, &new)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &place)?;
    fs::File::open(data)?.sync_all()
}

/// Takes the note away: something is missing, and a restart must know it, too.
///
/// # Errors
/// When it cannot be removed.
pub fn withdraw(data: &Path) -> io::Result<()> {
    match fs::remove_file(data.join(NOTE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| fs::File::open(data)?.sync_all()),
    }
}
