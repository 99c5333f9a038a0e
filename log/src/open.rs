//! Creating a log, and opening one: every start is a recovery.
//!
//! The journals are the truth. Leaves up to the recorded signed size must be intact, or the log refuses to open; behind
//! it, the first leaf that is bad or whose body is missing or bad ends the log, and what follows is cut.

use std::{io, sync::Arc};

use liaison_proto::{Bytes, entropy::Entropy, ids::LogIndex};
use tlog_tiles::tlog::record_hash;

use crate::{
    checkpoint::{CheckpointError, CheckpointSigner},
    commit::{ApplyError, BrokenRule, CommitError, Log, Logged, Sequencer},
    committer::MAX_BATCH_BYTES,
    disk::Disk,
    journal::{
        Journal as _, Position, Record,
        file::{SegmentedJournal, Tail},
    },
    reader::{LogReader, PublishError},
    record::{SignedMark, kind, split_body, split_leaf},
    tree::Tree,
};

const LEAVES: &str = "leaves";
const BODIES: &str = "bodies";

/// Where a log is and who signs for it.
pub struct LogConfig {
    /// The log's own directory.
    pub disk: Arc<dyn Disk>,
    /// Signs its checkpoints.
    pub signer: CheckpointSigner,
    /// Size of new segments, bytes.
    pub segment_bytes: u32,
    /// Bytes that must be left on the disk for a batch to be begun; beside two new segments and a batch.
    pub reserve_bytes: u64,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log here.
    #[error("there is no log here: restore it from a backup, or create a new one with the init command")]
    Missing,
    /// Reading or writing failed.
    #[error("opening the log failed")]
    Io(#[from] io::Error),
    /// What was signed is no longer there as it was signed. Nothing is cut, nothing is served.
    #[error("the log is damaged before its signed size: {0}")]
    Damaged(String),
    /// The checkpoint could not be made.
    #[error("signing the checkpoint failed")]
    Checkpoint(#[from] CheckpointError),
    /// Hashing failed.
    #[error("hashing the log failed")]
    Publish(#[from] PublishError),
    /// Signing again failed.
    #[error("recording the signed size failed")]
    Commit(#[from] CommitError),
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries in the log.
    pub size: u64,
    /// Entries behind the recorded signed size that were intact and kept.
    pub kept: u64,
    /// Entries behind it that were cut, and why the first was.
    pub cut: Option<String>,
}

/// Creates an empty log.
///
/// # Errors
/// When there is one already, or the device fails.
pub fn create(disk: &Arc<dyn Disk>, segment_bytes: u32, entropy: &dyn Entropy) -> io::Result<()> {
    SegmentedJournal::create(Arc::clone(disk), BODIES, segment_bytes, entropy)?;
    SegmentedJournal::create(Arc::clone(disk), LEAVES, segment_bytes, entropy)?;
    disk.sync_directory("")
}

struct Leaf {
    position: Position,
    sequence: u64,
    body: Option<Position>,
    bytes: Bytes,
}

/// The state being rebuilt, by the same calls that build it when leaves are committed.
struct Replay<S> {
    sequencer: S,
    tree: Tree,
    entries: Vec<u64>,
    /// Leaves read since the last mark.
    unsigned: Vec<Leaf>,
    mark: Option<(Position, u64, SignedMark)>,
}

impl<S: Sequencer> Replay<S> {
    fn visit(&mut self, position: Position, record: &Record) -> Result<(), OpenError> {
        match record.kind {
            kind::LEAF => {
                let (body, bytes) = split_leaf(&record.payload)?;
                self.unsigned.push(Leaf { position, sequence: record.sequence, body, bytes });
                Ok(())
            }
            kind::MARK => {
                let mark = SignedMark::decode(&record.payload)
                    .ok_or_else(|| OpenError::Damaged("a record of the signed size is malformed".into()))?;
                for leaf in std::mem::take(&mut self.unsigned) {
                    self.apply(&leaf)?.map_err(|rule| OpenError::Damaged(rule.to_string()))?;
                }
                if self.tree.size() != mark.size {
                    let found = self.tree.size();
                    return Err(OpenError::Damaged(format!("{} entries were signed, {found} are there", mark.size)));
                }
                self.mark = Some((position, record.sequence, mark));
                Ok(())
            }
            other => Err(OpenError::Damaged(format!("record kind {other} in the journal of leaves"))),
        }
    }

    /// A broken rule is the leaf's fault; a device that fails is not, and must never make a leaf be cut.
    fn apply(&mut self, leaf: &Leaf) -> io::Result<Result<(), BrokenRule>> {
        let index = LogIndex(self.tree.size());
        match self.sequencer.apply(index, &leaf.bytes) {
            Ok(()) => {}
            Err(ApplyError::Rule(rule)) => return Ok(Err(rule)),
            Err(ApplyError::State(error)) => return Err(error),
        }
        self.tree.append(record_hash(&leaf.bytes))?;
        self.entries.push(leaf.position.to_u64());
        self.sequencer.logged(&Logged::new(index, leaf.bytes.clone()));
        Ok(Ok(()))
    }
}

struct Body {
    index: LogIndex,
    position: Position,
    sequence: u64,
    bytes: Bytes,
}

/// Opens a log.
///
/// # Errors
/// [`OpenError`]; nothing is changed on the disk unless the log is sound up to its signed size.
pub fn open<S: Sequencer>(config: LogConfig, sequencer: S) -> Result<(Log<S>, Recovery), OpenError> {
    let LogConfig { disk, signer, segment_bytes, reserve_bytes } = config;
    let tree = Tree::new(Arc::clone(&disk));
    let mut replay = Replay { sequencer, tree, entries: Vec::new(), unsigned: Vec::new(), mark: None };
    let mut failure = None;
    let opened = SegmentedJournal::open(Arc::clone(&disk), LEAVES, segment_bytes, None, |position, record| {
        replay.visit(position, &record).map_err(|e| {
            failure = Some(e);
            io::Error::other("damaged")
        })
    });
    let (mut leaves, tail) = match (opened, failure) {
        (_, Some(failure)) => return Err(failure),
        (Err(e), None) if e.kind() == io::ErrorKind::NotFound => return Err(OpenError::Missing),
        (opened, None) => opened?,
    };
    check_signed(&replay, &leaves, &tail)?;

    let from = replay.mark.as_ref().map(|(_, _, mark)| (mark.bodies_end, mark.bodies_sequence));
    let mut found = Vec::new();
    let (mut bodies, bodies_tail) =
        SegmentedJournal::open(Arc::clone(&disk), BODIES, segment_bytes, from, |position, record| {
            let (index, bytes) = split_body(&record.payload)?;
            found.push(Body { index, position, sequence: record.sequence, bytes });
            Ok(())
        })?;

    let signed = replay.tree.size();
    let unsigned = std::mem::take(&mut replay.unsigned);
    let mut cut = tail.torn.then(|| format!("entry {}: its record is torn", signed + unsigned.len() as u64));
    let mut leaves_end = None;
    for leaf in unsigned {
        let index = LogIndex(replay.tree.size());
        let body = found.iter().find(|body| Some(body.position) == leaf.body && body.index == index);
        let sound = if replay.sequencer.body_matches(&leaf.bytes, body.map(|body| &body.bytes)) {
            replay.apply(&leaf)?
        } else {
            Err(BrokenRule { index, problem: "its body is missing or damaged".into() })
        };
        if let Err(rule) = sound {
            cut = Some(rule.to_string());
            leaves_end = Some((leaf.position, leaf.sequence));
            break;
        }
    }

    let size = replay.tree.size();
    if cut.is_some() {
        let (end, sequence) = leaves_end.unwrap_or((tail.end, leaves.sequence()));
        leaves.cut(end, sequence)?;
    }
    cut_bodies(&mut bodies, &bodies_tail, &found, size)?;
    // The kept tail may be known to the operating system and not to the disk.
    leaves.rewrite(replay.mark.as_ref().map_or(Position { segment: 0, offset: 0 }, |(position, ..)| *position))?;
    bodies.rewrite(from.map_or(Position { segment: 0, offset: 0 }, |(position, _)| position))?;

    let root = replay.tree.root(size).map_err(|e| PublishError::Tree(e.to_string()))?;
    let checkpoint = signer.sign(size, root)?;
    let bodies_sequence = bodies.sequence();
    let reader = LogReader::new(leaves.reader(), bodies.reader(), replay.tree, replay.entries, checkpoint);
    let last_time = replay.sequencer.last_time();
    let mut log = Log {
        last_time,
        leaves: Box::new(leaves),
        bodies: Box::new(bodies),
        bodies_sequence,
        reader: Arc::new(reader),
        signer,
        sequencer: replay.sequencer,
        last_mark: replay.mark.map(|(_, _, mark)| mark),
        poisoned: false,
        disk,
        reserve_bytes: reserve_bytes.saturating_add(2 * u64::from(segment_bytes) + 2 * MAX_BATCH_BYTES as u64),
        full: false,
    };
    log.record_signed()?;
    Ok((log, Recovery { size, kept: size - signed, cut }))
}

/// What was signed must be there: the root at the last mark, and no mark behind a torn record.
fn check_signed<S: Sequencer>(replay: &Replay<S>, leaves: &SegmentedJournal, tail: &Tail) -> Result<(), OpenError> {
    if let Some((_, _, mark)) = &replay.mark {
        let root = replay.tree.root(mark.size).map_err(|e| OpenError::Damaged(e.to_string()))?;
        if root.0 != mark.root {
            return Err(OpenError::Damaged(format!("the first {} entries are not the ones signed", mark.size)));
        }
    }
    if tail.torn && leaves.any_beyond_end(kind::MARK, SignedMark::BYTES, leaves.sequence())? {
        let index = replay.tree.size() + replay.unsigned.len() as u64;
        return Err(OpenError::Damaged(format!(
            "the record of entry {index} is damaged, and later entries were signed"
        )));
    }
    Ok(())
}

/// Cuts bodies behind the last one whose leaf is in the log.
fn cut_bodies(bodies: &mut SegmentedJournal, tail: &Tail, found: &[Body], size: u64) -> io::Result<()> {
    let first_extra = found.iter().find(|body| body.index.0 >= size);
    match first_extra {
        Some(extra) => bodies.cut(extra.position, extra.sequence),
        None if tail.torn => bodies.cut(tail.end, bodies.sequence()),
        None => Ok(()),
    }
}
