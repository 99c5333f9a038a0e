//! Attachments: ciphertext named by its SHA-256, in files. What an office sends is its own until a message of that
//! office names it; then it is kept for the parties of the message. The service is in [`service`].
//!
//! Invariants:
//! - A file under its own name is whole: its hash was checked, and it was synced before it was renamed.
//! - A message is accepted only when everything it names is whole.
//! - What no accepted message names is removed after a day, and counts against its office's allowance until then.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use liaison_log::{exchange::ExchangeState, index::IndexError};
use liaison_proto::{header::Header, ids::OfficeId, wire};

pub mod service;
mod upload;

/// How long an attachment may wait for the message that names it.
const ORPHAN: Duration = Duration::from_secs(24 * 60 * 60);
/// Attachments and parts of them that an office may have waiting for their messages.
const MOST_WAITING: usize = 64;

/// SHA-256 of a ciphertext: the attachment's name.
pub type Name = [u8; 32];

fn text(name: &Name) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who may have an attachment: the parties of the messages that name it.
#[derive(Debug, Default)]
struct Kept {
    parties: HashSet<OfficeId>,
    /// Who brought it: it counts against this office's allowance.
    owner: Option<OfficeId>,
    size: u64,
}

/// The files of all attachments.
#[derive(Debug)]
pub struct AttachmentStore {
    root: PathBuf,
    /// Bytes that an office may have here, waiting for their messages or named by them.
    allowance: u64,
    /// Bytes that must stay free on the disk.
    reserve: u64,
    /// Whether a named attachment is moved to where it is kept.
    moves: bool,
    kept: Mutex<HashMap<Name, Kept>>,
    /// What uploads under way have still to bring, per office.
    announced: Mutex<HashMap<OfficeId, u64>>,
}

