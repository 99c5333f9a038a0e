//! Cases from beginning to end, with real processes: `demo --scenario NAME` tells one, and a test demands that every step of
//! every one holds.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use liaison_proto::ids::MessageId;
use serde_json::{Value, json};

use crate::{
    demo::Teller,
    world::{World, eventually},
};

mod alert;
mod child_return;
mod notice;
mod onward;
mod policy;
mod reconciliation;
mod resubmission;

/// Tells a case.
pub type Tell = fn(&mut World, &mut Teller) -> io::Result<()>;

/// The cases: name, what it is, offices, story.
pub const ALL: [(&str, &str, &[&str], Tell); 8] = [
    (
        "child-return",
        "a child goes home from Thailand to Viet Nam",
        &[child_return::BANGKOK, child_return::HA_NOI],
        child_return::tell,
    ),
    ("alert", "an alert with a hit and a false hit", &[alert::HA_NOI, alert::VIENTIANE], alert::tell),
    ("onward", "an onward request refused, then granted", &onward::OFFICES, onward::tell),
    (
        "resubmission",
        "a request declined for want of a photo, and resubmitted",
        &resubmission::OFFICES,
        resubmission::tell,
    ),
    ("policy", "a notice that no agreement allows, explained", &policy::OFFICES, policy::tell),
    ("translation", "a notice is translated, corrected and talked about", &notice::OFFICES, notice::translation),
    (
        "reconciliation",
        "two offices sign that they hold the same, or get the difference",
        &reconciliation::OFFICES,
        reconciliation::tell,
    ),
    ("recall", "a notice that went to the wrong office", &notice::OFFICES, notice::recall),
];

/// The example agreements.
#[must_use]
pub fn agreements() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies")
}

/// A case by name.
#[must_use]
pub fn find(name: &str) -> Option<(&'static [&'static str], Tell)> {
    ALL.iter().find(|(known, ..)| *known == name).map(|(_, _, offices, tell)| (*offices, *tell))
}

/// Sets up broker and nodes with unlocked officers, and tells a case.
///
/// # Errors
/// When a process does not start or answer.
pub fn run(offices: &[&str], tell: Tell, world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("Broker and nodes, each a process of its own");
    world.start_broker()?;
    for office in offices {
        world.create_node(office)?;
        world.start_node(office)?;
        world.office(office).unlocks()?;
    }
    teller.step(format!("{} offices are unlocked: {}", offices.len(), offices.join(", ")), true);
    tell(world, teller)
}

/// A sample case file in which every id stands for `message`.
#[must_use]
pub fn about(sample: &str, message: &str) -> String {
    let ids = sample.split([' ', '[', ']', '\n']).filter(|word| word.parse::<MessageId>().is_ok());
    ids.fold(sample.to_owned(), |text, id| text.replace(id, message))
}

/// Reads a sample by its name, in which every id stands for `message`.
fn sample(name: &str, message: &str) -> io::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    Ok(about(&text, message))
}

/// One side's view of a thread.
fn thread(world: &World, office: &str, message: &str) -> Value {
    world.office(office).ask(&json!({"op": "thread", "message": message})).unwrap_or_default()
}

/// Sends a sample in answer to a message, and waits until the other office has opened it.
fn sends(world: &World, from: &str, to: &str, file: &str) -> io::Result<String> {
    let message = world.office(from).sends(file)?;
    let opened = || {
        let inbox = world.office(to).inbox().unwrap_or_default();
        inbox.iter().any(|line| line["message"] == message.as_str() && line["state"] == "OPENED")
    };
    match eventually(opened) {
        true => Ok(message),
        false => Err(io::Error::other(format!("{message} was not opened at {to}"))),
    }
}

/// Whether both sides say that a thread stands there.
fn both_stand(world: &World, offices: [&str; 2], message: &str, state: &str) -> bool {
    eventually(|| offices.iter().all(|office| thread(world, office, message)["state"] == state))
}

/// Why a node would not send a file: the code, and whether it says the words.
fn is_refused(world: &World, office: &str, file: &str, code: &str, words: &str) -> bool {
    world.office(office).sends(file).is_err_and(|error| {
        let text = error.to_string();
        text.contains(code) && text.contains(words)
    })
}

/// Whether a thread expects something of an office.
fn expects(thread: &Value, what: &str, office: &str) -> bool {
    let lines = thread["expected"].as_array().cloned().unwrap_or_default();
    lines
        .iter()
        .any(|line| line["what"] == what && line["from"].as_array().is_some_and(|from| from.contains(&json!(office))))
}
