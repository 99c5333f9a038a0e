//! Who a message is about, as far as that is needed to see that a victim is treated as a suspect: "victims are not suspects".
//! Names become hashes, so that nothing that is kept here tells who somebody is.

use std::collections::BTreeSet;

use liaison_proto::{sha256, wire::Kind};
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use unicode_normalization::UnicodeNormalization as _;

use crate::fields::{inner, text};

/// The hash of a person's key in the thread, of a name or of a document.
type Trait = [u8; 32];

/// The persons of a message by their role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persons {
    victims: BTreeSet<Trait>,
    suspects: BTreeSet<Trait>,
}

/// Keys, names and documents that are looked at in one message: the catalogue's limits allow fewer.
const MOST: usize = 5_000;

/// The same name however it was typed: spaced, capitalised, its marks composed or not (NFKC, UAX 15).
fn normal(text: &str) -> String {
    let text: String = text.nfkc().collect();
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

fn of(kind: &str, text: &str) -> Option<Trait> {
    let text = normal(text);
    (!text.is_empty()).then(|| sha256(&[kind.as_bytes(), &[0], text.as_bytes()]))
}

/// What tells who somebody is: the key in the thread, the name in both scripts, documents with a number.
fn traits(person: &DynamicMessage, key: &str, documents: &str) -> BTreeSet<Trait> {
    let name = inner(person, "name");
    let named = |field: &str| name.as_ref().and_then(|name| of("name", &text(name, field)));
    let mut traits: BTreeSet<Trait> =
        [of("key", &text(person, key)), named("original"), named("latin")].into_iter().flatten().collect();
    if let Some(Value::List(items)) = person.get_field_by_name(documents).as_deref() {
        let document = |item: &Value| {
            let document = item.as_message()?;
            let number = text(document, "number");
            (!number.is_empty()).then(|| of("document", &format!("{} {number}", text(document, "country"))))?
        };
        traits.extend(items.iter().filter_map(document).take(MOST + 1));
    }
    traits
}

impl Persons {
    /// The persons of a content.
    #[must_use]
    pub fn of(kind: Kind, content: &DynamicMessage) -> Self {
        let mut persons = Self::default();
        match kind {
            Kind::ReturnRequest | Kind::VictimSearch => {
                persons.victims.extend(traits(content, "person_key", "documents_held"));
            }
            Kind::SuspectAlert => {
                let identity = inner(content, "identity");
                persons.suspects.extend(identity.iter().flat_map(|suspect| traits(suspect, "key", "documents")));
            }
            _ => {}
        }
        persons.find(content);
        persons
    }

    /// Every person with a role, wherever in the content.
    fn find(&mut self, message: &DynamicMessage) {
        if self.are_too_many() {
            return;
        }
        if message.descriptor().name() == "Person" {
            let traits = traits(message, "key", "documents");
            match text(message, "role").as_str() {
                "VICTIM" => self.victims.extend(traits),
                "SUSPECT" => self.suspects.extend(traits),
                _ => {}
            }
        }
        for (_, value) in message.fields() {
            match value {
                Value::Message(inner) => self.find(inner),
                Value::List(items) => items.iter().filter_map(Value::as_message).for_each(|inner| self.find(inner)),
                _ => {}
            }
        }
    }

    /// Whether nobody can say who they all are.
    fn are_too_many(&self) -> bool {
        self.victims.len() + self.suspects.len() > MOST
    }

    /// These and others.
    pub(crate) fn add(&mut self, other: &Self) {
        self.victims.extend(&other.victims);
        self.suspects.extend(&other.suspects);
    }

    /// The victims among others.
    pub(crate) fn add_victims(&mut self, other: &Self) {
        self.victims.extend(&other.victims);
    }

    /// Whether others make somebody a victim and a suspect who is not both here already, or may.
    pub(crate) fn become_both(&self, new: &Self) -> bool {
        let is =
            |set: fn(&Self) -> &BTreeSet<Trait>, found: &Trait| set(self).contains(found) || set(new).contains(found);
        let before = |found: &Trait| self.victims.contains(found) && self.suspects.contains(found);
        let mut named = new.victims.iter().chain(&new.suspects);
        new.are_too_many()
            || named.any(|found| is(|of| &of.victims, found) && is(|of| &of.suspects, found) && !before(found))
    }
}
