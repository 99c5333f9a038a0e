//! The log: what was accepted, delivered, refused delivery and erased, in an order nobody can quietly change.
//!
//! The life of a leaf: a [`commit::Sequencer`] decides it -> [`commit`] writes it and its body to two
//! [`journal`]s that are synced at the same time -> [`tree`] takes its hash -> [`checkpoint`] is signed -> a receipt
//! ([`proof`]) goes out -> [`verify`] is what nodes and auditors check it with -> [`mirror`] is their copy.
//!
//! The directory log and the exchange log are two instances of the same code.
//!
//! Out of scope: who may write (the broker's admission), networking, what a body says.
//!
//! Invariants:
//! - A receipt exists only for a leaf that is durable, and only the committer makes receipts ([`commit::Logged`]).
//! - Nothing is signed beyond what both journals have synced; the signed size never goes back.
//! - A failed write or sync is final for the process: nothing is signed afterwards.
//! - Every start is a recovery on the code of the normal path; only a tail beyond the recorded signed size is cut.
//! - Signatures are verified strictly, one by one, never in batches.

pub mod check;
pub mod checkpoint;
pub mod commit;
pub mod committer;
pub mod disk;
pub mod exchange;
pub mod fair;
pub mod index;
pub mod journal;
pub mod leaf;
pub mod lost;
pub mod mirror;
pub mod open;
pub mod proof;
pub mod reader;
pub mod record;
pub mod remote;
pub mod succession;
pub mod tiles;
pub mod tree;
pub mod verify;
pub mod work;

pub use tlog_tiles::tlog::{Hash, record_hash as leaf_hash};
