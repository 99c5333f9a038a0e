//! Threads: where a matter stands, by its messages alone. Pure: no clock, no I/O; whoever has the same messages computes
//! the same, in whatever order and however often they came.
//!
//! Invariants:
//! - A message is never dropped: each is taken, noted, or kept with the reason why it does not fit.
//! - One rule decides between steps that were sent at the same time: the one that [`order`] reads first. Both are shown.
//! - What is refused at composition is exactly what the other side would mark ([`Thread::check`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use liaison_proto::{
    clock::UnixMillis,
    ids::{Country, MessageId, OfficeId},
    wire::{Kind, Step},
};

pub mod alert;
pub mod briefing;
pub mod control;
pub mod event;
pub mod expected;
pub mod general;
pub mod hotline;
pub mod order;
pub mod out_of_step;
pub mod victim_return;
pub mod workflow;

use crate::{act::Act, persons::Persons};
use alert::Alert;
use briefing::Briefing;
use control::Grants;
use event::Event;
use general::{General, OfficeState};
use hotline::Hotline;
use order::Ancestry;
use out_of_step::OutOfStep;
use victim_return::VictimReturn;
pub use workflow::{STATES, Workflow};

/// What became of a message in its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It moved the thread.
    Taken,
    /// It belongs to the thread and does not move it.
    Noted,
    /// Its content cannot be read here, so nobody can say here what it does.
    Unreadable,
    /// It does not fit where the thread stands: kept, shown, and to be answered.
    OutOfStep(OutOfStep),
    /// Its originator took it back.
    TakenBack,
}

/// A message of a thread with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The message.
    pub id: MessageId,
    /// Who sent it.
    pub from: OfficeId,
    /// Its kind.
    pub kind: Kind,
    /// What became of it.
    pub mark: Mark,
    /// A step of another office that its author had not seen.
    pub concurrent_with: Option<MessageId>,
}

/// How a message changes a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It moves it.
    Moved,
    /// It does not.
    Noted,
}

type Applied = Result<Effect, OutOfStep>;

/// The part that is particular to a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Machine {
    General,
    Alert(Alert),
    Hotline(Hotline),
    Briefing(Briefing),
    Return(VictimReturn),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    general: General,
    machine: Machine,
    withdrawn: bool,
}

/// A thread as its messages add up.
#[derive(Clone, Debug)]
pub struct Thread {
    root: Event,
    position: Position,
    /// The step that moved the thread last.
    last: Option<Event>,
    /// What was just taken back: read again without it.
    taken_back: Vec<MessageId>,
    /// The first message is not here.
    is_partial: bool,
    /// Its messages as far as they were read, and what became of each.
    events: Vec<Event>,
    taken: Vec<Taken>,
    /// Message -> its place among them.
    places: HashMap<MessageId, usize>,
    /// Office -> whom it has written to.
    written_to: BTreeMap<OfficeId, BTreeSet<OfficeId>>,
    grants: Grants,
    /// Countries whose offices are parties.
    countries: BTreeSet<Country>,
    /// Whom it is about.
    persons: Persons,
    /// Message -> the newer one that replaces it.
    superseded: BTreeMap<MessageId, MessageId>,
}

impl Thread {
    /// Reads a thread. `delivered` are the recipients that are known to have its first message. Whoever came to it later has
    /// only what was sent since, and reads from there; without any message there is no thread.
    #[must_use]
    pub fn replay(thread: MessageId, events: impl IntoIterator<Item = Event>, delivered: &[OfficeId]) -> Option<Self> {
        let events = order::in_order(events);
        let ancestry = Ancestry::new(&events);
        let root = events.iter().find(|event| event.id == thread).or(events.first())?.clone();
        let mut void = BTreeSet::new();
        // What is taken back never was: everything is read again without it, as often as something more is.
        loop {
            let mut read = Self::begin(root.clone(), root.id != thread, delivered);
            for event in &events {
                read.take(event, &ancestry, &void);
                if !read.taken_back.is_empty() {
                    break;
                }
            }
            if read.taken_back.is_empty() {
                return Some(read);
            }
            void.extend(read.taken_back);
        }
    }

