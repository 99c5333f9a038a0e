//! A world in one process and in simulated time: the broker and the nodes of three offices, put together from the same parts
//! as the real ones, on simulated machines and a simulated network.
//!
//! A machine dies like a real one: what was not synced may be gone, its connections are cut, and nothing of it goes on.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liaison_broker::{
    assemble::Broker, continuity, index::SledIndex, init::StartError, repair::Repair, status::StatusSource,
};
use liaison_link::local::{PeerUid, RequestBody};
use liaison_log::disk::memory::MemoryDisk;
use liaison_node::{assemble::Node, init::NodeError, local_api::LocalApi};
use liaison_proto::{failure::chain, wire};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    devices::{Devices, MachineClock},
    net::Net,
    template::{BROKER, HOSTILE, OFFICES, Template, load},
};
use crate::{
    dice::{Dice, SeededEntropy},
    world::{PASSPHRASE, copy_directory},
};

/// Whoever sits at a node.
const OFFICER: PeerUid = PeerUid(1000);
/// A world begins so long after its charter was issued.
const BEGINS_MS: i64 = 10 * 60 * 1000;
const RESTORED: &str = "broker is restored from a backup";
/// The auditor's line.
pub const AUDITOR: &str = "auditor";
/// The broker's machine.
pub const BROKER_MACHINE: &str = "broker";

/// Why a world is not as it must be.
pub type Wrong = String;

struct RunningBroker {
    task: JoinHandle<Result<(), StartError>>,
    stop: oneshot::Sender<()>,
    status: StatusSource,
    repair: Arc<Repair>,
    index: Weak<SledIndex>,
}

struct RunningNode {
    task: JoinHandle<NodeError>,
    api: Arc<LocalApi>,
    lives: Arc<AtomicBool>,
    ends: watch::Sender<bool>,
}

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process alone: what it wrote is known to the system.
    Kill,
    /// With the power: of what was not synced an arbitrary part is gone.
    Power,
}

/// A world.
pub struct World {
    /// The network.
    pub net: Net,
    /// The machines' disks.
    pub devices: Devices,
    /// The machines' clocks.
    pub clocks: BTreeMap<&'static str, MachineClock>,
    /// What it was made from.
    pub template: Template,
    directory: TempDir,
    hold_seconds: u64,
    start: Instant,
    dice: RefCell<Dice>,
    broker: RefCell<Option<RunningBroker>>,
    nodes: RefCell<BTreeMap<&'static str, RunningNode>>,
    trace: RefCell<Vec<String>>,
    locked: RefCell<BTreeSet<&'static str>>,
}

