//! Running the broker: open the logs, listen, serve, stop cleanly.

use std::{fs, sync::Arc, time::Duration};

use liaison_link::{
    local,
    process::{lock_directory, stop_signal},
    tls::Identity,
};
use liaison_log::committer::Committer;
use liaison_proto::{
    clock::Clock,
    limits,
    wire::{directory_server::DirectoryServer, exchange_server::ExchangeServer, log_server::LogServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::{
    accept,
    config::Config,
    deliver::Deliverer,
    init::{Logs, StartError, io_failed, open_logs},
    log_service::LogService,
    server::Service,
    status::StatusSource,
};

/// Calls at the same time on one connection.
const CALLS_PER_CONNECTION: usize = 64;
/// HTTP/2 streams at the same time on one connection.
const STREAMS_PER_CONNECTION: u32 = 128;
/// How long streams and calls under way may take to end when the broker stops.
const DRAIN: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections are renewed within the hour, so that certificates are looked at again.
const CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);
/// Streams never end by themselves: a connection past its age is cut after this; what was under way is retried.
const CONNECTION_GRACE: Duration = Duration::from_secs(60);

/// Runs until SIGTERM or SIGINT, or until a log stops.
///
/// # Errors
/// [`StartError`].
pub async fn run(config: Config, clock: Arc<dyn Clock>) -> Result<(), StartError> {
    if !config.data.is_dir() {
        return Err(StartError::Missing(config.data.clone()));
    }
    // Held until the process ends: the committing threads may outlive this function.
    std::mem::forget(lock_directory(&config.data).map_err(io_failed("locking the data directory"))?);
    let (charter, logs) = open_logs(&config)?;
    let Logs { directory_log, exchange_log, directory, state, queue, recovery } = logs;
    for (name, found) in &recovery {
        tracing::info!(log = name, size = found.size, kept = found.kept, "opened");
        if let Some(reason) = &found.cut {
            tracing::warn!(log = name, %reason, "the tail that was never signed was cut");
        }
    }
    let (directory_reader, exchange_reader) = (directory_log.reader(), exchange_log.reader());
    let start = |e| StartError::Io { what: "starting the committer".into(), source: e };
    let directory_committer = Committer::start(directory_log, Arc::clone(&clock)).map_err(start)?;
    let exchange_committer = Committer::start(exchange_log, Arc::clone(&clock)).map_err(start)?;

    let identity = Identity::read(&config.tls_certificate, &config.tls_key)?;
    let tls = accept::server_config(&charter, identity)?;
    let listener =
        TcpListener::bind(config.listen).await.map_err(io_failed(format!("listening on {}", config.listen)))?;
    let address = listener.local_addr().map_err(io_failed("reading the address listened on"))?.to_string();
    let (stop, stopping) = watch::channel(false);
    let deliverer = Deliverer { reader: Arc::clone(&exchange_reader), queue: Arc::clone(&queue), stopping };
    let service = Service {
        exchange: exchange_committer.clone(),
        directory_log: directory_committer.clone(),
        directory,
        state,
        deliverer,
        clock,
    };
    let log_service = LogService { directory: Arc::clone(&directory_reader), exchange: Arc::clone(&exchange_reader) };
    let status =
        StatusSource { directory: directory_reader, exchange: exchange_reader, queue, address: address.clone() };
    let socket = local::bind(&config.status_socket()).map_err(io_failed("opening the status socket"))?;
    tokio::spawn(local::serve(socket, move |_, _| {
        let answer = status.to_json();
        async move { answer }
    }));

    let (connections, incoming) = mpsc::channel(64);
    tokio::spawn(accept::accept(listener, Arc::new(tls), Arc::new(charter), connections));
    // Last: whoever waits for this file finds the broker listening.
    fs::write(config.data.join("address"), &address).map_err(io_failed("writing the address file"))?;
    tracing::info!(%address, "listening");

    let logs_stopped = async {
        tokio::select! {
            () = exchange_committer.stopped() => (),
            () = directory_committer.stopped() => (),
        }
    };
    let failed = std::sync::atomic::AtomicBool::new(false);
    let mut drained = stop.subscribe();
    let shutdown = async {
        tokio::select! {
            () = logs_stopped => failed.store(true, std::sync::atomic::Ordering::SeqCst),
            stopped = stop_signal() => if let Err(error) = stopped { tracing::error!(%error, "no signal handlers") },
        }
        tracing::info!("stopping");
        stop.send_replace(true);
    };
    // A peer that reads slowly, or not at all, must not keep a stopping broker.
    let overdue = async {
        let _ = drained.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(DRAIN).await;
    };
    let serving = Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION)
        .load_shed(true)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE)
        .max_connection_age_grace(CONNECTION_GRACE)
        .add_service(
            ExchangeServer::new(service.clone())
                .max_decoding_message_size(limits::GRPC_BYTES)
                .max_encoding_message_size(limits::GRPC_BYTES),
        )
        .add_service(DirectoryServer::new(service).max_decoding_message_size(limits::LEAF_BYTES))
        .add_service(
            LogServer::new(log_service)
                .max_decoding_message_size(limits::RECORD_BYTES)
                .max_encoding_message_size(limits::BUNDLE_BYTES + 1024),
        )
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), shutdown);
    tokio::select! {
        served = serving => served?,
        () = overdue => tracing::warn!("connections were still open when the broker stopped"),
    }
    if failed.into_inner() { Err(StartError::LogStopped) } else { Ok(()) }
}
