//! Whether what was admitted was agreed: every accepted message asked about again, by the agreements in force then.

use liaison_log::leaf::{Event, ExchangeLeaf};
use liaison_policy::{Question, in_force};
use liaison_proto::{directory::Directory, ids::LogIndex};

use crate::finding::{Finding, FindingCode};

/// Admissions that the agreements did not allow.
pub(crate) fn check(first: usize, entries: &[Option<ExchangeLeaf>], directory: &Directory) -> Vec<Finding> {
    let finding = |(offset, entry): (usize, &Option<ExchangeLeaf>)| {
        let entry = entry.as_ref()?;
        let Event::Accepted { header, .. } = &entry.event else { return None };
        let agreements = in_force(directory, entry.directory_size)?;
        let decided = Question::of(header.core()).map(|question| (question.to, agreements.decide(&question)));
        let (to, decision) = decided.into_iter().find(|(_, decision)| !decision.is_allowed())?;
        let index = LogIndex((first + offset) as u64);
        Some(Finding::of_entry(FindingCode::NotAgreed, "exchange", index, format!("to {to}: {decision}")))
    };
    entries.iter().enumerate().filter_map(finding).collect()
}
