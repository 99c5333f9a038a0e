//! `cargo run --release --bin simulate`: whole worlds from seeds.

use std::process::ExitCode;

fn main() -> ExitCode {
    liaison_tests::simulation::cli::run(std::env::args_os())
}
