//! The StatBlock: counts and codes that travel beside the header, readable by broker and auditor until erased.

use liaison_proto::wire::{Kind, Purpose, StatBlock, StatCell};
use prost_reflect::{DynamicMessage, Value};

use crate::{age, codes};

/// ISO 5218: not known.
const SEX_UNKNOWN: u32 = 0;

/// The counts that a message of this kind contributes; none for kinds that count nothing.
#[must_use]
pub fn stat_block(kind: Kind, content: &DynamicMessage) -> Option<StatBlock> {
    match kind {
        Kind::CaseNotice => case_notice(content),
        Kind::ReturnRequest => Some(return_request(content)),
        // One person each. Its case is counted by the notice of the case.
        Kind::SuspectAlert => Some(StatBlock { cases: 0, subjects: 1, victims: 0, cells: Vec::new() }),
        _ => None,
    }
}

fn case_notice(content: &DynamicMessage) -> Option<StatBlock> {
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

/// One victim, with the age when found.
fn return_request(content: &DynamicMessage) -> StatBlock {
    let sex = content.get_field_by_name("sex").and_then(|sex| sex.as_str()?.parse().ok());
    let cell = StatCell {
        sex: sex.unwrap_or(SEX_UNKNOWN),
        age_band: age::when_found(content).map_or(codes::UNKNOWN, age::Age::band).to_owned(),
        purpose: Purpose::Return.into(),
        count: 1,
    };
    StatBlock { cases: 1, subjects: 0, victims: 1, cells: vec![cell] }
}