impl World {
    /// A world in which nothing runs yet, with disks that lie about what is synced, or do not.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn new(template: &Template, mut dice: Dice, lying: bool) -> io::Result<Self> {
        // What a real file system keeps there is not what is simulated: it should be quick.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
        let (net, devices) = (Net::new(dice.fork()), Devices::new(dice.fork(), lying));
        let base = template.charter()?.issued().plus(BEGINS_MS);
        let mut clocks = BTreeMap::new();
        for machine in [BROKER_MACHINE].into_iter().chain(OFFICES.map(|(office, _)| office)) {
            let wrong = dice.roll(120_000) as i64 - 60_000;
            clocks.insert(machine, MachineClock::new(base, wrong));
        }
        let broker = directory.path().join(BROKER_MACHINE);
        fs::create_dir_all(&broker)?;
        for log in ["directory", "exchange"] {
            devices.put(&broker.join(log), load(&template.path(BROKER_MACHINE).join(log))?);
        }
        continuity::confirm(&broker, &devices.disks())?;
        for (office, _) in OFFICES {
            net.add(office);
            let (from, data) = (template.path(office), directory.path().join(office));
            devices.put(&data.join("store"), load(&from.join("store"))?);
            copy_directory(&from.join("keystore"), &data.join("keystore"))?;
        }
        net.add(AUDITOR);
        net.add(HOSTILE);
        clocks.insert(HOSTILE, MachineClock::new(base, 0));
        Ok(Self {
            net,
            devices,
            clocks,
            template: template.clone(),
            directory,
            hold_seconds: if dice.once_in(3) { 20 } else { 0 },
            start: Instant::now(),
            dice: RefCell::new(dice),
            broker: RefCell::default(),
            nodes: RefCell::default(),
            trace: RefCell::default(),
            locked: RefCell::default(),
        })
    }

    /// The data directory of a machine.
    #[must_use]
    pub fn data(&self, machine: &str) -> PathBuf {
        self.directory.path().join(machine)
    }

    /// How long nodes hold what does not hurry.
    #[must_use]
    pub const fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_seconds)
    }

    /// Simulated time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Dice of their own for a part of the story.
    #[must_use]
    pub fn fork(&self) -> Dice {
        self.dice.borrow_mut().fork()
    }

    /// Notes what happened, with its time.
    pub fn note(&self, what: impl Into<String>) {
        let line = format!("{:>9} {}", self.elapsed().as_millis(), what.into());
        tracing::info!(target: "simulation", "{line}");
        self.trace.borrow_mut().push(line);
    }

    /// What happened.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.trace.borrow().clone()
    }

    /// Starts the broker, if it does not run.
    ///
    /// # Errors
    /// When it does not start: it always must.
    pub fn start_broker(&self) -> Result<(), Wrong> {
        if self.broker.borrow().is_some() {
            return Ok(());
        }
        self.note("broker starts");
        let config = self.template.broker(&self.data(BROKER_MACHINE)).map_err(|e| e.to_string())?;
        let clock = Arc::new(self.clocks[BROKER_MACHINE].clone());
        let broker = Broker::open(&config, clock, &self.devices.disks(), BROKER.to_owned())
            .map_err(|e| format!("the broker does not start: {}", chain(&e)))?;
        let (status, repair) = (broker.status.clone(), Arc::clone(&broker.repair));
        let (stop, stopped) = oneshot::channel();
        let index = Arc::downgrade(&status.index);
        let incoming = self.net.listen();
        let task = tokio::spawn(broker.serve(incoming, async {
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        *self.broker.borrow_mut() = Some(RunningBroker { task, stop, status, repair, index });
        Ok(())
    }

    /// Starts a node, if it does not run.
    ///
    /// # Errors
    /// When it does not start: it always must.
    pub async fn start_node(&self, office: &'static str) -> Result<(), Wrong> {
        if self.nodes.borrow().contains_key(office) {
            return Ok(());
        }
        self.note(format!("{office} starts"));
        let config = self.template.node(office, &self.data(office), self.hold_seconds).map_err(|e| e.to_string())?;
        let lives = Arc::new(AtomicBool::new(true));
        let (clock, entropy) = (self.clocks[office].clone(), SeededEntropy::new(self.fork()));
        let dialer = self.net.dialer(office, &lives);
        let node = Node::start(config, Arc::new(clock), Arc::new(entropy), dialer, &self.devices.disks()).await;
        let mut node = node.map_err(|e| format!("the node of {office} does not start: {}", chain(&e)))?;
        let api = Arc::clone(&node.api);
        let task = tokio::spawn(async move { node.failed().await });
        let running = RunningNode { task, api, lives, ends: watch::Sender::new(false) };
        self.nodes.borrow_mut().insert(office, running);
        Ok(())
    }

    /// Whether a machine's process runs.
    #[must_use]
    pub fn runs(&self, machine: &str) -> bool {
        if machine == BROKER_MACHINE {
            self.broker.borrow().as_ref().is_some_and(|broker| !broker.task.is_finished())
        } else {
            self.nodes.borrow().get(machine).is_some_and(|node| !node.task.is_finished())
        }
    }

    /// Ends a machine's process at this instant.
    ///
    /// # Errors
    /// When something of it goes on.
    pub async fn dies(&self, machine: &'static str, death: Death) -> Result<(), Wrong> {
        let mut dice = self.fork();
        self.note(format!("{machine} dies: {death:?}"));
        self.devices.cut(&self.data(machine), || death == Death::Kill || dice.once_in(2));
        if machine == BROKER_MACHINE {
            self.net.unlisten();
            let Some(broker) = self.broker.borrow_mut().take() else { return Ok(()) };
            let RunningBroker { task, index, stop, status, repair } = broker;
            drop((status, repair));
            task.abort();
            let _ = task.await;
            drop(stop);
            self.ends(&index).await?;
            // Never the truth after anything but a clean stop.
            let _ = fs::remove_dir_all(self.data(BROKER_MACHINE).join("index"));
        } else if let Some(node) = { self.nodes.borrow_mut().remove(machine) } {
            node.lives.store(false, Ordering::SeqCst);
            self.net.cut(machine);
            node.ends.send_replace(true);
            node.task.abort();
            let _ = node.task.await;
        }
        Ok(())
    }

    /// Stops the broker as an operator does.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn stops_broker(&self) -> Result<(), Wrong> {
        let Some(broker) = self.broker.borrow_mut().take() else { return Ok(()) };
        let RunningBroker { task, stop, status, repair, index } = broker;
        drop((status, repair));
        self.note("broker stops");
        let _ = stop.send(());
        let ended = task.await.map_err(|e| format!("the stopping broker panicked: {e}"))?;
        self.net.unlisten();
        self.ends(&index).await?;
        match ended {
            Ok(()) => Ok(()),
            // Its device failed while it stopped.
            Err(StartError::LogStopped) => self.dies(BROKER_MACHINE, Death::Kill).await,
            Err(error) => Err(format!("the broker did not stop well: {}", chain(&error))),
        }
    }

    /// Waits until nothing of a broker is left.
    async fn ends(&self, index: &Weak<SledIndex>) -> Result<(), Wrong> {
        for _ in 0..120 {
            if index.strong_count() == 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(250)).await;
        }
        Err("something of a broker that has ended goes on for half a minute".to_owned())
    }

    /// Asks an office's node as its officer; none when it does not run, or dies meanwhile.
    pub async fn asks(&self, office: &str, request: Value) -> Option<Value> {
        let (api, mut ends) = {
            let nodes = self.nodes.borrow();
            let node = nodes.get(office)?;
            (Arc::clone(&node.api), node.ends.subscribe())
        };
        let body = RequestBody::new(Box::new(tokio::io::empty()));
        tokio::select! {
            reply = api.answer(OFFICER, request, body) => Some(reply.into_json()),
            _ = ends.wait_for(|ended| *ended) => None,
        }
    }

    /// Locks a node, and lets nobody unlock it; or ends that.
    pub async fn set_locked(&self, office: &'static str, locked: bool) {
        if locked {
            self.locked.borrow_mut().insert(office);
            let _ = self.asks(office, json!({"op": "lock"})).await;
        } else {
            self.locked.borrow_mut().remove(office);
        }
    }

    /// Unlocks a node as its officer, when there is one; none also when the node does not run.
    pub async fn unlocks(&self, office: &str) -> Option<Value> {
        if self.locked.borrow().contains(office) {
            return None;
        }
        let officer = OFFICES.iter().find(|(id, _)| *id == office).map(|(_, officer)| *officer);
        self.asks(office, json!({"op": "unlock", "officer": officer, "passphrase": PASSPHRASE})).await
    }

    /// What the broker says that a human should look after.
    #[must_use]
    pub fn broker_problems(&self) -> Vec<String> {
        self.broker.borrow().as_ref().map_or_else(Vec::new, |broker| broker.status.problems())
    }

    /// Whether the broker enters nothing new; or does not run.
    #[must_use]
    pub fn broker_is_closed(&self) -> bool {
        self.broker.borrow().as_ref().is_none_or(|broker| broker.repair.is_closed())
    }

    /// What the broker says that it lacks.
    #[must_use]
    pub fn broker_lacks(&self) -> Vec<wire::LostEntries> {
        self.broker.borrow().as_ref().map_or_else(Vec::new, |broker| broker.repair.lost())
    }

    /// Looks at what a node has, past what it says to officers; none when it does not run.
    pub fn looks_into<T>(&self, office: &str, look: impl FnOnce(&LocalApi) -> T) -> Option<T> {
        self.nodes.borrow().get(office).map(|node| look(&node.api))
    }

    /// Whether the broker ever was.
    #[must_use]
    pub fn was_restored(&self) -> bool {
        self.trace.borrow().iter().any(|line| line.ends_with(RESTORED))
    }

    /// Puts the broker's disks back to what a backup holds: other files with older contents.
    pub fn restores_broker(&self, backup: &[(PathBuf, MemoryDisk)]) {
        self.note(RESTORED);
        for (directory, disk) in backup {
            self.devices.put(directory, disk.copied());
        }
    }
}
