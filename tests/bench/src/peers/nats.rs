//! A NATS client that can do what is measured and nothing else: connect over mutual TLS, make a stream, publish with
//! JetStream's acknowledgement (docs.nats.io, client protocol).

use std::io::{self, Write as _};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Connection, Protocol, Tls, Unconfirmed, unexpected};

const STREAM: &str = "BENCH";
const SUBJECT: &str = "bench.in";

/// One connection's inbox, where acknowledgements come.
pub(crate) struct Nats {
    inbox: String,
}

/// Connects: the server speaks first, in clear, and everything after its first line is TLS.
pub(crate) async fn connect(tls: &Tls, address: &str, number: usize) -> io::Result<(Connection, Nats)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // Byte by byte: nothing behind the line may be taken from the handshake.
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).await?;
    }
    let mut stream = tls.connect(stream).await?;
    let inbox = format!("_INBOX.{}x{number}.", std::process::id());
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\"headers\":true,\"no_responders\":true,\
         \"protocol\":1,\"lang\":\"rust\",\"version\":\"1\",\"name\":\"bench\"}}\r\nSUB {inbox}* 1\r\nPING\r\n"
    );
    stream.write_all(hello.as_bytes()).await?;
    stream.flush().await?;
    let mut read = Vec::new();
    loop {
        while let Some((_, line, used)) = next(&read)? {
            let ready = line == b"PONG";
            read.drain(..used);
            if ready {
                return Ok((Connection { stream, read }, Nats { inbox }));
            }
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(unexpected("closed before it let us in"));
        }
    }
}

/// Makes a new stream in place of the one before: one replica, in files.
pub(crate) async fn make_stream(tls: &Tls, address: &str) -> io::Result<()> {
    let (mut connection, nats) = connect(tls, address, usize::MAX).await?;
    let config = format!(
        "{{\"name\":\"{STREAM}\",\"subjects\":[\"bench.>\"],\"storage\":\"file\",\"num_replicas\":1,\
         \"retention\":\"limits\",\"discard\":\"old\",\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\
         \"max_age\":0,\"max_msg_size\":-1}}"
    );
    let _ = ask(&mut connection, &nats, &format!("STREAM.DELETE.{STREAM}"), "").await?;
    let made = ask(&mut connection, &nats, &format!("STREAM.CREATE.{STREAM}"), &config).await?;
    if made.contains("\"error\"") { Err(unexpected(&made)) } else { Ok(()) }
}

async fn ask(connection: &mut Connection, nats: &Nats, what: &str, json: &str) -> io::Result<String> {
    let request = format!("PUB $JS.API.{what} {}0 {}\r\n{json}\r\n", nats.inbox, json.len());
    connection.stream.write_all(request.as_bytes()).await?;
    connection.stream.flush().await?;
    loop {
        while let Some((subject, body, used)) = next(&connection.read)? {
            let answer = (!subject.is_empty()).then(|| String::from_utf8_lossy(body).into_owned());
            connection.read.drain(..used);
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        if connection.stream.read_buf(&mut connection.read).await? == 0 {
            return Err(unexpected("closed"));
        }
    }
}

/// The next message as subject, payload and length; the subject of any other line is empty.
fn next(read: &[u8]) -> io::Result<Option<(&str, &[u8], usize)>> {
    let Some(end) = read.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let line = std::str::from_utf8(&read[..end]).map_err(io::Error::other)?.trim_end();
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<usize>().ok());
    let mut words = line.split(' ');
    match words.next() {
        Some(kind @ ("MSG" | "HMSG")) => {
            let subject = words.next().ok_or_else(|| unexpected(line))?;
            let size = number(words.next_back()).ok_or_else(|| unexpected(line))?;
            let headers = if kind == "HMSG" { number(words.next_back()).ok_or_else(|| unexpected(line))? } else { 0 };
            let (start, stop) = (end + 1 + headers, end + 1 + size);
            Ok(read.get(start..stop).filter(|_| read.len() >= stop + 2).map(|body| (subject, body, stop + 2)))
        }
        Some("-ERR") => Err(unexpected(line)),
        _ => Ok(Some(("", line.as_bytes(), end + 1))),
    }
}

impl Protocol for Nats {
    fn publish(&mut self, number: u64, payload: &[u8], out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = write!(out, "PUB {SUBJECT} {}{number} {}\r\n", self.inbox, payload.len());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn confirmed(&mut self, read: &[u8], out: &mut Vec<u8>, unconfirmed: &mut Unconfirmed) -> io::Result<usize> {
        let mut used = 0;
        while let Some((subject, body, length)) = next(&read[used..])? {
            if subject.is_empty() {
                if body == b"PING" {
                    out.extend_from_slice(b"PONG\r\n");
                }
            } else {
                if !body.starts_with(b"{\"stream\"") || body.windows(7).any(|word| word == b"\"error\"") {
                    return Err(unexpected(&String::from_utf8_lossy(body)));
                }
                let number = subject.strip_prefix(&self.inbox).and_then(|number| number.parse().ok());
                unconfirmed.one(number.ok_or_else(|| unexpected(subject))?)?;
            }
            used += length;
        }
        Ok(used)
    }
}
