//! The officers' command line: asks the node over its local socket and prints what it answers.

mod answer;
mod attach;
pub mod cli;
mod keys;
mod offline;
pub mod output;
pub mod passphrase;
mod policy;
mod threads;
pub mod words;
