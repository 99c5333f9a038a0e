//! The oracle: what must hold at every moment, and what must hold once everything has settled.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use liaison_audit::{
    mirror::{Source, mirror},
    receipt, report,
    verify::{Replay, verify},
};
use liaison_link::charter_files::Charters;
use liaison_log::leaf::{Event, ExchangeLeaf};
use liaison_proto::failure::chain;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    hostile::Deeds,
    net::Quality,
    officers::{self, Ledger, SECRET, Sent},
    template::{BROKER, HOSTILE, OFFICES},
    world::{AUDITOR, BROKER_MACHINE, World, Wrong},
};

/// What the nodes say of a broker that lacks what it has signed.
pub const ROLLED_BACK: &str = "the broker was rolled back";
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks, of half a second, within which a call arrives on a bad line.
const FLASH_LOOKS: u32 = 120;
/// States of a message that has arrived, and of one that was taken back before it had.
const ARRIVED: [&str; 4] = ["DELIVERED", "CANNOT_OPEN", "RETRIEVED", "ACKED"];
const TAKEN_BACK: [&str; 2] = ["WITHDRAWN", "TAKEN_BACK"];

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

async fn list(world: &World, office: &str, which: &str) -> Option<Vec<Value>> {
    let answer = world.asks(office, json!({"op": which, "limit": 4000})).await?;
    answer["messages"].as_array().cloned()
}

/// What was once seen: it may not be otherwise later, whatever dies between.
#[derive(Default)]
struct Seen {
    /// Number, by message and recipient, as the sender's node showed it.
    numbers: BTreeMap<(String, String), u64>,
    arrived: BTreeSet<(String, String)>,
    taken_back: BTreeSet<(String, String)>,
    /// Number, by office and message in its inbox.
    received: BTreeMap<(&'static str, String), Option<u64>>,
}

impl Seen {
    fn outbox(&mut self, office: &str, messages: &[Value]) -> Result<(), Wrong> {
        for message in messages {
            for recipient in message["recipients"].as_array().into_iter().flatten() {
                let place = (text(message, "message").to_owned(), text(recipient, "office").to_owned());
                if let Some(number) = recipient["number"].as_u64() {
                    let first = *self.numbers.entry(place.clone()).or_insert(number);
                    if first != number {
                        return Err(format!("promise 4: {place:?} of {office} had number {first}, now {number}"));
                    }
                } else if self.numbers.contains_key(&place) {
                    return Err(format!("promise 1: {office} has forgotten the receipt of {place:?}"));
                }
                let state = text(recipient, "state");
                if ARRIVED.contains(&state) {
                    self.arrived.insert(place);
                } else if self.arrived.contains(&place) {
                    return Err(format!("promise 6: {place:?} of {office} had arrived, and is {state} now"));
                } else if TAKEN_BACK.contains(&state) {
                    // Its statement may still be on the way: then it is DELIVERED (late).
                    self.taken_back.insert(place);
                } else if self.taken_back.contains(&place) {
                    return Err(format!("promise 6: {place:?} of {office} was taken back, and is {state} now"));
                }
            }
        }
        Ok(())
    }

