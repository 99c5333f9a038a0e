//! From a certificate to who is calling.
//!
//! The country's CA is chosen from the name that the certificate presents, *before* the chain is validated: a CA is
//! trusted for its own country only, whatever its certificate says. The subject is ignored.

use std::{collections::BTreeMap, sync::Arc};

use liaison_link::tls::{TlsError, provider};
use liaison_proto::{charter::Charter, clock::UnixMillis, ids::Country};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

pub use crate::party::{Party, claimed_party, serial_number};
use crate::revocation::{AUDITORS, Revocations, cas, client_verifier};

/// Verifiers of one country's certificates: by its CA, and by those that it had, each until its overlap ends.
type Verifiers = Vec<(Option<UnixMillis>, Arc<dyn ClientCertVerifier>)>;

/// Verifies client certificates by the CA of the country that the certificate's own name belongs to.
#[derive(Debug)]
pub struct CountryVerifier {
    charter: Charter,
    countries: BTreeMap<Country, Verifiers>,
    auditors: Verifiers,
    any: Arc<dyn ClientCertVerifier>,
}

impl CountryVerifier {
    /// The verifier of a charter. A CA without a list revokes nobody; one with an old list still revokes who is on it.
    ///
    /// # Errors
    /// When a CA in the charter is not usable.
    pub fn new(charter: Charter, revocations: &Revocations) -> Result<Self, TlsError> {
        let provider = Arc::new(provider(charter.file().require_post_quantum));
        let verifiers = |name: &str| -> Result<Verifiers, TlsError> {
            let cas = cas(&charter, name).into_iter();
            cas.map(|(until, pem)| Ok((until, client_verifier(pem, revocations.list(name, pem), &provider)?))).collect()
        };
        let mut countries = BTreeMap::new();
        for country in charter.countries() {
            countries.insert(country.code, verifiers(&country.code.as_str().to_ascii_lowercase())?);
        }
        let auditors = verifiers(AUDITORS)?;
        let any = client_verifier(&charter.file().auditors.ca, None, &provider)?;
        Ok(Self { charter, countries, auditors, any })
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
        let verifiers = match claimed_party(end_entity, &self.charter).ok_or_else(|| refused.clone())? {
            Party::Office(office) => self.countries.get(&office.country()).ok_or_else(|| refused.clone())?,
            Party::Auditor(_) => &self.auditors,
        };
        // Whole seconds, of which nothing is left over for what has ended.
        let at = UnixMillis(i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000).saturating_add(999));
        let mut problem = None;
        for (until, verifier) in verifiers {
            if until.is_some_and(|until| at >= until) {
                continue;
            }
            match verifier.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => return Ok(verified),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or(refused))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }
}
