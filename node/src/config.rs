//! The node's configuration file.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use liaison_link::process::{ConfigError, LogFormat, beside, is_log_filter, read_config};
use liaison_proto::{ids::OfficeId, seal::Suite};
use serde::Deserialize;

/// The commented default, as `node config` prints it.
pub const DEFAULT: &str = include_str!("default.toml");

/// A sealing suite by name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of `Suite`")]
pub enum SuiteName {
    XWing,
    X25519,
}

impl From<SuiteName> for Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::XWing => Self::XWing,
            SuiteName::X25519 => Self::X25519,
        }
    }
}

/// The configuration; `default.toml` describes each key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default.toml describes each key")]
pub struct Config {
    pub office: OfficeId,
    pub data: PathBuf,
    pub charter: PathBuf,
    pub charter_sha256: String,
    pub broker: SocketAddr,
    #[serde(default = "default_offset")]
    pub utc_offset_minutes: i32,
    #[serde(default = "default_language")]
    pub language: String,
    #[serde(default = "default_suite")]
    pub suite: SuiteName,
    #[serde(default = "default_unlock")]
    pub unlock_minutes: u32,
    #[serde(default = "default_directory")]
    pub directory_seconds: u32,
    #[serde(default = "default_segment")]
    pub segment_mebibytes: u32,
    #[serde(default = "default_log")]
    pub log: String,
    #[serde(default)]
    pub log_format: LogFormat,
    #[serde(default = "default_hold")]
    pub hold_seconds: u32,
    #[serde(default = "default_free")]
    pub minimum_free_mebibytes: u32,
}

const fn default_hold() -> u32 {
    30
}

const fn default_free() -> u32 {
    64
}

const fn default_offset() -> i32 {
    420
}

fn default_language() -> String {
    "eng".to_owned()
}

const fn default_suite() -> SuiteName {
    SuiteName::XWing
}

const fn default_unlock() -> u32 {
    10
}

const fn default_directory() -> u32 {
    30
}

const fn default_segment() -> u32 {
    8
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
        if !(1..=60).contains(&config.unlock_minutes) {
            return Err(form("unlock_minutes must be 1 to 60"));
        }
        if !(1..=3600).contains(&config.directory_seconds) {
            return Err(form("directory_seconds must be 1 to 3600"));
        }
        if config.hold_seconds > 600 {
            return Err(form("hold_seconds must be 0 to 600"));
        }
        if !(-14 * 60..=14 * 60).contains(&config.utc_offset_minutes) {
            return Err(form("utc_offset_minutes must be -840 to 840"));
        }
        if liaison_casework::forms::check("language", &config.language).is_some() {
            return Err(form("language must be an ISO 639-3 code such as vie"));
        }
        config.data = beside(path, &config.data);
        config.charter = beside(path, &config.charter);
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

    /// The local socket that `liaison` and `node status` ask.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.data.join("liaison.sock")
    }
}
