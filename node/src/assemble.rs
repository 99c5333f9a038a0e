//! The node, put together: what it keeps, the loops that talk to the broker, and what officers ask; without what only an
//! operating system has. [`crate::daemon`] adds that; a simulation does not.

use std::{sync::Arc, time::Duration};

use liaison_link::{
    charter_files::Charters,
    dial,
    net::Dialer,
    time::FlooredTime,
    tls::{self, ClientTls, Identity, TlsError},
};
use liaison_log::{disk::Disks, remote::RemoteLog, work};
use liaison_proto::{
    Bytes,
    clock::{Clock, DAY_MS},
    entropy::SharedEntropy,
    failure::chain,
    ids::{Lane, OfficeId},
    wire::LogName,
};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    attachments::{AttachmentFiles, downloads, uploaded::Uploads, uploads},
    attest,
    compose::Composer,
    config::Config,
    contact::Contact,
    directory::DirectoryReplica,
    evidence, gossip, hand_back,
    health::Health,
    init::{NodeError, disk, io_failed, keystore},
    key_table::KeyTable,
    keystore::{KeyPair, Keystore},
    leaving::Leaving,
    link::{Connections, Link},
    local_api::LocalApi,
    log_view::LogView,
    open::Opener,
    publish,
    receive::{ReceiptKey, Receiver},
    reconcile,
    retry::Backoff,
    rewrap::Rewrapper,
    store::{Store, StoreError},
    submit,
    vault::Vault,
};

/// A running node: its loops, and what officers ask. It ends when it is dropped.
pub struct Node {
    /// What officers can ask.
    pub api: Arc<LocalApi>,
    store: Store,
    key_table: Arc<KeyTable>,
    tasks: JoinSet<Result<(), StoreError>>,
}

