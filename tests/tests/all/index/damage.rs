//! The index is damaged, exchanged or gone while the broker is away; the broker starts and nothing is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use liaison_log::leaf::{Event, ExchangeLeaf};
use liaison_proto::{
    Bytes,
    entropy::{OsEntropy, random},
    ids::Lane,
    wire::{self, exchange_client::ExchangeClient},
};
use liaison_tests::world::{PATIENCE, World};
use tonic::codegen::tokio_stream::{self, StreamExt as _};

use super::{HEKOU, LAO_CAI};
use crate::support::{Forger, connect, world, world_with};

/// What was accepted so far, by a client that notes everything.
struct Ledger {
    forger: Forger,
    accepted: Vec<(wire::Envelope, Bytes)>,
}

impl Ledger {
    fn new(world: &World) -> Self {
        Self { forger: Forger::new(world, LAO_CAI), accepted: Vec::new() }
    }

    async fn submit(world: &World, envelope: wire::Envelope) -> Bytes {
        let request = wire::SubmitRequest { envelope: Some(envelope), seen_size: 0 };
        let answer = ExchangeClient::new(connect(world, "offices/VN-BLO-LCA")).submit(request).await;
        answer.unwrap().into_inner().receipt.unwrap().leaf
    }

    /// Sends one more message: it must get the next number.
    async fn sends(&mut self, world: &World) {
        let envelope = self.forger.envelope(HEKOU);
        let leaf = Self::submit(world, envelope.clone()).await;
        self.accepted.push((envelope, leaf.clone()));
        let Event::Accepted { numbers, .. } = ExchangeLeaf::parse(&leaf).unwrap().event else { panic!("no ACCEPTED") };
        assert_eq!(numbers, [self.accepted.len() as u64], "the numbers do not go on");
    }

    /// Retries get the leaves of before, the numbers go on, and everything that waits is delivered, in order.
    async fn holds(&mut self, world: &World, what: &str) {
        for (envelope, leaf) in &self.accepted {
            assert_eq!(&Self::submit(world, envelope.clone()).await, leaf, "{what}: a retry got another leaf");
        }
        self.sends(world).await;
        let first = wire::ReceiveRequest { lane: Lane::Bulk.to_wire().into(), credit: 1000 };
        let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
        let mut hekou = ExchangeClient::new(connect(world, "offices/CN-BLO-HKO"));
        let mut stream = hekou.receive(requests).await.unwrap().into_inner();
        for (envelope, leaf) in &self.accepted {
            let next = tokio::time::timeout(PATIENCE, stream.message()).await;
            let delivery = next.unwrap_or_else(|_| panic!("{what}: a message is not delivered")).unwrap().unwrap();
            assert_eq!(&delivery.receipt.unwrap().leaf, leaf, "{what}");
            assert_eq!(delivery.envelope.unwrap().body, envelope.body, "{what}");
        }
        let more = tokio::time::timeout(Duration::from_millis(50), stream.message()).await;
        assert!(more.is_err(), "{what}: something was delivered that nobody sent");
    }
}

/// The files of the index, without the note of a clean stop.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let own = files.into_iter().filter(|path| !path.ends_with("clean"));
    own.chain(directories.iter().flat_map(|directory| self::files(directory))).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

fn replace(what: &Path, by: &Path) {
    fs::remove_dir_all(what).unwrap();
    copy(by, what);
}

fn noise(length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random::<32>(&OsEntropy)).flatten().take(length).collect()
}

/// Writes random bytes over a part of a file.
fn scribble(file: &Path, from: usize, length: usize) {
    let mut bytes = fs::read(file).unwrap();
    let from = from.min(bytes.len());
    let end = (from + length).min(bytes.len());
    bytes[from..end].copy_from_slice(&noise(end - from));
    fs::write(file, bytes).unwrap();
}

