//! The words of the command line in the officer's language. For machines there is --json, whose keys and codes are English.

use liaison_casework::labels::{self, Language};

/// The words of a language.
#[derive(Clone, Copy, Debug)]
pub struct Words(pub Language);

impl Words {
    /// A word beside the content.
    #[must_use]
    pub fn word(self, name: &str) -> &'static str {
        labels::text(self.0, &format!("word-{name}"))
    }

    /// A word with what it is said of.
    #[must_use]
    pub fn of(self, name: &str, detail: impl std::fmt::Display) -> String {
        labels::fill(self.word(name), Some(&detail.to_string()))
    }

    /// The label of something with a name of its own; empty when there is none.
    #[must_use]
    pub fn label(self, kind: &str, name: &str) -> &'static str {
        labels::text(self.0, &format!("{kind}-{name}"))
    }

    /// What must not be overlooked: in capitals, where the script has them.
    #[must_use]
    pub fn loud(self, text: &str) -> String {
        text.to_uppercase()
    }

    /// The language.
    #[must_use]
    pub const fn language(self) -> Language {
        self.0
    }
}
