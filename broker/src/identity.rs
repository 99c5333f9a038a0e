//! From a certificate to who is calling.
//!
//! The country's CA is chosen from the name that the certificate presents, *before* the chain is validated: a CA is
//! trusted for its own country only, whatever its certificate says. The subject is ignored.

use std::{collections::BTreeMap, fmt, sync::Arc};

use liaison_link::tls::{TlsError, provider, roots};
use liaison_proto::{
    charter::Charter,
    ids::{Country, OfficeId},
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::revocation::Revocations;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// A member country's office.
    Office(OfficeId),
    /// An auditor, by name.
    Auditor(String),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Office(office) => office.fmt(f),
            Self::Auditor(name) => write!(f, "auditor {name}"),
        }
    }
}

/// The party that a certificate claims to be: exactly one name, a DNS name of the charter's domain, for a TLS client.
#[must_use]
pub fn claimed_party(certificate: &[u8], charter: &Charter) -> Option<Party> {
    let (rest, certificate) = parse_x509_certificate(certificate).ok()?;
    let usage = certificate.extended_key_usage().ok()??;
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let [GeneralName::DNSName(name)] = names.as_slice() else { return None };
    if !rest.is_empty() || !usage.value.client_auth || usage.value.any {
        return None;
    }
    let file = charter.file();
    if let Some(auditor) = name.strip_suffix(&format!(".audit.{}", file.domain)) {
        return file.auditors.names.iter().find(|known| *known == auditor).cloned().map(Party::Auditor);
    }
    OfficeId::from_dns_name(name, &file.domain)
        .filter(|office| charter.country(office.country()).is_some())
        .map(Party::Office)
}

/// Serial number of a certificate, as revocation lists name it.
#[must_use]
pub fn serial_number(certificate: &[u8]) -> Option<Vec<u8>> {
    crate::revocation::serial(certificate)
}

/// Verifies client certificates by the CA of the country that the certificate's own name belongs to.
#[derive(Debug)]
pub struct CountryVerifier {
    charter: Charter,
    countries: BTreeMap<Country, Arc<dyn ClientCertVerifier>>,
    auditors: Arc<dyn ClientCertVerifier>,
}

/// The verifier of one CA's certificates, with its list.
///
/// # Errors
/// When the CA is not usable, or the list cannot be enforced.
pub(crate) fn client_verifier(
    ca_pem: &str,
    list: Option<CertificateRevocationListDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(ca_pem, "a CA in the charter")?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(list) = list {
        builder = builder.with_crls([list]).only_check_end_entity_revocation().allow_unknown_revocation_status();
    }
    builder.build().map_err(|e| TlsError::Rustls(Error::General(e.to_string())))
}

impl CountryVerifier {
    /// The verifier of a charter. A CA without a list revokes nobody; one with an old list still revokes who is on it.
    ///
    /// # Errors
    /// When a CA in the charter is not usable.
    pub fn new(charter: Charter, revocations: &Revocations) -> Result<Self, TlsError> {
        let provider = Arc::new(provider(charter.file().require_post_quantum));
        let verifier = |pem: &str, name: &str| client_verifier(pem, revocations.list(name), &provider);
        let mut countries = BTreeMap::new();
        for country in charter.countries() {
            let name = country.code.as_str().to_ascii_lowercase();
            countries.insert(country.code, verifier(&country.ca_pem, &name)?);
        }
        let auditors = verifier(&charter.file().auditors.ca, "auditors")?;
        Ok(Self { charter, countries, auditors })
    }
}

impl ClientCertVerifier for CountryVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Clients hold one certificate; no hint is needed, and none tells a stranger who the members are.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let verifier = match claimed_party(end_entity, &self.charter).ok_or_else(|| refused.clone())? {
            Party::Office(office) => self.countries.get(&office.country()).ok_or(refused)?,
            Party::Auditor(_) => &self.auditors,
        };
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.auditors.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.auditors.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.auditors.supported_verify_schemes()
    }
}
