//! What the agreements say of what is about to be sent, and why.

use liaison_casework::case_file;
use liaison_policy::{Question, in_force};
use liaison_proto::{
    directory::Directory,
    refusal::{Refusal, RefusalCode},
};
use serde_json::{Value, json};

use super::{Failure, LocalApi};

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
                let remedies: Vec<String> = agreements.remedies(&question).iter().map(ToString::to_string).collect();
                let would = match remedies.as_slice() {
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
        let case = case_file::parse(file).map_err(Failure::Problems)?;
        let directory = self.directory.directory();
        let agreements = in_force(&directory, directory.size());
        let names: Vec<&str> = directory.agreements(directory.size()).map(|known| known.name.as_str()).collect();
        let answer = |question: Question| {
            let Some(agreements) = &agreements else {
                return json!({"to": question.to, "allowed": true, "why": "no agreement is in force: nothing is judged"});
            };
            let decision = agreements.decide(&question);
            let remedies: Vec<String> = agreements.remedies(&question).iter().map(ToString::to_string).collect();
            json!({
                "to": question.to,
                "allowed": decision.is_allowed(),
                "why": decision.to_string(),
                "would_allow": if decision.is_allowed() { Vec::new() } else { remedies },
            })
        };
        let questions = Question::of_case(&case, self.office, self.composer.clock.now());
        Ok(json!({"agreements": names, "decisions": questions.map(answer).collect::<Vec<_>>()}))
    }
}
