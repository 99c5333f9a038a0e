//! A journal in segment files that are written full of zeros before use, so that a sync has no metadata to write.
//!
//! Invariants:
//! - A frame lies within one segment; the rest of a segment behind its last frame is zeros.
//! - A segment is durable, with its name, before a frame is written to it.
//! - Segments are numbered from 0 without gaps. The next one is made while the last is still being filled, so that no
//!   record waits for it; one that was never written to is removed when the journal is opened.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
};

use liaison_proto::{
    Bytes,
    entropy::{Entropy, random},
};

use super::{
    Journal, JournalReader, Position, Record,
    frame::{FrameHeader, HEADER, Nonce, SEGMENT_HEADER, read_segment_header, segment_header},
};
use crate::disk::{Disk, DiskFile, Make, Making};

type Segments = Arc<RwLock<Vec<Arc<dyn DiskFile>>>>;

/// A journal in the files `<directory>/<number>.segment`.
pub struct SegmentedJournal {
    disk: Arc<dyn Disk>,
    directory: String,
    segment_bytes: u32,
    nonce: Nonce,
    segments: Segments,
    /// Size of the last segment.
    capacity: u64,
    /// The segment after the last one, while it is being made.
    ahead: Option<Making>,
    next: Position,
    sequence: u64,
    /// Frames that end at `next` and are not written yet.
    unwritten: Vec<u8>,
    unsynced: Vec<Arc<dyn DiskFile>>,
    unsynced_segment: Option<u32>,
}

static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
/// Frames that are kept back at most until they are written together.
const UNWRITTEN_BYTES: usize = 1024 * 1024;

/// How a journal ended when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where the first record that is not intact stands; everything before was visited.
    pub end: Position,
    /// Whether anything but zeros lies at or behind `end`.
    pub torn: bool,
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn name(directory: &str, segment: u32) -> String {
    format!("{directory}/{segment:08}.segment")
}

impl SegmentedJournal {
    /// Creates an empty journal. The directory must hold none.
    ///
    /// # Errors
    /// When there is one already, or the device fails.
    pub fn create(disk: Arc<dyn Disk>, directory: &str, segment_bytes: u32, entropy: &dyn Entropy) -> io::Result<Self> {
        let mut journal = Self {
            disk,
            directory: directory.to_owned(),
            segment_bytes,
            nonce: random(entropy),
            segments: Arc::default(),
            capacity: 0,
            ahead: None,
            next: Position { segment: 0, offset: 0 },
            sequence: 0,
            unwritten: Vec::new(),
            unsynced: Vec::new(),
            unsynced_segment: None,
        };
        journal.add_segment()?;
        Ok(journal)
    }