    fn inbox(&mut self, office: &'static str, messages: &[Value]) -> Result<(), Wrong> {
        let mut ids = BTreeSet::new();
        for message in messages {
            let (id, number) = (text(message, "message").to_owned(), message["number"].as_u64());
            if !ids.insert(id.clone()) {
                return Err(format!("promise 3: {id} is twice in the inbox of {office}"));
            }
            // One that is delivered while the log is under repair has none yet.
            let first =
                *self.received.entry((office, id.clone())).and_modify(|held| *held = held.or(number)).or_insert(number);
            if first != number {
                return Err(format!("promise 4: {id} had number {first:?} at {office}, now {number:?}"));
            }
        }
        let lost = self.received.keys().find(|(of, id)| *of == office && !ids.contains(id));
        lost.map_or(Ok(()), |(_, id)| Err(format!("promise 1: {id} is gone from the inbox of {office}")))
    }
}

/// Looks at every node until something is wrong.
pub async fn watches(world: &World, ledger: &Ledger) -> Wrong {
    let seen = RefCell::new(Seen::default());
    loop {
        sleep(LOOK).await;
        for (office, _) in OFFICES {
            let Some(outbox) = list(world, office, "outbox").await else { continue };
            let looked = seen.borrow_mut().outbox(office, &outbox).and_then(|()| is_kept(ledger, office, &outbox));
            if let Err(wrong) = looked {
                return wrong;
            }
            let Some(inbox) = list(world, office, "inbox").await else { continue };
            if let Err(wrong) = seen.borrow_mut().inbox(office, &inbox) {
                return wrong;
            }
        }
    }
}

/// Everything that an office's node took is in its outbox.
fn is_kept(ledger: &Ledger, office: &str, outbox: &[Value]) -> Result<(), Wrong> {
    let ids: BTreeSet<&str> = outbox.iter().map(|message| text(message, "message")).collect();
    let lost = ledger.messages().into_iter().find(|(id, sent)| sent.from == office && !ids.contains(id.as_str()));
    lost.map_or(Ok(()), |(id, _)| Err(format!("{office} took {id}, and does not have it")))
}

fn is_settled(message: &Value, sent: Option<&Sent>) -> bool {
    let taken_back = sent.is_none_or(|sent| sent.taken_back);
    let good = |state: &str| ["RETRIEVED", "ACKED"].contains(&state) || (taken_back && TAKEN_BACK.contains(&state));
    message["recipients"].as_array().into_iter().flatten().all(|recipient| good(text(recipient, "state")))
}

/// Waits until every message has come to its end, with every office unlocked, and the log takes new ones.
pub async fn settles(world: &World, ledger: &Ledger) {
    loop {
        for (office, _) in OFFICES {
            let status = world.asks(office, json!({"op": "status"})).await.unwrap_or_default();
            if status["officer"].is_null() {
                let _ = world.unlocks(office).await;
            }
        }
        sleep(5 * LOOK).await;
        if !world.broker_is_closed() && unsettled(world, ledger).await.is_empty() {
            return;
        }
    }
}

async fn unsettled(world: &World, ledger: &Ledger) -> Vec<String> {
    let (messages, mut open) = (ledger.messages(), Vec::new());
    for (office, _) in OFFICES {
        let Some(outbox) = list(world, office, "outbox").await else {
            return vec![format!("{office} does not answer")];
        };
        for message in outbox {
            if !is_settled(&message, messages.get(text(&message, "message"))) {
                open.push(format!("{office} {} {}", text(&message, "message"), message["recipients"]));
            }
        }
    }
    open
}

/// What has not come to its end.
pub async fn missing(world: &World, ledger: &Ledger) -> String {
    let mut lines = unsettled(world, ledger).await;
    for (office, _) in OFFICES {
        lines.extend(world.asks(office, json!({"op": "status"})).await.map(|status| format!("{office}: {status}")));
    }
    lines.push(format!("the broker: {:?}", world.broker_problems()));
    lines.join("\n")
}

/// Judges a world that has settled; returns the roots of its logs.
///
/// # Errors
/// The first promise that does not hold.
pub async fn judges(world: &World, ledger: &Ledger, deeds: &Deeds) -> Result<String, Wrong> {
    inboxes(world, ledger, deeds, Arrival::All).await?;
    alarms(world).await?;
    let replay = audited(world).await?;
    let undelivered = json!(report::summarize(&replay))["undelivered"].clone();
    if undelivered != json!([]) {
        return Err(format!("the auditor finds undelivered: {undelivered}"));
    }
    secrets(world)?;
    nothing_is_forged(world, deeds, &replay).await?;
    receipts(world, ledger, &replay).await?;
    let leaves: Vec<&[u8]> = replay.leaves.iter().map(AsRef::as_ref).collect();
    Ok(liaison_proto::sha256(&leaves).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nobody has an alarm without a reason.
///
/// # Errors
/// When somebody has.
pub async fn alarms(world: &World) -> Result<(), Wrong> {
    for (office, _) in OFFICES {
        let alarms = world.asks(office, json!({"op": "alarms"})).await.unwrap_or_default();
        let told = alarms["alarms"].as_array().cloned().unwrap_or_default();
        // A broker that was restored was rolled back, whoever meant well by it.
        let explained = |alarm: &Value| world.was_restored() && text(alarm, "what").contains(ROLLED_BACK);
        if let Some(alarm) = told.iter().find(|alarm| !explained(alarm)) {
            return Err(format!("{office} has an alarm, and the broker did not cheat: {alarm}"));
        }
    }
    Ok(())
}

/// The broker has no content.
///
/// # Errors
/// When it has.
pub fn secrets(world: &World) -> Result<(), Wrong> {
    for (directory, disk) in world.devices.of(&world.data(BROKER_MACHINE)) {
        for (name, bytes) in disk.files() {
            if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                return Err(format!("promise 7: the broker has content in {}/{name}", directory.display()));
            }
        }
    }
    Ok(())
}

/// Every message in the log is one that its sender's node has, or that the hostile party might send; and every message in an
/// inbox is in the log.
async fn nothing_is_forged(world: &World, deeds: &Deeds, replay: &Replay) -> Result<(), Wrong> {
    let mut sent: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (office, _) in OFFICES {
        let outbox = list(world, office, "outbox").await.ok_or_else(|| format!("{office} does not answer"))?;
        // What never left is nowhere.
        let left = outbox.iter().filter(|message| {
            message["recipients"].as_array().into_iter().flatten().any(|to| text(to, "state") != "TAKEN_BACK")
        });
        sent.insert(office, left.map(|message| text(message, "message").to_owned()).collect());
    }
    let mut logged = BTreeSet::new();
    for leaf in &replay.leaves {
        let Ok(ExchangeLeaf { event: Event::Accepted { header, .. }, .. }) = ExchangeLeaf::parse(leaf) else {
            continue;
        };
        let (id, from) = (header.core().message_id.to_string(), header.core().from.to_string());
        let known =
            if from == HOSTILE { deeds.sent(&id) } else { sent.get(from.as_str()).is_some_and(|s| s.contains(&id)) };
        if !known {
            return Err(format!("promise 9: the log has {id} of {from}, who did not send it"));
        }
        logged.insert(id);
    }
    for (office, _) in OFFICES {
        let inbox = list(world, office, "inbox").await.ok_or_else(|| format!("{office} does not answer"))?;
        if let Some(message) = inbox.iter().find(|message| !logged.contains(text(message, "message"))) {
            return Err(format!("promise 2: {office} has {message}, which is not in the log"));
        }
    }
    Ok(())
}

/// Whether a message is one that its sender's node has, or that the hostile party might send.
async fn has_sent(world: &World, deeds: &Deeds, from: &str, id: &str) -> bool {
    if from == HOSTILE {
        return deeds.sent(id);
    }
    let outbox = list(world, from, "outbox").await.unwrap_or_default();
    outbox.iter().any(|message| text(message, "message") == id)
}

/// Whether everything must have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Whatever was not taken back.
    All,
    /// What cannot wait: the log is closed.
    Urgent,
}

/// Every message is in the inbox of each of its recipients once, with what was written, or was taken back before; and nothing
/// is there that nobody wrote.
///
/// # Errors
/// When it is not.
pub async fn inboxes(world: &World, ledger: &Ledger, deeds: &Deeds, arrival: Arrival) -> Result<(), Wrong> {
    let sent = ledger.messages();
    let mut found: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (office, _) in OFFICES {
        let inbox = list(world, office, "inbox").await.ok_or_else(|| format!("{office} does not answer"))?;
        for message in inbox {
            let id = text(&message, "message").to_owned();
            *found.entry((office, id.clone())).or_default() += 1;
            let shown = world.asks(office, json!({"op": "show", "message": id})).await.unwrap_or_default();
            let summary = shown["content"]["summary"].as_str();
            let written = sent.get(&id).map(|sent| sent.summary.as_deref());
            let as_written = match (written, summary) {
                (Some(written), read) => written == read,
                // Its sender's node died before it said so.
                (None, Some(read)) => ledger.was_tried(read),
                // An answer whose sender's node died before it said so; or the hostile party's.
                (None, None) => has_sent(world, deeds, text(&message, "from"), &id).await,
            };
            if !as_written {
                return Err(format!("promise 7: {office} reads {summary:?} in {id}, and {written:?} was written"));
            }
        }
    }
    for (id, sent) in &sent {
        for office in &sent.to {
            let times = found.get(&(office.as_str(), id.clone())).copied().unwrap_or_default();
            if times > 0 && sent.never_left {
                return Err(format!("promise 6: {id} of {} never left, they said, and {office} has it", sent.from));
            }
            let may_be_missing = sent.taken_back || (arrival == Arrival::Urgent && !sent.cannot_wait);
            if times != 1 && !(times == 0 && may_be_missing) {
                let promise = if arrival == Arrival::All { 3 } else { 10 };
                let place = format!("the inbox of {office}");
                return Err(format!("promise {promise}: {id} of {} is {times} times in {place}", sent.from));
            }
        }
    }
    Ok(())
}

/// Every receipt that a node shows is one that the auditor finds in the log.
async fn receipts(world: &World, ledger: &Ledger, replay: &Replay) -> Result<(), Wrong> {
    let charter = world.template.charter().map_err(|e| e.to_string())?;
    for (id, sent) in ledger.messages() {
        let answer = world.asks(sent.from, json!({"op": "receipt", "message": id})).await.unwrap_or_default();
        let Some(proof) = answer["proof"].as_str() else {
            // What was taken back before it left has none.
            if sent.taken_back {
                continue;
            }
            return Err(format!("promise 1: {} shows no receipt of {id}: {answer}", sent.from));
        };
        let checked = receipt::check_bytes(&proof.as_bytes().to_vec().into(), &charter, Some(replay));
        let found = checked.map_err(|finding| format!("promise 8: the receipt of {id}: {finding:?}"))?;
        if found["in_copy"] != true || found["about"]["message"] != id.as_str() {
            return Err(format!("promise 1: the receipt of {id} is not in the log: {found}"));
        }
    }
    Ok(())
}

/// A line of 64 kbit/s, and a crowd of routine messages on it: FLASH is there before most of them.
///
/// # Errors
/// When it is not.
pub async fn flash_goes_first(world: &World, ledger: &Ledger) -> Result<(), Wrong> {
    let [(from, _), (to, _), _] = OFFICES;
    world.note("a call for help behind a crowd");
    world.net.set_quality(from, Quality::BAD);
    let (crowd, call) = officers::calls_behind_a_crowd(world, ledger, from, to).await?;
    for _ in 0..FLASH_LOOKS {
        sleep(LOOK / 2).await;
        let inbox = list(world, to, "inbox").await.unwrap_or_default();
        let arrived = |id: &str| inbox.iter().any(|message| text(message, "message") == id);
        let before = crowd.iter().filter(|id| arrived(id)).count();
        if arrived(&call) {
            world.note(format!("the call arrived, and {before} of {} before it", crowd.len()));
            return Ok(());
        }
        if before > crowd.len() / 2 {
            return Err(format!(
                "promise 5: {before} routine messages arrived before the call that was sent after them"
            ));
        }
    }
    Err(format!("promise 5: {call} did not arrive within a minute: {}", missing(world, ledger).await))
}

/// The auditor's verdict, over the network like an auditor's.
async fn audited(world: &World) -> Result<Replay, Wrong> {
    let (template, out) = (&world.template, world.data("audit"));
    let failed = |what: &str, error: String| format!("the auditor could not {what}: {error}");
    let charter = template.path("charter/charter.toml");
    let charters = Charters::open(&charter, Some(template.charter_sha256()), out.join("charters"))
        .map_err(|e| failed("read the charter", chain(&e)))?;
    let material = template.path("charter/auditors/auditor-1");
    let source = Source {
        broker: BROKER.parse().map_err(|_| "no address".to_owned())?,
        certificate: material.join("tls.pem"),
        key: material.join("tls.key"),
        dialer: world.net.dialer(AUDITOR, &Arc::new(AtomicBool::new(true))),
    };
    let (_, findings) = mirror(&charters, &source, &out).await.map_err(|e| failed("copy the logs", chain(&e)))?;
    let replay = verify(&out, &charters.get()).map_err(|e| failed("read the copy", e.to_string()))?;
    match findings.iter().chain(&replay.findings).next() {
        Some(finding) => Err(format!("promise 8: the auditor finds {finding:?}")),
        None => Ok(replay),
    }
}
