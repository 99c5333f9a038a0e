//! `node`: see the library.

fn main() -> std::process::ExitCode {
    liaison_node::cli::run(std::env::args_os())
}
