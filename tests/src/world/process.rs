//! A child process that never outlives its world.

use std::{io, process::Child};

use super::eventually;

/// A running role.
pub struct Process {
    child: Child,
}

impl Process {
    pub(crate) const fn new(child: Child) -> Self {
        Self { child }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end, or fails.
    pub fn stop(mut self) -> io::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let ended = eventually(|| self.has_ended());
        let status = self.child.try_wait()?;
        match status {
            Some(status) if ended && status.success() => Ok(()),
            status => Err(io::Error::other(format!("the process did not stop cleanly: {status:?}"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; nobody is left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
