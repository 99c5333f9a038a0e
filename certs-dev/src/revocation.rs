//! Certificate revocation lists of the development CAs (RFC 5280).

use std::{fs, path::Path};

use liaison_proto::ids::Country;
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber};
use time::{Duration, OffsetDateTime};

use crate::{CertsError, authority::issuer, io_error};

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
    /// Its number (RFC 5280, 5.2.3), big-endian: at most 20 bytes.
    pub number: Vec<u8>,
}

impl List {
    /// A list that is good for [`LIST_DAYS`].
    #[must_use]
    pub fn new(revoked: Vec<Vec<u8>>, issued: OffsetDateTime) -> Self {
        let number = issued.unix_timestamp().to_be_bytes().to_vec();
        Self { revoked, issued, next: issued + Duration::days(LIST_DAYS), number }
    }

    /// Signs it with the CA in `ca` (`ca.pem`, `ca.key`), as PEM.
    ///
    /// # Errors
    /// When the CA cannot be read, or the list cannot be made.
    pub fn sign(&self, ca: &Path) -> Result<String, CertsError> {
        let issuer = issuer(ca)?;
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from(serial.clone()),
            revocation_time: self.issued,
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: self.issued,
            next_update: self.next,
            crl_number: SerialNumber::from(self.number.clone()),
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
