//! How long the index remembers a message: bounded, and never so short that something could enter twice.

use std::path::Path;

use liaison_broker::admit::{self, Submission};
use liaison_log::{
    exchange::ExchangeState,
    index::MemoryIndex,
    leaf::{Event, ExchangeLeaf, Statement},
};
use liaison_proto::{
    clock::{Clock as _, DAY_MS, SystemClock, UnixMillis},
    envelope::UnverifiedEnvelope,
    header::Header,
    ids::LogIndex,
    refusal::RefusalCode,
    wire::{CannotOpenReason, StatementKind},
};
use liaison_tests::world::World;

use super::{HEKOU, LAO_CAI};
use crate::support::Forger;

/// Applies events to a state, in the broker's manner.
struct Applier {
    state: ExchangeState,
    forger: Forger,
    next: u64,
}

impl Applier {
    fn enter(&mut self, time: UnixMillis, event: Event) -> LogIndex {
        let index = LogIndex(self.next);
        let leaf = ExchangeLeaf { time, directory_size: 1, marks: Vec::new(), event };
        self.state.apply(index, &leaf, [0; 32]).unwrap();
        self.next += 1;
        index
    }

    /// A message is accepted; what its recipient states of it, when it does.
    fn accept(&mut self, time: UnixMillis, created: UnixMillis) -> Statement {
        let envelope = self.forger.changed(HEKOU, |parts| parts.core.created_at_ms = created.0);
        let header = Header::parse(envelope.header).unwrap();
        let channel = header.core().channels().next().unwrap();
        let (message_id, header_sha256) = (header.core().message_id, header.sha256());
        let number = self.state.next_number(channel).unwrap();
        let event =
            Event::Accepted { header: Box::new(header), signature: envelope.office_signature, numbers: vec![number] };
        let accepted = self.enter(time, event);
        let office = HEKOU.parse().unwrap();
        Statement {
            message_id,
            office,
            accepted,
            header_sha256,
            number,
            at: time,
            reason: CannotOpenReason::Unspecified,
        }
    }

    fn state(&mut self, time: UnixMillis, kinds: &[StatementKind], statement: &Statement) {
        for &kind in kinds {
            let (bytes, statement) = (statement.encode(), statement.clone());
            self.enter(time, Event::Attested { kind, statement, bytes, signature: None });
        }
    }

    fn knows(&self, statement: &Statement) -> bool {
        self.state.message(statement.message_id).unwrap().is_some()
    }
}

/// Promise 3 with a bounded index: a message id is remembered for 60 days after the later of creation and admission,
/// and for as long as the message is not finished; what was created before is refused, so nothing enters twice.
#[test]
fn promise_3_finished_messages_are_forgotten_after_60_days_and_nothing_older_is_admitted() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::create(directory.path(), Path::new(env!("CARGO_BIN_EXE_demo"))).unwrap();
    let (start, both) = (SystemClock.now(), [StatementKind::Delivered, StatementKind::Retrieved]);
    let state = ExchangeState::open(Box::<MemoryIndex>::default()).unwrap();
    let mut log = Applier { state, forger: Forger::new(&world, LAO_CAI), next: 0 };
    let day = |n: i64| start.plus(n * DAY_MS);
    let finished = log.accept(day(0), day(0));
    let ahead = log.accept(day(0), day(5));
    let behind = log.accept(day(4), day(0));
    let waiting = log.accept(day(4), day(4));
    let unopened = log.accept(day(4), day(4));
    for statement in [&finished, &ahead, &behind] {
        log.state(day(4), &both, statement);
    }
    log.state(day(4), &both[..1], &unopened);
    for n in 5..=70 {
        let daily = log.accept(day(n), day(n));
        log.state(day(n), &both, &daily);
        assert_eq!(log.knows(&finished), n <= 60, "day {n}");
        assert_eq!(log.knows(&behind), n <= 64, "day {n}: forgotten before 60 days after its admission");
        assert_eq!(log.knows(&ahead), n <= 65, "day {n}: its clock was ahead, and it could be entered twice");
        assert!(log.knows(&waiting) && log.knows(&unopened), "day {n}: an unfinished message was forgotten");
    }
    // Once they are finished they go, too; looked at again within a day.
    log.state(day(70), &both, &waiting);
    log.state(day(70), &both[1..], &unopened);
    for n in 71..=73 {
        log.accept(day(n), day(n));
    }
    assert!(!log.knows(&waiting) && !log.knows(&unopened), "finished, past the horizon, and still known");

    let admit = |created: UnixMillis, now: UnixMillis| {
        let envelope = log.forger.changed(HEKOU, |parts| parts.core.created_at_ms = created.0);
        let envelope = UnverifiedEnvelope::parse(envelope).unwrap();
        let submission = Submission { office: LAO_CAI.parse().unwrap(), envelope, marks: Vec::new() };
        admit::admit(submission, &log.forger.directory, now).map(|_| ()).map_err(|rejection| rejection.refusal.code)
    };
    assert_eq!(admit(day(0), day(60)), Ok(()));
    assert_eq!(admit(day(0), day(60).plus(1)), Err(RefusalCode::TooOld));
    // Whatever was forgotten is refused by its age: it was created at least as long ago.
    for (created, forgotten) in [(0, 61), (5, 66), (0, 65)] {
        assert_eq!(admit(day(created), day(forgotten)), Err(RefusalCode::TooOld));
    }
}
