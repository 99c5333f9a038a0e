//! The accept loop: TCP, then TLS with a client certificate, within bounds; only then does gRPC see the connection.

use std::{
    future::Future as _,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use liaison_link::{
    net::{Listener, Stream},
    time::FlooredTime,
    tls::{ALPN_H2, Identity, TlsError, provider, roots},
};
use liaison_proto::{charter::Charter, clock::Clock as _};
use rustls::{
    ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::ServerName,
    server::{Acceptor, NoServerSessionStorage},
    time_provider::TimeProvider as _,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::{
    connections::{AddressPlace, Connections, Place},
    identity::{CountryVerifier, Party, claimed_party, serial_number},
    revocation::Revocations,
};

/// How long a handshake may take: a satellite link needs three seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first message of a handshake may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause after a failed accept (no file handles left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection beyond its party's number is kept to tell it so.
const EXCESS: Duration = Duration::from_secs(5);

/// Who is at the other end, and whether it has more connections than it may.
#[derive(Clone, Debug)]
pub struct Caller {
    /// From the certificate.
    pub party: Party,
    /// Its calls are answered `TOO_MANY`.
    pub excess: bool,
}

/// An authenticated connection.
pub struct Connection {
    stream: TlsStream<Stream>,
    caller: Caller,
    place: Place,
    ends: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Connection {
    fn new(stream: TlsStream<Stream>, party: Party, place: Place) -> Self {
        let excess = place.excess;
        let ends = excess.then(|| Box::pin(tokio::time::sleep(EXCESS)));
        Self { stream, caller: Caller { party, excess }, place, ends }
    }

    /// Whether the connection was cut: its party was revoked, or it is one too many.
    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        Pin::new(&mut self.place.cut).poll(cx).is_ready()
            || self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready())
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
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
pub fn server_config(
    charter: &Charter,
    identity: Identity,
    revocations: &Revocations,
    time: FlooredTime,
) -> Result<ServerConfig, TlsError> {
    let verifier = Arc::new(CountryVerifier::new(charter.clone(), revocations)?);
    let provider = Arc::new(provider(charter.file().require_post_quantum));
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(time))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Whether offices would believe a certificate: it is the charter's broker's, of a CA that holds, and valid now.
///
/// # Errors
/// What is wrong with it.
pub fn check_believed(charter: &Charter, identity: &Identity, time: &FlooredTime) -> Result<(), TlsError> {
    check_under(&charter.broker_cas(time.now()), charter, identity, time)
}

/// What the operator should know of a certificate that is believed: its CA was replaced.
#[must_use]
pub fn ending(charter: &Charter, identity: &Identity, time: &FlooredTime) -> Option<String> {
    check_under(&charter.file().broker.ca, charter, identity, time).err()?;
    let end = charter.overlap_end();
    Some(format!("the broker's certificate is of a CA that holds until {end}: install one of the new CA before"))
}

fn check_under(cas: &str, charter: &Charter, identity: &Identity, time: &FlooredTime) -> Result<(), TlsError> {
    let unusable = |what: &str| TlsError::Rustls(rustls::Error::General(what.to_owned()));
    let roots = Arc::new(roots(cas, "the broker's CA in the charter")?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(provider(false)))
        .build()
        .map_err(|error| unusable(&error.to_string()))?;
    let name = charter.file().broker.tls_name.as_str();
    let name = ServerName::try_from(name).map_err(|_| unusable("the broker's name is no name"))?;
    let now = time.current_time().ok_or_else(|| unusable("there is no time"))?;
    let (first, others) = identity.chain.split_first().ok_or_else(|| unusable("there is no certificate"))?;
    verifier.verify_server_cert(first, others, &name, &[], now)?;
    Ok(())
}

/// The door: what new connections are judged by. Its settings are replaced whole when certificates or lists change.
pub struct Door {
    /// TLS settings for the next handshake.
    pub tls: RwLock<Arc<ServerConfig>>,
    /// Who is who.
    pub charter: Arc<Charter>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// Handshakes at the same time: each costs a signature and a hybrid key exchange.
    pub handshakes: Arc<Semaphore>,
}

impl Door {
    fn settings(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Accepts connections until the receiver is dropped.
    pub async fn accept(self: Arc<Self>, mut listener: impl Listener, served: mpsc::Sender<io::Result<Connection>>) {
        loop {
            let (stream, address) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = served.closed() => return,
            };
            let Some(place) = self.connections.enter(address) else {
                metrics::counter!("liaison_connections_refused_total", "reason" => "too_many").increment(1);
                tracing::debug!(%address, "connection closed: too many");
                continue;
            };
            let (door, served) = (Arc::clone(&self), served.clone());
            tokio::spawn(async move {
                // The time also runs while it waits for its turn: whoever never speaks is gone after it.
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, door.authenticate(stream, place)).await {
                    Ok(Ok(connection)) => {
                        tracing::debug!(party = %connection.caller.party, "connected");
                        // Fails only when the server has stopped.
                        let _ = served.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => Self::refused(address, &error.to_string()),
                    Err(_) => Self::refused(address, "the handshake took too long"),
                }
            });
        }
    }

    fn refused(address: IpAddr, why: &str) {
        metrics::counter!("liaison_connections_refused_total", "reason" => "handshake").increment(1);
        tracing::info!(%address, why, "connection refused");
    }

    async fn authenticate(&self, stream: Stream, place: AddressPlace) -> io::Result<Connection> {
        // Whoever says nothing takes no turn, and one address takes its own share of them: nobody waits for silent peers.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = tokio::time::timeout(HELLO_TIMEOUT, hello).await.map_err(io::Error::other)??;
        let own = Arc::clone(&place.handshakes);
        let _own_turn = own.acquire().await.map_err(io::Error::other)?;
        let _turn = self.handshakes.acquire().await.map_err(io::Error::other)?;
        let settings = self.settings();
        let stream = hello.into_stream(Arc::clone(&settings)).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let party = certificate.and_then(|certificate| claimed_party(certificate, &self.charter));
        let serial = certificate.and_then(|certificate| serial_number(certificate)).unwrap_or_default();
        let party = party.ok_or_else(|| io::Error::other("the certificate names no party of the charter"))?;
        let place = self.connections.admit(place, &party, serial);
        let place = place.ok_or_else(|| io::Error::other(format!("{party} has too many connections")))?;
        // A list that came during the handshake has not judged this certificate, and the cut that went with it may have
        // been over before the place was taken. Whoever is still welcome comes again.
        if !Arc::ptr_eq(&settings, &self.settings()) {
            return Err(io::Error::other("certificates or lists were replaced during the handshake"));
        }
        Ok(Connection::new(stream, party, place))
    }
}
