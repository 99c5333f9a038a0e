//! The words of the command line in the officer's language. For machines there is --json, whose keys and codes are English.

use liaison_casework::{
    labels::{self, Language},
    print::plain,
    tables::calendar::on_the_wall,
};
use serde_json::Value;

/// The words of a language, and the clock on the wall of the office.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    language: Language,
    /// Minutes ahead of UTC, once a node has said it.
    clock: Option<i32>,
}

impl Words {
    /// The words of a language; times are in UTC.
    #[must_use]
    pub const fn new(language: Language) -> Self {
        Self { language, clock: None }
    }

    /// The same for an answer of an office's node: times are by its clock.
    #[must_use]
    pub fn by_the_clock_of(self, answer: &Value) -> Self {
        Self { clock: answer["clock_minutes"].as_i64().and_then(|minutes| i32::try_from(minutes).ok()), ..self }
    }

    /// A time as the office's wall clock has it, and how far that is ahead of UTC; `2026-11-20 08:30:12Z` where no clock is known.
    #[must_use]
    pub fn time(self, value: &Value) -> String {
        let text = plain(value.as_str().unwrap_or("-"));
        match (self.clock.and_then(|minutes| on_the_wall(&text, minutes)), text.split_once('T')) {
            (Some(on_the_wall), _) => on_the_wall,
            (None, Some((day, clock))) => format!("{day} {}Z", clock.get(..8).unwrap_or(clock)),
            (None, None) => text,
        }
    }

    /// A word beside the content.
    #[must_use]
    pub fn word(self, name: &str) -> &'static str {
        labels::text(self.language, &format!("word-{name}"))
    }

    /// A word with what it is said of.
    #[must_use]
    pub fn of(self, name: &str, detail: impl std::fmt::Display) -> String {
        labels::fill(self.word(name), Some(&detail.to_string()))
    }

    /// The label of something with a name of its own; empty when there is none.
    #[must_use]
    pub fn label(self, kind: &str, name: &str) -> &'static str {
        labels::text(self.language, &format!("{kind}-{name}"))
    }

    /// What must not be overlooked: in capitals, where the script has them.
    #[must_use]
    pub fn loud(self, text: &str) -> String {
        text.to_uppercase()
    }

    /// The language.
    #[must_use]
    pub const fn language(self) -> Language {
        self.language
    }
}
