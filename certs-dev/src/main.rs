//! `certs-dev`: see the library.

fn main() -> std::process::ExitCode {
    liaison_certs_dev::cli::run(std::env::args_os())
}
