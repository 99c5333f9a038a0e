//! The broker's configuration file.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use liaison_link::process::{ConfigError, beside, is_log_filter, read_config};
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
    #[serde(default = "default_segment")]
    pub segment_mebibytes: u32,
    #[serde(default = "default_log")]
    pub log: String,
}

const fn default_segment() -> u32 {
    16
}

fn default_log() -> String {
    "info".to_owned()
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
        for file in [
            &mut config.data,
            &mut config.charter,
            &mut config.tls_certificate,
            &mut config.tls_key,
            &mut config.directory_log_key,
            &mut config.exchange_log_key,
        ] {
            *file = beside(path, file);
        }
        Ok(config)
    }

    /// Size of new journal segments, bytes.
    #[must_use]
    pub const fn segment_bytes(&self) -> u32 {
        self.segment_mebibytes * 1024 * 1024
    }

    /// The local socket that `broker status` asks.
    #[must_use]
    pub fn status_socket(&self) -> PathBuf {
        self.data.join("status.sock")
    }
}
