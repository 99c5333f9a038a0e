//! An AMQP 0-9-1 client that can do what is measured and nothing else: connect over mutual TLS, declare a durable quorum
//! queue, publish persistent messages with publisher confirms (rabbitmq.com, AMQP 0-9-1 reference).

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Connection, Protocol, Stream, Tls, Unconfirmed, unexpected};

const QUEUE: &str = "bench";
const FRAME_END: u8 = 0xCE;

type Method = (u16, u16);

const START: Method = (10, 10);
const START_OK: Method = (10, 11);
const TUNE: Method = (10, 30);
const TUNE_OK: Method = (10, 31);
const OPEN: Method = (10, 40);
const OPEN_OK: Method = (10, 41);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const QUEUE_DECLARE: Method = (50, 10);
const QUEUE_DECLARE_OK: Method = (50, 11);
const QUEUE_DELETE: Method = (50, 40);
const QUEUE_DELETE_OK: Method = (50, 41);
const BASIC_PUBLISH: Method = (60, 40);
const CONFIRM_SELECT: Method = (85, 10);
const CONFIRM_SELECT_OK: Method = (85, 11);

/// One connection with one channel.
pub(crate) struct Amqp {
    frame_max: usize,
    /// The frame that begins every message.
    head: Vec<u8>,
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(body);
    out.push(FRAME_END);
}

fn method((class, id): Method, arguments: &[&[u8]]) -> Vec<u8> {
    [&class.to_be_bytes()[..], &id.to_be_bytes(), &arguments.concat()].concat()
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap_or(u8::MAX)], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes(), bytes].concat()
}

/// Sends a method, where there is one, and waits for the one that answers it: its arguments.
async fn call(stream: &mut Stream, channel: u16, send: Option<Vec<u8>>, wanted: Method) -> io::Result<Vec<u8>> {
    if let Some(send) = send {
        let mut out = Vec::new();
        frame(&mut out, 1, channel, &send);
        stream.write_all(&out).await?;
        stream.flush().await?;
    }
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let [kind, _, _, length @ ..] = head;
        let mut body = vec![0; u32::from_be_bytes(length) as usize + 1];
        stream.read_exact(&mut body).await?;
        // A heartbeat.
        if kind == 8 {
            continue;
        }
        let answer = (body.pop() == Some(FRAME_END)).then_some(body).and_then(|body| {
            let (class, rest) = body.split_first_chunk::<2>()?;
            let (id, arguments) = rest.split_first_chunk::<2>()?;
            Some(((u16::from_be_bytes(*class), u16::from_be_bytes(*id)), arguments.to_vec()))
        });
        return match answer {
            Some((found, arguments)) if found == wanted => Ok(arguments),
            Some((found, arguments)) => {
                Err(unexpected(&format!("wanted {wanted:?}, got {found:?}: {}", String::from_utf8_lossy(&arguments))))
            }
            None => Err(unexpected("a malformed frame")),
        };
    }
}

/// Connects and opens a channel with confirms.
pub(crate) async fn connect(tls: &Tls, address: &str) -> io::Result<(Connection, Amqp)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = tls.connect(stream).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.flush().await?;
    call(&mut stream, 0, None, START).await?;
    let mut capabilities = Vec::new();
    for capability in ["publisher_confirms", "basic.nack", "connection.blocked", "authentication_failure_close"] {
        capabilities.extend(short(capability));
        capabilities.extend(b"t\x01");
    }
    let properties = [short("capabilities"), b"F".to_vec(), long(&capabilities)].concat();
    let login = [long(&properties), short("PLAIN"), long(b"\0guest\0guest"), short("en_US")].concat();
    let tune = call(&mut stream, 0, Some(method(START_OK, &[&login])), TUNE).await?;
    let offered = tune.get(..6).ok_or_else(|| unexpected("a short Connection.Tune"))?;
    let frame_max = u32::from_be_bytes([offered[2], offered[3], offered[4], offered[5]]) as usize;
    let mut out = Vec::new();
    // As offered, without heartbeats.
    frame(&mut out, 1, 0, &method(TUNE_OK, &[offered, &[0, 0]]));
    stream.write_all(&out).await?;
    call(&mut stream, 0, Some(method(OPEN, &[&short("/"), &short(""), &[0]])), OPEN_OK).await?;
    call(&mut stream, 1, Some(method(CHANNEL_OPEN, &[&short("")])), CHANNEL_OPEN_OK).await?;
    call(&mut stream, 1, Some(method(CONFIRM_SELECT, &[&[0]])), CONFIRM_SELECT_OK).await?;
    let mut head = Vec::new();
    // To the default exchange, mandatory.
    frame(&mut head, 1, 1, &method(BASIC_PUBLISH, &[&[0, 0], &short(""), &short(QUEUE), &[1]]));
    let frame_max = if frame_max == 0 { 131_072 } else { frame_max };
    Ok((Connection { stream, read: Vec::new() }, Amqp { frame_max, head }))
}

/// Makes a new quorum queue in place of the one before.
pub(crate) async fn make_queue(tls: &Tls, address: &str) -> io::Result<()> {
    let (mut connection, _) = connect(tls, address).await?;
    let stream = &mut connection.stream;
    let delete = method(QUEUE_DELETE, &[&[0, 0], &short(QUEUE), &[0]]);
    call(stream, 1, Some(delete), QUEUE_DELETE_OK).await?;
    let quorum = [short("x-queue-type"), b"S".to_vec(), long(b"quorum")].concat();
    let declare = method(QUEUE_DECLARE, &[&[0, 0], &short(QUEUE), &[0b10], &long(&quorum)]);
    call(stream, 1, Some(declare), QUEUE_DECLARE_OK).await.map(|_| ())
}

impl Protocol for Amqp {
    fn publish(&mut self, _number: u64, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        // Class 60, weight 0, size, and of the properties the delivery mode alone: 2, persistent.
        let mut head = [0; 15];
        head[1] = 60;
        head[4..12].copy_from_slice(&(payload.len() as u64).to_be_bytes());
        (head[12], head[14]) = (0x10, 2);
        frame(out, 2, 1, &head);
        for part in payload.chunks(self.frame_max - 8) {
            frame(out, 3, 1, part);
        }
    }

    fn confirmed(&mut self, read: &[u8], _out: &mut Vec<u8>, unconfirmed: &mut Unconfirmed) -> io::Result<usize> {
        let mut used = 0;
        while let Some([kind, _, _, length @ ..]) = read.get(used..used + 7).and_then(<[u8]>::first_chunk::<7>) {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(body) = read.get(used + 7..used + 7 + length) else { break };
            if read.len() < used + 8 + length {
                break;
            }
            used += 8 + length;
            match (kind, body) {
                // Basic.Ack with its tag, and whether it is for everything before, too.
                (1, [0, 60, 0, 80, tag @ .., bits]) => {
                    let tag = tag.try_into().map(u64::from_be_bytes).map_err(io::Error::other)?;
                    if bits & 1 == 1 { unconfirmed.all_to(tag) } else { unconfirmed.one(tag)? }
                }
                (8, _) => {}
                (kind, body) => return Err(unexpected(&format!("frame {kind}: {}", String::from_utf8_lossy(body)))),
            }
        }
        Ok(used)
    }
}
