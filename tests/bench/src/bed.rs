//! What is measured: a broker with every guarantee on, the no-op beside it, and messages sealed beforehand.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use liaison_link::{dial, net, tls::Identity};
use liaison_proto::wire::{self, exchange_client::ExchangeClient};
use liaison_tests::{
    forger::{Forger, charter, client},
    roles::{END_WITH_PARENT, ROLE},
    world::{World, eventually},
};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Offices that send, each with its own connections, and to whom.
pub(crate) const SENDERS: [(&str, &str); 4] = [
    ("VN-BLO-LCA", "CN-BLO-HKO"),
    ("VN-BLO-MBA", "KH-BLO-BVT"),
    ("TH-CCP-BKK", "VN-CCP-HAN"),
    ("LA-CCP-VTE", "TH-CCP-BKK"),
];
/// Plaintext whose sealed body has 2 KiB.
const PLAINTEXT: usize = 1984;
/// Shares that do not hold a benchmark back; everything else is as it is shipped.
const SHARES: [&str; 6] = [
    "connections_per_office = 64",
    "messages_per_second = 4000000",
    "message_burst = 4000000",
    "kibibytes_per_second = 4000000",
    "calls_per_office = 4096",
    "segment_mebibytes = 16",
];

/// A message and which of [`SENDERS`] sends it.
pub(crate) struct Message {
    pub(crate) sender: usize,
    pub(crate) envelope: wire::Envelope,
}

/// The test bed.
pub(crate) struct Bed {
    pub(crate) world: World,
    noop: Child,
    noop_address: String,
    directory: TempDir,
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.noop.kill();
        let _ = self.noop.wait();
    }
}

impl Bed {
    /// Starts broker and no-op in a directory of their own.
    ///
    /// # Errors
    /// When they do not come up.
    pub(crate) fn new() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let program = std::env::current_exe()?;
        let mut world = World::create(&directory.path().join("world"), &program)?;
        world.broker_keys = SHARES.iter().chain(&["log = \"warn\""]).map(|&line| line.to_owned()).collect();
        world.start_broker()?;
        let address = directory.path().join("noop-address");
        let noop = Command::new(&program)
            .args([ROLE, "noop", &world.path("charter")])
            .arg(&address)
            .env(END_WITH_PARENT, "1")
            .stdin(Stdio::piped())
            .spawn()?;
        if !eventually(|| fs::metadata(&address).is_ok_and(|found| found.len() > 0)) {
            return Err(io::Error::other("the no-op did not start"));
        }
        let noop_address = fs::read_to_string(&address)?;
        Ok(Self { world, noop, noop_address, directory })
    }

    /// A place for files.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The broker's address and process.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn broker(&self) -> io::Result<(String, u32)> {
        let process = self.world.broker_pid().ok_or_else(|| io::Error::other("the broker does not run"))?;
        Ok((self.world.broker_address()?, process))
    }

    /// The no-op's address and process.
    pub(crate) fn noop(&self) -> (String, u32) {
        (self.noop_address.clone(), self.noop.id())
    }

    /// A client of a sender on a connection of its own, which is up.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) async fn connect(&self, sender: usize, address: &str) -> io::Result<ExchangeClient<Channel>> {
        self.connect_as(SENDERS[sender].0, address).await
    }

    /// The same, for any office.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) async fn connect_as(&self, office: &str, address: &str) -> io::Result<ExchangeClient<Channel>> {
        let charter = charter(&self.world);
        let path = PathBuf::from(self.world.path("charter/offices")).join(office);
        let identity = Identity::read(&path.join("tls.pem"), &path.join("tls.key")).map_err(io::Error::other)?;
        let address = address.parse().map_err(io::Error::other)?;
        let channel = dial::channel(&charter, address, client(&charter, identity).into(), net::tcp());
        let mut client = ExchangeClient::new(channel.map_err(io::Error::other)?);
        // Refused, of course; the connection is made by it.
        let _ = client.submit(wire::SubmitRequest::default()).await;
        Ok(client)
    }

    /// Seals and signs messages, in turn of the senders, on all cores.
    pub(crate) fn seal(&self, count: usize) -> Arc<Vec<Message>> {
        let forgers: Vec<Forger> = SENDERS.iter().map(|(office, _)| Forger::new(&self.world, office)).collect();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let part = |first: usize| -> Vec<Message> {
            (first..count)
                .step_by(cores)
                .map(|number| {
                    let sender = number % SENDERS.len();
                    let forger = &forgers[sender];
                    let parts = forger.parts(forger.core(SENDERS[sender].1), &[0x5a; PLAINTEXT]);
                    Message { sender, envelope: forger.sign(parts) }
                })
                .collect()
        };
        let sealed = thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|first| scope.spawn(move || part(first))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        Arc::new(sealed)
    }
}
