//! From a certificate to who is calling.
//!
//! The country's CA is chosen from the name that the certificate presents, *before* the chain is validated: a CA is
//! trusted for its own country only, whatever its certificate says. The subject is ignored.

use std::{collections::BTreeMap, sync::Arc};

use liaison_link::tls::{TlsError, provider};
use liaison_proto::{charter::Charter, ids::Country};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

pub use crate::party::{Party, claimed_party, serial_number};
use crate::revocation::{Revocations, client_verifier};

/// Verifies client certificates by the CA of the country that the certificate's own name belongs to.
#[derive(Debug)]
pub struct CountryVerifier {
    charter: Charter,
    countries: BTreeMap<Country, Arc<dyn ClientCertVerifier>>,
    auditors: Arc<dyn ClientCertVerifier>,
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
