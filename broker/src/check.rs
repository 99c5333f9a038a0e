//! `broker check`: both logs, index and attachments of a stopped broker, compared with each other. Nothing is changed.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::{Arc, PoisonError},
};

use liaison_link::{charter_files, process::lock_directory};
use liaison_log::{
    check::check,
    disk::os_disks,
    exchange::ExchangeState,
    index::{Index as _, IndexError, MemoryIndex},
};
use liaison_proto::{file_sha256, ids::OfficeId};
use serde_json::{Value, json};

use crate::{
    attachments::AttachmentStore,
    config::Config,
    directory_log::DirectorySequencer,
    index::SledIndex,
    init::{StartError, io_failed, log_config},
    queue::Queue,
    sequence::ExchangeSequencer,
};

/// What was checked, and what was found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was read, a line each.
    pub read: Vec<String>,
    /// What is no damage, and worth knowing.
    pub notes: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl Report {
    /// For machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"read": self.read, "notes": self.notes, "problems": self.problems})
    }
}

/// Checks a stopped broker.
///
/// # Errors
/// When it runs, or configuration and keys cannot be read; what is wrong with its data is in the report.
pub fn run(config: &Config) -> Result<Report, StartError> {
    let charter = charter_files::load(&config.charter, Some(&config.charter_sha256))?;
    if !config.data.is_dir() {
        return Err(StartError::Missing(config.data.clone()));
    }
    let _lock = lock_directory(&config.data).map_err(io_failed("locking the data directory"))?;
    let (disks, mut report) = (os_disks(), Report::default());
    let (sequencer, directory) = DirectorySequencer::new(charter.clone(), Arc::default());
    let directory_config = log_config(config, &disks, "directory", &config.directory_log_key, &charter)?;
    let checked = check(directory_config, sequencer);
    report.read.push(format!("directory log: {} entries", checked.entries));
    report.note("directory log", checked.problems, checked.notes);

    // Made anew from the journal, in memory: what the index on the disk should say.
    let index = Arc::new(MemoryIndex::default());
    let attachments = Arc::new(AttachmentStore::read_only(&config.data.join("attachments")));
    let state = ExchangeState::open(Box::new(Arc::clone(&index)))?;
    let sequencer =
        ExchangeSequencer::new(state, directory, Arc::new(Queue::default()), Arc::clone(&attachments), Arc::default());
    let state = sequencer.state();
    let exchange_config = log_config(config, &disks, "exchange", &config.exchange_log_key, &charter)?;
    let checked = check(exchange_config, sequencer);
    report.read.push(format!("exchange log: {} entries, {} bodies", checked.entries, checked.bodies));
    report.note("exchange log", checked.problems, checked.notes);
    if checked.log.is_some() {
        compare_index(config, &index, &mut report)?;
        let mut named: HashMap<[u8; 32], OfficeId> = HashMap::new();
        let state = state.read().unwrap_or_else(PoisonError::into_inner);
        state.each_message(&mut |_, message| {
            named.extend(message.attachments.iter().map(|name| (*name, message.from)));
        })?;
        check_attachments(&attachments, &named, &mut report);
    }
    Ok(report)
}

impl Report {
    fn note(&mut self, of: &str, problems: Vec<String>, notes: Vec<String>) {
        self.problems.extend(problems.into_iter().map(|line| format!("{of}: {line}")));
        self.notes.extend(notes.into_iter().map(|line| format!("{of}: {line}")));
    }
}

/// The index on the disk, read from a copy, against the one made from the journal.
fn compare_index(config: &Config, made: &MemoryIndex, report: &mut Report) -> Result<(), StartError> {
    let root = config.data.join("index");
    let copy = config.data.join("index.being-checked");
    let removed = |copy: &Path| match fs::remove_dir_all(copy) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    removed(&copy).and_then(|()| copy_directory(&root, &copy)).map_err(io_failed("copying the index"))?;
    let compared = compare(&copy, made, report);
    removed(&copy).map_err(io_failed("removing the copy of the index"))?;
    Ok(compared?)
}

fn compare(copy: &Path, made: &MemoryIndex, report: &mut Report) -> Result<(), IndexError> {
    let (found, empty) = SledIndex::open(copy)?;
    if empty {
        report.notes.push("index: it was not closed cleanly; the next start makes it anew from the journal".into());
        return Ok(());
    }
    let mut rows = HashMap::new();
    found.each_message(&mut |id, message| {
        rows.insert(id, message);
    })?;
    let count = rows.len();
    let mut wrong = 0;
    made.each_message(&mut |id, message| wrong += usize::from(rows.remove(&id).as_ref() != Some(&message)))?;
    let (mut channels, mut expected) = (found.channels()?, made.channels()?);
    channels.sort_unstable();
    expected.sort_unstable();
    report.read.push(format!("index: {count} messages, {} channels", channels.len()));
    let differs = wrong + rows.len() > 0 || channels != expected || found.applied()? != made.applied()?;
    if differs {
        report.problems.push(format!(
            "index: {} rows differ from the journal; remove the index directory, and the next start makes it anew",
            wrong + rows.len()
        ));
    }
    Ok(())
}

fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let listing = match fs::read_dir(from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        listing => listing?,
    };
    for entry in listing {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}

fn check_attachments(store: &AttachmentStore, named: &HashMap<[u8; 32], OfficeId>, report: &mut Report) {
    let mut read = 0;
    for (name, from) in named {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        match store.for_party(*from, name).map(|path| file_sha256(&path)) {
            Some(Ok(found)) if found == *name => read += 1,
            Some(_) => report.problems.push(format!("attachment {hex} is damaged")),
            None => report.problems.push(format!("attachment {hex} is missing")),
        }
    }
    report.read.push(format!("attachments: {read}"));
}
