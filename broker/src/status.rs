//! What the broker says of itself on its local socket: how much there is, what waits, and what is wrong.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use liaison_link::{local::PeerUid, time::FlooredTime};
use liaison_log::{
    disk::{Disk as _, OsDisk},
    reader::LogReader,
};
use liaison_proto::{charter::Charter, clock::Clock as _, ids::OfficeId};
use serde_json::{Value, json};

use crate::{
    connections::Connections, holding::Holding, identity::Party, index::SledIndex, queue::Queue, repair::Repair,
    revocation::Revocations,
};

/// What `status` is answered from.
#[derive(Clone)]
pub struct StatusSource {
    /// The newest charter, with those before it.
    pub charter: Arc<Charter>,
    /// The directory log.
    pub directory: Arc<LogReader>,
    /// The exchange log.
    pub exchange: Arc<LogReader>,
    /// What waits.
    pub queue: Arc<Queue>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// Revocation lists.
    pub revocations: Arc<RwLock<Revocations>>,
    /// Why the newest certificate is not used, if it is not.
    pub certificate_problem: Arc<Mutex<Option<String>>>,
    /// Why metrics are not served, if they are to be and are not.
    pub metrics_problem: Arc<Mutex<Option<String>>>,
    /// What entries are missing.
    pub repair: Arc<Repair>,
    /// What cannot wait meanwhile.
    pub holding: Arc<Holding>,
    /// The index.
    pub index: Arc<SledIndex>,
    /// What recovery found that an operator should know.
    pub recovered: Vec<String>,
    /// The data directory.
    pub data: PathBuf,
    /// Bytes that must stay free.
    pub reserve: u64,
    /// Address for nodes and auditors.
    pub address: String,
    /// The clock.
    pub clock: FlooredTime,
}

impl StatusSource {
    /// Bytes that can still be written.
    #[must_use]
    pub fn available(&self) -> u64 {
        OsDisk::new(&self.data).available().unwrap_or(0)
    }

    /// What a human should look after, a line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.recovered.clone();
        problems.extend(self.repair.problems());
        for (office, held) in self.holding.waiting() {
            let there = if self.connections.has(&Party::Office(office)) {
                "goes to it UNPROVEN"
            } else {
                "it is not connected"
            };
            problems.push(format!("{held} FLASH or URGENT held for {office} while the log is under repair: {there}"));
        }
        problems.extend(self.clock.problem());
        let available = self.available();
        if available < self.reserve {
            problems.push(format!(
                "the disk is full: {} MiB are free and {} MiB must stay free; nothing is accepted until there is room",
                available >> 20,
                self.reserve >> 20
            ));
        }
        for problem in [&self.certificate_problem, &self.metrics_problem] {
            problems.extend(problem.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        problems.extend(revocations.problems(self.clock.now()));
        let mut away: Vec<(OfficeId, usize)> = Vec::new();
        for (office, _, count) in self.queue.waiting() {
            match away.last_mut() {
                Some((last, sum)) if *last == office => *sum += count,
                _ => away.push((office, count)),
            }
        }
        for (office, count) in away {
            if !self.connections.has(&Party::Office(office)) {
                problems.push(format!("{office} is not connected, and {count} messages wait for it"));
            }
        }
        problems
    }

    /// Sizes, queues and problems, without content or persons.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut waiting = serde_json::Map::new();
        for (office, lane, count) in self.queue.waiting() {
            let lanes = waiting.entry(office.to_string()).or_insert_with(|| json!({}));
            lanes[json!(lane).as_str().unwrap_or_default()] = json!(count);
        }
        let overlap = self.charter.before().map(|_| self.charter.overlap_end());
        json!({
            "listening": self.address,
            "charter": self.charter.number(),
            "charter_sha256": self.charter.fingerprint(),
            "charter_before_until": overlap.filter(|end| *end > self.clock.now()).map(|end| end.to_string()),
            "directory_entries": self.directory.checkpoint().size(),
            "exchange_entries": self.exchange.checkpoint().size(),
            "connections": self.connections.count(),
            "waiting": waiting,
            "index_bytes": self.index.size_on_disk(),
            "problems": self.problems(),
        })
    }
}

/// Answers on the local socket: how the broker is, or where its log ends when it is to be closed.
pub async fn answer(status: &StatusSource, repair: Arc<Repair>, uid: PeerUid, request: &Value) -> Value {
    if request["op"] != "close-log" {
        return status.to_json();
    }
    // The group may look, the operator may act.
    let owner = fs::metadata(&status.data).map(|data| data.uid());
    if uid.0 != 0 && owner.ok() != Some(uid.0) {
        return json!({"error": "the log is closed by the broker's own user"});
    }
    match Arc::clone(&repair).end().await {
        Ok(closed) => json!({ "closed": closed, "unheard": repair.unheard() }),
        Err(refusal) => json!({ "error": refusal.to_string() }),
    }
}

/// The answer as text.
#[must_use]
pub fn to_text(status: &Value) -> String {
    let until = status["charter_before_until"].as_str();
    let beside = until.map(|until| format!("the charter before holds beside it until {until}\n")).unwrap_or_default();
    let mut text = format!(
        "listening on {}, {} connections\ncharter no. {}, SHA-256 {}\n{}directory log: {} entries\nexchange log:  {} entries\n",
        status["listening"].as_str().unwrap_or("-"),
        status["connections"],
        status["charter"],
        status["charter_sha256"].as_str().unwrap_or("-"),
        beside,
        status["directory_entries"],
        status["exchange_entries"],
    );
    match status["waiting"].as_object().filter(|waiting| !waiting.is_empty()) {
        None => text.push_str("nothing waits for delivery\n"),
        Some(waiting) => {
            for (office, lanes) in waiting {
                let lanes = lanes.as_object().into_iter().flatten();
                let counts: Vec<String> = lanes.map(|(lane, count)| format!("{count} {lane}")).collect();
                text.push_str(&format!("waiting for {office}: {}\n", counts.join(", ")));
            }
        }
    }
    match status["problems"].as_array().filter(|problems| !problems.is_empty()) {
        None => text.push_str("no problems\n"),
        Some(problems) => {
            for problem in problems {
                text.push_str(&format!("PROBLEM: {}\n", problem.as_str().unwrap_or_default()));
            }
        }
    }
    text
}
