//! The next charter of a development charter: new keys for what is to be replaced, and the signatures of the authorities of
//! the one before. Everything new lies in a directory of its own, `charter-<number>`, in the form of the first.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::ValueEnum;
use liaison_proto::{
    Bytes,
    charter::{Charter, CharterFile, ClosedEntry, SignatureFile, SuccessionEntry},
    clock::UnixMillis,
    entropy::Entropy,
    ids::Country,
    key_file::PrivateKey,
    sign::SigningKey,
};
use time::OffsetDateTime;

use crate::{
    COMMENT, CertsError,
    authority::{Authority, Use, Validity},
    files::{create_dir, private_file, write_file, write_tls},
    io_error,
    members::Members,
    revocation::{self, List},
};

const CERTIFICATE_DAYS: i64 = 365;

/// What a charter can replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// The keys of the countries' authorities.
    Authorities,
    /// The CAs of countries, broker and auditors, with new certificates for everybody.
    Cas,
    /// The key that signs refusals.
    Evidence,
    /// The keys that sign checkpoints.
    Logs,
}

/// What the next charter is to be.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is replaced.
    pub replace: BTreeSet<Part>,
    /// Days during which the charter before holds beside it.
    pub overlap_days: u32,
    /// The exchange log's end, when it gets a successor.
    pub closed: Option<ClosedEntry>,
    /// Countries whose authorities do not sign.
    pub absent: BTreeSet<Country>,
}

struct Maker<'a> {
    dev: &'a Path,
    number: u64,
    now: UnixMillis,
    utc: OffsetDateTime,
    entropy: &'a dyn Entropy,
}

/// Makes the charter after the newest in a directory that `certs-dev` made. Returns it.
///
/// # Errors
/// [`CertsError`].
pub fn next(dev: &Path, order: &Order, now: UnixMillis, entropy: &dyn Entropy) -> Result<Charter, CertsError> {
    let utc = OffsetDateTime::from_unix_timestamp(now.0 / 1000).map_err(|e| CertsError::Members(e.to_string()))?;
    let before = newest(dev)?;
    let maker = Maker { dev, number: before.number() + 1, now, utc, entropy };
    let made = maker.file(&before, order).and_then(|file| maker.sign(&Arc::new(before), &file, order));
    if made.is_err() {
        // Keys of a charter that nobody signed are nobody's.
        let _ = fs::remove_dir_all(dev.join(format!("charter-{}", maker.number)));
    }
    made
}

/// Reads the end of a log, as the broker wrote it.
///
/// # Errors
/// When the file cannot be read, or is malformed.
pub fn read_end(file: Option<&Path>) -> Result<Option<ClosedEntry>, CertsError> {
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file).map_err(io_error(file))?;
    toml::from_str(&text).map(Some).map_err(|e| CertsError::Members(e.to_string()))
}

fn read_signed(path: &Path) -> Result<(Bytes, SignatureFile), CertsError> {
    let read = |path: &Path| fs::read(path).map_err(io_error(path));
    let text = String::from_utf8_lossy(&read(&path.with_extension("sig"))?).into_owned();
    let signatures = toml::from_str(&text).map_err(|e| CertsError::Members(e.to_string()))?;
    Ok((read(path)?.into(), signatures))
}

fn newest(dev: &Path) -> Result<Charter, CertsError> {
    let (bytes, signatures) = read_signed(&dev.join("charter.toml"))?;
    let mut charter = Charter::first(bytes, signatures.to_wire())?;
    loop {
        let file = dev.join(format!("charter-{}.toml", charter.number() + 1));
        if !file.exists() {
            return Ok(charter);
        }
        let (bytes, signatures) = read_signed(&file)?;
        charter = Arc::new(charter).succeed(bytes, signatures.to_wire())?;
    }
}

fn public(key: &SigningKey) -> String {
    STANDARD.encode(key.verifying_key().as_bytes())
}

