//! Verifying a copy, offline: checkpoints and trees, every signature by the directory as it was then, every rule of the
//! exchange log.

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use liaison_log::{
    disk::OsDisk,
    exchange::ExchangeState,
    leaf::{Event, ExchangeLeaf},
    mirror::{Mirror, root_of},
    succession::End,
    verify::verify_entry,
};
use liaison_proto::{Bytes, charter::Charter, directory::Directory, failure::chain, ids::LogIndex, sha256};

use crate::{
    finding::{Finding, FindingCode},
    mirror::{aside, identity},
};

/// A copy that was read and replayed.
pub struct Replay {
    /// The directory it adds up to.
    pub directory: Directory,
    /// Parsed entries of the exchange log; none where an entry does not parse.
    pub entries: Vec<Option<ExchangeLeaf>>,
    /// Their bytes.
    pub leaves: Vec<Bytes>,
    /// The state they add up to.
    pub state: ExchangeState,
    /// Size of the directory log.
    pub directory_size: u64,
    /// Everything found.
    pub findings: Vec<Finding>,
}

impl Replay {
    /// Whether both copies could be read at all; what they hold is another matter.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.findings.iter().all(|finding| finding.code != FindingCode::CopyDamaged)
    }
}

fn read(copy: &Path, charter: &Charter, log: &'static str, findings: &mut Vec<Finding>) -> io::Result<Vec<Bytes>> {
    let disk = Arc::new(OsDisk::new(copy.join(log)));
    match Mirror::open(disk, identity(charter, log).clone(), u64::MAX) {
        Ok(mirror) if mirror.checkpoint().is_none() => {
            findings.push(Finding::of_log(FindingCode::CopyDamaged, log, "there is no copy here; run: audit mirror"));
            Ok(Vec::new())
        }
        Ok(mirror) => Ok(mirror.entries().to_vec()),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
            ) =>
        {
            findings.push(Finding::of_log(FindingCode::CopyDamaged, log, e.to_string()));
            Ok(Vec::new())
        }
        Err(e) => Err(e),
    }
}

/// Reads and verifies the copy in a directory that [`crate::mirror`] made.
///
/// # Errors
/// When the device fails; what is wrong with the copy is a finding.
pub fn verify(copy: &Path, charter: &Charter) -> io::Result<Replay> {
    let mut findings = Vec::new();
    let records = read(copy, charter, "directory", &mut findings)?;
    let mut directory = Directory::new(charter.clone());
    for (index, record) in records.iter().enumerate() {
        if let Err(error) = directory.apply_leaf(record) {
            let index = LogIndex(index as u64);
            findings.push(Finding::of_entry(FindingCode::RecordBad, "directory", index, chain(&error)));
            // What follows was judged by a state that nobody can reconstruct.
            break;
        }
    }
    let leaves = read(copy, charter, "exchange", &mut findings)?;
    let mut entries = Vec::with_capacity(leaves.len());
    for (parsed, bad) in on_all_cores(leaves.len(), || (), |range| parse(range.start, &leaves[range])).0 {
        entries.extend(parsed);
        findings.extend(bad);
    }
    // The rules are replayed entry by entry, while the other cores begin with the signatures.
    let mut state = ExchangeState::default();
    let check = |range: Range<usize>| check_signatures(range.start, &entries[range], &directory);
    let (signatures, broken) = on_all_cores(entries.len(), || replay(&mut state, &entries, &leaves), check);
    findings.extend(broken);
    findings.extend(signatures.into_iter().flatten());
    findings.extend(End::all(directory.charter()).filter_map(|end| check_end(&end, &entries, &leaves)));
    for end in End::all(directory.charter()) {
        findings.extend(lost_messages(copy, &end, &state)?);
    }
    let directory_size = records.len() as u64;
    Ok(Replay { directory, entries, leaves, state, directory_size, findings })
}

/// A log that the charter closed ends as it says, and its successor says so.
fn check_end(end: &End, entries: &[Option<ExchangeLeaf>], leaves: &[Bytes]) -> Option<Finding> {
    let size = usize::try_from(end.size).ok()?;
    let begun = entries.get(size)?;
    let is_begun = begun.as_ref().is_some_and(|leaf| matches!(leaf.event, Event::Succeeded(_)));
    let same = root_of(&leaves[..size]).is_ok_and(|root| root == end.root);
    if is_begun && same {
        return None;
    }
    let evidence = format!("charter no. {} closed the log here, and it goes on as another one", end.charter);
    Some(Finding::of_entry(FindingCode::SuccessionBad, "exchange", LogIndex(end.size), evidence))
}

