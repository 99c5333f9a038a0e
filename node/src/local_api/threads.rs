//! Threads: where each stands, what it expects, and whether what is about to be sent fits.

use std::{collections::BTreeSet, sync::Arc};

use liaison_casework::{
    act,
    case_file::CaseFile,
    catalogue::{kind_name, short_name},
    contacts::Contacts,
    labels::{self, Language},
    print::plain,
    thread::{
        Mark, Taken, Thread, Workflow,
        control::{self, ControlBreach},
        event::{Digest, Event},
    },
};
use liaison_link::local::PeerUid;
use liaison_policy::Question;
use liaison_proto::{
    clock::UnixMillis,
    header::Core,
    ids::{LogIndex, MessageId, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire::{Kind, StatementKind, Step},
};
use serde_json::{Value, json};

use super::{Failure, LocalApi, agreements};
use crate::{
    compose::Draft,
    keystore::OfficeKeys,
    state::{Said, State},
    vault::Read,
    view,
};

/// How much of a thread is shown: its counterparts write it, and the whole answer over the local socket has 8 MiB.
#[derive(Clone, Copy, Debug)]
struct Most {
    /// The newest messages.
    messages: usize,
    expected: usize,
}

const ONE: Most = Most { messages: 2_000, expected: 500 };
/// In a list only what is expected is read.
const OF_MANY: Most = Most { messages: 10, expected: 20 };

/// Contact updates of a country that are looked at, the newest.
const CONTACTS: usize = 200;

/// A message of a thread, as the envelope says.
struct Listed {
    core: Core,
    entry: Option<LogIndex>,
    /// Size of the directory that its entry was judged by.
    judged_by: Option<u64>,
    header_sha256: [u8; 32],
}

impl Listed {
    fn of(state: &State, id: MessageId) -> Option<Self> {
        let header = state.header(id)?;
        let (core, header_sha256) = (header.core().clone(), header.sha256());
        Some(Self { core, entry: state.entry_of(id), judged_by: state.directory_size_of(id), header_sha256 })
    }
}

/// A thread as this office has it, before a message is added.
pub(super) struct Known {
    thread: MessageId,
    events: Vec<Event>,
    read: Option<Thread>,
}

impl Known {
    /// The step that a header names in this thread: the usual one of the content, or the one that the workflow has for it.
    pub(super) fn step(&self, case: &CaseFile, office: OfficeId) -> Step {
        let Some(read) = &self.read else { return case.step };
        let act = act::act(case.kind, &case.content);
        let allowed = act::steps(&act);
        let wanted = match (read.workflow(), case.kind) {
            (Workflow::Hotline, Kind::Ack) => Step::HotlineAnswered,
            (Workflow::Hotline, Kind::CaseUpdate) => Step::HotlineActing,
            (Workflow::Return, Kind::HandoverProposal) if read.victim_return().is_some_and(|r| r.counters(office)) => {
                Step::ReturnCountered
            }
            (workflow, Kind::ConsentChange) if workflow != Workflow::Return => Step::Sent,
            _ => case.step,
        };
        if allowed.contains(&wanted) { wanted } else { case.step }
    }
}

/// Recipients that are known to have a thread's first message.
fn delivered(state: &State, thread: MessageId) -> Vec<OfficeId> {
    let delivered = |said: &Said| matches!(said, Said::Stated(StatementKind::Delivered | StatementKind::Retrieved, _));
    let own = state.incoming.get(&thread).and(state.office());
    let others = state.outgoing.get(&thread).into_iter().flat_map(|outgoing| &outgoing.evidence);
    others.filter(|evidence| delivered(&evidence.said)).map(|evidence| evidence.office).chain(own).collect()
}

impl LocalApi {
    /// A thread's messages that count.
    fn listed(&self, thread: MessageId) -> (Vec<Listed>, Vec<OfficeId>) {
        let state = self.store.state();
        let ids = state.threads.get(&thread).into_iter().flatten();
        (ids.filter_map(|id| Listed::of(&state, *id)).collect(), delivered(&state, thread))
    }

    /// What a message's content says, read once and kept while the office is unlocked.
    fn read(&self, listed: &Listed, keys: &OfficeKeys) -> Option<Arc<Read>> {
        if let Some(known) = self.vault.recall(&listed.header_sha256) {
            return Some(known);
        }
        let core = &listed.core;
        let opened = self.opener.read(core.message_id, keys).ok()?;
        let content = opened.content.message();
        let read = Arc::new(Read {
            digest: Digest::of(core.kind, content, !opened.countersigners.is_empty()),
            contacts: if core.kind == Kind::ContactUpdate { Contacts::of(content) } else { None },
        });
        self.vault.remember(listed.header_sha256, &read);
        Some(read)
    }

    fn events(&self, listed: &[Listed], keys: Option<&OfficeKeys>) -> Vec<Event> {
        let read = |listed: &Listed| keys.and_then(|keys| self.read(listed, keys));
        let read: Vec<Option<Arc<Read>>> = listed.iter().map(read).collect();
        let directory = self.directory.directory();
        let event = |(listed, read): (&Listed, &Option<Arc<Read>>)| {
            let digest = read.as_ref().map(|read| read.digest.clone());
            let broken = |size| agreements::are_broken(&directory, size, &listed.core, digest.as_ref());
            let breaks_agreement = listed.judged_by.is_some_and(broken);
            Event { breaks_agreement, ..Event::new(&listed.core, listed.entry, digest) }
        };
        listed.iter().zip(&read).map(event).collect()
    }

    /// The thread that a message answers in; none when it begins one, or answers what is not here.
    pub(super) fn answered_thread(&self, in_reply_to: Option<MessageId>, keys: &OfficeKeys) -> Option<Known> {
        let thread = self.store.state().header(in_reply_to?)?.core().thread_id;
        let (listed, delivered) = self.listed(thread);
        let events = self.events(&listed, Some(keys));
        let read = Thread::replay(thread, events.iter().cloned(), &delivered);
        Some(Known { thread, events, read })
    }

    /// A thread as it is read here, by whoever unlocked.
    pub(super) fn read_thread(&self, thread: MessageId, keys: Option<&OfficeKeys>) -> Option<Thread> {
        let (listed, delivered) = self.listed(thread);
        Thread::replay(thread, self.events(&listed, keys), &delivered)
    }

    /// Whether a message fits its thread, and stays within what its originators allow.
    ///
    /// # Errors
    /// `OUT_OF_STEP` or `ONWARD_NOT_GRANTED`.
    pub(super) fn check_thread(
        &self,
        draft: &Draft,
        known: Option<&Known>,
        countersigned: bool,
    ) -> Result<(), Failure> {
        let candidate = draft.event(countersigned);
        let read = known.and_then(|known| known.read.as_ref());
        if let Some(Err(breach)) = read.map(|read| control::check(&candidate, read)) {
            let detail = match breach {
                ControlBreach::NotGranted(office) => {
                    format!("its originator has not allowed that {office} gets it (handling H2)")
                }
                ControlBreach::Wider { at_least } => {
                    let tlp = short_name("TLP_", at_least.as_str_name()).replace('_', "+");
                    format!("the message answered is TLP {tlp}; an answer is never wider")
                }
            };
            return Err(Failure::OutOfStep(breach.into(), Refusal::new(RefusalCode::OnwardNotGranted, detail)));
        }
        let missing = read.map(|read| control::not_reached(&candidate, read)).unwrap_or_default();
        // Who cannot be written to any more keeps nobody else from hearing it.
        if let Some(office) = missing.into_iter().find(|office| self.can_reach(*office, draft)) {
            let detail = format!("a change of consent goes to every holder: {office} is missing");
            return Err(Refusal::new(RefusalCode::OutOfStep, detail).into());
        }
        let (thread, events) =
            known.map_or_else(|| (draft.message_id(), Vec::new()), |known| (known.thread, known.events.clone()));
        Thread::check(thread, events, candidate).map_err(|reason| {
            let detail = match read {
                None => reason.to_string(),
                Some(read) => {
                    let state = short_name("STEP_", read.state(self.composer.clock.now()).as_str_name());
                    format!("the {} thread stands at {state}: {reason}", read.workflow().name())
                }
            };
            Failure::OutOfStep(reason, Refusal::new(RefusalCode::OutOfStep, detail))
        })
    }

    /// Whether a message could go to one more office.
    fn can_reach(&self, office: OfficeId, draft: &Draft) -> bool {
        let (directory, core) = (self.directory.directory(), &draft.core);
        let size = directory.size();
        let to: Vec<OfficeId> = core.to.iter().copied().chain([office]).collect();
        directory.office(office, size).is_some()
            && directory.newest_key(office, core.suite, core.created_at, size).is_some()
            && directory.charter().corridor(self.office, &to).is_some()
            && self.check_agreements(&directory, Question::of(&Core { to: vec![office], ..core.clone() })).is_ok()
    }

    /// Who answers at an office now: by the newest of its country's contact updates.
    fn contacts(&self, office: OfficeId, keys: &OfficeKeys, now: UnixMillis) -> Option<Arc<Read>> {
        let updates: Vec<Listed> = {
            let state = self.store.state();
            // An office speaks for itself, and its country's central contact point for every one of it; what was taken back for none.
            let speaks = |from: OfficeId| {
                from == office || (from.country() == office.country() && from.tier().as_str() == "CCP")
            };
            let said = state.contacts.iter().filter(|id| !view::is_taken_back(&state, **id));
            let listed = said.filter_map(|id| Listed::of(&state, *id)).filter(|listed| speaks(listed.core.from));
            let mut listed: Vec<Listed> = listed.collect();
            listed.sort_by_key(|listed| std::cmp::Reverse(listed.entry));
            listed.truncate(CONTACTS);
            listed
        };
        let valid = |listed: Listed| {
            let read = self.read(&listed, keys)?;
            let from =
                read.contacts.as_ref().filter(|found| found.office == office && found.valid_from <= now)?.valid_from;
            Some((from, listed.entry, read))
        };
        updates.into_iter().filter_map(valid).max_by_key(|(from, entry, _)| (*from, *entry)).map(|(.., read)| read)
    }

    /// Where the thread of a message stands, message by message.
    pub(super) fn thread(&self, uid: PeerUid, id: MessageId, language: Language) -> Result<Value, Failure> {
        let thread = self.store.state().header(id).map(|header| header.core().thread_id);
        let unknown = || Refusal::new(RefusalCode::UnknownMessage, "no such message here");
        let thread = thread.ok_or_else(unknown)?;
        let mut shown = self.shown(uid, thread, language, ONE).ok_or_else(unknown)?;
        // Content, and so what a message does, is for officers who unlocked.
        if let Err(locked) = self.vault.officer(uid) {
            shown["incomplete"] = json!(locked.to_string());
        }
        Ok(shown)
    }

    fn shown(&self, uid: PeerUid, thread: MessageId, language: Language, most: Most) -> Option<Value> {
        let keys = self.vault.officer(uid).and_then(|_| self.vault.office()).ok();
        let read = self.read_thread(thread, keys.as_deref())?;
        let mut shown = self.to_json(thread, &read, language, most);
        if let Some(keys) = keys {
            let now = self.composer.clock.now();
            let root = read.root();
            let others = [root.from].into_iter().chain(root.to.iter().copied()).filter(|office| *office != self.office);
            let found = others.filter_map(|office| self.contacts(office, &keys, now));
            let contacts: Vec<Value> = found.filter_map(|read| Some(duty(read.contacts.as_ref()?, now))).collect();
            shown["contacts"] = json!(contacts);
        }
        Some(shown)
    }

    /// The newest threads, oldest first.
    pub(super) fn threads(&self, uid: PeerUid, limit: usize, language: Language) -> Result<Value, Failure> {
        let mut newest: Vec<(Option<LogIndex>, MessageId)> = {
            let state = self.store.state();
            let last = |ids: &BTreeSet<MessageId>| ids.iter().filter_map(|id| state.entry_of(*id)).max();
            state.threads.iter().map(|(thread, ids)| (last(ids), *thread)).collect()
        };
        // By the log, not by ids, which their authors choose; what has no entry yet is newest.
        newest.sort_unstable_by_key(|(entry, thread)| (entry.is_none(), *entry, *thread));
        let ids: Vec<MessageId> = newest.into_iter().rev().take(limit).map(|(_, thread)| thread).collect();
        let shown: Vec<Value> = ids.into_iter().rev().filter_map(|id| self.shown(uid, id, language, OF_MANY)).collect();
        Ok(json!({"threads": shown}))
    }

    fn to_json(&self, thread: MessageId, read: &Thread, language: Language, most: Most) -> Value {
        let now = self.composer.clock.now();
        let label = |key: String| labels::text(language, &key);
        let step = |step: Step| short_name("STEP_", step.as_str_name());
        let expected = |expected: liaison_casework::thread::expected::Expected| {
            json!({
                "what": expected.what,
                "label": label(format!("expected-{}", expected.what)),
                "from": expected.from,
                "own": expected.from.contains(&self.office),
                "due": expected.due.map(|due| due.to_string()),
                "overdue": expected.due.is_some_and(|due| due < now),
            })
        };
        let offices = read.offices().iter().map(|(office, state)| json!({"office": office, "state": state.name()}));
        let root = read.root();
        let earlier = read.taken().len().saturating_sub(most.messages);
        let messages = read.events().iter().zip(read.taken()).skip(earlier);
        let held = read.victim_return().is_some_and(liaison_casework::thread::victim_return::VictimReturn::is_held);
        json!({
            "thread": thread,
            "workflow": read.workflow().name(),
            "kind": kind_name(root.kind),
            "kind_label": label(format!("kind-{}", kind_name(root.kind))),
            "from": root.from,
            "to": root.to,
            "state": step(read.state(now)),
            "label": label(format!("step-{}", step(read.state(now)))),
            "held": held,
            "hold_label": held.then(|| label("step-RETURN_BIA_HOLD".to_owned())),
            "offices": offices.collect::<Vec<_>>(),
            "messages": messages.map(|(event, taken)| message(read, event, taken, language)).collect::<Vec<_>>(),
            "expected": read.expected(&self.tables_in_force(), now).into_iter().take(most.expected).map(expected).collect::<Vec<_>>(),
            "earlier": earlier,
            "incomplete": read.is_incomplete().then_some("something in it cannot be read here"),
        })
    }
}

/// Who answers at an office, those on duty first.
fn duty(contacts: &Contacts, now: UnixMillis) -> Value {
    let mut officers: Vec<(bool, Value)> = contacts
        .officers
        .iter()
        .map(|officer| {
            let on_duty = officer.is_on_duty(contacts.office, now);
            let shown = json!({
                "name": plain(&officer.name), "role": plain(&officer.role), "number": plain(&officer.number),
                "languages": officer.languages, "hours": plain(&officer.hours), "on_duty": on_duty,
            });
            (on_duty, shown)
        })
        .collect();
    officers.sort_by_key(|(on_duty, _)| !on_duty);
    let officers: Vec<Value> = officers.into_iter().map(|(_, officer)| officer).collect();
    json!({"office": contacts.office, "valid_from": contacts.valid_from.to_string(), "officers": officers})
}

/// One message of a thread: what it is, and what became of it.
fn message(read: &Thread, event: &Event, taken: &Taken, language: Language) -> Value {
    let (mark, reason) = match taken.mark {
        Mark::Taken => ("TAKEN", None),
        Mark::Noted => ("NOTED", None),
        Mark::Unreadable => ("UNREADABLE", None),
        Mark::TakenBack => ("TAKEN_BACK", None),
        Mark::OutOfStep(reason) => ("OUT_OF_STEP", Some(reason)),
    };
    let kind = kind_name(taken.kind);
    json!({
        "message": taken.id,
        "from": taken.from,
        "kind": kind,
        "kind_label": labels::text(language, &format!("kind-{kind}")),
        "step": short_name("STEP_", event.step.as_str_name()),
        "at": event.created_at.to_string(),
        "mark": mark,
        "reason": reason.map(|reason| reason.code()),
        "advice": reason.map(|reason| labels::text(language, &format!("reason-{}", reason.code()))),
        "concurrent_with": taken.concurrent_with,
        "replaced_by": read.superseded_by(taken.id),
        "countersigned": event.digest.as_ref().is_some_and(|digest| digest.countersigned),
        "record_sha256": event.act().and_then(record),
    })
}

/// The hash that the other side quotes when it signs the same minutes.
fn record(act: &act::Act) -> Option<&str> {
    match act {
        act::Act::HandOver(signed) | act::Act::Minutes { signed, .. } => Some(&signed.sha256),
        _ => None,
    }
}
