//! The accept loop: TCP, then TLS with a client certificate, within bounds; only then does gRPC see the connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use liaison_link::tls::{ALPN_H2, Identity, TlsError, provider};
use liaison_proto::charter::Charter;
use rustls::{ServerConfig, server::NoServerSessionStorage};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::identity::{CountryVerifier, Party, claimed_party};

/// Connections at the same time, all parties together: about five an office of a region of two hundred.
const MAX_CONNECTIONS: usize = 1024;
/// Handshakes at the same time: each costs a signature and a hybrid key exchange.
const MAX_HANDSHAKES: usize = 64;
/// How long a handshake may take: a satellite link needs three seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file handles left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An authenticated connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    party: Party,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Party;

    fn connect_info(&self) -> Party {
        self.party.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// TLS settings of the broker. No session is resumed: a resumed session would keep an old authentication.
///
/// # Errors
/// When certificate, key or the charter's CAs are not usable.
pub fn server_config(charter: &Charter, identity: Identity) -> Result<ServerConfig, TlsError> {
    let verifier = Arc::new(CountryVerifier::new(charter.clone())?);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider(charter.file().require_post_quantum)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts connections until the receiver is dropped.
pub async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    charter: Arc<Charter>,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = connections.closed() => return,
        };
        let (acceptor, charter, connections) = (acceptor.clone(), Arc::clone(&charter), connections.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, authenticate(&acceptor, stream, &charter)).await {
                Ok(Ok((stream, party))) => {
                    drop(handshake);
                    tracing::debug!(%party, "connected");
                    // Fails only when the server has stopped.
                    let _ = connections.send(Ok(Connection { stream, party, _place: place })).await;
                }
                Ok(Err(error)) => tracing::info!(%error, "connection refused"),
                Err(_) => tracing::info!("connection refused: the handshake took too long"),
            }
        });
    }
}

async fn authenticate(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    charter: &Charter,
) -> io::Result<(TlsStream<TcpStream>, Party)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let party = certificate.and_then(|certificate| claimed_party(certificate, charter));
    party.map(|party| (stream, party)).ok_or_else(|| io::Error::other("the certificate names no party of the charter"))
}
