//! Checking a log at rest: the recovery of the normal path on an overlay, every leaf and body read, every tile compared.
//! Nothing is changed.

use std::sync::Arc;

use liaison_proto::{failure::chain, ids::LogIndex};

use crate::{
    commit::{Log, Sequencer},
    disk::{Disk, overlay::OverlayDisk},
    open::{LogConfig, open},
    tiles,
};

/// What a check found.
pub struct Checked<S: Sequencer> {
    /// The log as it would be opened; none when it cannot be.
    pub log: Option<Log<S>>,
    /// Entries read.
    pub entries: u64,
    /// Bodies read.
    pub bodies: u64,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
    /// What is no damage, and worth knowing.
    pub notes: Vec<String>,
}

/// Names of the tiles that became full between two sizes: a crash behind the signed size has not written them.
fn tiles_between(signed: u64, size: u64) -> Vec<String> {
    let full = |size: u64, level: u8| size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
    (0..8_u8)
        .flat_map(|level| (full(signed, level)..full(size, level)).map(move |index| (level, index)))
        .map(|(level, index)| tiles::tile_path(level, index, 256))
        .collect()
}

/// Checks a log.
#[must_use]
pub fn check<S: Sequencer>(config: LogConfig, sequencer: S) -> Checked<S> {
    let overlay = Arc::new(OverlayDisk::new(Arc::clone(&config.disk)));
    let disk: Arc<dyn Disk> = Arc::clone(&overlay) as Arc<dyn Disk>;
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    let (log, recovery) = match open(LogConfig { disk, ..config }, sequencer) {
        Ok(opened) => opened,
        Err(error) => {
            return Checked { log: None, entries: 0, bodies: 0, problems: vec![chain(&error)], notes };
        }
    };
    if let Some(cut) = &recovery.cut {
        notes.push(format!("behind the signed size something was never finished, and the next start cuts it: {cut}"));
    }
    let unwritten = tiles_between(recovery.size - recovery.kept, recovery.size);
    for tile in overlay.changed().iter().filter(|name| name.starts_with("tile/")) {
        if unwritten.contains(tile) {
            notes.push(format!("{tile} was not written yet; the next start makes it from the entries"));
        } else {
            problems.push(format!("{tile} is missing or damaged; the next start makes it anew from the entries"));
        }
    }
    let (reader, mut bodies) = (log.reader(), 0);
    for index in (0..recovery.size).map(LogIndex) {
        let leaf = match reader.leaf(index) {
            Ok(leaf) => leaf,
            Err(refusal) => {
                problems.push(format!("entry {index} cannot be read: {refusal}"));
                continue;
            }
        };
        let body = reader.body(index).ok();
        bodies += u64::from(body.is_some());
        if !log.sequencer.body_matches(&leaf, body.as_ref()) {
            problems.push(format!("the body of entry {index} is missing or damaged"));
        }
    }
    Checked { log: Some(log), entries: recovery.size, bodies, problems, notes }
}
