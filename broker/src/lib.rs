//! The broker: holds what offices send each other until each recipient has it, and can prove what it did. It reads
//! nothing but the envelope.
//!
//! A message's way, which is also the reading order: [`accept`] (mutual TLS) -> [`identity`] (certificate -> office) ->
//! [`server`] (gRPC, no decisions) -> [`admit`] (an [`admit::Admitted`] or a coded refusal) -> [`sequence`] (numbers and
//! rules, inside the log's commit) -> [`queue`] (takes nothing but a [`liaison_log::commit::Logged`]) -> [`deliver`].
//!
//! Beside it: [`continuity`] and [`gate`] keep a broker that is behind what it once signed from beginning a second history,
//! [`repair`] makes it whole again from what the offices hold, and what cannot wait goes by [`holding`].
//!
//! Around them: [`share`], [`connections`] and [`bodies`] bound what one party takes.
//!
//! Out of scope here: the log's format and durability (`liaison-log`), opening content (no key of the broker can).
//!
//! Invariants:
//! - Only [`admit`] makes an `Admitted`; only the log makes a `Logged`; nothing is delivered that was not logged.
//! - Identity comes from the certificate alone; a header that names another office is refused.
//! - A refusal changes nothing.

pub mod accept;
pub mod admit;
pub mod assemble;
pub mod attachments;
pub mod bodies;
pub mod charters;
pub mod check;
pub mod cli;
pub mod config;
pub mod connections;
pub mod continuity;
pub mod deadlines;
pub mod deliver;
pub mod directory_log;
pub mod entry;
pub mod gate;
pub mod holding;
pub mod identity;
pub mod index;
pub mod init;
pub mod intake;
pub mod log_service;
pub mod numbers;
pub mod operations;
pub mod party;
pub mod queue;
pub mod reload;
pub mod repair;
pub mod revocation;
pub mod run;
pub mod sequence;
pub mod server;
pub mod share;
pub mod status;
pub mod succession;