impl AttachmentStore {
    /// The store below a directory.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Path, allowance: u64, reserve: u64) -> io::Result<Self> {
        for part in ["kept", "new"] {
            fs::create_dir_all(root.join(part))?;
        }
        fs::File::open(root)?.sync_all()?;
        Ok(Self {
            root: root.to_path_buf(),
            allowance,
            reserve,
            moves: true,
            kept: Mutex::default(),
            announced: Mutex::default(),
        })
    }

    /// The store as it is, for a check: nothing is moved, made or removed.
    #[must_use]
    pub fn read_only(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            allowance: 0,
            reserve: 0,
            moves: false,
            kept: Mutex::default(),
            announced: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept_path(&self, name: &Name) -> PathBuf {
        self.root.join("kept").join(text(name))
    }

    fn own(&self, office: OfficeId) -> PathBuf {
        self.root.join("new").join(office.to_string())
    }

    fn new_path(&self, office: OfficeId, name: &Name) -> PathBuf {
        self.own(office).join(text(name))
    }

    fn part_path(&self, office: OfficeId, name: &Name) -> PathBuf {
        self.own(office).join(format!("{}.part", text(name)))
    }

    /// The first of these that is not here whole for a message of `office`, by name.
    #[must_use]
    pub fn missing(&self, office: OfficeId, named: &[wire::AttachmentCommitment]) -> Option<String> {
        named.iter().find(|attachment| !self.is_whole(office, attachment)).map(|attachment| {
            attachment.sha256.as_ref().try_into().map_or_else(|_| "without a name".to_owned(), |name| text(&name))
        })
    }

    fn is_whole(&self, office: OfficeId, attachment: &wire::AttachmentCommitment) -> bool {
        let Ok(name) = Name::try_from(attachment.sha256.as_ref()) else { return false };
        let new = self.new_path(office, &name);
        if fs::metadata(&new).is_ok_and(|found| found.len() == attachment.size) {
            // Its message is on its way: it is no orphan now.
            let now = fs::File::options().append(true).open(&new).and_then(|file| file.set_modified(system_now()));
            return now.is_ok();
        }
        // A message between others says nothing about what this office has; one that it received does.
        let own = self.lock().get(&name).is_some_and(|kept| kept.parties.contains(&office));
        own && fs::metadata(self.kept_path(&name)).is_ok_and(|found| found.len() == attachment.size)
    }

    /// A message that names attachments was accepted: they are kept for its parties.
    pub fn refer(&self, header: &Header) {
        let names = header.commitments().attachments.iter().filter_map(|a| Name::try_from(a.sha256.as_ref()).ok());
        let core = header.core();
        for name in names {
            self.keep(name, core.from, &core.to);
        }
    }

    fn keep(&self, name: Name, from: OfficeId, to: &[OfficeId]) {
        let mut all = self.lock();
        let kept = all.entry(name).or_default();
        kept.owner.get_or_insert(from);
        kept.parties.extend(to.iter().copied().chain([from]));
        drop(all);
        let (new, place) = (self.new_path(from, &name), self.kept_path(&name));
        if self.moves
            && new.exists()
            && let Err(error) =
                fs::rename(&new, &place).and_then(|()| fs::File::open(self.root.join("kept"))?.sync_all())
        {
            tracing::error!(%error, "an attachment could not be kept; it is tried again at the next start");
        }
        let size = fs::metadata(&place).map_or(0, |found| found.len());
        if let Some(kept) = self.lock().get_mut(&name) {
            kept.size = size;
        }
    }

    /// An attachment came whole. When a message of this office was accepted that names it, it had been lost, and is kept
    /// at once.
    fn settle(&self, office: OfficeId, name: Name) {
        let named = self.lock().get(&name).is_some_and(|kept| kept.parties.contains(&office));
        if named {
            self.keep(name, office, &[]);
        }
    }

    /// Takes the names from the rows of accepted messages, at a start.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn load(&self, state: &ExchangeState) -> Result<(), IndexError> {
        state.each_message(&mut |_, message| {
            let to: Vec<OfficeId> = message.recipients.iter().map(|recipient| recipient.office).collect();
            message.attachments.iter().for_each(|name| self.keep(*name, message.from, &to));
        })
    }

    /// Attachments of an office's accepted messages that are not here: lost, with whatever was lost.
    #[must_use]
    pub fn lost(&self, office: OfficeId, most: usize) -> Vec<Name> {
        let kept = self.lock();
        let lost = kept.iter().filter(|(_, kept)| kept.owner == Some(office) && kept.size == 0);
        lost.map(|(name, _)| *name).take(most).collect()
    }

    /// Bytes of an office's attachments that messages name.
    fn kept_bytes(&self, office: OfficeId) -> u64 {
        self.lock().values().filter(|kept| kept.owner == Some(office)).map(|kept| kept.size).sum()
    }

    /// Where an attachment is, for a party that may have it.
    #[must_use]
    pub fn for_party(&self, office: OfficeId, name: &Name) -> Option<PathBuf> {
        let may = self.lock().get(name).is_some_and(|kept| kept.parties.contains(&office));
        let kept = may.then(|| self.kept_path(name)).filter(|path| path.exists());
        kept.or_else(|| Some(self.new_path(office, name)).filter(|path| path.exists()))
    }

    /// How much of an attachment is here for its sender, and whether that is all.
    #[must_use]
    pub fn held(&self, office: OfficeId, name: &Name) -> (u64, bool) {
        let size = |path: &Path| fs::metadata(path).ok().map(|found| found.len());
        match self.for_party(office, name).and_then(|path| size(&path)) {
            Some(whole) => (whole, true),
            None => (size(&self.part_path(office, name)).unwrap_or(0), false),
        }
    }

    /// Removes what no accepted message names: parts and wholes that nobody has touched for a day.
    pub fn collect(&self) -> usize {
        let before = system_now() - ORPHAN;
        let mut removed = 0;
        let offices = fs::read_dir(self.root.join("new")).into_iter().flatten().flatten();
        for file in offices.flat_map(|office| fs::read_dir(office.path()).into_iter().flatten().flatten()) {
            let old = file.metadata().and_then(|found| found.modified()).is_ok_and(|modified| modified < before);
            if old && fs::remove_file(file.path()).is_ok() {
                removed += 1;
            }
        }
        removed + self.collect_kept(before)
    }

    /// Kept files whose messages the index has forgotten.
    fn collect_kept(&self, before: SystemTime) -> usize {
        let mut removed = 0;
        for file in fs::read_dir(self.root.join("kept")).into_iter().flatten().flatten() {
            let named = self.lock().keys().any(|name| file.file_name() == text(name).as_str());
            let old = file.metadata().and_then(|found| found.modified()).is_ok_and(|modified| modified < before);
            if !named && old && fs::remove_file(file.path()).is_ok() {
                removed += 1;
            }
        }
        removed
    }
}

/// File times are the operating system's: an orphan's age is its own business, not the log's.
#[expect(clippy::disallowed_methods, reason = "compared with the modification times of files only")]
fn system_now() -> SystemTime {
    SystemTime::now()
}
