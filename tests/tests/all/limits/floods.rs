//! One floods, another one works: the flood is refused or waits, and the other keeps its share.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use liaison_link::tls::Identity;
use liaison_proto::{
    refusal::Refusal,
    wire::{self, exchange_client::ExchangeClient},
};
use liaison_tests::world::World;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};
use tonic::transport::Channel;

use super::{HEKOU, LAO_CAI, MIB, MONG_CAI, Usage, eventually, honest_call};
use crate::{
    refusals::submit,
    support::{Forger, charter, connect, world},
};

/// Submissions of the quiet office in a round: all rounds together are within its share.
const ROUND: usize = 150;
const ROUNDS: usize = 5;
/// The flooding office's connections, all it may have, and calls at once on each: together all it may have, too.
const CONNECTIONS: usize = 16;
const CALLS: usize = 16;

/// Submits one by one; the rate a second.
async fn quiet_round(exchange: &mut ExchangeClient<Channel>, envelopes: &[wire::Envelope]) -> f64 {
    let begun = Instant::now();
    for envelope in envelopes {
        exchange.submit(submit(envelope.clone())).await.expect("the quiet office was refused");
    }
    envelopes.len() as f64 / begun.elapsed().as_secs_f64()
}

/// An office that sends as much as it can, and comes again at once when it is refused.
struct Flood {
    on: watch::Sender<bool>,
    under_way: AtomicUsize,
    accepted: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
}

impl Flood {
    async fn call(&self, client: &mut ExchangeClient<Channel>, envelope: &wire::Envelope) {
        if self.on.subscribe().wait_for(|on| *on).await.is_err() {
            return;
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let count = match client.submit(submit(envelope.clone())).await {
            Ok(_) => &self.accepted,
            Err(status) if Refusal::from_status(&status).is_some() => &self.refused,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::SeqCst);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    /// Switches it on and waits until it is refused, or off and waits until it is quiet.
    async fn switch(&self, on: bool) {
        let refused = self.refused.load(Ordering::SeqCst);
        self.on.send_replace(on);
        let reached = eventually(async || match on {
            true => self.refused.load(Ordering::SeqCst) > refused,
            false => self.under_way.load(Ordering::SeqCst) == 0,
        });
        assert!(reached.await, "the flood could not be switched");
    }
}

/// A quiet office keeps at least half of its lone rate while another one floods. Each round beside the flood is compared
/// with the lone round right before it, and the median of the ratios decides; nextest runs this test alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooding_office_takes_no_more_than_its_share_from_a_quiet_one() {
    let (_directory, world) = world(&[]);
    let (noisy, quiet) = (Forger::new(&world, LAO_CAI), Forger::new(&world, MONG_CAI));
    let envelopes: Vec<_> = (0..2 * ROUNDS * ROUND).map(|_| quiet.envelope(HEKOU)).collect();
    let flooded: Arc<Vec<_>> = Arc::new((0..3000).map(|_| noisy.envelope(HEKOU)).collect());
    let mut exchange = ExchangeClient::new(connect(&world, "offices/VN-BLO-MBA"));
    exchange.submit(submit(quiet.envelope(HEKOU))).await.unwrap();
    let flood = Arc::new(Flood {
        on: watch::Sender::new(false),
        under_way: AtomicUsize::default(),
        accepted: AtomicUsize::default(),
        refused: AtomicUsize::default(),
        failed: AtomicUsize::default(),
    });
    let mut flooding = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = ExchangeClient::new(connect(&world, "offices/VN-BLO-LCA"));
        for call in 0..CALLS {
            let (mut client, flood, flooded) = (client.clone(), Arc::clone(&flood), Arc::clone(&flooded));
            let first = (connection * CALLS + call) * flooded.len() / (CONNECTIONS * CALLS);
            flooding.spawn(async move {
                for envelope in flooded.iter().cycle().skip(first) {
                    flood.call(&mut client, envelope).await;
                }
            });
        }
    }
    // What the flood may send at once is spent first.
    flood.switch(true).await;
    let mut ratios = Vec::new();
    for pair in envelopes.chunks(2 * ROUND) {
        flood.switch(false).await;
        let lone = quiet_round(&mut exchange, &pair[..ROUND]).await;
        flood.switch(true).await;
        let beside = quiet_round(&mut exchange, &pair[ROUND..]).await;
        println!("alone {lone:.0}/s, beside the flood {beside:.0}/s");
        ratios.push(beside / lone);
    }
    flooding.shutdown().await;
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ROUNDS / 2];
    let [accepted, refused, failed] =
        [&flood.accepted, &flood.refused, &flood.failed].map(|count| count.load(Ordering::SeqCst));
    println!("ratio {ratio:.2}; flood: {accepted} accepted, {refused} refused, {failed} failed");
    assert!(accepted > 2000 && refused > 500 && failed == 0, "the flood was none");
    assert!(ratio >= 0.5, "the quiet office has {ratio:.2} of its lone rate");
}

