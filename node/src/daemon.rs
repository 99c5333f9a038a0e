//! Running a node as a process: lock, local socket, signals.

use std::sync::Arc;

use liaison_link::{
    local,
    net::Dialer,
    process::{lock_directory, stop_signal},
};
use liaison_log::disk::os_disks;
use liaison_proto::{clock::Clock, entropy::SharedEntropy};
use tokio::task::JoinSet;

use crate::{
    assemble::Node,
    config::Config,
    init::{NodeError, io_failed},
};

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// [`NodeError`].
pub async fn run(
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: SharedEntropy,
    dialer: Dialer,
) -> Result<(), NodeError> {
    if !config.data.is_dir() {
        return Err(NodeError::Missing(config.data.clone()));
    }
    for part in ["keystore", "store"] {
        if !config.data.join(part).is_dir() {
            return Err(NodeError::Incomplete(config.data.join(part)));
        }
    }
    // Held until the process ends: the store's thread may outlive this function.
    std::mem::forget(lock_directory(&config.data).map_err(io_failed("locking the data directory"))?);
    let (office, broker, socket) = (config.office, config.broker, config.socket());
    let mut node = Node::start(config, clock, entropy, dialer, &os_disks()).await?;
    let stopped = stop_signal().map_err(io_failed("installing signal handlers"))?;
    let socket = local::bind(&socket).map_err(io_failed("opening the local socket"))?;
    let api = Arc::clone(&node.api);
    let mut served = JoinSet::new();
    served.spawn(local::serve(socket, move |uid, request, body| {
        let api = Arc::clone(&api);
        async move { api.answer(uid, request, body).await }
    }));
    tracing::info!(%office, %broker, "running");
    tokio::select! {
        () = stopped => Ok(()),
        error = node.failed() => Err(error),
        _ = served.join_next() => {
            Err(NodeError::Io { what: "the local socket ended".into(), source: std::io::ErrorKind::Other.into() })
        }
    }
}
