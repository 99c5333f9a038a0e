//! What the agreements say of what is about to be sent, and why.

use liaison_casework::{case_file, tables::Tables, thread::event::Digest};
use liaison_policy::{Agreements, Question, in_force};
use liaison_proto::{
    directory::Directory,
    header::Core,
    policy_text::PolicyText,
    refusal::{Refusal, RefusalCode},
};
use serde_json::{Value, json};

use super::{Failure, LocalApi};

/// The changes that would let it go.
fn remedies(agreements: &Agreements, question: &Question) -> Vec<String> {
    agreements.remedies(question).iter().map(ToString::to_string).collect()
}

/// Whether the agreements that a message was judged by forbid what it really holds: every office asks again, whatever the
/// broker let pass.
pub(super) fn are_broken(directory: &Directory, size: u64, core: &Core, digest: Option<&Digest>) -> bool {
    let Some(agreements) = in_force(directory, size) else { return false };
    let class = digest.map_or(core.data_class, |digest| digest.data_class);
    let held = if class as i32 > core.data_class as i32 { class } else { core.data_class };
    Question::of(core).any(|asked| !agreements.decide(&Question { data_class: held, ..asked }).is_allowed())
}

impl LocalApi {
    /// Asks the agreements for every recipient.
    ///
    /// # Errors
    /// `NOT_AGREED`, with what would be allowed.
    pub(super) fn check_agreements(
        &self,
        directory: &Directory,
        questions: impl Iterator<Item = Question>,
    ) -> Result<(), Refusal> {
        let Some(agreements) = in_force(directory, directory.size()) else { return Ok(()) };
        for question in questions {
            let decision = agreements.decide(&question);
            if !decision.is_allowed() {
                let would = match remedies(&agreements, &question).as_slice() {
                    [] => "nothing that could be changed would allow it".to_owned(),
                    remedies => format!("it would be allowed with {}", remedies.join(", or ")),
                };
                let detail = format!("to {}: {decision}; {would}", question.to);
                return Err(Refusal::new(RefusalCode::NotAgreed, detail));
            }
        }
        Ok(())
    }

    /// What the agreements say of a case file, for each recipient.
    pub(super) fn explain(&self, file: &str) -> Result<Value, Failure> {
        let directory = self.directory.directory();
        let case = case_file::parse_by(file, &Tables::of(&directory, directory.size())).map_err(Failure::Problems)?;
        let agreements = in_force(&directory, directory.size());
        let names: Vec<&str> = directory.agreements(directory.size()).map(|known| known.name.as_str()).collect();
        let answer = |question: Question| {
            let Some(agreements) = &agreements else {
                return json!({"to": question.to, "allowed": true, "verdict": "NOT_JUDGED", "by": []});
            };
            let decision = agreements.decide(&question);
            json!({
                "to": question.to,
                "allowed": decision.is_allowed(),
                "verdict": decision.verdict(),
                "by": decision.by(),
                "would_allow": if decision.is_allowed() { Vec::new() } else { remedies(agreements, &question) },
            })
        };
        let questions = Question::of_case(&case, self.office, self.composer.clock.now());
        Ok(json!({"agreements": names, "decisions": questions.map(answer).collect::<Vec<_>>()}))
    }

    /// The tables that the countries have agreed on, as they signed them.
    pub(super) fn tables(&self) -> Value {
        let directory = self.directory.directory();
        let table = |table: &PolicyText| json!({"name": table.name, "serial": table.serial, "countries": table.countries, "text": *table.text});
        let tables: Vec<Value> = directory.tables(directory.size()).map(table).collect();
        json!({"tables": tables, "unreadable": Tables::of(&directory, directory.size()).unreadable()})
    }
}
