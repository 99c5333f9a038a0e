//! `liaison`, the officers' command line: see `liaison_node::officer`.

fn main() -> std::process::ExitCode {
    liaison_node::officer::cli::run(std::env::args_os())
}
