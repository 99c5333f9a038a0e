//! TLS settings of both sides: TLS 1.3 only, hybrid post-quantum key exchange first.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::time::FlooredTime;

/// ALPN protocol of gRPC.
pub const ALPN_H2: &[u8] = b"h2";

/// Why TLS settings could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file or text is not good.
    #[error("{what} holds no usable PEM")]
    Pem {
        /// File or field.
        what: String,
        /// What failed.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The private key is readable by others, or cannot be read.
    #[error("the TLS key cannot be used")]
    Key(#[from] liaison_proto::key_file::KeyFileError),
    /// rustls refuses them.
    #[error("the TLS settings are not usable")]
    Rustls(#[from] rustls::Error),
}

/// The cryptography of every TLS connection.
#[must_use]
pub fn provider(require_post_quantum: bool) -> CryptoProvider {
    let hybrid = aws_lc_rs::kx_group::X25519MLKEM768;
    let kx_groups = if require_post_quantum {
        vec![hybrid]
    } else {
        vec![hybrid, aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1]
    };
    CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() }
}

/// A certificate chain and its private key.
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Identity {
    /// Reads `tls.pem` and `tls.key`; the key must be readable by its owner only.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = |path: &Path, source| TlsError::Pem { what: path.display().to_string(), source };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| pem(chain, e))?;
        let secret = liaison_proto::key_file::read_private(key)?;
        let key = PrivateKeyDer::from_pem_slice(&secret).map_err(|e| pem(key, e))?;
        Ok(Self { chain: certificates, key })
    }
}

/// A trust store of exactly one CA.
///
/// # Errors
/// [`TlsError`].
pub fn roots(ca_pem: &str, what: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|source| TlsError::Pem { what: what.to_owned(), source })?;
        store.add(certificate)?;
    }
    Ok(store)
}

/// Client settings that may be replaced while in use: the next connection takes the new ones.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<RwLock<Arc<ClientConfig>>>);

impl From<ClientConfig> for ClientTls {
    fn from(config: ClientConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }
}

impl ClientTls {
    /// The settings for the next connection.
    #[must_use]
    pub fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the settings.
    pub fn replace(&self, config: ClientConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// Settings to talk to the broker of a charter: only its own CA is trusted.
///
/// # Errors
/// [`TlsError`].
pub fn client_config(
    broker_ca_pem: &str,
    identity: Identity,
    require_post_quantum: bool,
    time: FlooredTime,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_details(Arc::new(provider(require_post_quantum)), Arc::new(time))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(broker_ca_pem, "the broker's CA in the charter")?)
        .with_client_auth_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}
