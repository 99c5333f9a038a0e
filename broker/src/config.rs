//! The broker's configuration file.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use liaison_link::process::{ConfigError, LogFormat, beside, is_log_filter, read_config};
use serde::Deserialize;

/// The commented default, as `broker config` prints it.
pub const DEFAULT: &str = include_str!("default.toml");

/// The configuration; `default.toml` describes each key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml describes each key")]
pub struct Config {
    pub data: PathBuf,
    pub charter: PathBuf,
    pub charter_sha256: String,
    pub listen: SocketAddr,
    pub tls_certificate: PathBuf,
    pub tls_key: PathBuf,
    pub directory_log_key: PathBuf,
    pub exchange_log_key: PathBuf,
    pub evidence_key: PathBuf,
    #[serde(default = "defaults::segment")]
    pub segment_mebibytes: u32,
    #[serde(default = "defaults::log")]
    pub log: String,
    #[serde(default)]
    pub log_format: LogFormat,
    pub revocation_lists: Option<PathBuf>,
    #[serde(default = "defaults::grace")]
    pub revocation_grace_hours: u32,
    #[serde(default = "defaults::reload")]
    pub reload_seconds: u32,
    pub metrics_listen: Option<SocketAddr>,
    #[serde(default = "defaults::free")]
    pub minimum_free_mebibytes: u32,
    #[serde(default = "defaults::connections")]
    pub connections: usize,
    #[serde(default = "defaults::per_address")]
    pub connections_per_address: usize,
    #[serde(default = "defaults::per_office")]
    pub connections_per_office: usize,
    #[serde(default = "defaults::handshakes")]
    pub handshakes: usize,
    #[serde(default = "defaults::messages")]
    pub messages_per_second: NonZeroU32,
    #[serde(default = "defaults::burst")]
    pub message_burst: NonZeroU32,
    #[serde(default = "defaults::kibibytes")]
    pub kibibytes_per_second: NonZeroU32,
    #[serde(default = "defaults::calls")]
    pub calls_per_office: usize,
    #[serde(default = "defaults::restored")]
    pub restored_grace_seconds: u32,
    #[serde(default = "defaults::attachments")]
    pub attachment_gibibytes_per_office: u32,
}

/// The values of keys that a file leaves out; those of `default.toml`.
mod defaults {
    use std::num::NonZeroU32;

    macro_rules! defaults {
        ($($name:ident: $kind:ty = $value:expr;)+) => {$(
            pub(super) const fn $name() -> $kind {
                $value
            }
        )+};
    }
    defaults! {
        segment: u32 = 16;
        grace: u32 = 168;
        reload: u32 = 5;
        free: u32 = 256;
        connections: usize = 1024;
        per_address: usize = 256;
        per_office: usize = 8;
        handshakes: usize = 64;
        messages: NonZeroU32 = nonzero(200);
        burst: NonZeroU32 = nonzero(2000);
        kibibytes: NonZeroU32 = nonzero(8192);
        calls: usize = 256;
        restored: u32 = 600;
        attachments: u32 = 32;
    }

    const fn nonzero(number: u32) -> NonZeroU32 {
        match NonZeroU32::new(number) {
            Some(number) => number,
            None => NonZeroU32::MIN,
        }
    }

    pub(super) fn log() -> String {
        "info".to_owned()
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, or is not accepted.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = read_config(path)?;
        let form = |problem: &str| ConfigError::Form { path: path.display().to_string(), problem: problem.to_owned() };
        if !is_log_filter(&config.log) {
            return Err(form("log must be a level such as info, or directives such as info,liaison_log=debug"));
        }
        if !(4..=1024).contains(&config.segment_mebibytes) {
            return Err(form("segment_mebibytes must be 4 to 1024"));
        }
        if !(1..=3600).contains(&config.reload_seconds) {
            return Err(form("reload_seconds must be 1 to 3600"));
        }
        if config.connections == 0 || config.connections_per_address == 0 || config.connections_per_office == 0 {
            return Err(form("connections, connections_per_address and connections_per_office must be at least 1"));
        }
        if config.handshakes == 0 || config.calls_per_office == 0 {
            return Err(form("handshakes and calls_per_office must be at least 1"));
        }
        if config.kibibytes_per_second.get() < 64 {
            return Err(form("kibibytes_per_second must be at least 64, so that the largest message fits"));
        }
        for file in [
            &mut config.data,
            &mut config.charter,
            &mut config.tls_certificate,
            &mut config.tls_key,
            &mut config.directory_log_key,
            &mut config.exchange_log_key,
            &mut config.evidence_key,
        ] {
            *file = beside(path, file);
        }
        config.revocation_lists = config.revocation_lists.map(|directory| beside(path, &directory));
        Ok(config)
    }

    /// Size of new journal segments, bytes.
    #[must_use]
    pub const fn segment_bytes(&self) -> u32 {
        self.segment_mebibytes * 1024 * 1024
    }

    /// Bytes that must stay free on the disk.
    #[must_use]
    pub const fn reserve_bytes(&self) -> u64 {
        (self.minimum_free_mebibytes as u64) << 20
    }

    /// The local socket that `broker status` asks.
    #[must_use]
    pub fn status_socket(&self) -> PathBuf {
        self.data.join("status.sock")
    }
}