impl Node {
    /// Opens what the node keeps and starts its loops.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(
        config: Config,
        wall: Arc<dyn Clock>,
        entropy: SharedEntropy,
        dialer: Dialer,
        disks: &Disks,
    ) -> Result<Self, NodeError> {
        let charters = Charters::open(&config.charter, Some(&config.charter_sha256), config.data.join("charters"))?;
        let charter = charters.get();
        let office = config.office;
        // One whose country is no member any more still reads its evidence.
        if charter.chain().all(|charter| charter.country(office.country()).is_none()) {
            return Err(NodeError::Country(office));
        }
        let keystore = keystore(&config);
        let receipt_key = ReceiptKey::new(keystore.receipt_key()?);
        let store =
            Store::open(&disk(&config, disks, "store"), config.segment_bytes(), config.reserve_bytes(), office)?;
        // A clock that died says 1970: the log knows better.
        let time = FlooredTime::new(Arc::clone(&wall), &charter, store.state().log_time);
        let clock: Arc<dyn Clock> = Arc::new(time.clone());
        let tls = NodeTls { charters: charters.clone(), keystore: keystore.clone(), time: time.clone() };
        let client = ClientTls::from(tls.read()?);
        let channel = || dial::channel(&charter, config.broker, client.clone(), Arc::clone(&dialer));
        let flash = dial::flash_channel(&charter, config.broker, client.clone(), Arc::clone(&dialer))?;
        let lanes = [flash, channel()?, channel()?];
        let connections =
            Connections { lanes, attachments: dial::channel(&charter, config.broker, client.clone(), dialer)? };

        let key_table =
            KeyTable::open(disk(&config, disks, "store").as_ref()).map_err(io_failed("opening the key table"))?;
        let key_table = Arc::new(key_table);
        let directory = DirectoryReplica::open(&disk(&config, disks, "directory"), charters.clone())
            .map_err(io_failed("opening the directory's replica"))?;
        let directory = Arc::new(directory);
        let exchange_sources = connections.lanes.clone().map(|channel| RemoteLog::new(channel, LogName::Exchange));
        let exchange_log = exchange_sources[Lane::Urgent as usize].clone();
        let directory_sources = connections.lanes.clone().map(|channel| RemoteLog::new(channel, LogName::Directory));
        let directory_source = directory_sources[Lane::Urgent as usize].clone();
        let view = Arc::new(LogView::new(charters.clone(), exchange_sources, store.clone(), Arc::clone(&clock)));
        view.settle().await.map_err(|e| NodeError::Io { what: chain(&e), source: std::io::ErrorKind::Other.into() })?;
        let session_ms = config.unlock_minutes * 60_000;
        let vault = Arc::new(Vault::new(keystore, Arc::clone(&clock), wall, session_ms));
        let health = Arc::new(Health::default());
        let files =
            AttachmentFiles::open(config.data.join("attachments")).map_err(io_failed("opening the attachments"))?;
        files.collect(&store.state()).map_err(io_failed("looking through the attachments"))?;

        let link = Link {
            connections,
            store: store.clone(),
            view: Arc::clone(&view),
            leaving: Arc::new(Leaving::of(&store.state())),
            uploads: Uploads::default(),
            charters,
            health: Arc::clone(&health),
            connected: Arc::default(),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
        };
        let opener = Opener {
            link: link.clone(),
            office,
            directory: Arc::clone(&directory),
            vault: Arc::clone(&vault),
            key_table: Arc::clone(&key_table),
        };
        let composer = Composer {
            office,
            utc_offset_minutes: config.utc_offset_minutes,
            suite: config.suite.into(),
            clock,
            entropy,
        };
        let contact = Arc::new(Contact::new(Arc::clone(&link.clock)));
        let api = Arc::new(LocalApi {
            office,
            language: config.language.clone(),
            store: store.clone(),
            directory: Arc::clone(&directory),
            vault: Arc::clone(&vault),
            key_table: Arc::clone(&key_table),
            disk: disk(&config, disks, "store"),
            composer,
            opener: opener.clone(),
            view,
            contact: Arc::clone(&contact),
            files: files.clone(),
            hold_ms: i64::from(config.hold_seconds) * 1000,
            countersigning: tokio::sync::Mutex::new(()),
            turns: Semaphore::new(std::thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1))),
            health: Arc::clone(&health),
        });
        let rewrapper = Rewrapper {
            link: link.clone(),
            directory: Arc::clone(&directory),
            vault: Arc::clone(&vault),
            key_table: Arc::clone(&key_table),
        };
        let receiver = Receiver {
            link: link.clone(),
            office,
            receipt_key: receipt_key.clone(),
            contact,
            directory: Arc::clone(&directory),
            directory_source: directory_source.clone(),
        };

        let mut tasks = JoinSet::new();
        for lane in Lane::ALL {
            tasks.spawn(submit::run(link.clone(), lane));
            // FLASH waits for no other lane's connection, not even for an entry of the directory.
            let directory_source = directory_sources[lane as usize].clone();
            tasks.spawn(Receiver { directory_source, ..receiver.clone() }.run(lane));
            let signer = attest::Signer { receipt_key: receipt_key.clone(), vault: Arc::clone(&vault) };
            tasks.spawn(attest::run(link.clone(), lane, signer));
        }
        tasks.spawn(reconcile::run(receiver));
        tasks.spawn(rewrapper.run());
        tasks.spawn(uploads::run(link.clone(), files.clone()));
        tasks.spawn(downloads::run(link.clone(), files, config.reserve_bytes()));
        tasks.spawn(publish::run(link.clone(), Arc::clone(&vault), Arc::clone(&directory), Arc::clone(&health)));
        tasks.spawn(look_after(link.clone(), time, tls, client, (config.clone(), Arc::clone(disks)), health));
        tasks.spawn(gossip::run(link.clone()));
        tasks.spawn(evidence::run(link.clone(), Arc::clone(&directory), directory_source.clone()));
        tasks.spawn(opener.run());
        let every = Duration::from_secs(u64::from(config.directory_seconds));
        tasks.spawn(hand_back::run(link.clone(), Arc::clone(&directory), exchange_log, every));
        let follower = Follower { link, directory, source: directory_source, office, vault, receipt_key };
        tasks.spawn(follower.run(every));
        Ok(Self { api, store, key_table, tasks })
    }

    /// Completes when the node cannot go on: what it keeps has failed, or a part of it ended.
    pub async fn failed(&mut self) -> NodeError {
        tokio::select! {
            () = self.store.stopped() => StoreError::Stopped.into(),
            () = self.key_table.failed() => StoreError::Stopped.into(),
            () = self.api.directory.failed() => StoreError::Stopped.into(),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(error))) => error.into(),
                // A task that ended without an error, or panicked, leaves the node without a part of itself.
                _ => NodeError::Io { what: "a part of the node ended".into(), source: std::io::ErrorKind::Other.into() },
            },
        }
    }
}

/// The node's TLS settings, from its files.
struct NodeTls {
    charters: Charters,
    keystore: Keystore,
    time: FlooredTime,
}

impl NodeTls {
    fn read(&self) -> Result<rustls::ClientConfig, TlsError> {
        let (chain, key) = self.keystore.tls();
        let charter = self.charters.get();
        let (cas, identity) = (charter.broker_cas(self.time.now()), Identity::read(&chain, &key)?);
        tls::client_config(&cas, identity, charter.file().require_post_quantum, self.time.clone())
    }
}

/// Between looks at certificate, clock and disk.
const LOOK: Duration = Duration::from_secs(2);

