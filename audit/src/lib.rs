//! The auditor's tool: copies both logs, verifies all of it offline, replays what happened.
//!
//! It needs the charter, an auditor's certificate to mirror, and nothing of the operator's: neither its code (this
//! crate uses neither broker nor node) nor its word.
//!
//! Reading order: [`mirror`] -> [`verify`] -> [`finding`] -> [`life`] (one message) -> [`receipt`] -> [`report`].
//!
//! Out of scope: content (no key of the auditor opens it), witnesses.
//!
//! Invariants:
//! - Verification reads local files only and reports every finding, each from a closed list, with its evidence.
//! - The mirror is a plain C2SP tile directory; other tools read it unchanged.

#[cfg(feature = "policy")]
mod agreements;
pub mod cli;
pub mod finding;
pub mod life;
pub mod mirror;
pub mod receipt;
pub mod report;
pub mod verify;
