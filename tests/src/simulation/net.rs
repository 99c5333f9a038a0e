//! The simulated network: one line between each office and the broker, with its own delay, that can be slow, dead, or cut
//! with bytes on their way.
//!
//! What is lost, doubled and overtaken on it is what a program can see of that above TCP: a line is cut after a request was
//! done and before its answer came, the request is made again, and what went over another connection is there first.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liaison_link::net::{Connecting, Dialer, Listener, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::dice::Dice;

/// What a line takes before a writer waits, bytes.
const UNSENT: usize = 16 * 1024;
/// What goes over a slow line at once, bytes: a packet. What other connections have to say comes between.
const PACKET: usize = 1400;
/// Pieces of a connection that are under way at once, one way.
const UNDER_WAY: usize = 16;
/// Bytes a second at which a line is slow.
const SLOW: u64 = 100_000;
/// First pieces each way that take no time of the line: they are the handshake's, whose signatures have 70 to 72 bytes, and no
/// seed decides that: it must make no difference.
const HANDSHAKE: u32 = 8;
/// What the line's rate counts, bytes: a charter made anew has certificates that are a byte or two longer or shorter.
const COUNTED: u64 = 256;

/// How a line is.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Least and most delay, milliseconds.
    pub delay: (u64, u64),
    /// Bytes a second.
    pub rate: u64,
}

impl Quality {
    /// An ordinary line.
    pub const GOOD: Self = Self { delay: (5, 40), rate: 1_000_000 };
    /// A satellite, or 64 kbit/s in the mountains.
    pub const BAD: Self = Self { delay: (300, 900), rate: 8_000 };
}

/// One way of a line, which all its connections share: until when it is taken.
type Way = Arc<Mutex<Instant>>;

struct Line {
    number: u8,
    quality: Arc<Mutex<Quality>>,
    /// From the office, and to it.
    ways: [Way; 2],
    alive: watch::Sender<bool>,
    carriers: Vec<AbortHandle>,
}

#[derive(Default)]
struct Inner {
    lines: BTreeMap<&'static str, Line>,
    listener: Option<mpsc::UnboundedSender<(Stream, IpAddr)>>,
}

/// The network. Clones are handles to the same one.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Mutex<Inner>>,
    dice: Arc<Mutex<Dice>>,
}

/// Where the broker's connections come in.
pub struct Incoming(mpsc::UnboundedReceiver<(Stream, IpAddr)>);

