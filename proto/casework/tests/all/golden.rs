//! What was written by an earlier version stays readable: golden messages of every kind, and a record of every field and
//! code that was ever on the wire. LIAISON_UPDATE=1 adds what is new; it never takes away.

use std::{collections::BTreeMap, fs, path::PathBuf};

use liaison_casework::{
    case_file::{self, CaseFile},
    catalogue,
    content::{Content, Gossip},
    print::to_json,
    tables::Tables,
};
use liaison_proto::{
    Bytes, wire,
    wire::{DataClass, Kind},
};
use prost_reflect::DescriptorPool;
use serde_json::Value;

fn here(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/")).join(path)
}

fn samples() -> BTreeMap<String, CaseFile> {
    let mut samples = BTreeMap::new();
    for entry in fs::read_dir(here("../../deploy/samples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "json") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let read = case_file::parse(&fs::read_to_string(&path).unwrap());
            samples.insert(name.clone(), read.unwrap_or_else(|found| panic!("{name}: {found:#?}")));
        }
    }
    samples
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The lines of a record, and those that are new.
fn record(path: &str, now: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let path = here(path);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let pair = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let recorded: BTreeMap<String, String> = text.lines().filter_map(pair).collect();
    let new: BTreeMap<_, _> = now.iter().filter(|(key, _)| !recorded.contains_key(*key)).collect();
    if !new.is_empty() && std::env::var_os("LIAISON_UPDATE").is_some() {
        let mut all = recorded.clone();
        all.extend(new.into_iter().map(|(key, value)| (key.clone(), value.clone())));
        let text: String = all.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        fs::write(path, text).unwrap();
        return all;
    }
    assert!(new.is_empty(), "not recorded yet, LIAISON_UPDATE=1 does it: {:?}", new.keys());
    recorded
}

#[test]
fn every_kind_has_a_sample() {
    let sampled: Vec<Kind> = samples().values().map(|case| case.kind).collect();
    for number in 1..=37 {
        let kind = Kind::try_from(number).unwrap();
        assert!(catalogue::kind(kind).is_some(), "{kind:?} is not in the catalogue");
        assert!(sampled.contains(&kind), "{kind:?} has no sample");
    }
}

/// Bytes that this version or an earlier one wrote read as the sample that they were made of.
#[test]
fn golden_messages_stay_readable() {
    let samples = samples();
    let encoded = |case: &CaseFile| {
        let content = Content::new(case.kind, case.content.clone(), Gossip::default(), Vec::new(), Bytes::new());
        content.encode().unwrap()
    };
    let now = samples.iter().map(|(name, case)| (format!("1/{name}"), hex(&encoded(case)))).collect();
    for (name, bytes) in record("golden/messages.txt", &now) {
        let case = &samples[name.strip_prefix("1/").unwrap()];
        let read = Content::decode(&unhex(&bytes), case.kind, &[], &Bytes::new()).unwrap();
        assert_eq!(to_json(read.message(), DataClass::P3), to_json(&case.content, DataClass::P3), "{name}");
    }
}

fn shapes() -> BTreeMap<String, String> {
    let mut shapes = BTreeMap::new();
    let casework = catalogue::content().parent_pool().clone();
    for pool in [casework, DescriptorPool::decode(wire::DESCRIPTORS).unwrap()] {
        for message in pool.all_messages().filter(|message| message.full_name().starts_with("liaison.")) {
            for field in message.fields() {
                let shape = format!("{:?} {:?}", field.cardinality(), field.kind());
                shapes
                    .insert(format!("{}.{}", message.full_name(), field.number()), format!("{} {shape}", field.name()));
            }
        }
        for found in pool.all_enums().filter(|found| found.full_name().starts_with("liaison.")) {
            for value in found.values() {
                shapes.insert(format!("{}.{}", found.full_name(), value.number()), value.name().to_owned());
            }
        }
    }
    shapes
}

/// A field or a code that was ever recorded keeps its number, name and type: five countries never upgrade together.
#[test]
fn no_proto_file_breaks_what_was_written_before() {
    let now = shapes();
    for (place, shape) in record("golden/shapes.txt", &now) {
        assert_eq!(now.get(&place), Some(&shape), "{place} was changed or removed");
    }
}

/// A code or a field of a newer version survives, and is shown as such.
#[test]
fn what_a_newer_version_wrote_is_kept_and_shown_as_unknown() {
    use liaison_casework::{labels::Language, print};
    let case = &samples()["classify"];
    let mut message = case.content.clone();
    message.set_field_by_name("triage", prost_reflect::Value::String("OF_2031".into()));
    let content = Content::new(case.kind, message, Gossip::default(), Vec::new(), Bytes::new());
    let read = Content::decode(&content.encode().unwrap(), case.kind, &[], &Bytes::new()).unwrap();
    let reader = print::Reader { highest: DataClass::P3, tables: Tables::built_in(), language: Language::English };
    let text = print::to_text(read.message(), reader);
    assert!(text.contains("OF_2031 (a code of a newer version)"), "{text}");
    assert_eq!(to_json(read.message(), DataClass::P3)["triage"], Value::from("OF_2031"));
}
