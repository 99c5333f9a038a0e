//! Code lists: closed sets of codes with their English meanings.

use std::{collections::BTreeMap, sync::LazyLock};

/// Not known: a code of every list.
pub const UNKNOWN: &str = "UNK";

/// A code list.
pub type CodeList = BTreeMap<String, String>;

const GATES: &str = include_str!("../gates.tsv");

static LISTS: LazyLock<BTreeMap<String, CodeList>> = LazyLock::new(|| {
    let parsed = toml::from_str::<BTreeMap<String, CodeList>>(include_str!("../codes.toml"));
    let mut lists = match parsed {
        Ok(lists) => lists,
        Err(e) => panic!("codes.toml is built into this program and does not parse: {e}"),
    };
    lists.insert("gate".to_owned(), gates());
    for list in lists.values_mut() {
        list.insert(UNKNOWN.to_owned(), "not known".to_owned());
    }
    lists
});

/// Both sides of every gate pair: code -> name and country.
fn gates() -> CodeList {
    let mut list = CodeList::new();
    for line in GATES.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        if let [code, name, country, _, opposite, opposite_name, opposite_country, ..] = columns.as_slice() {
            list.insert((*code).to_owned(), format!("{name} ({country})"));
            list.insert((*opposite).to_owned(), format!("{opposite_name} ({opposite_country})"));
        }
    }
    list
}

/// Names of all lists.
pub fn names() -> impl Iterator<Item = &'static str> {
    LISTS.keys().map(String::as_str)
}

/// A code list by name.
#[must_use]
pub fn list(name: &str) -> Option<&'static CodeList> {
    LISTS.get(name)
}

/// The English meaning of a code; none for a code of a newer version.
#[must_use]
pub fn meaning(list_name: &str, code: &str) -> Option<&'static str> {
    list(list_name)?.get(code).map(String::as_str)
}
