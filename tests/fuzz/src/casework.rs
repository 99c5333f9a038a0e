//! What officers write, and the pictures that they attach.

use liaison_casework::{
    act::steps,
    amend, case_file,
    contacts::Contacts,
    content::Content,
    labels::Language,
    print::{self, Reader},
    reconciliation::Claim,
    tables::{Tables, deadlines::Asked},
    thread::event::Digest,
};
use liaison_node::metadata;
use liaison_proto::{
    Bytes,
    clock::UnixMillis,
    policy_text::PolicyForm,
    wire::{DataClass, Kind, Priority},
};

/// A case file: it is taken, or every problem is told without repeating what was written.
pub(crate) fn case_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(problems) = case_file::parse(text) {
        assert!(!problems.is_empty(), "a case file was refused without a reason");
    }
}

/// Content as it is found in a message that was opened; its kind is the first byte.
pub(crate) fn content(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let Ok(kind) = Kind::try_from(i32::from(kind)) else { return };
    if let Ok(content) = Content::decode(bytes, kind, &[], &Bytes::new()) {
        assert!(content.encode().is_ok(), "content that was read cannot be written");
        read(kind, &content);
    }
}

/// Whatever a counterpart's officer signed is read by its thread, and shown.
fn read(kind: Kind, content: &Content) {
    let message = content.message();
    let reader = Reader { highest: DataClass::P2, tables: Tables::built_in(), language: Language::Lao };
    let digest = Digest::of(kind, message, false);
    assert!(!steps(&digest.act).is_empty(), "an act without a step");
    let _ = (print::to_text(message, reader), print::to_json(message, DataClass::P3), Claim::read(message));
    for corrected in amend::corrected(message, message, reader) {
        assert!(!corrected.label.is_empty(), "a field without a label was corrected");
    }
    let _ = amend::check(message, &amend::messages(message).iter().map(|_| message).collect::<Vec<_>>());
    if let Some(contacts) = Contacts::of(message) {
        assert!(contacts.officers.iter().all(|officer| officer.name.chars().count() <= 200));
        let _ = contacts.officers.iter().filter(|o| o.is_on_duty(contacts.office, contacts.valid_from)).count();
    }
}

/// An agreement or a table that a directory takes: whatever it says, deadlines stay within the calendar.
pub(crate) fn policy(bytes: &[u8]) {
    let Ok(text) = liaison_policy::check(bytes) else { return };
    assert!(!text.countries.is_empty() && text.serial > 0);
    if text.form == PolicyForm::Agreement {
        return;
    }
    let tables = Tables::read([&text]);
    assert!(tables.unreadable().is_empty(), "a table was taken that does not read");
    for at in [0, 1_795_132_800_000, i64::MAX, i64::MIN].map(UnixMillis) {
        let deadlines = tables.deadlines(&text.countries, at);
        for country in text.countries.iter().copied() {
            let (kind, priority, availability) = (Kind::InfoRequest, Priority::Urgent, None);
            let asked = Asked { kind, priority, at, availability, country };
            assert!(
                deadlines.acknowledgement(&asked) >= at && deadlines.answer(&asked) >= at,
                "due before it was sent"
            );
            let _ = (deadlines.verification(at, country, true), deadlines.arrival_notice(at));
        }
        let _ = (deadlines.papers(at), deadlines.feedback(at, 7), deadlines.alert(at), deadlines.hotline(at));
        let _ = (tables.gate("VN-LCA", at), tables.gate("VN-QQQ", at));
    }
}

/// A picture without its metadata has none to remove any more.
pub(crate) fn picture(bytes: &[u8]) {
    if let Ok(stripped) = metadata::strip(bytes) {
        let again = metadata::strip(&stripped);
        assert_eq!(again.ok().as_deref(), Some(&stripped[..]), "something was left in a picture");
    }
}
