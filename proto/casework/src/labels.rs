//! The words that officers read, in six languages: kinds, steps, fields, codes, refusals.
//!
//! Keys: `kind-CASE_NOTICE`, `step-SENT`, `state-OVERDUE`, `field-NAME` (or the label that the field's rule names),
//! `code-LIST-CODE`, `refusal-CODE` and `advice-CODE`, `reason-CODE`, `mark-CODE`, `rule-NAME`, `expected-NAME`, `word-NAME`,
//! `delivery-STATE`, `hint-TEXT` (see [`hint`]), `priority-`, `handling-`, `tlp-`, `legal-basis-`, `purpose-` and `data-class-CODE`. English is
//! the language that the others follow; a test holds them to it.

use std::{collections::HashMap, sync::LazyLock};

use fluent_syntax::{
    ast::{Entry, Expression, InlineExpression, PatternElement},
    parser,
};

/// A language that the exchange's words are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// Vietnamese.
    #[serde(rename = "vi")]
    Vietnamese,
    /// Khmer.
    #[serde(rename = "km")]
    Khmer,
    /// Lao.
    #[serde(rename = "lo")]
    Lao,
    /// Thai.
    #[serde(rename = "th")]
    Thai,
    /// Chinese, simplified.
    #[serde(rename = "zh")]
    Chinese,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 6] = [Self::English, Self::Vietnamese, Self::Khmer, Self::Lao, Self::Thai, Self::Chinese];

    /// Its tag (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Vietnamese => "vi",
            Self::Khmer => "km",
            Self::Lao => "lo",
            Self::Thai => "th",
            Self::Chinese => "zh",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::English => include_str!("../labels/en.ftl"),
            Self::Vietnamese => include_str!("../labels/vi.ftl"),
            Self::Khmer => include_str!("../labels/km.ftl"),
            Self::Lao => include_str!("../labels/lo.ftl"),
            Self::Thai => include_str!("../labels/th.ftl"),
            Self::Chinese => include_str!("../labels/zh.ftl"),
        }
    }
}

/// A tag that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a language of this program: en, vi, km, lo, th or zh")]
pub struct UnknownLanguage;

impl std::str::FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(tag: &str) -> Result<Self, UnknownLanguage> {
        Self::ALL.into_iter().find(|language| language.tag() == tag).ok_or(UnknownLanguage)
    }
}

type Texts = HashMap<&'static str, String>;

static TEXTS: LazyLock<HashMap<Language, Texts>> =
    LazyLock::new(|| Language::ALL.into_iter().map(|language| (language, read(language))).collect());

/// The texts of a language file: each is one text, in which `{ $detail }`, if it has one, is read as `{}`.
fn read(language: Language) -> Texts {
    let Ok(resource) = parser::parse(language.file()) else {
        panic!("labels/{}.ftl is built into this program and does not parse", language.tag())
    };
    let text = |entry: Entry<&'static str>| {
        let Entry::Message(message) = entry else { return None };
        let part = |element: &PatternElement<&'static str>| match element {
            PatternElement::TextElement { value } => Some(*value),
            PatternElement::Placeable {
                expression: Expression::Inline(InlineExpression::VariableReference { id }),
            } => (id.name == "detail").then_some("{}"),
            PatternElement::Placeable { .. } => None,
        };
        let text = message.value?.elements.iter().map(part).collect::<Option<String>>()?;
        Some((message.id.name, text))
    };
    resource.body.into_iter().filter_map(text).collect()
}

/// Every key of a language, in no order.
pub fn keys(language: Language) -> impl Iterator<Item = &'static str> {
    TEXTS[&language].keys().copied()
}

/// A label; none when the language has none.
#[must_use]
pub fn find(language: Language, key: &str) -> Option<&'static str> {
    TEXTS[&language].get(key).map(String::as_str)
}

/// A label, in English where the language has none; empty for a key that nobody has.
#[must_use]
pub fn text(language: Language, key: &str) -> &'static str {
    find(language, key).or_else(|| find(Language::English, key)).unwrap_or_default()
}

/// Where a message can stand on its way, as inbox and outbox show it, and what can happen to it.
pub const DELIVERY: [&str; 22] = [
    "QUEUED",
    "ACCEPTED",
    "ARRIVED",
    "DELIVERED",
    "RETRIEVED",
    "ACKED",
    "DECLINED",
    "CANNOT_OPEN",
    "REFUSED",
    "TAKEN_BACK",
    "WITHDRAWN",
    "EXPIRED",
    "HELD",
    "ANSWERED",
    "WAITS",
    "LOCKED",
    "OPENED",
    "RECALLED",
    "UNPROVEN",
    "SIGNED",
    "NON_DELIVERY",
    "REWRAPPED",
];

/// The key of a code.
#[must_use]
pub fn code_key(list: &str, code: &str) -> String {
    // `48+` is no identifier of Fluent.
    format!("code-{list}-{}", code.replace('+', "-plus"))
}

/// The label of a field: by the name that its rule gives, else by its own.
#[must_use]
pub fn field(language: Language, name: &str, label: Option<&str>) -> &'static str {
    text(language, &format!("field-{}", label.unwrap_or(name)))
}

/// The key of a hint, which the catalogue has in English: its letters and digits.
#[must_use]
pub fn hint_key(hint: &str) -> String {
    let words = hint.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    format!("hint-{}", words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-"))
}

/// A hint of the catalogue in a language.
#[must_use]
pub fn hint(language: Language, english: &str) -> &str {
    find(language, &hint_key(english)).unwrap_or(english)
}

/// A text with what it has `{}` for.
#[must_use]
pub fn fill(text: &str, detail: Option<&str>) -> String {
    text.replacen("{}", detail.unwrap_or_default(), 1)
}

/// What a rule that does not hold is called in a language.
#[must_use]
pub fn rule(language: Language, rule: &str) -> &str {
    find(language, &format!("rule-{}", rule.replace(' ', "-"))).unwrap_or(rule)
}
