//! What every round measured, by subject; medians of rounds are reported.

use std::{fs, io, path::Path, time::Duration};

use crate::measure::{Round, cpu, median};

/// One round of one subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Operations a second.
    pub(crate) rate: f64,
    /// Median latency, milliseconds.
    pub(crate) p50: f64,
    /// 99th percentile, milliseconds.
    pub(crate) p99: f64,
    /// CPU of the measured server for each operation, microseconds.
    pub(crate) server_cpu: f64,
    /// CPU of the one who asked.
    pub(crate) client_cpu: f64,
    /// Bytes that each operation left on the disk.
    pub(crate) disk: f64,
}

impl From<&Round> for Sample {
    fn from(round: &Round) -> Self {
        Self { rate: round.rate(), p50: round.percentile(0.5), p99: round.percentile(0.99), ..Self::default() }
    }
}

/// CPU and disk of a server while it is measured.
pub(crate) struct Watch<'a> {
    processes: Vec<u32>,
    directory: Option<&'a Path>,
    begin: (Duration, Duration, u64),
}

impl<'a> Watch<'a> {
    /// Begins to watch processes, and a directory that they write to.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn begin(processes: &[u32], directory: Option<&'a Path>) -> io::Result<Self> {
        let mut watch = Self { processes: processes.to_vec(), directory, begin: Default::default() };
        watch.begin = watch.now()?;
        Ok(watch)
    }

    fn now(&self) -> io::Result<(Duration, Duration, u64)> {
        let servers = self.processes.iter().map(|&process| cpu(process)).sum::<io::Result<Duration>>()?;
        Ok((servers, cpu(std::process::id())?, self.directory.map_or(Ok(0), size_of)?))
    }

    /// The sample of a round that was watched.
    ///
    /// # Errors
    /// When a process has ended.
    pub(crate) fn end(self, round: &Round) -> io::Result<Sample> {
        let (server, client, disk) = self.now()?;
        let each = |total: Duration| total.as_secs_f64() * 1e6 / round.count.max(1) as f64;
        Ok(Sample {
            server_cpu: each(server.saturating_sub(self.begin.0)),
            client_cpu: each(client.saturating_sub(self.begin.1)),
            disk: disk.saturating_sub(self.begin.2) as f64 / round.count.max(1) as f64,
            ..Sample::from(round)
        })
    }
}

/// Bytes that a directory takes on the disk.
fn size_of(directory: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // What is removed meanwhile takes nothing.
        let Ok(found) = entry.metadata() else { continue };
        size += if found.is_dir() {
            size_of(&entry.path()).unwrap_or(0)
        } else {
            std::os::unix::fs::MetadataExt::blocks(&found) * 512
        };
    }
    Ok(size)
}

/// All samples, in the order in which subjects were first measured.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    subjects: Vec<(String, Vec<Sample>)>,
}

impl Ledger {
    /// Adds a round, and says so.
    pub(crate) fn add(&mut self, subject: &str, sample: Sample) {
        eprintln!(
            "{subject:<44} {:>9.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  cpu {:>5.0} + {:>4.0} us  disk {:>6.0} B",
            sample.rate, sample.p50, sample.p99, sample.server_cpu, sample.client_cpu, sample.disk
        );
        match self.subjects.iter_mut().find(|(known, _)| known == subject) {
            Some((_, samples)) => samples.push(sample),
            None => self.subjects.push((subject.to_owned(), vec![sample])),
        }
    }

    /// The median of a figure over the rounds of a subject; none when it was not measured.
    pub(crate) fn median(&self, subject: &str, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let (_, samples) = self.subjects.iter().find(|(known, _)| known == subject)?;
        Some(median(samples.iter().map(figure).collect()))
    }

    /// Every subject.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().map(|(subject, _)| subject.as_str())
    }
}
