//! Copying both logs from the broker: `<out>/directory` and `<out>/exchange`, each a C2SP tile directory.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use liaison_link::{
    charter_files::{CharterFileError, Charters},
    dial::{self, BadBrokerName},
    net::Dialer,
    time::FlooredTime,
    tls::{self, Identity, TlsError},
};
use liaison_log::{
    checkpoint::{CheckpointError, VerifiedCheckpoint},
    disk::OsDisk,
    mirror::{Mirror, MirrorError, root_of},
    remote::RemoteLog,
    succession::End,
};
use liaison_proto::{
    Bytes,
    charter::{Charter, LogIdentity},
    clock::{Clock as _, SystemClock, UnixMillis},
    failure::chain,
    ids::LogIndex,
    wire::LogName,
};
use tonic::Status;

use crate::finding::{Finding, FindingCode};

/// Names of the two logs, which are also the names of their directories.
pub const LOGS: [(&str, LogName); 2] = [("directory", LogName::Directory), ("exchange", LogName::Exchange)];

/// Where to mirror from, and as whom.
#[derive(Clone)]
pub struct Source {
    /// The broker's address.
    pub broker: SocketAddr,
    /// The auditor's certificate chain.
    pub certificate: PathBuf,
    /// The auditor's key.
    pub key: PathBuf,
    /// The network.
    pub dialer: Dialer,
}

/// Why mirroring failed without saying anything about the log.
#[derive(Debug, thiserror::Error)]
pub enum MirrorFailed {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The charter's broker name is not usable.
    #[error("the broker cannot be dialled")]
    BrokerName(#[from] BadBrokerName),
    /// The broker did not answer, or refused.
    #[error("reading the {0} log from the broker failed")]
    Source(&'static str, #[source] Box<Status>),
    /// A later charter cannot be kept.
    #[error("the broker's charter could not be kept")]
    Charter(#[from] CharterFileError),
    /// The copy cannot be written.
    #[error("the copy could not be written")]
    Io(#[from] io::Error),
}

/// What mirroring did to one log.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Mirrored {
    /// "directory" or "exchange".
    pub log: &'static str,
    /// Entries in the copy.
    pub size: u64,
    /// Entries that were new.
    pub added: u64,
    /// Where the copy of a log is kept that had gone on beyond the size at which it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<PathBuf>,
}

/// The identity of a log by its directory's name.
#[must_use]
pub fn identity<'a>(charter: &'a Charter, log: &str) -> &'a LogIdentity {
    if log == "directory" { charter.directory_log() } else { charter.exchange_log() }
}

/// Where the copy of a closed log is kept.
#[must_use]
pub fn aside(log: &str, charter: u64) -> String {
    format!("{log}-closed-by-charter-{charter}")
}

/// Puts a copy aside whose log was closed at a smaller size: it is the evidence of what was lost, and its successor is
/// copied anew.
fn put_aside(
    out: &Path,
    log: &'static str,
    charter: &Charter,
    findings: &mut Vec<Finding>,
) -> io::Result<Option<PathBuf>> {
    let copy = out.join(log);
    let Ok(note) = fs::read(copy.join("checkpoint")).map(Bytes::from) else { return Ok(None) };
    if VerifiedCheckpoint::verify(&note, identity(charter, log)) != Err(CheckpointError::Closed) {
        return Ok(None);
    }
    // The end of the very log that signed it: there may have been several.
    let Some(end) = End::all(charter).find(|end| VerifiedCheckpoint::verify(&note, &end.log).is_ok()) else {
        return Ok(None);
    };
    let aside = out.join(aside(log, end.charter));
    // Up to the end both are the same log.
    let size = usize::try_from(end.size).unwrap_or(usize::MAX);
    if let Ok(old) = Mirror::open(Arc::new(OsDisk::new(&copy)), end.log.clone(), u64::MAX)
        && let Some(entries) = old.entries().get(..size)
        && root_of(entries)? != end.root
    {
        let evidence = format!("the charter closes it with another history than {} holds", aside.display());
        findings.push(Finding::of_entry(FindingCode::SuccessionBad, log, LogIndex(end.size), evidence));
    }
    fs::rename(copy, &aside)?;
    Ok(Some(aside))
}

/// Brings the copies in `out` up to date. A log that contradicts its own past is a finding, and its copy stays.
///
/// # Errors
/// [`MirrorFailed`] when the broker cannot be reached or the copy not written.
pub async fn mirror(
    charters: &Charters,
    source: &Source,
    out: &Path,
) -> Result<(Vec<Mirrored>, Vec<Finding>), MirrorFailed> {
    let charter = charters.get();
    let identity_pem = Identity::read(&source.certificate, &source.key)?;
    let time = FlooredTime::new(Arc::new(SystemClock), &charter, UnixMillis(0));
    let cas = charter.broker_cas(time.now());
    let tls = tls::client_config(&cas, identity_pem, charter.file().require_post_quantum, time)?;
    let channel = dial::channel(&charter, source.broker, tls.into(), Arc::clone(&source.dialer))?;
    let (mut done, mut findings) = (Vec::new(), Vec::new());
    let later = RemoteLog::new(channel.clone(), LogName::Directory).charters(charter.number()).await;
    let later = later.map_err(|status| MirrorFailed::Source("directory", Box::new(status)))?;
    match charters.learn(&later) {
        Err(error) if error.is_alarm() => {
            findings.push(Finding::of_log(FindingCode::CharterBad, "directory", chain(&error)));
        }
        learnt => learnt?,
    }
    let charter = charters.get();
    for (log, name) in LOGS {
        let closed = put_aside(out, log, &charter, &mut findings)?;
        let disk = Arc::new(OsDisk::new(out.join(log)));
        let mut mirror = match Mirror::open(disk, identity(&charter, log).clone(), u64::MAX) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                findings.push(Finding::of_log(FindingCode::CopyDamaged, log, e.to_string()));
                continue;
            }
            mirror => mirror?,
        };
        match mirror.update(&RemoteLog::new(channel.clone(), name)).await {
            Ok(added) => done.push(Mirrored { log, size: mirror.entries().len() as u64, added, closed }),
            Err(MirrorError::Source(status)) => return Err(MirrorFailed::Source(log, Box::new(status))),
            Err(MirrorError::Disk(error)) => return Err(error.into()),
            Err(error) => {
                let code = match &error {
                    MirrorError::Checkpoint(_) => FindingCode::CheckpointBad,
                    MirrorError::RolledBack { .. } => FindingCode::RolledBack,
                    _ => FindingCode::TreeDiffers,
                };
                findings.push(Finding::of_log(code, log, chain(&error)));
            }
        }
    }
    Ok((done, findings))
}