    fn begin(root: Event, is_partial: bool, delivered: &[OfficeId]) -> Self {
        let mut general = General::new(&root);
        delivered.iter().for_each(|office| general.delivered(*office));
        let machine = match Workflow::of(root.kind) {
            _ if is_partial => Machine::General,
            Workflow::General => Machine::General,
            Workflow::Alert => Machine::Alert(Alert::new(&root)),
            Workflow::Hotline => Machine::Hotline(Hotline::new(&root)),
            Workflow::Briefing => Machine::Briefing(Briefing::new(&root)),
            Workflow::Return => Machine::Return(VictimReturn::new(&root)),
        };
        let countries = [root.from].iter().chain(&root.to).map(OfficeId::country).collect();
        Self {
            root,
            countries,
            position: Position { general, machine, withdrawn: false },
            last: None,
            taken_back: Vec::new(),
            is_partial,
            events: Vec::new(),
            taken: Vec::new(),
            places: HashMap::new(),
            written_to: BTreeMap::new(),
            grants: Grants::default(),
            persons: Persons::default(),
            superseded: BTreeMap::new(),
        }
    }

    fn take(&mut self, event: &Event, ancestry: &Ancestry, void: &BTreeSet<MessageId>) {
        let mut concurrent_with = None;
        let mark = match event.act() {
            // Of whom nobody has written to nothing counts, be it readable or not.
            _ if event.id != self.root.id && !self.countries.contains(&event.from.country()) => {
                Mark::OutOfStep(OutOfStep::NotAParty)
            }
            // Judged by the envelope, be its content readable or not.
            _ if event.breaks_agreement && !void.contains(&event.id) => Mark::OutOfStep(OutOfStep::NotInAgreement),
            None => Mark::Unreadable,
            Some(_) if void.contains(&event.id) => Mark::TakenBack,
            // Whoever came later knows what was said since, not where it stands.
            Some(_) if self.is_partial => self.is_sound_alone(event).map_or_else(Mark::OutOfStep, |()| Mark::Noted),
            Some(act) => match self.is_sound(event) {
                Err(reason) => Mark::OutOfStep(reason),
                Ok(()) if event.id == self.root.id => Mark::Taken,
                Ok(()) => {
                    let last = self.last.as_ref().filter(|last| last.from != event.from);
                    let unseen = last.filter(|last| !ancestry.follows(event.id, last.id)).map(|last| last.id);
                    let mark = self.apply(event, act, ancestry, void);
                    // A note or an acknowledgement may be written at any time.
                    concurrent_with = unseen.filter(|_| mark != Mark::Noted);
                    mark
                }
            },
        };
        // Whom a party writes to is a party from then on.
        if matches!(mark, Mark::Taken | Mark::Noted) {
            self.countries.extend(event.to.iter().map(OfficeId::country));
            self.persons.add(event.details().map_or(&Persons::default(), |details| &details.persons));
            self.superseded.extend(event.supersedes.map(|before| (before, event.id)));
        }
        // Who was once named as a victim is protected as one, whatever else was wrong with the message.
        if matches!(mark, Mark::OutOfStep(reason) if reason != OutOfStep::NotAParty) {
            self.persons.add_victims(event.details().map_or(&Persons::default(), |details| &details.persons));
        }
        let Event { id, from, kind, .. } = *event;
        self.places.insert(id, self.events.len());
        self.written_to.entry(from).or_default().extend(&event.to);
        self.taken.push(Taken { id, from, kind, mark, concurrent_with });
        self.events.push(event.clone());
    }

    /// What must hold of a message whatever came before it; what replaces one that is not here cannot be judged.
    fn is_sound_alone(&self, event: &Event) -> Result<(), OutOfStep> {
        if event.declares_too_little() {
            return Err(OutOfStep::DeclaresTooLittle);
        }
        if self.is_victim_and_suspect(event) && event.digest.as_ref().is_none_or(|digest| !digest.countersigned) {
            return Err(OutOfStep::NotCountersigned);
        }
        let others = |before: MessageId| {
            self.taken_of(before).is_some_and(|taken| (taken.from, taken.kind) != (event.from, event.kind))
        };
        if event.supersedes.is_some_and(others) { Err(OutOfStep::SupersedesOther) } else { Ok(()) }
    }

