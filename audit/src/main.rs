//! `audit`: see the library.

fn main() -> std::process::ExitCode {
    liaison_audit::cli::run(std::env::args_os())
}