/// A TCP connection from any address of this machine's own network.
async fn tcp_from(source: &str, broker: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
    socket.connect(broker).await
}

/// Whether the broker has closed a connection on which it never says anything.
fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

fn client_hello(world: &World) -> Vec<u8> {
    let charter = charter(world);
    let path = std::path::PathBuf::from(world.path("charter/offices/VN-BLO-LCA"));
    let identity = Identity::read(&path.join("tls.pem"), &path.join("tls.key")).unwrap();
    let name = charter.file().broker.tls_name.clone().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(crate::support::client(&charter, identity)), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Peers of one address that connect and say nothing, or begin a handshake and say no more: an honest office gets in
/// beside them, before the broker has given any of them up.
#[tokio::test]
async fn half_open_connections_of_one_address_keep_nobody_out() {
    let (_directory, world) = world(&[]);
    let broker: SocketAddr = world.broker_address().unwrap().parse().unwrap();
    let hello = client_hello(&world);
    for (source, words) in [("127.0.0.2", &[][..]), ("127.0.0.3", &hello[..]), ("127.0.0.4", &hello[..20])] {
        let mut silent = Vec::new();
        // More than all handshakes that may be under way.
        for _ in 0..100 {
            let mut stream = tcp_from(source, broker).await.unwrap();
            stream.write_all(words).await.unwrap();
            silent.push(stream);
        }
        for office in [LAO_CAI, HEKOU, MONG_CAI] {
            honest_call(&world, office).await.unwrap();
        }
        let closed = silent.iter().filter(|stream| is_closed(stream)).count();
        assert_eq!(closed, 0, "an office had to wait until {closed} silent peers were given up");
    }
}

/// A flood of connections from one address gets that address's places and no more: handles and memory stay bounded,
/// others get in, and when it is over everything is as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_bounded_and_keeps_nobody_out() {
    let (_directory, world) = world(&[]);
    let broker: SocketAddr = world.broker_address().unwrap().parse().unwrap();
    honest_call(&world, LAO_CAI).await.unwrap();
    let usage = Usage::of(&world);
    let (handles, memory) = (usage.handles(), usage.resident());
    let ending = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicUsize::new(0));
    let mut flooding = JoinSet::new();
    for _ in 0..8 {
        let (ending, made) = (Arc::clone(&ending), Arc::clone(&made));
        flooding.spawn(async move {
            let mut held = std::collections::VecDeque::new();
            while !ending.load(Ordering::Relaxed) {
                if let Ok(stream) = tcp_from("127.0.0.2", broker).await {
                    held.push_back(stream);
                    made.fetch_add(1, Ordering::Relaxed);
                }
                if held.len() > 60 {
                    held.pop_front();
                }
            }
        });
    }
    let (mut most_handles, mut most_memory) = (0, 0);
    let flooded = eventually(async || {
        honest_call(&world, HEKOU).await.unwrap();
        most_handles = most_handles.max(usage.handles());
        most_memory = most_memory.max(usage.resident());
        made.load(Ordering::Relaxed) > 3000
    });
    assert!(flooded.await, "the flood made {} connections", made.load(Ordering::Relaxed));
    ending.store(true, Ordering::Relaxed);
    while flooding.join_next().await.is_some() {}
    println!(
        "{} connections; handles {handles} -> {most_handles}, memory {} -> {} MiB",
        made.load(Ordering::Relaxed),
        memory / MIB,
        most_memory / MIB
    );
    // 256 places of an address; the honest ones; what is accepted and closed at this moment.
    assert!(most_handles < handles + 256 + 64, "{most_handles} handles");
    assert!(most_memory < memory + 64 * MIB, "{} MiB", most_memory / MIB);
    assert!(eventually(async || usage.handles() <= handles + 8).await, "{} handles are left", usage.handles());
    honest_call(&world, LAO_CAI).await.unwrap();
}
