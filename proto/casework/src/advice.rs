//! What would be right, in words that every language has: a problem is told with one of these, or with the hint of its field.

use std::{borrow::Cow, fmt};

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::labels::{self, Language};

/// What would be right: a sentence, and at most one thing to put into it, such as the codes of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// In English; `{}` is where the detail stands.
    sentence: Cow<'static, str>,
    detail: Option<String>,
}

impl Advice {
    /// A hint of the catalogue.
    #[must_use]
    pub const fn hint(hint: String) -> Self {
        Self { sentence: Cow::Owned(hint), detail: None }
    }

    /// The same with its detail.
    #[must_use]
    pub fn with(&self, detail: impl fmt::Display) -> Self {
        Self { detail: Some(detail.to_string()), ..self.clone() }
    }

    /// The sentence in English.
    #[must_use]
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// In a language; codes, keys and examples stay what they are.
    #[must_use]
    pub fn in_language(&self, language: Language) -> String {
        told(language, &self.sentence, self.detail.as_deref())
    }
}

/// A sentence of this file, or a hint, in a language.
#[must_use]
pub fn told(language: Language, sentence: &str, detail: Option<&str>) -> String {
    labels::fill(labels::hint(language, sentence), detail)
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_language(Language::English))
    }
}

/// As a part of its problem: whole in English, and apart for who tells it in another language.
impl Serialize for Advice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Advice", 3)?;
        object.serialize_field("advice", &self.to_string())?;
        object.serialize_field("advice_sentence", &self.sentence)?;
        object.serialize_field("advice_detail", &self.detail)?;
        object.end()
    }
}

macro_rules! advice {
    ($($name:ident = $sentence:literal,)+) => {
        $(#[doc = $sentence]
        pub const $name: Advice = Advice { sentence: Cow::Borrowed($sentence), detail: None };)+

        /// Every sentence of this file.
        pub const ALL: &[Advice] = &[$($name),+];
    };
}

advice! {
    // What any field can want.
    A_CODE = "a code",
    A_LIST = "a list",
    A_LIST_OF = "a list of: {}",
    A_TEXT = "a text",
    A_VALUE = "a value",
    A_WHOLE_NUMBER = "a whole number",
    EACH_ONCE = "each of them once",
    FIELDS = "an object with fields",
    MOST_CHARACTERS = "at most {} characters",
    MOST_ENTRIES = "at most {} entries",
    NEEDED_FOR = "needed because of {}",
    OF_THE_TYPE = "a value of the field's type",
    ONE_OF = "one of: {}",
    ONE_OF_MANY = "one of the codes that this command lists: liaison codes {}",
    PLAIN_TEXT = "plain text",
    TRUE_OR_FALSE = "true or false",

    // What a case file wants.
    AFTER_DUE = "a time after due",
    CASE_FILE = "an object with the keys of a case file; liaison new KIND prints one",
    CONTENT = "an object with the fields of the kind",
    HANDLING_IN_WORDS = "H3 needs the handling in words",
    LANGUAGE = "the language of the free text, ISO 639-3, such as vie",
    MOST_BYTES = "at most {} bytes",
    OFFICES = "a list of office ids such as [CN-BLO-HKO]",
    VICTIM_HANDLING = "H2 or H3: the content is about a victim (class P3)",
    VICTIM_TLP = "AMBER+STRICT or RED: the content is about a victim (class P3)",
    WELL_FORMED = "well-formed text; see line {}",

    // What forms want.
    COUNTRY = "an ISO 3166-1 code such as VN",
    DATE = "2026, 2026-11 or 2026-11-20",
    FIELD_PATH = "a field as liaison check names it: persons[0].name.latin",
    GREGORIAN = "a year of the Gregorian calendar (Buddhist year minus 543)",
    HASH = "64 hexadecimal digits, as liaison thread shows them",
    HASH_OR_NONE = "64 hexadecimal digits, or - where none is held",
    HOURS = "hours such as 07:30-17:00, in quotation marks",
    ID = "an id as liaison inbox shows it",
    INSTANT = "a time with offset such as 2026-11-20T08:30:00+07:00",
    LANGUAGE_CODE = "an ISO 639-3 code such as vie",
    LATIN = "letters of the Latin alphabet",
    NEWER_FORM = "a form that this version knows",
    OFFICE = "an office id such as CN-BLO-HKO",
    TELEPHONE = "an international number in quotation marks, such as \"+84912345678\"",

    // What kinds want.
    ADULT_AGE = "CHILD: under 18 when found",
    AFTER_FROM = "a time after from",
    ALERT_TYPE = "RED, BLUE, GREEN, ORANGE, PURPLE or UNK",
    BIRTH_DATE = "the birth date as far as it is known, or else age",
    CALL_ID = "the id of the HOTLINE_CALL that is closed",
    CONSENT = "the consent, or rescued_without_consent_reason",
    CONSENT_SCOPE = "with VERIFY: the request hands over the identity",
    COUNT = "a count, or suppressed: true",
    GUARDIAN = "a child's guardian, or relation UNK with unknown_reason",
    GUARDIAN_WITH_DECISION = "the guardian, with the decision on best interests",
    IDENTITY = "a name or a document; else a vehicle, a phone or an account",
    LATIN_NAME = "the name in Latin letters, too: others search by it",
    MEDICAL = "medical detail goes with the papers: state DOCS_READY",
    ONE_OR_MORE = "1 or more: the fewest that are known of",
    ONE_OF_THE_MESSAGES = "one of content.message_ids",
    REASON = "a code that is a reason; not UNK",
    REPLIED_TO = "the message in in_reply_to",
    SUPPRESSED = "suppressed: true in place of a count from 1 to 10",
    THREAD_ID = "the id of the message that it follows, as liaison thread shows it",
    URGENCY = "why it cannot wait, or priority ROUTINE",

    // When gates are open.
    GATE_CLOSED = "closed: {}",
    GATE_DAYS = "open on these days of the week, 1 is Monday: {}",
    GATE_HOURS = "open at these hours by the clock of its country: {}",

    // What files want.
    FILES_APART = "send the call at once, and the files in a message of their own",
    MOST_FILES = "at most 32; put more into an archive",
    NO_METADATA = "save it as JPEG or PNG; --keep-metadata sends it as it is, with place and time ({})",
    SEND_AGAIN = "send it again",
    SMALLER_PICTURE = "make it smaller: its metadata is removed",
}
