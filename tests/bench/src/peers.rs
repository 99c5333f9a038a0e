//! The peers, measured with the same payload over mutual TLS 1.3: NATS JetStream and RabbitMQ. Neither verifies a
//! signature, proves anything, or knows who may write to whom.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    ledger::{Ledger, Watch},
    measure::{Round, now},
};

mod amqp;
mod authority;
mod nats;
mod server;

use server::Kind;

/// What is published: as long as a sealed message, and as compressible.
const PAYLOAD: usize = 2048;

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a peer said: {what}"))
}

/// A connection that is open, and what was read and not looked at.
pub(crate) struct Connection {
    stream: Stream,
    read: Vec<u8>,
}

/// How a peer is published to.
trait Protocol: Send + 'static {
    /// Adds a message; numbers begin at 1.
    fn publish(&mut self, number: u64, payload: &[u8], out: &mut Vec<u8>);
    /// Takes what is whole of what was read, and says how much that was.
    fn confirmed(&mut self, read: &[u8], out: &mut Vec<u8>, unconfirmed: &mut Unconfirmed) -> io::Result<usize>;
}

/// Messages under way on a connection, and how long those took that are confirmed.
#[derive(Default)]
pub(crate) struct Unconfirmed {
    under_way: BTreeMap<u64, Instant>,
    latencies: Vec<Duration>,
}

impl Unconfirmed {
    fn one(&mut self, number: u64) -> io::Result<()> {
        let begin = self.under_way.remove(&number).ok_or_else(|| unexpected("a confirmation of nothing"))?;
        self.latencies.push(begin.elapsed());
        Ok(())
    }

    fn all_to(&mut self, number: u64) {
        let rest = self.under_way.split_off(&(number + 1));
        let confirmed = std::mem::replace(&mut self.under_way, rest);
        self.latencies.extend(confirmed.into_values().map(|begin| begin.elapsed()));
    }
}

/// Mutual TLS with the certificates of this run.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

/// Publishes `count` messages, so many unconfirmed at most.
async fn publish<P: Protocol>(
    Connection { mut stream, mut read }: Connection,
    mut protocol: P,
    payload: Arc<Vec<u8>>,
    unanswered: usize,
    count: usize,
) -> io::Result<Vec<Duration>> {
    let (mut number, mut out, mut unconfirmed) = (0, Vec::new(), Unconfirmed::default());
    while unconfirmed.latencies.len() < count {
        while unconfirmed.under_way.len() < unanswered && number < count as u64 {
            number += 1;
            unconfirmed.under_way.insert(number, now());
            protocol.publish(number, &payload, &mut out);
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
            stream.flush().await?;
            out.clear();
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(unexpected("closed"));
        }
        let used = protocol.confirmed(&read, &mut out, &mut unconfirmed)?;
        read.drain(..used);
    }
    Ok(unconfirmed.latencies)
}

async fn measured(kind: Kind, tls: &Tls, address: &str, unanswered: usize, count: usize) -> io::Result<Round> {
    // What is sealed does not compress.
    let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
    let bytes = (0..PAYLOAD).map(|_| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise.to_le_bytes()[0]
    });
    let payload = Arc::new(bytes.collect::<Vec<u8>>());
    let connections = unanswered.min(16);
    let (share, each) = (unanswered / connections, count / connections);
    type Publishing = std::pin::Pin<Box<dyn Future<Output = io::Result<Vec<Duration>>> + Send>>;
    let mut ready: Vec<Publishing> = Vec::new();
    for number in 0..connections {
        let payload = Arc::clone(&payload);
        if kind == Kind::RabbitMq {
            let (connection, amqp) = amqp::connect(tls, address).await?;
            ready.push(Box::pin(publish(connection, amqp, payload, share, each)));
        } else {
            let (connection, nats) = nats::connect(tls, address, number).await?;
            ready.push(Box::pin(publish(connection, nats, payload, share, each)));
        }
    }
    let begin = now();
    let publishing: Vec<_> = ready.into_iter().map(tokio::spawn).collect();
    let mut latencies = Vec::with_capacity(count);
    for one in publishing {
        latencies.extend(one.await.map_err(io::Error::other)??);
    }
    Ok(Round::new(begin.elapsed(), latencies))
}

/// Brings the peers to `place`, unless they are there.
///
/// # Errors
/// When they cannot be had.
pub(crate) fn install(place: &Path) -> io::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/install-peers");
    let installed = Command::new("bash").arg(script).arg(place).stdout(Stdio::null()).status()?;
    if installed.success() { Ok(()) } else { Err(io::Error::other("the peers could not be installed")) }
}

/// One round of all of them, each in a new server.
///
/// # Errors
/// When one cannot be started or measured.
pub(crate) async fn round(place: &Path, ledger: &mut Ledger, scale: usize) -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let certificates = authority::make(directory.path())?;
    for kind in Kind::ALL {
        for (unanswered, count) in [(1, 500 * scale), (64, 4096 * scale), (256, 4096 * scale)] {
            let own = directory.path().join(kind.name());
            let _ = fs::remove_dir_all(&own);
            let server = server::start(kind, place, &own, directory.path()).await?;
            let tls = Tls(TlsConnector::from(Arc::clone(&certificates)));
            match kind {
                Kind::RabbitMq => amqp::make_queue(&tls, &server.address).await?,
                _ => nats::make_stream(&tls, &server.address).await?,
            }
            let watch = Watch::begin(&[server.process()], Some(&own))?;
            let round = measured(kind, &tls, &server.address, unanswered, count).await?;
            ledger.add(&format!("{}, {unanswered} in flight", kind.name()), watch.end(&round)?);
            server.stop();
        }
    }
    Ok(())
}
