//! `cargo run --release --bin demo`: the main job, from the charter to the audit, with separate processes on loopback.

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    liaison_tests::roles::dispatch(&arguments).unwrap_or_else(|| liaison_tests::demo::run(arguments))
}
