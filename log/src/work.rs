//! Where work runs that must not hold up the connections: a writer has a thread of its own, and what blocks goes to the
//! threads for it.
//!
//! In a runtime of one thread everything runs on that thread, in an order that only the program decides: there a
//! writer is one more task, and what blocks runs in its place. So a simulation of a whole exchange is the same each time.

use std::{future::Future, io, thread};

use tokio::{
    runtime::{Builder, Handle, RuntimeFlavor},
    task::{JoinError, spawn_blocking},
};

fn one_thread() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread)
}

/// Starts a writer. It waits for what comes in, and for time; for nothing else.
///
/// # Errors
/// When its thread cannot be started.
pub fn start(name: &str, writer: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    if one_thread() {
        tokio::spawn(writer);
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(writer))?;
    Ok(())
}

/// Does what may take long: files, key derivation.
///
/// # Errors
/// When it panics, or the runtime ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if one_thread() { Ok(work()) } else { spawn_blocking(work).await }
}
