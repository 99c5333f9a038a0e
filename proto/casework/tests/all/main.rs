//! All tests of the catalogue, the threads and the words.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod any_order;
mod golden;
mod hostile;
mod kinds;
mod labels;
mod reconciliation;
mod tables;
mod threads;
mod two_persons;
mod writing;
