//! The broker, put together: its logs and what serves them, without what only an operating system has (signals, sockets,
//! metrics). [`crate::run`] adds that; a simulation does not.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use liaison_link::{net::Listener, time::FlooredTime, tls::Identity};
use liaison_log::{committer::Committer, disk::Disks, work};
use liaison_proto::{
    clock::Clock,
    directory::Directory,
    failure::chain,
    key_file::PrivateKey,
    limits,
    wire::{
        LogName, attachments_server::AttachmentsServer, directory_server::DirectoryServer,
        exchange_server::ExchangeServer, log_server::LogServer, repair_server::RepairServer,
    },
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::{
    accept::{Door, check_believed, ending, server_config},
    attachments::{AttachmentStore, service::AttachmentService},
    bodies::Bodies,
    charters,
    config::Config,
    connections::{ConnectionLimits, Connections},
    continuity, deadlines,
    deliver::Deliverer,
    directory_log::DirectoryEvent,
    gate::Gate,
    holding::Holding,
    index::SledIndex,
    init::{Logs, StartError, io_failed, open_logs},
    intake::{Intake, Room},
    log_service::LogService,
    operations::{Gauges, Measured, reflection, reflection_alpha},
    reload::{Reloader, certificate_line, read_lists},
    repair::{Repair, Repaired, Writers, service::RepairService},
    revocation::Revocations,
    sequence::Event,
    server::{Enrolment, Service},
    share::{Rates, Shares},
    status::StatusSource,
    succession,
};

/// Calls at the same time on one connection; more wait unread, so that a flood is slowed rather than answered.
const CALLS_PER_CONNECTION: usize = 32;
/// One address has at most this part of the handshakes: the others stay for the others.
const HANDSHAKE_SHARES: usize = 4;
/// HTTP/2 streams at the same time on one connection.
const STREAMS_PER_CONNECTION: u32 = 128;
/// How long streams and calls under way may take to end when the broker stops.
const DRAIN: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// On 64 kbit/s a ping waits behind what the system has taken of a large delivery already.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections are renewed within the hour, so that certificates are looked at again.
const CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);
/// Streams never end by themselves: a connection past its age is cut after this; what was under way is retried.
const CONNECTION_GRACE: Duration = Duration::from_secs(60);
/// How often attachments that nobody names, a grown index and quiet offices' shares are looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// A broker whose logs are open, and that does not listen yet.
pub struct Broker {
    directory_log: Committer<DirectoryEvent>,
    exchange_log: Committer<Event>,
    service: Service,
    attachments: AttachmentService,
    log_service: LogService,
    repair_service: RepairService,
    door: Arc<Door>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// What makes it whole again.
    pub repair: Arc<Repair>,
    /// What it says of itself.
    pub status: StatusSource,
}

impl Broker {
    /// Opens both logs and begins what does not need the network. `address` is where it will listen.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(config: &Config, clock: Arc<dyn Clock>, disks: &Disks, address: String) -> Result<Self, StartError> {
        let (charter, logs) = open_logs(config, disks)?;
        let recovered = logs.report();
        let Logs {
            directory_log, exchange_log, directory, state, queue, attachments, index, gate, unwitnessed, ..
        } = logs;
        let (directory_reader, exchange_reader) = (directory_log.reader(), exchange_log.reader());
        let start = |e| StartError::Io { what: "starting the committer".into(), source: e };
        // A clock that died says 1970: the logs know better. The directory's is never empty.
        let exchange_time = state.read().unwrap_or_else(PoisonError::into_inner).time();
        let directory_time = directory.read().unwrap_or_else(PoisonError::into_inner).time();
        let time = FlooredTime::new(clock, &charter, exchange_time.max(directory_time));
        let clock: Arc<dyn Clock> = Arc::new(time.clone());
        if charter.issued() > clock.now() {
            return Err(StartError::CharterEarly(charter.number(), charter.issued()));
        }
        let directory_committer = Committer::start(directory_log, Arc::clone(&clock)).map_err(start)?;
        let exchange_committer = Committer::start(exchange_log, Arc::clone(&clock)).map_err(start)?;

