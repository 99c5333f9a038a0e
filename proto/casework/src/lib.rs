//! What officers write, and what follows what: the catalogue of message kinds, read by reflection from the `.proto` files,
//! which are the single source of validation, templates, print and the declared data class; and the threads that their
//! messages add up to.
//!
//! Out of scope: I/O, clocks, keys. What may be sent to whom is the policy's matter.
//!
//! Invariants:
//! - Validation reports every problem at once, each with its field, the rule and what would be right.
//! - [`content::Content`] holds what an officer wrote and prints as redacted.
//! - An unset field and the code UNK (not known) are two things.

pub mod act;
pub mod advice;
pub mod age;
pub mod amend;
pub mod case_file;
pub mod catalogue;
pub mod codes;
pub mod contacts;
pub mod content;
mod fields;
pub mod forms;
mod kind_rules;
pub mod labels;
pub mod persons;
pub mod print;
pub mod prompt;
pub mod reconciliation;
pub mod statistics;
pub mod tables;
pub mod template;
pub mod thread;
pub mod validate;
