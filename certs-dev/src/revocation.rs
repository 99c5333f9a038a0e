//! Certificate revocation lists of the development CAs (RFC 5280).

use std::{fs, path::Path};

use liaison_proto::ids::Country;
use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevocationReason, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::{CertsError, files::io_error};

/// Days until the next list is due.
pub const LIST_DAYS: i64 = 30;

/// A list to be made.
#[derive(Clone, Debug)]
pub struct List {
    /// Serial numbers of revoked certificates.
    pub revoked: Vec<Vec<u8>>,
    /// When it is made.
    pub issued: OffsetDateTime,
    /// When the next one is due.
    pub next: OffsetDateTime,
}

impl List {
    /// A list that is good for [`LIST_DAYS`].
    #[must_use]
    pub fn new(revoked: Vec<Vec<u8>>, issued: OffsetDateTime) -> Self {
        Self { revoked, issued, next: issued + Duration::days(LIST_DAYS) }
    }

    /// Signs it with the CA in `ca` (`ca.pem`, `ca.key`), as PEM.
    ///
    /// # Errors
    /// When the CA cannot be read, or the list cannot be made.
    pub fn sign(&self, ca: &Path) -> Result<String, CertsError> {
        let read = |name: &str| fs::read_to_string(ca.join(name)).map_err(io_error(&ca.join(name)));
        let key = KeyPair::from_pem(&read("ca.key")?)?;
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem")?, key)?;
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from(serial.clone()),
            revocation_time: self.issued,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let number = u64::try_from(self.issued.unix_timestamp()).unwrap_or_default();
        let params = CertificateRevocationListParams {
            this_update: self.issued,
            next_update: self.next,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: self.revoked.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&issuer)?.pem()?)
    }
}

/// File name of a country's list.
#[must_use]
pub fn file_name(country: Country) -> String {
    format!("{}.crl", country.as_str().to_ascii_lowercase())
}

/// Puts a list in place of the one before, whole.
///
/// # Errors
/// When it cannot be written.
pub fn put(directory: &Path, name: &str, list: &str) -> Result<(), CertsError> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{name}.new")));
    fs::write(&temporary, list).map_err(io_error(&temporary))?;
    fs::rename(&temporary, &path).map_err(io_error(&path))
}
