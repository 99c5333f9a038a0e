//! What every simulated world begins with: a charter, a broker that was just created, and a node for each office. Made once,
//! for keys sealed under passphrases take their time.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use liaison_broker::{config::Config as BrokerConfig, init as broker};
use liaison_certs_dev::{members::Members, roles};
use liaison_link::charter_files;
use liaison_log::disk::{Disk as _, memory::MemoryDisk, parent};
use liaison_node::{
    config::Config as NodeConfig,
    init as node,
    keystore::{Cost, Keystore},
};
use liaison_proto::{
    charter::Charter,
    clock::{ManualClock, UnixMillis},
};

use crate::{
    dice::{Dice, SeededEntropy},
    world::PASSPHRASE,
};

/// The offices of a simulated world, each with an officer.
pub const OFFICES: [(&str, &str); 3] =
    [("VN-BLO-LCA", "nguyen.lan"), ("CN-BLO-HKO", "wang.fang"), ("TH-CCP-BKK", "somsri.jai")];

/// Whose office is hostile.
pub const HOSTILE: &str = "KH-BLO-BVT";

/// When every template was made: what is made from the same seed is the same in any year.
const MADE: UnixMillis = UnixMillis(1_780_000_000_000);

/// Nobody guesses passphrases here.
const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

/// Where the broker is; on a simulated network every address leads there.
pub const BROKER: &str = "10.0.0.1:7443";

/// The files that worlds begin with.
#[derive(Clone, Debug)]
pub struct Template {
    root: PathBuf,
    charter_sha256: String,
}

impl Template {
    /// Makes one in an empty directory.
    ///
    /// # Errors
    /// When a step fails.
    pub fn make(root: &Path) -> io::Result<Self> {
        let (clock, entropy) = (ManualClock::new(MADE), SeededEntropy::new(Dice::new(1)));
        let members = Members::built_in().map_err(io::Error::other)?;
        let made = roles::make(&root.join("charter"), &members, MADE, &entropy).map_err(io::Error::other)?;
        fs::write(root.join("sha256"), &made.fingerprint)?;
        let this = Self { root: root.to_path_buf(), charter_sha256: made.fingerprint };
        let records = root.join("charter/records");
        let broker = broker::init(&this.broker(&root.join("broker"))?, &records, &clock, &entropy);
        broker.map_err(io::Error::other)?;
        for (office, officer) in OFFICES {
            let (config, material) =
                (this.node(office, &root.join(office), 0)?, root.join("charter/offices").join(office));
            node::init(&config, &material, PASSPHRASE.as_bytes(), &clock, &entropy).map_err(io::Error::other)?;
            let keystore = Keystore::with_cost(config.data.join("keystore"), CHEAP);
            let passphrase = PASSPHRASE.as_bytes();
            keystore.change_passphrase(officer, passphrase, passphrase, &entropy).map_err(io::Error::other)?;
        }
        Ok(this)
    }

    /// One that was made before.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: root.to_path_buf(), charter_sha256: fs::read_to_string(root.join("sha256"))? })
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The charter.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn charter(&self) -> io::Result<Charter> {
        let path = self.path("charter/charter.toml");
        charter_files::load(&path, Some(&self.charter_sha256)).map_err(io::Error::other)
    }

    /// SHA-256 of the charter.
    #[must_use]
    pub fn charter_sha256(&self) -> &str {
        &self.charter_sha256
    }

    /// The configuration of a broker with this data directory. Its rates never matter: they are counted in real time.
    ///
    /// # Errors
    /// When it is not one.
    pub fn broker(&self, data: &Path) -> io::Result<BrokerConfig> {
        let charter = self.path("charter");
        let charter = charter.display();
        let text = format!(
            "data = \"{}\"\ncharter = \"{charter}/charter.toml\"\ncharter_sha256 = \"{}\"\nlisten = \"{BROKER}\"\n\
             tls_certificate = \"{charter}/broker/tls.pem\"\ntls_key = \"{charter}/broker/tls.key\"\n\
             directory_log_key = \"{charter}/broker/log-directory.key\"\n\
             exchange_log_key = \"{charter}/broker/log-exchange.key\"\nevidence_key = \"{charter}/broker/evidence.key\"\n\
             revocation_lists = \"{charter}/crl\"\nsegment_mebibytes = 1\nreload_seconds = 60\nrestored_grace_seconds = 120\nmessages_per_second = 1000000\n\
             message_burst = 1000000\nkibibytes_per_second = 1000000\n",
            data.display(),
            self.charter_sha256,
        );
        toml::from_str(&text).map_err(io::Error::other)
    }

    /// The configuration of an office's node with this data directory.
    ///
    /// # Errors
    /// When it is not one.
    pub fn node(&self, office: &str, data: &Path, hold_seconds: u64) -> io::Result<NodeConfig> {
        let text = format!(
            "office = \"{office}\"\ndata = \"{}\"\ncharter = \"{}\"\ncharter_sha256 = \"{}\"\nbroker = \"{BROKER}\"\n\
             segment_mebibytes = 1\ndirectory_seconds = 30\nunlock_minutes = 60\nhold_seconds = {hold_seconds}\n",
            data.display(),
            self.path("charter/charter.toml").display(),
            self.charter_sha256,
        );
        toml::from_str(&text).map_err(io::Error::other)
    }
}

/// Reads a directory into a simulated disk.
///
/// # Errors
/// When it cannot be read.
pub fn load(directory: &Path) -> io::Result<MemoryDisk> {
    let disk = MemoryDisk::default();
    let mut names = Vec::new();
    list(directory, "", &mut names)?;
    for name in names {
        let file = disk.create(&name)?;
        file.write_at(&fs::read(directory.join(&name))?, 0)?;
        file.sync_data()?;
        disk.sync_directory(parent(&name))?;
    }
    Ok(disk)
}

fn list(root: &Path, below: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(())
}