/// Promises 1, 3 and 4: whatever happens to the index between a stop and a start, the broker starts; retries get their
/// leaves, numbers go on and what waits is delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promises_1_3_and_4_a_damaged_index_costs_nothing() {
    let (_other_directory, mut other) = world(&[]);
    let mut others = Ledger::new(&other);
    for _ in 0..2 {
        others.sends(&other).await;
    }
    other.stop_broker().unwrap();
    let others_small = PathBuf::from(other.path("index-small"));
    copy(&PathBuf::from(other.path("broker/index")), &others_small);
    other.start_broker().unwrap();
    for _ in 0..60 {
        others.sends(&other).await;
    }
    other.stop_broker().unwrap();
    let others_large = PathBuf::from(other.path("broker/index"));

    type Damage<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
    let each = |damage: fn(&Path)| move |index: &Path| files(index).iter().for_each(|file| damage(file));
    let truncate = |file: &Path, of: u64| {
        let size = fs::metadata(file).unwrap().len();
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(size / of).unwrap();
    };
    let damages: Vec<Damage<'_>> = vec![
        ("nothing happened", Box::new(|_| {})),
        ("it is gone", Box::new(|index| fs::remove_dir_all(index).unwrap())),
        ("its note is garbage", Box::new(|index| fs::write(index.join("clean"), noise(40)).unwrap())),
        ("its note names another", Box::new(|index| fs::write(index.join("clean"), "7").unwrap())),
        ("its files are empty", Box::new(each(|file| fs::write(file, b"").unwrap()))),
        ("its files are cut", Box::new(move |index| files(index).iter().for_each(|file| truncate(file, 2)))),
        ("its files are cut short", Box::new(move |index| files(index).iter().for_each(|file| truncate(file, 50)))),
        ("its files are noise", Box::new(each(|file| scribble(file, 0, usize::MAX / 2)))),
        ("its files begin with noise", Box::new(each(|file| scribble(file, 0, 64)))),
        ("its files have noise inside", Box::new(each(|file| scribble(file, 300, 900)))),
        (
            "its rows have a wrong byte",
            Box::new(each(|file| {
                for at in (0..fs::metadata(file).unwrap().len().min(20_000)).step_by(997) {
                    scribble(file, at as usize, 1);
                }
            })),
        ),
        ("it is another log's, smaller", Box::new(|index| replace(index, &others_small))),
        ("it is another log's, larger", Box::new(|index| replace(index, &others_large))),
    ];
    let (_directory, mut world) = world(&[]);
    let mut ledger = Ledger::new(&world);
    for _ in 0..3 {
        ledger.sends(&world).await;
    }
    for (what, damage) in damages {
        world.stop_broker().unwrap();
        damage(&PathBuf::from(world.path("broker/index")));
        world.start_broker().unwrap_or_else(|error| panic!("{what}: {error}"));
        ledger.holds(&world, what).await;
    }
    // An unclean stop, twice: also while the rows of the first are being written anew.
    for _ in 0..2 {
        world.kill_broker().unwrap();
        world.start_broker().unwrap();
        ledger.holds(&world, "the broker was killed").await;
    }
    let written: Vec<String> =
        files(Path::new(&world.path("broker"))).iter().map(|f| f.display().to_string()).collect();
    assert!(written.iter().all(|file| !file.contains(".being-built")), "{written:?}");
}

/// The journal is the truth: an index that is ahead of it, because the journal was restored from an older copy, is
/// thrown away; what only the index knew is not known, and may be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_index_ahead_of_a_journal_that_was_restored_is_built_anew() {
    let (_directory, mut world) = world_with(&["restored_grace_seconds = 0"], &[]);
    let mut ledger = Ledger::new(&world);
    for _ in 0..3 {
        ledger.sends(&world).await;
    }
    world.stop_broker().unwrap();
    let (journal, older) = (PathBuf::from(world.path("broker/exchange")), PathBuf::from(world.path("older")));
    copy(&journal, &older);
    world.start_broker().unwrap();
    for _ in 0..4 {
        ledger.sends(&world).await;
    }
    world.stop_broker().unwrap();
    replace(&journal, &older);
    let lost = ledger.accepted.split_off(3);
    world.start_broker().unwrap();
    ledger.holds(&world, "the journal is older").await;
    for (envelope, _) in lost {
        let leaf = Ledger::submit(&world, envelope.clone()).await;
        ledger.accepted.push((envelope, leaf));
    }
    ledger.holds(&world, "what was lost was sent again").await;
}
