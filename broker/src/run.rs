//! Running the broker as a process: lock, listen, local socket and metrics, signals.

use std::{fs, io, net::SocketAddr, sync::Arc};

use liaison_link::{
    local,
    process::{lock_directory, stop_signal},
};
use liaison_log::disk::os_disks;
use liaison_proto::clock::Clock;
use tokio::{net::TcpSocket, task::JoinSet};

use crate::{
    assemble::Broker,
    config::Config,
    init::{StartError, io_failed},
    operations, status,
};

/// Connections that wait in the system's line at most.
const WAITING: u32 = 1024;

/// Runs until SIGTERM or SIGINT, or until a log stops.
///
/// # Errors
/// [`StartError`].
pub async fn run(config: Config, clock: Arc<dyn Clock>) -> Result<(), StartError> {
    if !config.data.is_dir() {
        return Err(StartError::Missing(config.data.clone()));
    }
    // Held until the process ends: the writing threads may outlive this function.
    std::mem::forget(lock_directory(&config.data).map_err(io_failed("locking the data directory"))?);
    // An address where somebody listens is told before anything is opened; nobody is let in before everything is.
    let socket = bound(config.listen).map_err(io_failed(format!("listening on {}", config.listen)))?;
    let address = socket.local_addr().map_err(io_failed("reading the address listened on"))?.to_string();
    let broker = Broker::open(&config, clock, &os_disks(), address.clone())?;
    let listener = socket.listen(WAITING).map_err(io_failed(format!("listening on {}", config.listen)))?;

    let mut tasks = JoinSet::new();
    if let Some(address) = config.metrics_listen {
        tasks.spawn(operations::metrics(address, Arc::clone(&broker.status.metrics_problem)));
    }
    let socket = local::bind(&config.status_socket()).map_err(io_failed("opening the status socket"))?;
    let (status, repair) = (broker.status.clone(), Arc::clone(&broker.repair));
    tasks.spawn(local::serve(socket, move |uid, request, _| {
        let (status, repair) = (status.clone(), Arc::clone(&repair));
        async move { status::answer(&status, repair, uid, &request).await.into() }
    }));
    let stopped = stop_signal().map_err(io_failed("installing signal handlers"))?;
    // Last, and whole: whoever waits for this file finds the broker listening.
    let (new, place) = (config.data.join("address.new"), config.data.join("address"));
    fs::write(&new, &address).and_then(|()| fs::rename(&new, &place)).map_err(io_failed("writing the address file"))?;
    tracing::info!(%address, "listening");
    let served = broker.serve(listener, stopped).await;
    tasks.shutdown().await;
    served
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the standard library's listener does: connections of the process before are no reason to wait.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
