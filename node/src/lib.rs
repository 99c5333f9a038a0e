//! The node of one office: it keeps what officers write until the broker has receipted it, receives what is sent to
//! the office, opens it for officers, and believes nothing that it has not verified.
//!
//! The way out: [`compose`] -> [`seal`] -> [`sign`] -> [`store`] (the outbox) -> [`submit`] -> [`evidence`].
//! The way in: [`receive`] -> [`store`] (the inbox) -> [`attest`] -> [`open`] -> an ACK composed by [`compose`].
//! Beside both: [`attachments`], of pictures without their [`metadata`]; [`rewrap`] for who could not open, [`reconcile`] for a
//! node that was restored, [`publish`] for new keys, [`hand_back`] and
//! [`urgent`] for a broker that was restored.
//! Around them: [`link`], [`leaving`], [`contact`], [`health`], [`gossip`], [`keystore`], [`key_table`], [`vault`], [`directory`],
//! [`log_view`], [`daemon`], [`local_api`];
//! [`officer`] is the officers' command line.
//!
//! Out of scope: what content means (`liaison-casework`), the log's format (`liaison-log`).
//!
//! Invariants:
//! - A message is durable in the outbox before the network sees it; a retry sends the same bytes.
//! - A message is durable in the inbox before DELIVERED is signed, and once only, whatever is resent.
//! - Every receipt is verified, and every checkpoint against the newest one verified before.
//! - Content is on disk only under keys that are sealed under an officer's passphrase; a locked node opens nothing.

pub mod assemble;
pub mod attachments;
pub mod attest;
pub mod check;
pub mod cli;
pub mod compose;
pub mod config;
pub mod contact;
pub mod daemon;
pub mod directory;
pub mod evidence;
pub mod gossip;
pub mod hand_back;
pub mod health;
pub mod init;
pub mod key_table;
pub mod keystore;
pub mod leaving;
pub mod link;
pub mod local_api;
pub mod log_view;
pub mod metadata;
pub mod officer;
pub mod open;
pub mod publish;
pub mod receive;
pub mod reconcile;
pub mod record;
pub mod retry;
pub mod rewrap;
pub mod seal;
pub mod secret_box;
pub mod sign;
pub mod state;
pub mod store;
pub mod submit;
pub mod successor;
pub mod urgent;
pub mod vault;
pub mod view;
pub mod waiting;
