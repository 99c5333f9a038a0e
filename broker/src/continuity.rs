//! Whether the data directory is the one that the broker wrote last, or a copy of it from some time: a restored backup
//! looks like a good log, and only the offices know what it lacks.
//!
//! What a copy cannot have is the identity of the original's files: number and time of birth, the note's own among them,
//! which is written anew at every start. A snapshot of a whole disk has them all; whoever brings one back removes the
//! note.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use liaison_log::disk::{Disk as _, Disks, OsDisk};

const NOTE: &str = "continuity";
const LOGS: [&str; 2] = ["directory", "exchange"];

fn identity(data: &Path, disks: &Disks, note: &str) -> io::Result<String> {
    let mut text = String::new();
    for log in LOGS {
        text.push_str(&format!("{log} {}\n", disks(&data.join(log)).identity("leaves/00000000.segment")?));
    }
    text.push_str(&format!("note {}\n", OsDisk::new(data).identity(note)?));
    Ok(text)
}

/// Whether these are the files that the note is about.
///
/// # Errors
/// When they cannot be looked at.
pub fn is_unbroken(data: &Path, disks: &Disks) -> io::Result<bool> {
    match fs::read_to_string(data.join(NOTE)) {
        Ok(noted) => Ok(noted == identity(data, disks, NOTE)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Notes that these files are the newest.
///
/// # Errors
/// When it cannot be written.
pub fn confirm(data: &Path, disks: &Disks) -> io::Result<()> {
    let new = format!("{NOTE}.new");
    let mut file = fs::File::create(data.join(&new))?;
    file.write_all(identity(data, disks, &new)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(data.join(&new), data.join(NOTE))?;
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
