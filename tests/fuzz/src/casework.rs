//! What officers write, and the pictures that they attach.

use liaison_casework::{case_file, content::Content};
use liaison_node::metadata;
use liaison_proto::{Bytes, wire::Kind};

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
    }
}

/// A picture without its metadata has none to remove any more.
pub(crate) fn picture(bytes: &[u8]) {
    if let Ok(stripped) = metadata::strip(bytes) {
        let again = metadata::strip(&stripped);
        assert_eq!(again.ok().as_deref(), Some(&stripped[..]), "something was left in a picture");
    }
}
