//! Certificates of one run: a CA, a server and a client.

use std::{fs, io, path::Path, sync::Arc};

use liaison_link::tls::roots;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Writes `ca.pem`, `server.pem`, `server.key` below a directory, and returns a client's settings.
///
/// # Errors
/// When they cannot be made.
pub(super) fn make(directory: &Path) -> io::Result<Arc<ClientConfig>> {
    let other = io::Error::other::<rcgen::Error>;
    let mut params = CertificateParams::new(Vec::new()).map_err(other)?;
    params.distinguished_name.push(DnType::CommonName, "the benchmark's CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().map_err(other)?;
    let ca = params.self_signed(&ca_key).map_err(other)?;
    let issuer = Issuer::new(params, ca_key);
    let issue = |purpose| -> io::Result<(String, String)> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(other)?;
        // Another name than the CA's: Erlang takes one that has the same for self-signed.
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().map_err(other)?;
        Ok((params.signed_by(&key, &issuer).map_err(other)?.pem(), key.serialize_pem()))
    };
    let (server, server_key) = issue(ExtendedKeyUsagePurpose::ServerAuth)?;
    let (client, client_key) = issue(ExtendedKeyUsagePurpose::ClientAuth)?;
    for (name, text) in [("ca.pem", ca.pem()), ("server.pem", server), ("server.key", server_key)] {
        fs::write(directory.join(name), text)?;
    }
    let chain = CertificateDer::pem_slice_iter(client.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(client_key.as_bytes());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots(&ca.pem(), "the run's CA").map_err(io::Error::other)?)
        .with_client_auth_cert(chain.map_err(io::Error::other)?, key.map_err(io::Error::other)?);
    Ok(Arc::new(config.map_err(io::Error::other)?))
}
