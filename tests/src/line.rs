//! A slow line between a node and the broker, in user space: all connections over it share one budget of bytes, both
//! ways together, and every byte comes late. Its own buffers are small, and so are those that the system keeps on
//! either side of it: what waits for the line waits where it was written, as on a real one.

#![allow(clippy::disallowed_methods, reason = "a line takes time; it is no part of the protocol")]

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes taken from one connection at a time: the next one is another connection's turn.
const CHUNK: usize = 512;
/// Chunks of one connection and direction that are on their way.
const ON_THE_WAY: usize = 4;
/// What the system may keep of one connection on either side, bytes; it takes at least a few KiB.
const BUFFER: usize = 8 * 1024;
/// Payload of a packet: the loopback's own 64 KiB would let the system keep megabytes.
const PACKET: u32 = 1400;

/// Bytes per second of a good line.
const GOOD: u64 = 1_000_000_000;

struct Budget {
    /// Bytes per second.
    rate: AtomicU64,
    /// How late every byte is, milliseconds.
    delay: AtomicU64,
    /// When the line is free again.
    free: Mutex<Instant>,
    carried: AtomicU64,
    connections: AtomicU64,
}

impl Budget {
    /// Waits for a chunk's turn on the line.
    fn take(&self, bytes: usize) {
        let until = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let (rate, bytes) = (self.rate.load(Ordering::SeqCst), bytes as u64);
            *free = (*free).max(Instant::now()) + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
            *free
        };
        thread::sleep(until.saturating_duration_since(Instant::now()));
        self.carried.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}

/// A line to a broker. It ends with its process; a closed connection is closed on both sides.
pub struct Line {
    address: SocketAddr,
    budget: Arc<Budget>,
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_mss(PACKET)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

impl Line {
    /// Opens a line to an address on loopback, which is good until it [becomes](Self::becomes) bad.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let listener = socket()?;
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        listener.listen(64)?;
        let address = listener.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let budget = Arc::new(Budget {
            rate: AtomicU64::new(GOOD),
            delay: AtomicU64::new(0),
            free: Mutex::new(Instant::now()),
            carried: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let shared = Arc::clone(&budget);
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let Ok(far) = socket() else { continue };
                if far.connect(&to.into()).is_ok() {
                    carry_both(near.into(), far.into(), &shared);
                }
            }
        });
        Ok(Self { address, budget })
    }

    /// Where nodes find the broker behind it.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on it carries so many bytes per second, each so late.
    pub fn becomes(&self, rate: u64, delay: Duration) {
        self.budget.rate.store(rate, Ordering::SeqCst);
        self.budget.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// From now on it is good.
    pub fn recovers(&self) {
        self.becomes(GOOD, Duration::ZERO);
    }

    /// Connections made over it so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.budget.connections.load(Ordering::SeqCst)
    }

    /// Bytes carried so far, both ways.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.budget.carried.load(Ordering::SeqCst)
    }
}

fn carry_both(near: TcpStream, far: TcpStream, budget: &Arc<Budget>) {
    if let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) {
        carry(near, far_too, budget);
        carry(far, near_too, budget);
    }
}

/// Carries one direction: one thread takes chunks as the line has room, another hands them over when they are due.
fn carry(mut from: TcpStream, mut to: TcpStream, budget: &Arc<Budget>) {
    let (sender, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let budget = Arc::clone(budget);
    thread::spawn(move || {
        let mut chunk = [0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut chunk) {
            budget.take(read);
            let due = Instant::now() + Duration::from_millis(budget.delay.load(Ordering::SeqCst));
            if sender.send((due, chunk[..read].to_vec())).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Read);
    });
    thread::spawn(move || {
        for (at, chunk) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&chunk).is_err() {
                break;
            }
        }
        // Either side has closed: nothing more comes this way.
        let _ = to.shutdown(Shutdown::Both);
    });
}
