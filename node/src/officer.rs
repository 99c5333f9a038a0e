//! The officers' command line: asks the node over its local socket and prints what it answers.

mod answer;
mod attach;
pub mod cli;
mod keys;
pub mod output;
pub mod passphrase;
mod policy;
mod threads;
