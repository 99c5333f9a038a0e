//! What is asked: may this envelope go from one office to another?

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use liaison_casework::{
    case_file::CaseFile,
    catalogue::{kind_name, short_name},
};
use liaison_proto::{
    clock::{DAY_MS, UnixMillis},
    header::Core,
    ids::OfficeId,
    wire::{DataClass, Handling, Kind, LegalBasis, Priority, Purpose, Tlp},
};

use crate::agreement::SCHEMA;

/// An envelope on its way to one recipient, as agreements see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are those of wire::Core, where each is described")]
pub struct Question {
    pub from: OfficeId,
    pub to: OfficeId,
    pub kind: Kind,
    pub basis: Vec<LegalBasis>,
    pub purpose: Purpose,
    pub priority: Priority,
    pub handling: Handling,
    pub tlp: Tlp,
    pub data_class: DataClass,
    /// Days from creation to retain-until, rounded up; 0 when only the charter's rule applies.
    pub retain_days: i64,
    pub exercise: bool,
}

/// Days until something may be erased, rounded up; 0 when only the charter's rule applies.
fn retain_days(created_at: UnixMillis, retain_until: Option<UnixMillis>) -> i64 {
    let kept = retain_until.map_or(0, |until| until.since(created_at).max(0));
    kept / DAY_MS + i64::from(kept % DAY_MS > 0)
}

impl Question {
    /// One question for each recipient of a case file that an office is about to send.
    pub fn of_case(case: &CaseFile, from: OfficeId, created_at: UnixMillis) -> impl Iterator<Item = Self> {
        let asked = |to| Self {
            from,
            to,
            kind: case.kind,
            basis: case.legal_basis.clone(),
            purpose: case.purpose,
            priority: case.priority,
            handling: case.handling,
            tlp: case.tlp,
            data_class: case.data_class,
            retain_days: retain_days(created_at, case.retain_until),
            exercise: case.exercise,
        };
        case.to.iter().copied().map(asked).collect::<Vec<_>>().into_iter()
    }

    /// One question for each recipient of an envelope.
    pub fn of(core: &Core) -> impl Iterator<Item = Self> + '_ {
        core.to.iter().map(move |&to| Self {
            from: core.from,
            to,
            kind: core.kind,
            basis: core.legal_basis.clone(),
            purpose: core.purpose,
            priority: core.priority,
            handling: core.handling,
            tlp: core.tlp,
            data_class: core.data_class,
            retain_days: retain_days(core.created_at, core.retain_until),
            exercise: core.exercise,
        })
    }

    fn context(&self) -> Vec<(String, RestrictedExpression)> {
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        // The wire counts from 1, 0 being unset.
        let degree = |code: i32| RestrictedExpression::new_long(i64::from(code) - 1);
        let basis = self.basis.iter().map(|basis| text(short_name("LEGAL_BASIS_", basis.as_str_name())));
        [
            ("basis", RestrictedExpression::new_set(basis)),
            ("purpose", text(short_name("PURPOSE_", self.purpose.as_str_name()))),
            ("priority", text(short_name("PRIORITY_", self.priority.as_str_name()))),
            ("handling", degree(self.handling.into())),
            ("tlp", degree(self.tlp.into())),
            ("data_class", degree(self.data_class.into())),
            ("retain_days", RestrictedExpression::new_long(self.retain_days)),
            ("exercise", RestrictedExpression::new_bool(self.exercise)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// As Cedar asks it; none when it cannot be put, which the types here exclude.
    pub(crate) fn to_cedar(&self) -> Option<(Request, Entities)> {
        let office = |office: OfficeId| {
            let uid = EntityUid::from_type_name_and_id("Office".parse().ok()?, office.to_string().parse().ok()?);
            let attributes = [
                ("country".to_owned(), RestrictedExpression::new_string(office.country().as_str().to_owned())),
                ("tier".to_owned(), RestrictedExpression::new_string(office.tier().as_str().to_owned())),
            ];
            let entity = Entity::new(uid.clone(), attributes.into(), Default::default()).ok()?;
            Some((uid, entity))
        };
        let ((from, originator), (to, recipient)) = (office(self.from)?, office(self.to)?);
        let action = EntityUid::from_type_name_and_id("Action".parse().ok()?, kind_name(self.kind).parse().ok()?);
        let context = Context::from_pairs(self.context()).ok()?;
        let request = Request::new(from, action, to, context, Some(&SCHEMA)).ok()?;
        // An office that writes to itself is one entity, and no header has it.
        let entities = Entities::from_entities([originator, recipient], Some(&SCHEMA)).ok()?;
        Some((request, entities))
    }
}
