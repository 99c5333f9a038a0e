//! All tests, in one binary. Each is a sentence about a promise.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "in a test, a panic is the verdict")]

mod attachments;
mod casework;
mod certificates;
mod charters;
mod cli;
mod crash;
mod flipped;
mod flow;
mod foreign;
mod formats;
mod fuzz;
mod identity;
mod index;
mod journey;
mod keys;
mod kinds;
mod limits;
mod node_store;
mod outages;
mod properties;
mod recovery;
mod refusals;
mod restored;
mod simulation;
mod succession;
mod support;
mod tampering;
mod tidy;
mod unlocking;
