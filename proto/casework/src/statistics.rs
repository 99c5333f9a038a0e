//! The StatBlock: counts and codes that travel beside the header, readable by broker and auditor until erased.

use liaison_proto::wire::{Kind, StatBlock};
use prost_reflect::{DynamicMessage, Value};

/// The counts that a message of this kind contributes; none for kinds that count nothing.
#[must_use]
pub fn stat_block(kind: Kind, content: &DynamicMessage) -> Option<StatBlock> {
    if kind != Kind::CaseNotice {
        return None;
    }
    let persons = content.get_field_by_name("persons")?.into_owned();
    let with_role = |role: &str| {
        let persons = persons.as_list().into_iter().flatten();
        let count = persons.filter(|person| {
            let found = person.as_message().and_then(|person| person.get_field_by_name("role"));
            matches!(found.as_deref(), Some(Value::String(found)) if found == role)
        });
        u32::try_from(count.count()).unwrap_or(u32::MAX)
    };
    Some(StatBlock { cases: 1, subjects: with_role("SUSPECT"), victims: with_role("VICTIM"), cells: Vec::new() })
}
