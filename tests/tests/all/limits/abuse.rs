//! Whoever breaks the rules of HTTP/2, or speaks something else, loses its connection at most: the next honest call is
//! answered. The frames are written by hand, so that no library keeps to the rules.

use std::{path::PathBuf, sync::Arc};

use liaison_link::tls::Identity;
use liaison_tests::world::World;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{HEKOU, LAO_CAI, MIB, Usage, honest_call};
use crate::support::{charter, client, world};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A literal field without indexing (RFC 7541, section 6.2.2): name by index below 15, or in full.
fn field(name: Result<u8, &str>, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let name = name.map_or_else(|name| [vec![0], text(name)].concat(), |index| vec![index]);
    [name, text(value)].concat()
}

/// The fields of a call of `Submit`.
fn call() -> Vec<u8> {
    [
        // :method POST and :scheme http, of the static table.
        vec![0x83, 0x86],
        field(Ok(4), "/liaison.exchange.v1.Exchange/Submit"),
        field(Ok(1), "broker"),
        field(Err("content-type"), "application/grpc"),
        field(Err("te"), "trailers"),
    ]
    .concat()
}

/// A connection that says whatever it wants, with an office's good certificate.
struct Abuser {
    stream: TlsStream<TcpStream>,
}

impl Abuser {
    async fn connect(world: &World) -> Self {
        let charter = charter(world);
        let path = PathBuf::from(world.path("charter/offices/VN-BLO-LCA"));
        let identity = Identity::read(&path.join("tls.pem"), &path.join("tls.key")).unwrap();
        let stream = TcpStream::connect(world.broker_address().unwrap()).await.unwrap();
        let name = charter.file().broker.tls_name.clone().try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(client(&charter, identity)));
        Self { stream: connector.connect(name, stream).await.unwrap() }
    }

    /// Writes as long as the broker takes it, and says what the broker said, then: the last GOAWAY's error code or how
    /// the connection ended. Whoever is not read from would only fill its own buffers; so it is read to the end.
    async fn abuses(self, bytes: impl Iterator<Item = Vec<u8>> + Send + 'static) -> String {
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let writing = tokio::spawn(async move {
            for piece in bytes {
                if writer.write_all(&piece).await.is_err() {
                    return writer;
                }
            }
            // A failure is the broker's answer; the reader sees it.
            let _ = writer.flush().await;
            let _ = writer.shutdown().await;
            writer
        });
        let mut said = Vec::new();
        let read = tokio::time::timeout(liaison_tests::world::PATIENCE, reader.read_to_end(&mut said)).await;
        let _ = writing.await;
        let mut rest = &said[..];
        let (mut resets, mut goaway) = (0, None);
        while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if payload.len() < length {
                break;
            }
            match *kind {
                RST_STREAM => resets += 1,
                GOAWAY => goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
                _ => {}
            }
            rest = &payload[length..];
        }
        let end = match read {
            Ok(Ok(_)) => "closed",
            Ok(Err(_)) => "cut",
            Err(_) => "open",
        };
        format!("{} bytes, {resets} resets, GOAWAY {goaway:?}, {end}", said.len())
    }
}

fn opened(frames: impl Iterator<Item = Vec<u8>> + Send + 'static) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].into_iter().chain(frames)
}

type Frames = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// Streams of a client are odd.
fn streams(count: u32) -> impl Iterator<Item = u32> + Send + 'static {
    (0..count).map(|n| 2 * n + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuse_of_http_2_costs_a_connection_and_nothing_else() {
    let (_directory, world) = world(&[]);
    honest_call(&world, HEKOU).await.unwrap();
    let usage = Usage::of(&world);
    let before = (usage.resident(), usage.handles());
    let headers = |stream, flags| frame(HEADERS, flags, stream, &call());
    let abuses: Vec<(&str, Frames)> = vec![
        (
            "rapid reset",
            Box::new(opened(streams(50_000).map(move |stream| {
                [headers(stream, END_HEADERS), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            }))),
        ),
        ("too many streams at once", Box::new(opened(streams(20_000).map(move |stream| headers(stream, END_HEADERS))))),
        (
            "a header block of 160 MB",
            Box::new(opened(std::iter::once(headers(1, 0)).chain((0..10_000).map(|_| {
                let filler = field(Err("x"), &"y".repeat(100)).repeat(150);
                frame(CONTINUATION, 0, 1, &filler)
            })))),
        ),
        (
            "a header block without an end, in empty pieces",
            Box::new(opened(
                std::iter::once(headers(1, 0)).chain((0..500_000).map(|_| frame(CONTINUATION, 0, 1, &[]))),
            )),
        ),
        (
            "a body in 1-byte pieces",
            Box::new(opened(
                std::iter::once(headers(1, END_HEADERS)).chain((0..200_000).map(|_| frame(DATA, 0, 1, b"x"))),
            )),
        ),
        ("pings", Box::new(opened((0..200_000).map(|_| frame(PING, 0, 0, &[7; 8]))))),
        (
            "settings",
            Box::new(opened(
                (0..200_000).map(|n: u32| frame(SETTINGS, 0, 0, &[&[0, 4][..], &(65_535 + n).to_be_bytes()].concat())),
            )),
        ),
        (
            "a window beyond its maximum",
            Box::new(opened((0..4).map(|_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())))),
        ),
        ("a frame on a stream that never was", Box::new(opened([frame(DATA, END_STREAM, 9, b"x")].into_iter()))),
        ("an even stream", Box::new(opened([headers(2, END_HEADERS | END_STREAM)].into_iter()))),
        ("garbage behind the preface", Box::new([PREFACE.to_vec(), vec![0xa5; 100_000]].into_iter())),
        ("garbage from the first byte", Box::new([vec![0xff; 100_000]].into_iter())),
        ("HTTP/1.1", Box::new([b"GET / HTTP/1.1\r\nhost: broker\r\n\r\n".to_vec()].into_iter())),
        ("half a preface", Box::new([PREFACE[..10].to_vec()].into_iter())),
        ("nothing", Box::new(std::iter::empty())),
    ];
    for (what, frames) in abuses {
        let outcome = Abuser::connect(&world).await.abuses(frames).await;
        println!("{what}: {outcome}; {} MiB", usage.resident() / MIB);
        assert!(!outcome.ends_with("open"), "{what}: the connection is still open");
        // The abuser's own office, too.
        for office in [HEKOU, LAO_CAI] {
            honest_call(&world, office).await.unwrap_or_else(|status| panic!("after {what}: {status:?}"));
        }
    }
    let grown = usage.peak().saturating_sub(before.0);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
    assert!(super::eventually(async || usage.handles() <= before.1 + 8).await, "{} handles are left", usage.handles());
}

/// Plain text on the TLS port: closed, and nothing is told to whoever spoke it.
#[tokio::test]
async fn whoever_speaks_no_tls_is_told_nothing() {
    let (_directory, world) = world(&[]);
    for words in [&b"GET / HTTP/1.1\r\nhost: broker\r\n\r\n"[..], PREFACE, b"EHLO broker\r\n", &[0; 64]] {
        let mut stream = TcpStream::connect(world.broker_address().unwrap()).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut said = Vec::new();
        // Closed or reset: both are an end.
        let _ = stream.read_to_end(&mut said).await;
        assert!(said.len() < 16, "it was told {:?}", String::from_utf8_lossy(&said));
        honest_call(&world, LAO_CAI).await.unwrap();
    }
}
