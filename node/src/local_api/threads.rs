//! Threads: where each stands, what it expects, and whether what is about to be sent fits.

use std::collections::BTreeSet;

use liaison_casework::{
    act,
    case_file::CaseFile,
    catalogue::{kind_name, short_name},
    deadlines::Deadlines,
    labels::{self, Language},
    thread::{
        Mark, Taken, Thread, Workflow,
        control::{self, ControlBreach},
        event::Event,
    },
};
use liaison_link::local::PeerUid;
use liaison_proto::{
    clock::UnixMillis,
    header::Core,
    ids::{LogIndex, MessageId, OfficeId},
    refusal::{Refusal, RefusalCode},
    wire::{Kind, StatementKind, Step},
};
use serde_json::{Value, json};

use super::{Failure, LocalApi};
use crate::{
    compose::Draft,
    keystore::OfficeKeys,
    state::{Said, State},
};

/// A thread as this office has it, before a message is added.
pub(super) struct Known {
    thread: MessageId,
    answered: MessageId,
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
    /// The cores of a thread's messages that count, each with its entry in the log.
    fn cores(&self, thread: MessageId) -> (Vec<(Core, Option<LogIndex>)>, Vec<OfficeId>) {
        let state = self.store.state();
        let ids = state.threads.get(&thread).into_iter().flatten();
        let cores = ids.filter_map(|id| Some((state.header(*id)?.core().clone(), state.entry_of(*id)))).collect();
        (cores, delivered(&state, thread))
    }

    fn events(&self, cores: &[(Core, Option<LogIndex>)], keys: Option<&OfficeKeys>) -> Vec<Event> {
        let event = |(core, entry): &(Core, Option<LogIndex>)| {
            let opened = keys.and_then(|keys| self.opener.read(core.message_id, keys).ok());
            Event::new(core, *entry, opened.as_ref().map(|opened| opened.content.message()))
        };
        cores.iter().map(event).collect()
    }

    /// The thread that a case file answers in; none when it begins one, or answers what is not here.
    pub(super) fn answered_thread(&self, case: &CaseFile, keys: &OfficeKeys) -> Option<Known> {
        let answered = case.in_reply_to?;
        let thread = self.store.state().header(answered)?.core().thread_id;
        let (cores, delivered) = self.cores(thread);
        let events = self.events(&cores, Some(keys));
        let read = Thread::replay(thread, events.iter().cloned(), &delivered);
        Some(Known { thread, answered, events, read })
    }

    /// Whether a message fits its thread, and stays within what its originators allow.
    ///
    /// # Errors
    /// `OUT_OF_STEP` or `ONWARD_NOT_GRANTED`.
    pub(super) fn check_thread(&self, case: &CaseFile, draft: &Draft, known: Option<&Known>) -> Result<(), Refusal> {
        let Some(known) = known else { return Ok(()) };
        let candidate = draft.event(case);
        let answered = known.events.iter().find(|event| event.id == known.answered);
        if let Some((answered, read)) = answered.zip(known.read.as_ref()) {
            control::check(&candidate, answered, read).map_err(|breach| {
                let detail = match breach {
                    ControlBreach::NotGranted(office) => {
                        format!("its originator has not allowed that {office} gets it (handling H2)")
                    }
                    ControlBreach::Wider { at_least } => {
                        let tlp = short_name("TLP_", at_least.as_str_name()).replace('_', "+");
                        format!("the message answered is TLP {tlp}; an answer is never wider")
                    }
                };
                Refusal::new(RefusalCode::OnwardNotGranted, detail)
            })?;
        }
        let missing = known.read.as_ref().map(|read| control::not_reached(&candidate, read)).unwrap_or_default();
        if let Some(office) = missing.first() {
            let detail = format!("a change of consent goes to every holder: {office} is missing");
            return Err(Refusal::new(RefusalCode::OutOfStep, detail));
        }
        Thread::check(known.thread, known.events.iter().cloned(), candidate).map_err(|reason| {
            let workflow = known.read.as_ref().map_or("general", |read| read.workflow().name());
            let state = known.read.as_ref().map_or(Step::Sent, |read| read.state(self.composer.clock.now()));
            let state = short_name("STEP_", state.as_str_name());
            Refusal::new(RefusalCode::OutOfStep, format!("the {workflow} thread stands at {state}: {reason}"))
        })
    }

    /// Where the thread of a message stands, message by message.
    pub(super) fn thread(&self, uid: PeerUid, id: MessageId, language: Language) -> Result<Value, Failure> {
        let thread = self.store.state().header(id).map(|header| header.core().thread_id);
        let unknown = || Refusal::new(RefusalCode::UnknownMessage, "no such message here");
        let thread = thread.ok_or_else(unknown)?;
        let mut shown = self.shown(uid, thread, language).ok_or_else(unknown)?;
        // Content, and so what a message does, is for officers who unlocked.
        if let Err(locked) = self.vault.officer(uid) {
            shown["incomplete"] = json!(locked.to_string());
        }
        Ok(shown)
    }

    fn shown(&self, uid: PeerUid, thread: MessageId, language: Language) -> Option<Value> {
        let keys = self.vault.officer(uid).and_then(|_| self.vault.office()).ok();
        let (cores, delivered) = self.cores(thread);
        let events = self.events(&cores, keys.as_deref());
        let read = Thread::replay(thread, events, &delivered)?;
        Some(self.to_json(thread, &read, language))
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
        let shown: Vec<Value> = ids.into_iter().rev().filter_map(|id| self.shown(uid, id, language)).collect();
        Ok(json!({"threads": shown}))
    }

    fn to_json(&self, thread: MessageId, read: &Thread, language: Language) -> Value {
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
            "messages": read.taken().iter().map(|taken| message(read, taken, language)).collect::<Vec<_>>(),
            "expected": read.expected(&Deadlines::default(), now).into_iter().map(expected).collect::<Vec<_>>(),
            "incomplete": read.is_incomplete().then_some("something in it cannot be read here"),
        })
    }
}

/// One message of a thread: what it is, and what became of it.
fn message(read: &Thread, taken: &Taken, language: Language) -> Value {
    let event = read.events().iter().find(|event| event.id == taken.id);
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
        "step": event.map(|event| short_name("STEP_", event.step.as_str_name())),
        "at": event.map_or(UnixMillis(0), |event| event.created_at).to_string(),
        "mark": mark,
        "reason": reason.map(|reason| reason.code()),
        "advice": reason.map(|reason| reason.advice()),
        "concurrent_with": taken.concurrent_with,
        "record_sha256": event.and_then(|event| event.act.as_ref()).and_then(record),
    })
}

/// The hash that the other side quotes when it signs the same minutes.
fn record(act: &act::Act) -> Option<&str> {
    match act {
        act::Act::HandOver(signed) | act::Act::Minutes { signed, .. } => Some(&signed.sha256),
        _ => None,
    }
}