        let holding = Holding::open(disks(&config.data), config.segment_bytes(), Arc::clone(&gate));
        let holding = Arc::new(holding.map_err(io_failed("opening the holding journal"))?);
        let repair = repair(
            (config, disks),
            &gate,
            [
                Repaired {
                    name: LogName::Directory,
                    identity: charter.directory_log().clone(),
                    reader: Arc::clone(&directory_reader),
                },
                Repaired {
                    name: LogName::Exchange,
                    identity: charter.exchange_log().clone(),
                    reader: Arc::clone(&exchange_reader),
                },
            ],
            Writers { directory: directory_committer.clone(), exchange: exchange_committer.clone() },
            &directory,
            &clock,
        )?;
        let end = succession::begin(&charter, &exchange_reader, &gate)?;
        if let Some(end) = &end {
            repair.expect(end.size, end.root);
            holding.seen_at_most(end.size);
        }
        let ended = end.map(|end| (end, Arc::clone(&exchange_reader)));
        let rest = succession::Rest::new(&charter, Arc::clone(&exchange_reader));
        let charter = Arc::new(charter);
        let revocations = read_lists(config, &charter, &Revocations::default(), clock.now());
        let identity = Identity::read(&config.tls_certificate, &config.tls_key)?;
        let unbelieved = match check_believed(&charter, &identity, &time) {
            Ok(()) => ending(&charter, &identity, &time),
            Err(error) => Some(certificate_line(&error)),
        };
        let tls = server_config(&charter, identity.clone(), &revocations, time.clone())?;
        let revocations = Arc::new(RwLock::new(revocations));
        let connections = Connections::new(ConnectionLimits {
            all: config.connections,
            address: config.connections_per_address,
            handshakes: (config.handshakes / HANDSHAKE_SHARES).max(1),
            party: config.connections_per_office,
        });
        let door = Arc::new(Door {
            tls: RwLock::new(Arc::new(tls)),
            charter: Arc::clone(&charter),
            connections: Arc::clone(&connections),
            handshakes: Arc::new(Semaphore::new(config.handshakes)),
        });
        let (stop, stopping) = watch::channel(false);
        let deliverer = Deliverer {
            reader: Arc::clone(&exchange_reader),
            queue: Arc::clone(&queue),
            gate: Arc::clone(&gate),
            holding: Arc::clone(&holding),
            stopping: stopping.clone(),
        };
        let shares = Shares::new(Rates {
            messages: config.messages_per_second,
            burst: config.message_burst,
            kibibytes: config.kibibytes_per_second,
            calls: config.calls_per_office,
        });
        let intake = Arc::new(Intake {
            exchange: exchange_committer.clone(),
            directory: Arc::clone(&directory),
            state: Arc::clone(&state),
            reader: Arc::clone(&exchange_reader),
            revocations: Arc::clone(&revocations),
            shares: Arc::clone(&shares),
            gate: Arc::clone(&gate),
            holding: Arc::clone(&holding),
            room: room(config, disks),
            evidence_key: PrivateKey::read_signing(&config.evidence_key)?,
            clock: Arc::clone(&clock),
        });
        if &intake.evidence_key.verifying_key() != charter.evidence_key() {
            return Err(StartError::WrongKey(config.evidence_key.clone(), charter.number()));
        }
        let looking = Arc::new(Semaphore::new(1));
        let service = Service {
            intake: Arc::clone(&intake),
            directory_log: directory_committer.clone(),
            deliverer,
            index: Arc::clone(&index),
            looking,
        };
        let attachment_service = AttachmentService::new(
            Arc::clone(&attachments),
            Enrolment(Arc::clone(&directory)),
            Arc::clone(&shares),
            stopping,
        );
        let log_service = LogService {
            directory: Arc::clone(&directory_reader),
            exchange: Arc::clone(&exchange_reader),
            gate: Arc::clone(&gate),
            charter: Arc::clone(&charter),
            shares: Arc::clone(&shares),
        };
        let repair_service = RepairService::new(Arc::clone(&repair), Arc::clone(&attachments), Arc::clone(&shares));
        let certificate_problem = Arc::new(Mutex::new(unbelieved));
        let status = StatusSource {
            charter: Arc::clone(&charter),
            directory: Arc::clone(&directory_reader),
            exchange: Arc::clone(&exchange_reader),
            queue: Arc::clone(&queue),
            connections: Arc::clone(&connections),
            revocations: Arc::clone(&revocations),
            certificate_problem: Arc::clone(&certificate_problem),
            metrics_problem: Arc::default(),
            repair: Arc::clone(&repair),
            holding,
            index: Arc::clone(&index),
            recovered,
            data: config.data.clone(),
            reserve: config.reserve_bytes(),
            address,
            clock: time.clone(),
        };
        let mut tasks = JoinSet::new();
        let gauges = Gauges {
            directory: directory_reader,
            exchange: exchange_reader,
            committer: exchange_committer.clone(),
            queue,
            connections,
            status: status.clone(),
        };
        tasks.spawn(gauges.run());
        tasks.spawn(Arc::clone(&intake).enter_held());
        tasks.spawn(Arc::clone(&repair).mend_regularly());
        if let Some((end, log)) = ended {
            tasks.spawn(succession::enter(
                end,
                config.data.clone(),
                Arc::clone(&directory),
                log,
                exchange_committer.clone(),
                Arc::clone(&gate),
            ));
        }
        tasks.spawn(charters::enter(charter, Arc::clone(&directory), directory_committer.clone(), Arc::clone(&gate)));
        tasks.spawn(wait_for_offices(
            (config.clone(), Arc::clone(disks)),
            Arc::clone(&repair),
            Arc::clone(&gate),
            unwitnessed,
        ));
        tasks.spawn(deadlines::run(Arc::clone(&state), exchange_committer.clone(), Arc::clone(&clock), rest));
        tasks.spawn(keep_house(attachments, index, shares));
        let reloader = Reloader {
            config: config.clone(),
            door: Arc::clone(&door),
            identity,
            revocations,
            directory,
            time,
            problem: certificate_problem,
        };
        tasks.spawn(reloader.run());
        let (directory_log, exchange_log, attachments) = (directory_committer, exchange_committer, attachment_service);
        Ok(Self {
            directory_log,
            exchange_log,
            service,
            attachments,
            log_service,
            repair_service,
            door,
            stop,
            tasks,
            repair,
            status,
        })
    }

    /// Serves until `stopped` completes, or until a log stops.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn serve(
        self,
        listener: impl Listener,
        stopped: impl Future<Output = ()> + Send,
    ) -> Result<(), StartError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ExchangeServer<Service>>().await;
        let described = |e: tonic_reflection::server::Error| {
            io_failed("describing the services")(std::io::Error::other(e.to_string()))
        };
        let (reflection, reflection_alpha) = (reflection().map_err(described)?, reflection_alpha().map_err(described)?);
        let (connected, incoming) = mpsc::channel(64);
        let Self { directory_log, exchange_log, service, door, stop, mut tasks, status, .. } = self;
        tasks.spawn(door.accept(listener, connected));
        let logs_stopped = async {
            tokio::select! {
                () = exchange_log.stopped() => (),
                () = directory_log.stopped() => (),
                () = status.holding.failed() => (),
            }
        };
        let failed = std::sync::atomic::AtomicBool::new(false);
        let mut drained = stop.subscribe();
        let shutdown = async {
            tokio::select! {
                () = logs_stopped => failed.store(true, std::sync::atomic::Ordering::SeqCst),
                () = stopped => (),
            }
            tracing::info!("stopping");
            health.set_not_serving::<ExchangeServer<Service>>().await;
            stop.send_replace(true);
        };
        // A peer that reads slowly, or not at all, must not keep a stopping broker.
        let overdue = async {
            let _ = drained.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(DRAIN).await;
        };
        let serving = Server::builder()
            .layer(Measured)
            .layer(Bodies::default())
            .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_connection_age(CONNECTION_AGE)
            .max_connection_age_grace(CONNECTION_GRACE)
            .add_service(health_service)
            .add_service(reflection)
            .add_service(reflection_alpha)
            .add_service(
                ExchangeServer::new(service.clone())
                    .max_decoding_message_size(limits::GRPC_BYTES)
                    .max_encoding_message_size(limits::GRPC_BYTES),
            )
            .add_service(DirectoryServer::new(service).max_decoding_message_size(limits::LEAF_BYTES))
            .add_service(AttachmentsServer::new(self.attachments).max_decoding_message_size(limits::PART_BYTES + 1024))
            .add_service(RepairServer::new(self.repair_service).max_decoding_message_size(limits::GRPC_BYTES))
            .add_service(
                LogServer::new(self.log_service)
                    .max_decoding_message_size(limits::RECORD_BYTES)
                    .max_encoding_message_size(limits::BUNDLE_BYTES + 1024),
            )
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), shutdown);
        tokio::select! {
            served = serving => served?,
            () = overdue => tracing::warn!("connections were still open when the broker stopped"),
        }
        tasks.shutdown().await;
        if failed.into_inner() {
            return Err(StartError::LogStopped);
        }
        // What waits is still committed; then the signed size and the index are recorded.
        exchange_log.close().await;
        directory_log.close().await;
        Ok(())
    }
}

