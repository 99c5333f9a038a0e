//! One agreement: a file of Cedar policies with the countries that it binds.

use std::{
    collections::{BTreeSet, HashMap},
    str::FromStr as _,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};
use liaison_casework::tables::{TableError, Tables};
use liaison_proto::{
    directory::Directory,
    ids::Country,
    policy_text::{HeadingError, PolicyForm, PolicyText},
};

use crate::{Decision, Question};

/// The schema that every agreement fits.
pub(crate) static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| match Schema::from_cedarschema_str(include_str!("../agreements.cedarschema")) {
        Ok((schema, _)) => schema,
        Err(e) => panic!("the schema is built into this program and does not parse: {e}"),
    });

/// Why a file is no agreement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// Too large, or its first line does not say what it is.
    #[error(transparent)]
    Heading(#[from] HeadingError),
    /// Not Cedar.
    #[error("not Cedar: {0}")]
    Syntax(String),
    /// Cedar that does not fit the schema.
    #[error("does not fit the schema: {0}")]
    Schema(String),
    /// A policy that cannot be named in a decision.
    #[error("a policy has no @id, or not one of its own")]
    Unnamed,
}

/// Why a text is no policy that a directory takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Its first line does not say what it is.
    #[error(transparent)]
    Heading(#[from] HeadingError),
    /// An agreement that does not fit the schema.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// A table that does not read.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Reads an agreement or a table, as whoever publishes and enters one does.
///
/// # Errors
/// [`PolicyError`].
pub fn check(bytes: &[u8]) -> Result<PolicyText, PolicyError> {
    let text = PolicyText::parse(bytes)?;
    match text.form {
        PolicyForm::Agreement => Agreement::parse(&text.text).map(|_| ())?,
        PolicyForm::Table => Tables::check(&text)?,
    }
    Ok(text)
}

/// Brackets within brackets that an agreement may have: Cedar's parser descends by calls (13 KB of stack a level), and a stack that is
/// full ends the process.
const MOST_NESTED: usize = 32;

/// How deep the brackets of a Cedar text are nested, outside texts and comments.
fn nesting(text: &str) -> usize {
    let (mut deepest, mut depth) = (0_usize, 0_usize);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '/' if characters.peek() == Some(&'/') => while characters.next().is_some_and(|c| c != '\n') {},
            '"' => {
                while let Some(within) = characters.next().filter(|c| *c != '"') {
                    if within == '\\' {
                        characters.next();
                    }
                }
            }
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// An agreement that fits the schema.
#[derive(Clone, Debug)]
pub struct Agreement {
    name: String,
    countries: BTreeSet<Country>,
    pub(crate) policies: PolicySet,
}

impl Agreement {
    /// Reads an agreement; limits come before parsing.
    ///
    /// # Errors
    /// [`AgreementError`].
    pub fn parse(text: &str) -> Result<Self, AgreementError> {
        let PolicyText { form, name, countries, .. } = PolicyText::parse(text.as_bytes())?;
        if form != PolicyForm::Agreement {
            return Err(HeadingError::Heading.into());
        }
        if nesting(text) > MOST_NESTED {
            return Err(AgreementError::Syntax(format!("brackets are nested at most {MOST_NESTED} deep")));
        }
        let policies = PolicySet::from_str(text).map_err(|e| AgreementError::Syntax(e.to_string()))?;
        if policies.templates().next().is_some() {
            return Err(AgreementError::Syntax("templates have no place in an agreement".to_owned()));
        }
        let ids: BTreeSet<&str> = policies.policies().filter_map(|policy| policy.annotation("id")).collect();
        if ids.len() != policies.policies().count() || ids.is_empty() {
            return Err(AgreementError::Unnamed);
        }
        let validated = Validator::new(SCHEMA.clone()).validate(&policies, ValidationMode::default());
        if let Some(error) = validated.validation_errors().next() {
            return Err(AgreementError::Schema(error.to_string()));
        }
        Ok(Self { name, countries, policies })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The countries that it binds.
    #[must_use]
    pub const fn countries(&self) -> &BTreeSet<Country> {
        &self.countries
    }
}

/// Every agreement in force.
#[derive(Debug, Default)]
pub struct Agreements {
    agreements: Vec<Agreement>,
    /// What was decided before: the same question has the same answer, and most questions of a day are the same.
    decided: Mutex<HashMap<Question, Decision>>,
}

/// Decisions that are kept: no office makes more of them than this stay.
const DECIDED: usize = 4096;

impl Agreements {
    /// These agreements.
    #[must_use]
    pub fn new(agreements: impl IntoIterator<Item = Agreement>) -> Self {
        Self { agreements: agreements.into_iter().collect(), decided: Mutex::default() }
    }

    /// Reads agreements as they were entered. One that this version cannot read binds its countries all the same, and permits
    /// nothing: nobody is set free by what it does not understand.
    pub fn read<'t>(texts: impl IntoIterator<Item = &'t PolicyText>) -> Self {
        let silent = |text: &PolicyText| Agreement {
            name: text.name.clone(),
            countries: text.countries.clone(),
            policies: PolicySet::new(),
        };
        Self::new(texts.into_iter().map(|text| Agreement::parse(&text.text).unwrap_or_else(|_| silent(text))))
    }

    /// Decides a question.
    #[must_use]
    pub fn decide(&self, question: &Question) -> Decision {
        let known = self.decided.lock().unwrap_or_else(PoisonError::into_inner).get(question).cloned();
        if let Some(known) = known {
            return known;
        }
        let decision = self.evaluate(question);
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        if decided.len() >= DECIDED {
            decided.clear();
        }
        decided.insert(question.clone(), decision.clone());
        decision
    }

    /// In the order of their entries.
    pub fn iter(&self) -> impl Iterator<Item = &Agreement> {
        self.agreements.iter()
    }
}

/// Sets of agreements that are kept compiled: a thread of years was judged by several.
const COMPILED: usize = 16;

/// By the hash of all their texts: the same texts compile to the same.
static CACHE: Mutex<Vec<([u8; 32], Arc<Agreements>)>> = Mutex::new(Vec::new());

/// The agreements in force at a size of the directory; none when it has no agreement at all. One that does not fit the schema permits nothing.
#[must_use]
pub fn in_force(directory: &Directory, size: u64) -> Option<Arc<Agreements>> {
    let name = directory.policies_sha256(size)?;
    directory.agreements(size).next()?;
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = cache.iter().find(|(known, _)| *known == name) {
        return Some(Arc::clone(known));
    }
    let compiled = Arc::new(Agreements::read(directory.agreements(size)));
    if cache.len() >= COMPILED {
        cache.remove(0);
    }
    cache.push((name, Arc::clone(&compiled)));
    Some(compiled)
}
