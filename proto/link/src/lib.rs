//! How parties reach each other: the network ([`net`]), mutual TLS to the broker ([`tls`], [`dial`]), the local socket between a daemon and
//! its command line ([`local`]), the charter's files ([`charter_files`]).
//!
//! Out of scope: who may do what once connected.
//!
//! Invariants:
//! - TLS 1.3 only, with certificates on both sides, hybrid post-quantum key exchange first.
//! - A client talks only to the broker name and the broker CA of its charter; no other root is trusted.
//! - The local socket's answers and requests are bounded; the peer's uid comes from the kernel.

pub mod charter_files;
pub mod dial;
pub mod local;
pub mod net;
pub mod process;
pub mod time;
pub mod tls;
