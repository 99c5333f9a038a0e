//! X.509: CAs and the certificates they issue. All keys are ECDSA P-256, which every gRPC stack and browser takes.

use std::{fs, path::Path};

use liaison_proto::sha256;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::{CertsError, io_error};

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// TLS client: an office or an auditor.
    Client,
    /// TLS server: the broker.
    Server,
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// First moment.
    pub not_before: OffsetDateTime,
    /// Last moment.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From a day before `now` to `days` after.
    #[must_use]
    pub fn days(now: OffsetDateTime, days: i64) -> Self {
        Self { not_before: now - Duration::days(1), not_after: now + Duration::days(days) }
    }
}

/// A certificate and its key, both PEM.
pub struct Issued {
    /// Certificate.
    pub certificate: String,
    /// PKCS #8.
    pub key: String,
    /// Serial number, as revocation lists name it.
    pub serial: Vec<u8>,
}

/// A certification authority.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: String,
}

impl Authority {
    /// A CA that may issue only below `subtree`.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn new(name: &str, subtree: &str, validity: Validity) -> Result<Self, CertsError> {
        let mut params = base(name, validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Written as critical: a verifier that does not know name constraints must refuse.
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(subtree.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { params, key, certificate })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Issues a certificate for DNS names; the name constraint is the verifier's to enforce.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn issue(&self, names: &[String], usage: Use, validity: Validity) -> Result<Issued, CertsError> {
        let (params, key, serial) = leaf(names, usage, validity)?;
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key))?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), serial })
    }
}

/// Issues a certificate by the CA in a directory (`ca.pem`, `ca.key`): a renewal.
///
/// # Errors
/// When the CA cannot be read, or the certificate cannot be made.
pub fn renew(ca: &Path, names: &[String], usage: Use, validity: Validity) -> Result<Issued, CertsError> {
    let (params, key, serial) = leaf(names, usage, validity)?;
    let certificate = params.signed_by(&key, &issuer(ca)?)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), serial })
}

/// The CA in a directory (`ca.pem`, `ca.key`).
pub(crate) fn issuer(ca: &Path) -> Result<Issuer<'static, KeyPair>, CertsError> {
    let read = |name: &str| fs::read_to_string(ca.join(name)).map_err(io_error(&ca.join(name)));
    Ok(Issuer::from_ca_cert_pem(&read("ca.pem")?, KeyPair::from_pem(&read("ca.key")?)?)?)
}

/// A certificate that vouches for itself.
///
/// # Errors
/// When the certificate cannot be made.
pub fn self_signed(names: &[String], usage: Use, validity: Validity) -> Result<Issued, CertsError> {
    let (params, key, serial) = leaf(names, usage, validity)?;
    Ok(Issued { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem(), serial })
}

fn base(name: &str, validity: Validity) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    Ok(params)
}

fn leaf(names: &[String], usage: Use, validity: Validity) -> Result<(CertificateParams, KeyPair, Vec<u8>), CertsError> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    // The common name is ignored by every party; it is for people who look at the certificate.
    params.distinguished_name.push(DnType::CommonName, "liaison development");
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        Use::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Use::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Of the key, which is random; positive, and with a first byte that its encoding keeps.
    let mut serial = sha256(&[key.der_bytes()])[..16].to_vec();
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from(serial.clone()));
    Ok((params, key, serial))
}