    /// Opens a journal and visits every intact record from `from` (the first one of the journal when none is given)
    /// in order, up to the first that is not.
    ///
    /// `from` is a position and the sequence number of the record there.
    ///
    /// # Errors
    /// When there is no journal, a segment is missing or its header damaged, or `visit` fails.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &str,
        segment_bytes: u32,
        from: Option<(Position, u64)>,
        mut visit: impl FnMut(Position, Record) -> io::Result<()>,
    ) -> io::Result<(Self, Tail)> {
        let (files, nonce) = open_segments(disk.as_ref(), directory)?;
        let (start, sequence) = from.unwrap_or((Position { segment: 0, offset: SEGMENT_HEADER as u32 }, 0));
        let mut journal = Self {
            disk,
            directory: directory.to_owned(),
            segment_bytes,
            nonce,
            segments: Arc::new(RwLock::new(files)),
            capacity: 0,
            ahead: None,
            next: start,
            sequence,
            unwritten: Vec::new(),
            unsynced: Vec::new(),
            unsynced_segment: None,
        };
        let torn = journal.scan(&mut visit)?;
        if !torn {
            // A segment that was made and never written to: the next record goes behind the last one, not into it.
            journal.remove_segments_behind(journal.next.segment)?;
        }
        journal.capacity = journal.last().map_or(Ok(0), |file| file.size())?;
        let tail = Tail { end: journal.next, torn };
        Ok((journal, tail))
    }

    /// Walks from `self.next` to the end; says whether anything but zeros follows it.
    fn scan(&mut self, visit: &mut dyn FnMut(Position, Record) -> io::Result<()>) -> io::Result<bool> {
        let files = self.files();
        loop {
            let segment = self.next.segment;
            let file = files.get(segment as usize).ok_or_else(|| damaged("position is beyond the last segment"))?;
            let bytes = read_whole(file.as_ref())?;
            let mut offset = self.next.offset as usize;
            while let Some((record, end)) = frame_at(self.nonce, &bytes, offset, self.sequence) {
                visit(Position { segment, offset: to_u32(offset)? }, record)?;
                self.sequence += 1;
                offset = end;
            }
            self.next.offset = to_u32(offset)?;
            if !is_zero_from(&bytes, offset) {
                return Ok(true);
            }
            // The record after the last of a segment stands at the beginning of the next one, or nowhere.
            let Some(next) = files.get(segment as usize + 1) else { return Ok(false) };
            let bytes = read_whole(next.as_ref())?;
            if frame_at(self.nonce, &bytes, SEGMENT_HEADER, self.sequence).is_none() {
                for file in files.iter().skip(segment as usize + 1) {
                    if !is_zero_from(&read_whole(file.as_ref())?, SEGMENT_HEADER) {
                        return Ok(true);
                    }
                }
                return Ok(false);
            }
            self.next = Position { segment: segment + 1, offset: SEGMENT_HEADER as u32 };
        }
    }

    fn remove_segments_behind(&self, last: u32) -> io::Result<()> {
        let mut files = self.files();
        if files.len() <= last as usize + 1 {
            return Ok(());
        }
        while files.len() > last as usize + 1 {
            files.pop();
            let number = u32::try_from(files.len()).map_err(io::Error::other)?;
            self.disk.remove(&name(&self.directory, number))?;
            // One by one from the end: a power cut never leaves a gap.
            self.disk.sync_directory(&self.directory)?;
        }
        *self.segments.write().unwrap_or_else(PoisonError::into_inner) = files;
        Ok(())
    }

    /// Whether an intact record of `kind` with a sequence number of `from` or later lies at or behind the end.
    ///
    /// # Errors
    /// When the device fails.
    pub fn any_beyond_end(&self, kind: u8, payload_length: usize, from: u64) -> io::Result<bool> {
        for (number, file) in self.files().iter().enumerate().skip(self.next.segment as usize) {
            let bytes = read_whole(file.as_ref())?;
            let start = if number == self.next.segment as usize { self.next.offset as usize } else { SEGMENT_HEADER };
            for offset in start..bytes.len().saturating_sub(HEADER + payload_length - 1) {
                let header = header_at(&bytes, offset);
                let plausible =
                    header.is_some_and(|h| h.kind == kind && h.length as usize == payload_length && h.sequence >= from);
                if plausible
                    && let Some(header) = header
                    && frame_at(self.nonce, &bytes, offset, header.sequence).is_some()
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Cuts everything from `end` on, whose record would have number `sequence`: zeros are written and synced, later
    /// segments removed.
    ///
    /// # Errors
    /// When the device fails.
    pub fn cut(&mut self, end: Position, sequence: u64) -> io::Result<()> {
        self.remove_segments_behind(end.segment)?;
        let file = self.last().ok_or_else(|| damaged("cut beyond the last segment"))?;
        let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
        file.write_at(&vec![0; size.saturating_sub(end.offset as usize)], u64::from(end.offset))?;
        file.sync_data()?;
        self.capacity = size as u64;
        self.next = end;
        self.sequence = sequence;
        Ok(())
    }

    /// Writes again, and syncs, everything from `from` to the end: after a failed sync the operating system may hold
    /// pages that it calls clean and the disk does not have.
    ///
    /// # Errors
    /// When the device fails.
    pub fn rewrite(&self, from: Position) -> io::Result<()> {
        for (number, file) in self.files().iter().enumerate().skip(from.segment as usize) {
            let bytes = read_whole(file.as_ref())?;
            let start = if number == from.segment as usize { from.offset as usize } else { 0 };
            let end = if number == self.next.segment as usize { self.next.offset as usize } else { bytes.len() };
            if let Some(part) = bytes.get(start..end).filter(|part| !part.is_empty()) {
                file.write_at(part, start as u64)?;
            }
            file.sync_data()?;
        }
        Ok(())
    }

    /// Number of the next record.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    fn last(&self) -> Option<Arc<dyn DiskFile>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    fn files(&self) -> Vec<Arc<dyn DiskFile>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What makes the segment of a number.
    fn make_segment(&self, number: u32) -> Make {
        let (disk, directory) = (Arc::clone(&self.disk), self.directory.clone());
        let (size, nonce) = (self.segment_bytes as usize, self.nonce);
        Box::new(move || {
            let file = disk.create(&name(&directory, number))?;
            for start in (0..size).step_by(ZEROS.len()) {
                file.write_at(&ZEROS[..ZEROS.len().min(size - start)], start as u64)?;
            }
            file.sync_data()?;
            // The header last: a segment whose creation was cut short has none.
            file.write_at(&segment_header(nonce, number), 0)?;
            file.sync_data()?;
            disk.sync_directory(&directory)?;
            Ok(file)
        })
    }

    fn next_number(&self) -> io::Result<u32> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(segments.len()).map_err(io::Error::other)
    }

    fn add_segment(&mut self) -> io::Result<()> {
        self.write_out()?;
        let number = self.next_number()?;
        let file = match self.ahead.take().map(Making::finish) {
            Some(Ok(file)) => file,
            // There may be room, or a thread, by now; what was begun is no segment. A device that fails is final.
            Some(Err(error)) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::WouldBlock) => {
                tracing::warn!(%error, number, "a segment could not be made ahead; it is made again");
                match self.disk.remove(&name(&self.directory, number)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
                self.make_segment(number)()?
            }
            Some(Err(error)) => return Err(error),
            None => self.make_segment(number)()?,
        };
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(file);
        self.capacity = u64::from(self.segment_bytes);
        self.next = Position { segment: number, offset: SEGMENT_HEADER as u32 };
        Ok(())
    }

    /// Writes the frames that were kept back.
    fn write_out(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let file = self.last().ok_or_else(|| damaged("no segment"))?;
        file.write_at(&self.unwritten, u64::from(self.next.offset) - self.unwritten.len() as u64)?;
        self.unwritten.clear();
        if self.unsynced_segment != Some(self.next.segment) {
            self.unsynced_segment = Some(self.next.segment);
            self.unsynced.push(file);
        }
        Ok(())
    }
}

impl Drop for SegmentedJournal {
    /// Whoever opens the journal next finds nobody still making its files.
    fn drop(&mut self) {
        if let Some(making) = self.ahead.take() {
            // A segment that could not be made is no loss: it held nothing.
            let _ = making.finish();
        }
    }
}

impl Journal for SegmentedJournal {
    fn append(&mut self, kind: u8, payload: &[&[u8]]) -> io::Result<Position> {
        let header = FrameHeader::new(self.nonce, self.sequence, kind, payload)
            .ok_or_else(|| damaged("a record must have at least one byte"))?;
        let size = HEADER as u64 + u64::from(header.length);
        if size + SEGMENT_HEADER as u64 > u64::from(self.segment_bytes) {
            return Err(damaged("a record must fit into a segment"));
        }
        if u64::from(self.next.offset) + size > self.capacity {
            self.add_segment()?;
        }
        let position = self.next;
        self.unwritten.extend_from_slice(&header.encode());
        payload.iter().for_each(|part| self.unwritten.extend_from_slice(part));
        self.next.offset = to_u32(position.offset as usize + HEADER + header.length as usize)?;
        self.sequence += 1;
        if self.unwritten.len() >= UNWRITTEN_BYTES {
            self.write_out()?;
        }
        if self.ahead.is_none() && u64::from(self.next.offset) > self.capacity / 2 {
            self.ahead = Some(self.disk.make_beside(self.make_segment(self.next_number()?)));
        }
        Ok(position)
    }

    fn take_unsynced(&mut self) -> io::Result<Vec<Arc<dyn DiskFile>>> {
        self.write_out()?;
        self.unsynced_segment = None;
        Ok(std::mem::take(&mut self.unsynced))
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        Arc::new(SegmentReader { nonce: self.nonce, segments: Arc::clone(&self.segments) })
    }

    fn end(&self) -> Position {
        self.next
    }
}

/// What is read of a record at first, bytes.
const FIRST_PIECE: usize = 1024;

struct SegmentReader {
    nonce: Nonce,
    segments: Segments,
}

impl JournalReader for SegmentReader {
    fn read(&self, position: Position) -> io::Result<Record> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let file = segments.get(position.segment as usize).cloned().ok_or_else(|| damaged("no such segment"))?;
        drop(segments);
        let (offset, size) = (u64::from(position.offset), file.size()?);
        // Most records are read with the first piece.
        let mut bytes = vec![0; usize::try_from(size.saturating_sub(offset)).unwrap_or(0).min(FIRST_PIECE)];
        file.read_at(&mut bytes, offset)?;
        let header = FrameHeader::decode(bytes.first_chunk().ok_or_else(|| damaged("no record at this position"))?);
        let end = HEADER as u64 + u64::from(header.length);
        if header.length == 0 || offset + end > size {
            return Err(damaged("no record at this position"));
        }
        let (first, end) = (bytes.len(), usize::try_from(end).map_err(io::Error::other)?);
        bytes.resize(end, 0);
        if end > first {
            file.read_at(&mut bytes[first..], offset + first as u64)?;
        }
        let payload = Bytes::from(bytes).slice(HEADER..);
        if !header.matches(self.nonce, &payload) {
            return Err(damaged(format!("the record at {position:?} is damaged")));
        }
        Ok(Record { kind: header.kind, sequence: header.sequence, payload })
    }
}

