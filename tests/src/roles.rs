//! One program in every role: the demo re-executes itself, and each role enters the library of its real binary.

use std::{ffi::OsString, io::Read as _, process::ExitCode, sync::Arc, thread};

use liaison_proto::clock::{Clock, SystemClock, UnixMillis};

/// First argument that asks for a role.
pub const ROLE: &str = "role";
/// When set, the process ends when its standard input does: with whoever started it.
pub const END_WITH_PARENT: &str = "LIAISON_END_WITH_STDIN";

/// When set, broker and nodes run by a clock that is so many milliseconds ahead, or behind.
pub const CLOCK_OFFSET: &str = "LIAISON_CLOCK_OFFSET_MS";

/// A clock that is set wrong.
struct Skewed(i64);

impl Clock for Skewed {
    fn now(&self) -> UnixMillis {
        SystemClock.now().plus(self.0)
    }
}

fn clock() -> Arc<dyn Clock> {
    let offset = std::env::var(CLOCK_OFFSET).ok().and_then(|text| text.parse().ok());
    Arc::new(Skewed(offset.unwrap_or(0)))
}

/// Runs a role when the arguments ask for one: `demo role broker run ...`.
#[must_use]
pub fn dispatch(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, first, role, rest @ ..] = arguments else { return None };
    if first != ROLE {
        return None;
    }
    if std::env::var_os(END_WITH_PARENT).is_some() {
        thread::spawn(|| {
            let mut end = [0; 1];
            while std::io::stdin().read(&mut end).is_ok_and(|n| n > 0) {}
            std::process::exit(0);
        });
    }
    let arguments = std::iter::once(role.clone()).chain(rest.iter().cloned());
    Some(match role.to_str() {
        Some("broker") => liaison_broker::cli::run_by(arguments, &clock()),
        Some("node") => liaison_node::cli::run_by(arguments, &clock()),
        Some("liaison") => liaison_node::officer::cli::run(arguments),
        Some("audit") => liaison_audit::cli::run(arguments),
        Some("certs-dev") => liaison_certs_dev::cli::run(arguments),
        _ => {
            eprintln!("demo: no role {role:?}");
            ExitCode::from(2)
        }
    })
}
