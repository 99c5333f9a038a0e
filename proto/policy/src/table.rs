//! Every decision of kind and corridor, as a table that people can read.

use std::fmt::Write as _;

use liaison_casework::catalogue::{self, kind_name, short_name};
use liaison_proto::{
    ids::OfficeId,
    wire::{DataClass, Handling, Priority, Purpose, Tlp},
};

use crate::{Agreements, Question, decision::bases};

/// The bases on which a kind may go from one office to another with usual protection.
fn allowed(
    agreements: &Agreements,
    from: OfficeId,
    to: OfficeId,
    kind: liaison_proto::wire::Kind,
) -> Vec<&'static str> {
    let victim = catalogue::is_about_a_victim(kind);
    let question = |basis| Question {
        from,
        to,
        kind,
        basis: vec![basis],
        purpose: if victim { Purpose::Return } else { Purpose::Invest },
        priority: Priority::Urgent,
        handling: Handling::H2,
        tlp: Tlp::AmberStrict,
        data_class: if victim { DataClass::P3 } else { DataClass::P2 },
        retain_days: 0,
        exercise: false,
    };
    let bases = bases().iter().filter(|basis| agreements.decide(&question(**basis)).is_allowed());
    bases.map(|basis| short_name("LEGAL_BASIS_", basis.as_str_name())).collect()
}

/// A Markdown table: kinds down, directions across, the bases that allow it in the cells.
#[must_use]
pub fn markdown(agreements: &Agreements, directions: &[(OfficeId, OfficeId)]) -> String {
    let mut text = String::from("| kind |");
    for (from, to) in directions {
        let _ = write!(text, " {from} -> {to} |");
    }
    text.push_str("\n|---|");
    directions.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    for entry in catalogue::kinds() {
        let _ = write!(text, "| {} |", kind_name(entry.kind));
        for (from, to) in directions {
            let bases = allowed(agreements, *from, *to, entry.kind);
            let _ = write!(text, " {} |", if bases.is_empty() { "-".to_owned() } else { bases.join(" ") });
        }
        text.push('\n');
    }
    text
}