    /// What must hold of a message wherever the thread stands.
    fn is_sound(&self, event: &Event) -> Result<(), OutOfStep> {
        self.is_sound_alone(event)?;
        if event.id == self.root.id {
            return Ok(());
        }
        if !event.step_agrees() {
            return Err(OutOfStep::StepDisagrees);
        }
        control::check(event, self)?;
        if event.supersedes.is_some_and(|before| self.taken_of(before).is_none()) {
            return Err(OutOfStep::SupersedesOther);
        }
        Ok(())
    }

    /// Whether a message makes somebody a victim and a suspect who was not both before: a person with two signatures is both.
    fn is_victim_and_suspect(&self, event: &Event) -> bool {
        event.details().is_some_and(|details| self.persons.become_both(&details.persons))
    }

    fn apply(&mut self, event: &Event, act: &Act, ancestry: &Ancestry, void: &BTreeSet<MessageId>) -> Mark {
        if let Act::TakeBack(messages) = act {
            return self.take_back(event, messages, void);
        }
        let (taken, places) = (&self.taken, &self.places);
        let originator = |id| {
            let known = places.get(&id).and_then(|place| taken.get(*place)).map(|taken| taken.from);
            known.or((id == self.root.id).then_some(self.root.from))
        };
        self.grants.note(event, act, originator);
        let before = self.position.clone();
        match self.advance(event, act, ancestry) {
            Ok(Effect::Moved) => {
                self.last = Some(event.clone());
                Mark::Taken
            }
            Ok(Effect::Noted) => Mark::Noted,
            Err(reason) => {
                self.position = before;
                Mark::OutOfStep(reason)
            }
        }
    }

    fn advance(&mut self, event: &Event, act: &Act, ancestry: &Ancestry) -> Applied {
        // What belongs to a thread whatever its state.
        match act {
            Act::Note | Act::AskOnward(_) | Act::DecideOnward { .. } | Act::Reconcile { .. } => {
                return Ok(Effect::Noted);
            }
            // What was wrong is said by whoever said it.
            Act::Amend(messages) => {
                let others = |id: &MessageId| self.taken_of(*id).is_some_and(|taken| taken.from != event.from);
                return if messages.iter().any(others) { Err(OutOfStep::NotYours) } else { Ok(Effect::Noted) };
            }
            // Said by whoever had it before it was withdrawn, or to say so.
            Act::Acknowledge { .. } | Act::Classify | Act::Decline { .. } if self.position.withdrawn => {
                return Ok(Effect::Noted);
            }
            // It is heard also where the matter is over: whoever holds what it covers must know.
            Act::Consent { .. } if self.position.withdrawn || !matches!(self.position.machine, Machine::Return(_)) => {
                return Ok(Effect::Noted);
            }
            _ if self.position.withdrawn => return Err(OutOfStep::Withdrawn),
            _ => {}
        }
        let Position { general, machine, .. } = &mut self.position;
        match (machine, act) {
            (Machine::Hotline(hotline), Act::Acknowledge { .. }) => {
                general.attend(event, act)?;
                hotline.apply(event, act)
            }
            (_, Act::Acknowledge { .. } | Act::Classify) => general.attend(event, act),
            (Machine::General, _) => general.apply(event, act),
            (Machine::Alert(alert), _) => alert.apply(event, act),
            (Machine::Hotline(hotline), _) => hotline.apply(event, act),
            (Machine::Briefing(briefing), _) => briefing.apply(event, act, ancestry),
            (Machine::Return(victim_return), _) => victim_return.apply(event, act, ancestry),
        }
    }

    /// Takes messages back: the first ends the thread; a step counts no more where nobody built on it. All of them, or none.
    fn take_back(&mut self, event: &Event, messages: &[MessageId], void: &BTreeSet<MessageId>) -> Mark {
        let found: Vec<&Taken> = messages.iter().filter_map(|id| self.taken_of(*id)).collect();
        if found.iter().any(|taken| taken.from != event.from) {
            return Mark::OutOfStep(OutOfStep::NotYours);
        }
        let ends = found.iter().any(|taken| taken.id == self.root.id);
        // Nor does a signature under minutes that both have signed.
        let signed = found.iter().any(|taken| taken.kind == Kind::HandoverReceipt && taken.mark == Mark::Taken);
        if (ends && self.position.withdrawn) || ((ends || signed) && self.is_past_withdrawal()) {
            return Mark::OutOfStep(OutOfStep::TooLateToWithdraw);
        }
        let steps = || found.iter().filter(|taken| taken.id != self.root.id && !void.contains(&taken.id));
        let last = self.last.as_ref().map(|last| last.id);
        if steps().any(|taken| taken.mark == Mark::Taken && Some(taken.id) != last) {
            return Mark::OutOfStep(OutOfStep::BuiltUpon);
        }
        let newly = steps().map(|taken| taken.id).collect();
        let moves = ends || found.iter().any(|taken| taken.mark == Mark::TakenBack);
        self.taken_back = newly;
        if ends {
            self.position.withdrawn = true;
            self.last = Some(event.clone());
        }
        if moves { Mark::Taken } else { Mark::Noted }
    }