impl Maker<'_> {
    fn new_directory(&self, name: &str) -> Result<PathBuf, CertsError> {
        let directory = self.dev.join(format!("charter-{}", self.number)).join(name);
        create_dir(&directory)?;
        Ok(directory)
    }

    /// The newest key of a name below the charters before.
    fn held(&self, name: &str) -> Result<SigningKey, CertsError> {
        let later = (2..self.number).rev().map(|number| self.dev.join(format!("charter-{number}")).join(name));
        let newest = later.chain([self.dev.join(name)]).find(|path| path.exists());
        Ok(PrivateKey::read_signing(&newest.unwrap_or_else(|| self.dev.join(name)))?)
    }

    fn signing_key(&self, directory: &str, name: &str) -> Result<String, CertsError> {
        let key = SigningKey::generate(self.entropy);
        PrivateKey::Signing(key.clone()).write(&self.new_directory(directory)?.join(name), COMMENT)?;
        Ok(public(&key))
    }

    fn ca(&self, directory: &str, subtree: &str) -> Result<Authority, CertsError> {
        let place = self.new_directory(directory)?;
        let name = format!("{subtree}, charter {}, development only", self.number);
        let ca = Authority::new(&name, subtree, self.validity())?;
        write_file(&place.join("ca.pem"), ca.certificate().as_bytes())?;
        private_file(&place.join("ca.key"), ca.key().as_bytes())?;
        Ok(ca)
    }

    fn validity(&self) -> Validity {
        Validity::days(self.utc, CERTIFICATE_DAYS)
    }

    fn file(&self, before: &Charter, order: &Order) -> Result<CharterFile, CertsError> {
        let mut file = before.file().clone();
        file.number = self.number;
        file.issued = self.now.to_string();
        let overlap_days = order.overlap_days;
        file.succession = Some(SuccessionEntry { previous_sha256: before.fingerprint(), overlap_days });
        let replaces = |part| order.replace.contains(&part);
        for country in file.country.iter_mut().filter(|_| replaces(Part::Authorities)) {
            country.authority = self.signing_key(&format!("countries/{}", country.code), "authority.key")?;
        }
        if replaces(Part::Evidence) {
            file.broker.evidence_key = self.signing_key("broker", "evidence.key")?;
        }
        for log in &mut file.log {
            log.closed = order.closed.clone().filter(|_| log.name == "exchange");
            if log.closed.is_some() {
                log.origin = format!("{}-{}.{}", log.name, self.number, file.domain);
            }
            if replaces(Part::Logs) || log.closed.is_some() {
                log.key = self.signing_key("broker", &format!("log-{}.key", log.name))?;
            }
        }
        if replaces(Part::Cas) {
            self.replace_cas(&mut file)?;
        }
        Ok(file)
    }

    fn replace_cas(&self, file: &mut CharterFile) -> Result<(), CertsError> {
        let members = Members::built_in()?;
        let lists = self.new_directory("crl")?;
        for country in &mut file.country {
            let place = format!("countries/{}", country.code);
            let ca = self.ca(&place, &format!("{}.{}", country.code, file.domain).to_ascii_lowercase())?;
            ca.certificate().clone_into(&mut country.ca);
            for office in members.office.iter().filter(|office| office.id.country() == country.code) {
                let issued = ca.issue(&[office.id.dns_name(&file.domain)], Use::Client, self.validity())?;
                write_tls(&self.new_directory(&format!("offices/{}", office.id))?, &issued)?;
            }
            let list = List::new(Vec::new(), self.utc).sign(&self.new_directory(&place)?)?;
            revocation::put(&lists, &revocation::file_name(country.code), &list)?;
        }
        let ca = self.ca("broker", &file.broker.tls_name)?;
        let issued = ca.issue(std::slice::from_ref(&file.broker.tls_name), Use::Server, self.validity())?;
        write_tls(&self.new_directory("broker")?, &issued)?;
        ca.certificate().clone_into(&mut file.broker.ca);
        let subtree = format!("audit.{}", file.domain);
        let ca = self.ca("auditors", &subtree)?;
        ca.certificate().clone_into(&mut file.auditors.ca);
        for name in &file.auditors.names {
            let issued = ca.issue(&[format!("{name}.{subtree}")], Use::Client, self.validity())?;
            write_tls(&self.new_directory(&format!("auditors/{name}"))?, &issued)?;
        }
        let list = List::new(Vec::new(), self.utc).sign(&self.new_directory("auditors")?)?;
        revocation::put(&lists, "auditors.crl", &list)
    }

    /// With the keys of the charter before, and with every one that is new.
    fn sign(&self, before: &Arc<Charter>, file: &CharterFile, order: &Order) -> Result<Charter, CertsError> {
        let body = toml::to_string(file).map_err(|e| CertsError::Members(e.to_string()))?;
        let bytes = Bytes::from(format!("# Charter no. {} of Liaison. {COMMENT}.\n\n{body}", self.number));
        let mut signatures = SignatureFile::default();
        for country in before.countries().iter().filter(|country| !order.absent.contains(&country.code)) {
            let name = format!("countries/{}/authority.key", country.code);
            signatures.sign(country.code, &bytes, &self.held(&name)?);
            if order.replace.contains(&Part::Authorities) {
                let new = self.dev.join(format!("charter-{}", self.number)).join(name);
                signatures.sign(country.code, &bytes, &PrivateKey::read_signing(&new)?);
            }
        }
        let charter = before.succeed(bytes, signatures.to_wire())?;
        let path = self.dev.join(format!("charter-{}.toml", self.number));
        let text = toml::to_string(&signatures).map_err(|e| CertsError::Members(e.to_string()))?;
        write_file(&path.with_extension("sig"), text.as_bytes())?;
        write_file(&path, charter.bytes())?;
        Ok(charter)
    }
}
