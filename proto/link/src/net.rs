//! The network, injected: the operating system's TCP, or a simulated one.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// What the system takes of a connection before the network has room for it, bytes: it would take hundreds of KiB, and on
/// a slow line nothing could overtake them, not even the answer to a ping.
const UNSENT: u32 = 16 * 1024;

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection without TLS yet.
pub type Stream = Box<dyn Io>;

/// A future connection.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// How connections are made.
pub type Dialer = Arc<dyn Fn(SocketAddr) -> Connecting + Send + Sync>;

/// Where connections come in.
pub trait Listener: Send + 'static {
    /// The next connection, and who made it.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Stream, IpAddr)>> + Send;
}

/// Sets what both ends of every connection have: nothing waits to be sent together, and little waits in the system.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// The operating system's TCP.
#[must_use]
pub fn tcp() -> Dialer {
    Arc::new(|address| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            tune(&stream)?;
            Ok(Box::new(stream) as Stream)
        })
    })
}

impl Listener for TcpListener {
    async fn accept(&mut self) -> io::Result<(Stream, IpAddr)> {
        loop {
            let (stream, address) = Self::accept(self).await?;
            // One that is gone already is no trouble of the others.
            if tune(&stream).is_ok() {
                return Ok((Box::new(stream), address.ip()));
            }
        }
    }
}