/// Opens every segment of a journal. A last one whose creation was cut short is all zeros, was never used, and is
/// removed; any other damage is an error.
fn open_segments(disk: &dyn Disk, directory: &str) -> io::Result<(Vec<Arc<dyn DiskFile>>, Nonce)> {
    let names = disk.list(directory)?;
    let names: Vec<&String> = names.iter().filter(|name| name.ends_with(".segment")).collect();
    if names.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no journal in {directory}")));
    }
    let mut files: Vec<Arc<dyn DiskFile>> = Vec::new();
    let mut nonce = None;
    for (number, found) in names.iter().enumerate() {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        if **found != format!("{number:08}.segment") {
            return Err(damaged(format!("segment {number} of {directory} is missing")));
        }
        let file = disk.open(&name(directory, number))?;
        // The header alone: years of bodies are not read to be opened.
        let mut header = [0; SEGMENT_HEADER];
        if file.size()? >= SEGMENT_HEADER as u64 {
            file.read_at(&mut header, 0)?;
        }
        let header = read_segment_header(&header, number);
        match (header, nonce) {
            (Some(own), None) => nonce = Some(own),
            (Some(own), Some(known)) if own == known => {}
            (None, Some(_)) if number as usize + 1 == names.len() && is_zero_from(&read_whole(file.as_ref())?, 0) => {
                disk.remove(&name(directory, number))?;
                disk.sync_directory(directory)?;
                break;
            }
            _ => return Err(damaged(format!("the header of segment {number} of {directory} is damaged"))),
        }
        files.push(file);
    }
    let nonce = nonce.ok_or_else(|| damaged(format!("the journal in {directory} was never finished")))?;
    Ok((files, nonce))
}

fn is_zero_from(bytes: &Bytes, offset: usize) -> bool {
    bytes.get(offset..).is_none_or(|rest| rest.iter().all(|&b| b == 0))
}

fn read_whole(file: &dyn DiskFile) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

fn header_at(bytes: &Bytes, offset: usize) -> Option<FrameHeader> {
    let header = FrameHeader::decode(bytes.get(offset..offset.checked_add(HEADER)?)?.first_chunk()?);
    (header.length > 0).then_some(header)
}

/// The intact record with this number at an offset, and where it ends.
fn frame_at(nonce: Nonce, bytes: &Bytes, offset: usize, sequence: u64) -> Option<(Record, usize)> {
    let header = header_at(bytes, offset)?;
    let start = offset + HEADER;
    let end = start.checked_add(header.length as usize).filter(|&end| end <= bytes.len())?;
    let payload = bytes.slice(start..end);
    (header.sequence == sequence && header.matches(nonce, &payload))
        .then_some((Record { kind: header.kind, sequence, payload }, end))
}

fn to_u32(offset: usize) -> io::Result<u32> {
    u32::try_from(offset).map_err(io::Error::other)
}