    fn is_past_withdrawal(&self) -> bool {
        matches!(&self.position.machine, Machine::Return(victim_return) if victim_return.is_handed_over())
    }

    /// Whether a message that is about to be sent fits: what every party will say of it.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(
        thread: MessageId,
        events: impl IntoIterator<Item = Event>,
        candidate: Event,
    ) -> Result<(), OutOfStep> {
        let id = candidate.id;
        let read = Self::replay(thread, events.into_iter().chain([candidate]), &[]);
        let taken = read.as_ref().and_then(|read| read.taken_of(id));
        match taken.map(|taken| taken.mark) {
            Some(Mark::OutOfStep(reason)) => Err(reason),
            _ => Ok(()),
        }
    }

    /// The workflow.
    #[must_use]
    pub const fn workflow(&self) -> Workflow {
        Workflow::of(self.root.kind)
    }

    /// Its first message.
    #[must_use]
    pub const fn root(&self) -> &Event {
        &self.root
    }

    /// Where it stands. A thread whose time is over and that nobody answered has expired.
    #[must_use]
    pub fn state(&self, now: UnixMillis) -> Step {
        if self.position.withdrawn {
            return Step::Withdrawn;
        }
        match &self.position.machine {
            Machine::General => self.position.general.state(now),
            Machine::Alert(alert) => alert.state(now),
            Machine::Hotline(hotline) => hotline.state(),
            Machine::Briefing(briefing) => briefing.state(),
            Machine::Return(victim_return) => victim_return.state(),
        }
    }

    /// What each recipient of the first message has done with it.
    #[must_use]
    pub const fn offices(&self) -> &BTreeMap<OfficeId, OfficeState> {
        self.position.general.offices()
    }

    /// Every message in the thread's order.
    #[must_use]
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// Whether something is not readable here, so that the thread may stand elsewhere.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.is_partial || self.taken.iter().any(|taken| taken.mark == Mark::Unreadable)
    }

    /// What became of a message.
    #[must_use]
    pub fn taken_of(&self, message: MessageId) -> Option<&Taken> {
        self.places.get(&message).and_then(|place| self.taken.get(*place))
    }

    /// A message of it.
    pub(crate) fn event_of(&self, message: MessageId) -> Option<&Event> {
        self.places.get(&message).and_then(|place| self.events.get(*place))
    }

    /// Whether an office has written to another one in it.
    pub(crate) fn has_written(&self, from: OfficeId, to: OfficeId) -> bool {
        self.written_to.get(&from).is_some_and(|offices| offices.contains(&to))
    }

    /// Whether anybody has written to an office in it.
    pub(crate) fn holds(&self, office: OfficeId) -> bool {
        self.written_to.values().any(|offices| offices.contains(&office))
    }

    /// Its messages, in its order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What the originators have granted to be passed on.
    #[must_use]
    pub const fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The newer message that replaces one.
    #[must_use]
    pub fn superseded_by(&self, message: MessageId) -> Option<MessageId> {
        self.superseded.get(&message).copied()
    }

    /// The countries that have a part in it.
    pub(crate) fn root_countries(&self) -> BTreeSet<Country> {
        [self.root.from].iter().chain(&self.root.to).map(OfficeId::country).collect()
    }

    /// The victim's return, where it is one.
    #[must_use]
    pub const fn victim_return(&self) -> Option<&VictimReturn> {
        match &self.position.machine {
            Machine::Return(victim_return) => Some(victim_return),
            _ => None,
        }
    }

    /// The alert, where it is one.
    #[must_use]
    pub const fn alert(&self) -> Option<&Alert> {
        match &self.position.machine {
            Machine::Alert(alert) => Some(alert),
            _ => None,
        }
    }
}
