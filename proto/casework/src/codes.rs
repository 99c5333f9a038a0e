//! Code lists: closed sets of codes, their meanings, and what other standards call them.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::labels::{self, Language};

/// Not known: a code of every list.
pub const UNKNOWN: &str = "UNK";

const GATES: &str = include_str!("../gates.tsv");

/// A code list, in the order that officers see it: code, and what it means in English.
pub type CodeList = Vec<(&'static str, &'static str)>;

struct Lists {
    lists: BTreeMap<String, CodeList>,
    external: BTreeMap<String, External>,
}

/// What a standard calls the codes of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct External {
    standard: String,
    /// The standard's codes are the list's own.
    #[serde(default)]
    same: bool,
    #[serde(default)]
    codes: BTreeMap<String, String>,
}

static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    let codes = toml::from_str::<BTreeMap<String, Vec<String>>>(include_str!("../codes.toml"));
    let external = toml::from_str::<BTreeMap<String, External>>(include_str!("../external.toml"));
    let (codes, external) = match (codes, external) {
        (Ok(codes), Ok(external)) => (codes, external),
        (codes, external) => panic!("code lists are built into this program: {:?} {:?}", codes.err(), external.err()),
    };
    let unknown = |codes: CodeList| codes.into_iter().chain([(UNKNOWN, labels::text(Language::English, "code-UNK"))]);
    let mut lists = BTreeMap::from([("gate".to_owned(), unknown(gates()).collect())]);
    for (list, codes) in codes {
        let meant = |code: String| {
            let key = labels::code_key(&list, &code);
            (&*code.leak(), labels::text(Language::English, &key))
        };
        let codes = codes.into_iter().map(meant).collect();
        lists.insert(list, unknown(codes).collect());
    }
    Lists { lists, external }
});

/// Both sides of every gate pair: code -> name and country.
fn gates() -> CodeList {
    let mut list = CodeList::new();
    for line in GATES.lines().skip(1) {
        let columns: Vec<&'static str> = line.split('\t').collect();
        if let [code, name, country, _, opposite, opposite_name, opposite_country, ..] = columns.as_slice() {
            list.push((code, format!("{name} ({country})").leak()));
            list.push((opposite, format!("{opposite_name} ({opposite_country})").leak()));
        }
    }
    list.sort_unstable();
    list.dedup();
    list
}

/// Names of all lists.
pub fn names() -> impl Iterator<Item = &'static str> {
    LISTS.lists.keys().map(String::as_str)
}

/// A code list by name.
#[must_use]
pub fn list(name: &str) -> Option<&'static CodeList> {
    LISTS.lists.get(name)
}

/// The English meaning of a code; none for a code of a newer version.
#[must_use]
pub fn meaning(list_name: &str, code: &str) -> Option<&'static str> {
    list(list_name)?.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning)
}

/// The meaning of a code in a language; none for a code of a newer version. Gates are called what their countries call
/// them, in Latin letters.
#[must_use]
pub fn meaning_in(language: Language, list_name: &str, code: &str) -> Option<&'static str> {
    let english = meaning(list_name, code)?;
    let key = if code == UNKNOWN { "code-UNK".to_owned() } else { labels::code_key(list_name, code) };
    Some(labels::find(language, &key).unwrap_or(english))
}

/// What a standard calls a code, and which standard; none where the list is this project's own.
#[must_use]
pub fn external(list_name: &str, code: &str) -> Option<(&'static str, &'static str)> {
    let external = LISTS.external.get(list_name)?;
    let code = list(list_name)?.iter().map(|(known, _)| *known).find(|known| *known == code && *known != UNKNOWN)?;
    let name = if external.same { Some(code) } else { external.codes.get(code).map(String::as_str) };
    Some((external.standard.as_str(), name?))
}

/// Lists that have names in a standard.
pub fn external_lists() -> impl Iterator<Item = &'static str> {
    LISTS.external.keys().map(String::as_str)
}