/// Takes a new certificate without a restart, keeps the clock from running behind the log, and notes what is wrong.
async fn look_after(
    link: Link,
    time: FlooredTime,
    tls: NodeTls,
    client: ClientTls,
    (config, disks): (Config, Disks),
    health: Arc<Health>,
) -> Result<(), StoreError> {
    let (chain_file, key_file) = tls.keystore.tls();
    // Both: whichever of the two comes first does not fit the other yet.
    let files = || [&chain_file, &key_file].map(|file| std::fs::metadata(file).and_then(|found| found.modified()).ok());
    // The broker's CAs change with a new charter, and when its overlap ends.
    let cas = || tls.charters.get().broker_cas(tls.time.now());
    let stamp = || (files(), cas());
    let mut known = stamp();
    loop {
        tokio::time::sleep(LOOK).await;
        time.raise(link.store.state().log_time);
        health.note("clock", time.problem());
        let found = stamp();
        if found != known {
            known = found;
            let read = tls.read();
            health.note("certificate", read.as_ref().err().map(|e| format!("the new certificate: {}", chain(e))));
            if let Ok(config) = read {
                client.replace(config);
                tracing::info!("the certificate was read again");
            }
        }
        let available = disk(&config, &disks, "store").available().unwrap_or(0);
        let full = available < config.reserve_bytes();
        let line =
            || format!("the disk is full ({} MiB free): nothing new is taken until there is room", available >> 20);
        health.note("disk", full.then(line));
    }
}

/// Days before a credential runs out that it is told.
const WARNED_DAYS: i64 = 14;

/// What following the directory needs beside it.
struct Follower {
    link: Link,
    directory: Arc<DirectoryReplica>,
    source: RemoteLog,
    office: OfficeId,
    vault: Arc<Vault>,
    receipt_key: ReceiptKey,
}

impl Follower {
    /// Keeps the directory's replica up to date, looks whether the office's own records are ones that it ordered, and
    /// goes on with the office's next keys once the directory has them.
    async fn run(self, every: Duration) -> Result<(), StoreError> {
        let mut backoff = Backoff::default();
        let mut unlocks = self.vault.changes();
        loop {
            unlocks.mark_unchanged();
            // What is known without the link counts, too.
            let updated = self.directory.update(&self.source).await;
            self.look_at_own().await?;
            let pause = match updated {
                Ok(()) => {
                    backoff.reset();
                    every
                }
                Err(error) => {
                    if error.is_alarm() {
                        self.link.alarm(chain(&error), Bytes::new()).await?;
                    } else {
                        tracing::debug!(error = chain(&error), "the directory was not updated");
                    }
                    backoff.pause(self.link.entropy.as_ref())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = unlocks.changed() => {}
            }
        }
    }

    async fn look_at_own(&self) -> Result<(), StoreError> {
        // Read anew: keys rotate.
        let Ok(own) = self.vault.keystore().public_keys() else { return Ok(()) };
        if let Some(what) = self.directory.foreign_record(self.office, &own) {
            self.link.alarm(what, Bytes::new()).await?;
        }
        // Every party must see the same one: a charter that is shown and not logged is a matter for people.
        let (known, entered) = (self.link.charters.get().number(), self.directory.directory().charters());
        let line = || format!("charter no. {known} is in force, and the directory log has no. {entered}");
        self.link.health.note("charter", (known > entered && entered > 0).then(line));
        let next = own.next.filter(|next| self.directory.has_next(self.office, next));
        let problem = match next {
            Some(next) => self.adopt(next).await.err(),
            None => None,
        };
        let line = problem.map(|problem| format!("the office's next keys are not in use yet: {problem}"));
        self.link.health.note("keys", line);
        self.link.health.note("credentials", self.ending_credentials());
        Ok(())
    }

    async fn adopt(&self, next: KeyPair) -> Result<(), String> {
        let (vault, entropy) = (Arc::clone(&self.vault), Arc::clone(&self.link.entropy));
        let adopted = work::blocking(move || vault.adopt(&next, entropy.as_ref())).await;
        let (receipt, signing) = adopted.map_err(|e| e.to_string())?.map_err(|e| chain(&e))?;
        self.receipt_key.replace(receipt);
        if !signing {
            return Err("unlock the office".into());
        }
        tracing::info!("the office's next keys are in use");
        Ok(())
    }

    /// Officers whose credentials run out soon: nobody signs with one that has.
    fn ending_credentials(&self) -> Option<String> {
        let soon = self.link.clock.now().plus(WARNED_DAYS * DAY_MS);
        let credentials = self.vault.keystore().credentials().ok()?.into_iter();
        let ending: Vec<String> = credentials
            .filter(|(_, credential)| credential.claimed_end() < soon)
            .map(|(officer, credential)| format!("{officer} on {}", credential.claimed_end()))
            .collect();
        (!ending.is_empty()).then(|| format!("credentials run out; liaison renew-officer: {}", ending.join(", ")))
    }
}
