//! Dialling the broker: a gRPC channel over mutual TLS that connects when first used and reconnects by itself.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use liaison_proto::charter::Charter;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::{net::Dialer, tls::ClientTls};

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection waits for the answer to a ping before it is given up. On 64 kbit/s a ping waits behind what the
/// system has taken of a large message already, and other connections take their part: ten seconds would give up, and
/// begin anew, for ever.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same where nothing large is ever in the way, and a line that is dead must be noticed soon.
const FLASH_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// The charter's broker name is not a DNS name.
#[derive(Debug, thiserror::Error)]
#[error("the charter's broker name is not a DNS name")]
pub struct BadBrokerName;

/// A channel to the broker of `charter` at `address`; the certificate must name the charter's broker.
///
/// # Errors
/// [`BadBrokerName`]. Connecting happens later.
pub fn channel(
    charter: &Charter,
    address: SocketAddr,
    tls: ClientTls,
    dialer: Dialer,
) -> Result<Channel, BadBrokerName> {
    patient_channel(charter, address, tls, dialer, KEEPALIVE_TIMEOUT)
}

/// A channel for FLASH alone: a dead line is noticed sooner.
///
/// # Errors
/// As [`channel`].
pub fn flash_channel(
    charter: &Charter,
    address: SocketAddr,
    tls: ClientTls,
    dialer: Dialer,
) -> Result<Channel, BadBrokerName> {
    patient_channel(charter, address, tls, dialer, FLASH_KEEPALIVE_TIMEOUT)
}

fn patient_channel(
    charter: &Charter,
    address: SocketAddr,
    tls: ClientTls,
    dialer: Dialer,
    patience: Duration,
) -> Result<Channel, BadBrokerName> {
    let name = ServerName::try_from(charter.file().broker.tls_name.clone()).map_err(|_| BadBrokerName)?;
    let endpoint = Endpoint::from_shared(format!("http://{}", charter.file().broker.tls_name))
        .map_err(|_| BadBrokerName)?
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(patience)
        .keep_alive_while_idle(true)
        .buffer_size(256);
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (name, dialer) = (name.clone(), Arc::clone(&dialer));
        let connector = TlsConnector::from(tls.current());
        async move {
            let connect = async {
                let stream = dialer(address).await?;
                connector.connect(name, stream).await
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
                Ok(stream) => stream.map(TokioIo::new),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connecting to the broker took too long")),
            }
        }
    })))
}