/// Messages that a copy of the closed log holds, which was put aside, and that its successor does not: nobody sent them
/// again, or not yet.
fn lost_messages(copy: &Path, end: &End, state: &ExchangeState) -> io::Result<Vec<Finding>> {
    let aside = copy.join(aside("exchange", end.charter));
    if !aside.is_dir() {
        return Ok(Vec::new());
    }
    let Ok(closed) = Mirror::open(Arc::new(OsDisk::new(&aside)), end.log.clone(), u64::MAX) else {
        let evidence = format!("{} cannot be read", aside.display());
        return Ok(vec![Finding::of_log(FindingCode::CopyDamaged, "exchange", evidence)]);
    };
    let mut lost = Vec::new();
    for (index, leaf) in closed.entries().iter().enumerate().skip(usize::try_from(end.size).unwrap_or(usize::MAX)) {
        let Ok(ExchangeLeaf { event: Event::Accepted { header, .. }, .. }) = ExchangeLeaf::parse(leaf) else {
            continue;
        };
        let core = header.core();
        if state.message(core.message_id).map_err(io::Error::other)?.is_none() {
            let to: Vec<String> = core.to.iter().map(ToString::to_string).collect();
            let evidence = format!(
                "message {} from {} to {} was accepted here in the closed log ({}), and its successor does not have it",
                core.message_id,
                core.from,
                to.join(", "),
                aside.display()
            );
            lost.push(Finding::of_entry(FindingCode::MessageLost, "exchange", LogIndex(index as u64), evidence));
        }
    }
    Ok(lost)
}

/// Entries that one core takes at a time.
const TAKEN: usize = 256;

/// Does work on parts of so many entries, on all cores; this thread does its own first, then helps. What was done is in the
/// order of the entries.
fn on_all_cores<T: Send, O>(
    count: usize,
    own: impl FnOnce() -> O,
    work: impl Fn(Range<usize>) -> T + Sync,
) -> (Vec<T>, O) {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(TAKEN, Ordering::Relaxed);
            if start >= count {
                return done;
            }
            done.push((start, work(start..count.min(start + TAKEN))));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (mut done, own) = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(take)).collect();
        let (own, mut done) = (own(), take());
        // A thread that panics takes the audit with it: a part that nobody checked is no clean part.
        done.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_else(|e| std::panic::resume_unwind(e))));
        (done, own)
    });
    done.sort_unstable_by_key(|(start, _)| *start);
    (done.into_iter().map(|(_, done)| done).collect(), own)
}

fn parse(first: usize, leaves: &[Bytes]) -> (Vec<Option<ExchangeLeaf>>, Vec<Finding>) {
    let (mut entries, mut findings) = (Vec::with_capacity(leaves.len()), Vec::new());
    for (offset, leaf) in leaves.iter().enumerate() {
        let parsed = ExchangeLeaf::parse(leaf).map_err(|error| {
            let index = LogIndex((first + offset) as u64);
            findings.push(Finding::of_entry(FindingCode::EntryMalformed, "exchange", index, error.to_string()));
        });
        entries.push(parsed.ok());
    }
    (entries, findings)
}

/// Every rule of the exchange log.
fn replay(state: &mut ExchangeState, entries: &[Option<ExchangeLeaf>], leaves: &[Bytes]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, (entry, leaf)) in entries.iter().zip(leaves).enumerate() {
        let Some(entry) = entry else { continue };
        let index = LogIndex(index as u64);
        if let Err(violation) = state.apply(index, entry, sha256(&[leaf])) {
            let code = FindingCode::from(&violation);
            findings.push(Finding::of_entry(code, "exchange", index, violation.to_string()));
        }
    }
    findings
}

/// Every office signature, one by one and strictly; and what was agreed.
fn check_signatures(first: usize, entries: &[Option<ExchangeLeaf>], directory: &Directory) -> Vec<Finding> {
    let finding = |(offset, entry): (usize, &Option<ExchangeLeaf>)| {
        let error = verify_entry(entry.as_ref()?, directory).err()?;
        let index = LogIndex((first + offset) as u64);
        Some(Finding::of_entry(FindingCode::from(&error), "exchange", index, chain(&error)))
    };
    let found = entries.iter().enumerate().filter_map(finding);
    #[cfg(feature = "policy")]
    let found = found.chain(crate::agreements::check(first, entries, directory));
    found.collect()
}
