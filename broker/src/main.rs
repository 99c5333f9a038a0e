//! `broker`: see the library.

fn main() -> std::process::ExitCode {
    liaison_broker::cli::run(std::env::args_os())
}
