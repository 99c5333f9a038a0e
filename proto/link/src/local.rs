//! The local socket of a daemon: one JSON request a connection, one JSON answer; behind the request or the answer may
//! follow bytes, as many as it says. The kernel says who is asking.

use std::{
    future::Future,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as BlockingStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader as AsyncBufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

/// Longest request or answer, bytes: a case file, or a list of a few thousand messages.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Connections served at the same time; more wait.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to write its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// User id of the process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerUid(pub u32);

/// What follows a request.
pub type RequestBody = AsyncBufReader<Box<dyn AsyncRead + Send + Unpin>>;

/// An answer, with bytes behind it when it has any.
pub struct Reply {
    json: Value,
    body: Option<Box<dyn AsyncRead + Send + Unpin>>,
}

impl Reply {
    /// An answer that bytes follow.
    pub fn with_body(json: Value, body: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self { json, body: Some(Box::new(body)) }
    }

    /// The answer without its bytes.
    #[must_use]
    pub fn into_json(self) -> Value {
        self.json
    }
}

impl From<Value> for Reply {
    fn from(json: Value) -> Self {
        Self { json, body: None }
    }
}

/// Binds the socket for its owner and group, replacing what a dead daemon left.
///
/// # Errors
/// When the path cannot be bound.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves requests until the task is dropped.
pub async fn serve<H, F>(listener: UnixListener, handler: H)
where
    H: Fn(PeerUid, Value, RequestBody) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let handler = Arc::new(handler);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, handler.as_ref()).await {
                        tracing::debug!(%error, "local request failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on the local socket failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer<H, F>(stream: UnixStream, handler: &H) -> io::Result<()>
where
    H: Fn(PeerUid, Value, RequestBody) -> F,
    F: Future<Output = Reply>,
{
    let uid = PeerUid(stream.peer_cred()?.uid());
    let (reader, mut writer) = stream.into_split();
    let mut reader: RequestBody = AsyncBufReader::new(Box::new(reader));
    let mut line = Vec::new();
    let read = async { (&mut reader).take(MAX_BYTES).read_until(b'\n', &mut line).await };
    tokio::time::timeout(REQUEST_TIMEOUT, read).await??;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => handler(uid, request, reader).await,
        Err(_) => serde_json::json!({"error": "the request is not JSON, or too long"}).into(),
    };
    let mut bytes = reply.json.to_string().into_bytes();
    bytes.push(b'\n');
    writer.write_all(&bytes).await?;
    if let Some(mut body) = reply.body {
        tokio::io::copy(&mut body, &mut writer).await?;
    }
    writer.shutdown().await
}

/// Asks a daemon and waits for the answer.
///
/// # Errors
/// When nobody listens, or the answer is not JSON.
pub fn call(path: &Path, request: &Value) -> io::Result<Value> {
    call_with(path, request, &mut io::empty(), &mut io::sink())
}

/// Asks a daemon with bytes behind the request; what follows the answer goes to `sink`.
///
/// # Errors
/// When nobody listens, the answer is not JSON, or bytes cannot be read or written.
pub fn call_with(path: &Path, request: &Value, body: &mut dyn io::Read, sink: &mut dyn io::Write) -> io::Result<Value> {
    let mut stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut bytes = request.to_string().into_bytes();
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    match io::copy(body, &mut stream) {
        // The daemon did not want to read it all: its answer says why.
        Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        copied => drop(copied?),
    }
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream);
    (&mut reader).take(MAX_BYTES).read_until(b'\n', &mut line)?;
    let answer = serde_json::from_slice(&line).map_err(io::Error::other)?;
    io::copy(&mut reader, sink)?;
    Ok(answer)
}