impl Listener for Incoming {
    async fn accept(&mut self) -> io::Result<(Stream, IpAddr)> {
        match self.0.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

impl Net {
    /// A network without lines.
    #[must_use]
    pub fn new(dice: Dice) -> Self {
        Self { inner: Arc::default(), dice: Arc::new(Mutex::new(dice)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fork(&self) -> Dice {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// A line for an office, or an auditor.
    pub fn add(&self, name: &'static str) {
        let mut inner = self.lock();
        let number = inner.lines.len() as u8 + 1;
        let quality = Arc::new(Mutex::new(Quality::GOOD));
        let alive = watch::Sender::new(true);
        let ways = [(); 2].map(|()| Arc::new(Mutex::new(Instant::now())));
        inner.lines.insert(name, Line { number, quality, ways, alive, carriers: Vec::new() });
    }

    /// The broker listens.
    #[must_use]
    pub fn listen(&self) -> Incoming {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.lock().listener = Some(sender);
        Incoming(incoming)
    }

    /// The broker listens no more, and every connection is cut.
    pub fn unlisten(&self) {
        let mut inner = self.lock();
        inner.listener = None;
        inner.lines.values_mut().for_each(cut);
    }

    /// Cuts what is connected over a line, with everything on its way. A new connection can be made at once.
    pub fn cut(&self, name: &str) {
        if let Some(line) = self.lock().lines.get_mut(name) {
            cut(line);
        }
    }

    /// Lets a line carry nothing, or all that waits.
    pub fn set_alive(&self, name: &str, alive: bool) {
        if let Some(line) = self.lock().lines.get(name) {
            line.alive.send_replace(alive);
        }
    }

    /// Makes a line better or worse.
    pub fn set_quality(&self, name: &str, quality: Quality) {
        if let Some(line) = self.lock().lines.get(name) {
            *line.quality.lock().unwrap_or_else(PoisonError::into_inner) = quality;
        }
    }

    /// How a process dials over a line, for as long as it lives.
    #[must_use]
    pub fn dialer(&self, name: &'static str, lives: &Arc<AtomicBool>) -> Dialer {
        let (net, lives) = (self.clone(), Arc::clone(lives));
        Arc::new(move |_: SocketAddr| -> Connecting { Box::pin(net.clone().connect(name, Arc::clone(&lives))) })
    }

    async fn connect(self, name: &'static str, lives: Arc<AtomicBool>) -> io::Result<Stream> {
        let mut dice = self.fork();
        let (number, quality, ways, mut alive) = {
            let inner = self.lock();
            let line = inner.lines.get(name).ok_or(io::ErrorKind::NotFound)?;
            (line.number, Arc::clone(&line.quality), line.ways.clone(), line.alive.subscribe())
        };
        wait(&mut alive, delay(&quality, &mut dice)).await?;
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        if !lives.load(Ordering::SeqCst) {
            return Err(refused());
        }
        let mut inner = self.lock();
        let listener = inner.listener.clone().ok_or_else(refused)?;
        let ((near, near_end), (far, far_end)) = (duplex(UNSENT), duplex(UNSENT));
        let ((from_near, to_near), (from_far, to_far)) = (split(near_end), split(far_end));
        let [up, down] = ways.map(|way| self.carrier(&quality, way, &alive));
        let carries = tokio::spawn(async move {
            tokio::join!(up.carry(from_near, to_far), down.carry(from_far, to_near));
        });
        inner.lines.get_mut(name).ok_or(io::ErrorKind::NotFound)?.carriers.push(carries.abort_handle());
        listener.send((Box::new(far), Ipv4Addr::new(10, 0, 1, number).into())).map_err(|_| refused())?;
        Ok(Box::new(near))
    }

    fn carrier(&self, quality: &Arc<Mutex<Quality>>, way: Way, alive: &watch::Receiver<bool>) -> Carrier {
        Carrier { quality: Arc::clone(quality), way, alive: alive.clone(), dice: self.fork() }
    }
}

fn cut(line: &mut Line) {
    line.carriers.drain(..).for_each(|carrier| carrier.abort());
}

fn quality_of(quality: &Mutex<Quality>) -> Quality {
    *quality.lock().unwrap_or_else(PoisonError::into_inner)
}

fn delay(quality: &Mutex<Quality>, dice: &mut Dice) -> Duration {
    let (least, most) = quality_of(quality).delay;
    dice.millis(least..=most)
}

async fn wait(alive: &mut watch::Receiver<bool>, delay: Duration) -> io::Result<()> {
    sleep(delay).await;
    alive.wait_for(|alive| *alive).await.map(|_| ()).map_err(io::Error::other)
}

/// Carries a connection's bytes one way.
struct Carrier {
    quality: Arc<Mutex<Quality>>,
    way: Way,
    alive: watch::Receiver<bool>,
    dice: Dice,
}

impl Carrier {
    async fn carry(self, mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
        let (under_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
        let Self { quality, way, mut alive, mut dice } = self;
        let leaves = async move {
            let (mut bytes, mut pieces) = (vec![0; UNSENT], 0);
            loop {
                let now = quality_of(&quality);
                let most = if now.rate < SLOW && pieces >= HANDSHAKE { PACKET } else { UNSENT };
                let Ok(read) = from.read(&mut bytes[..most]).await else { break };
                pieces += 1;
                if pieces > HANDSHAKE {
                    sleep(turn(&way, now.rate, read)).await;
                }
                let arrives = Instant::now() + delay(&quality, &mut dice);
                if under_way.send((arrives, bytes[..read].to_vec())).await.is_err() || read == 0 {
                    break;
                }
            }
        };
        let arrives = async move {
            while let Some((at, bytes)) = arriving.recv().await {
                sleep_until(at).await;
                if alive.wait_for(|alive| *alive).await.is_err() {
                    return;
                }
                if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            // Whoever is at the end learns that there is no more.
            let _ = to.shutdown().await;
        };
        tokio::join!(leaves, arrives);
    }
}

/// How long it takes until the line has carried so many bytes, behind what it has taken already.
fn turn(way: &Way, rate: u64, bytes: usize) -> Duration {
    let mut free = way.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let counted = (bytes as u64).div_ceil(COUNTED) * COUNTED;
    *free = (*free).max(now) + Duration::from_micros(counted * 1_000_000 / rate);
    *free - now
}