fn room(config: &Config, disks: &Disks) -> Room {
    Room { disk: disks(&config.data), reserve: config.reserve_bytes() }
}

/// What makes the broker whole again; after a start from a copy nothing is entered before the offices were heard.
fn repair(
    (config, disks): (&Config, &Disks),
    gate: &Arc<Gate>,
    logs: [Repaired; 2],
    writers: Writers,
    directory: &RwLock<Directory>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Repair>, StartError> {
    let unbroken = continuity::is_unbroken(&config.data, disks).map_err(io_failed("looking at the log's files"))?;
    let unseen = if unbroken || config.restored_grace_seconds == 0 {
        BTreeSet::new()
    } else {
        tracing::warn!("the data directory is a copy; the offices are asked what they know of its logs");
        directory.read().unwrap_or_else(PoisonError::into_inner).offices().map(|office| office.id).collect()
    };
    let repair = Repair::new(
        Arc::clone(gate),
        logs,
        writers,
        room(config, disks),
        config.data.clone(),
        Arc::clone(clock),
        unseen,
    )
    .map(Arc::new);
    repair.map_err(io_failed("emptying the spool of restored entries"))
}

/// Ends the wait for offices that do not come; then the directory is the newest there is.
async fn wait_for_offices(
    (config, disks): (Config, Disks),
    repair: Arc<Repair>,
    gate: Arc<Gate>,
    unwitnessed: Arc<AtomicBool>,
) {
    let grace = Duration::from_secs(u64::from(config.restored_grace_seconds));
    let late = repair.confirmed(grace).await;
    let marked = async {
        if late {
            tracing::warn!("not every office has shown what it knows of the logs; what is entered is marked");
            let before = unwitnessed.swap(true, Ordering::SeqCst);
            repair.all_heard().await;
            tracing::info!("every office has shown what it knows of the logs");
            unwitnessed.store(before, Ordering::SeqCst);
        }
    };
    tokio::join!(marked, note_whether_newest(&config.data, &disks, &gate));
}

/// Notes that these files are the newest, whenever nothing is missing from them.
async fn note_whether_newest(data: &Path, disks: &Disks, gate: &Gate) {
    let mut changes = gate.changes();
    loop {
        // The note is taken away as long as something is missing, so that a restart knows it, too.
        gate.opened().await;
        changes.mark_unchanged();
        let mut noted = continuity::confirm(data, disks);
        // Something may have been found missing just now.
        if !gate.is_open() {
            noted = noted.and_then(|()| continuity::withdraw(data));
        }
        if let Err(error) = noted {
            tracing::error!(%error, "it could not be noted whether these files are the newest");
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Removes attachments that nobody names, rebuilds an index that has grown, forgets the shares of quiet offices.
async fn keep_house(attachments: Arc<AttachmentStore>, index: Arc<SledIndex>, shares: Arc<Shares>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        shares.tidy();
        let (attachments, index) = (Arc::clone(&attachments), Arc::clone(&index));
        let looked = work::blocking(move || {
            let removed = attachments.collect();
            if removed > 0 {
                tracing::info!(removed, "attachments that no message names were removed");
            }
            if index.is_overgrown() {
                tracing::info!(bytes = index.size_on_disk(), "the index is copied into a smaller one");
                index.rebuild()?;
            }
            Ok::<(), liaison_log::index::IndexError>(())
        });
        match looked.await {
            Ok(Err(error)) => tracing::error!(error = chain(&error), "the index could not be copied"),
            Err(error) => tracing::error!(%error, "keeping house failed"),
            Ok(Ok(())) => {}
        }
    }
}
