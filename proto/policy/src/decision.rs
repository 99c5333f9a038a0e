//! Decisions, and why.

use cedar_policy::{Authorizer, Decision as Cedar, PolicyId};
use liaison_casework::catalogue::short_name;
use liaison_proto::wire::{Handling, LegalBasis, Tlp};

use crate::{Agreement, Agreements, Question};

/// What the agreements say of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether any agreement binds both countries. None does: then nobody has agreed that anything be forbidden between them.
    pub is_judged: bool,
    /// Policies that permit it, by their ids.
    pub permitted_by: Vec<String>,
    /// Policies that forbid it.
    pub forbidden_by: Vec<String>,
}

impl Decision {
    /// Whether it may go.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !self.is_judged || (!self.permitted_by.is_empty() && self.forbidden_by.is_empty())
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = self.by().join("; ");
        match self.verdict() {
            "PERMITTED" => write!(f, "permitted by {by}"),
            "FORBIDDEN" => write!(f, "forbidden by {by}"),
            "NOT_PERMITTED" => f.write_str("no agreement permits it"),
            _ => f.write_str("no agreement binds both countries: nothing is judged"),
        }
    }
}

impl Decision {
    /// Which of the four it is: `PERMITTED`, `FORBIDDEN`, `NOT_PERMITTED` or `NOT_JUDGED`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.permitted_by.as_slice(), self.forbidden_by.as_slice()) {
            ([], []) if !self.is_judged => "NOT_JUDGED",
            ([], []) => "NOT_PERMITTED",
            (_, []) => "PERMITTED",
            (_, _) => "FORBIDDEN",
        }
    }

    /// The rules of the agreements that decided.
    #[must_use]
    pub fn by(&self) -> &[String] {
        if self.forbidden_by.is_empty() { &self.permitted_by } else { &self.forbidden_by }
    }
}

/// One change by which a question would be answered otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// On this legal basis.
    Basis(LegalBasis),
    /// With this handling.
    Handling(Handling),
    /// With this TLP.
    Tlp(Tlp),
    /// With this handling and TLP.
    Both(Handling, Tlp),
}

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let handling = |handling: Handling| short_name("HANDLING_", handling.as_str_name());
        let tlp = |tlp: Tlp| short_name("TLP_", tlp.as_str_name()).replace('_', "+");
        match *self {
            Self::Basis(basis) => write!(f, "legal_basis {}", short_name("LEGAL_BASIS_", basis.as_str_name())),
            Self::Handling(code) => write!(f, "handling {}", handling(code)),
            Self::Tlp(code) => write!(f, "tlp {}", tlp(code)),
            Self::Both(code, narrow) => write!(f, "handling {} with tlp {}", handling(code), tlp(narrow)),
        }
    }
}

/// Every legal basis that a header can name.
const BASES: [LegalBasis; 14] = [
    LegalBasis::Vnkh05,
    LegalBasis::Vnth08,
    LegalBasis::Vncn10,
    LegalBasis::Vnla10,
    LegalBasis::Thla05,
    LegalBasis::Thkh03,
    LegalBasis::Commit,
    LegalBasis::Actip,
    LegalBasis::Untoc,
    LegalBasis::Palermo,
    LegalBasis::Mla,
    LegalBasis::Interpol,
    LegalBasis::Aseanapol,
    LegalBasis::Domestic,
];

/// Every legal basis, for tables.
#[must_use]
pub const fn bases() -> &'static [LegalBasis] {
    &BASES
}

impl Agreements {
    /// Asks every agreement that binds both countries. What cannot be evaluated is permitted by nobody.
    pub(crate) fn evaluate(&self, question: &Question) -> Decision {
        let countries = [question.from.country(), question.to.country()];
        let binding = |agreement: &&Agreement| countries.iter().all(|country| agreement.countries().contains(country));
        let is_judged = self.iter().any(|agreement| binding(&agreement));
        let mut decision = Decision { is_judged, permitted_by: Vec::new(), forbidden_by: Vec::new() };
        let Some((request, entities)) = question.to_cedar() else { return decision };
        for agreement in self.iter().filter(binding) {
            let answer = Authorizer::new().is_authorized(&request, &agreement.policies, &entities);
            let named = |id: &PolicyId| {
                let named = agreement.policies.annotation(id, "id").unwrap_or_default();
                named.to_owned()
            };
            let reasons = answer.diagnostics().reason().map(named);
            match answer.decision() {
                Cedar::Allow => decision.permitted_by.extend(reasons),
                // Without a reason nothing in it spoke of this.
                Cedar::Deny => decision.forbidden_by.extend(reasons),
            }
        }
        decision
    }

    /// The single changes that would let a refused envelope go: first another legal basis, then better protection.
    #[must_use]
    pub fn remedies(&self, question: &Question) -> Vec<Remedy> {
        let mut found = Vec::new();
        let allowed = |asked: Question| self.decide(&asked).is_allowed();
        for basis in BASES {
            if !question.basis.contains(&basis) && allowed(Question { basis: vec![basis], ..question.clone() }) {
                found.push(Remedy::Basis(basis));
            }
        }
        let handling = Handling::H2;
        if question.handling != handling && allowed(Question { handling, ..question.clone() }) {
            found.push(Remedy::Handling(handling));
        }
        let tlp = Tlp::AmberStrict;
        if question.tlp != tlp && allowed(Question { tlp, ..question.clone() }) {
            found.push(Remedy::Tlp(tlp));
        }
        if found.is_empty() && allowed(Question { handling, tlp, ..question.clone() }) {
            found.push(Remedy::Both(handling, tlp));
        }
        found
    }
}
