//! What officers do, and the ledger of what their nodes promised them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    template::OFFICES,
    world::{World, Wrong},
};
use crate::dice::Dice;

/// What every summary begins with: whoever may not read content must never have these bytes.
pub const SECRET: &str = "Confided by a survivor";

/// A message that a node took.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The office.
    pub from: &'static str,
    /// Its recipients.
    pub to: Vec<String>,
    /// What was written; none for answers.
    pub summary: Option<String>,
    /// Whether it is FLASH or URGENT.
    pub cannot_wait: bool,
    /// Whether its node said that it never left.
    pub never_left: bool,
    /// Whether its officer took it back.
    pub taken_back: bool,
}

impl Sent {
    const fn new(from: &'static str, to: Vec<String>, summary: Option<String>, cannot_wait: bool) -> Self {
        Self { from, to, summary, cannot_wait, never_left: false, taken_back: false }
    }
}

/// What was promised.
#[derive(Debug, Default)]
pub struct Ledger {
    sent: RefCell<BTreeMap<String, Sent>>,
    tried: RefCell<BTreeSet<String>>,
}

impl Ledger {
    /// How many messages nodes took.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent.borrow().len()
    }

    /// The messages that nodes took, by id.
    #[must_use]
    pub fn messages(&self) -> BTreeMap<String, Sent> {
        self.sent.borrow().clone()
    }

    /// Whether this was ever written, also when the node died before it said that it took it.
    #[must_use]
    pub fn was_tried(&self, summary: &str) -> bool {
        self.tried.borrow().contains(summary)
    }

    fn note(&self, id: &str, sent: Sent) {
        self.sent.borrow_mut().insert(id.to_owned(), sent);
    }
}

fn notice(to: &[&str], priority: &str, summary: &str) -> Value {
    let file = json!({
        "kind": "CASE_NOTICE", "to": to, "priority": priority, "handling": "H2", "tlp": "AMBER+STRICT",
        "legal_basis": ["COMMIT"], "purpose": "PREVENT", "language": "eng",
        "content": {
            "summary": summary, "evaluation": {"source": "A", "information": 1}, "event_type": "ATTEMPT",
            "place": {"country": "VN", "gate": "VN-LCA"}, "date": {"value": "2026-11"}, "trafficking_status": "UNK",
        },
    });
    json!({"op": "send", "file": file.to_string()})
}

/// Forty routine messages and then a call, from one office to another; returns their ids.
///
/// # Errors
/// When the node does not take them.
pub async fn calls_behind_a_crowd(
    world: &World,
    ledger: &Ledger,
    from: &'static str,
    to: &'static str,
) -> Result<(Vec<String>, String), Wrong> {
    let mut ids = Vec::new();
    for n in 0..=40 {
        if n == 40 {
            // The crowd is on its way: what can be taken back is held for a while.
            sleep(world.hold()).await;
        }
        let (priority, summary) = (if n < 40 { "ROUTINE" } else { "FLASH" }, format!("{SECRET}, in a crowd: no. {n}"));
        ledger.tried.borrow_mut().insert(summary.clone());
        let answer = world.asks(from, notice(&[to], priority, &summary)).await.unwrap_or_default();
        let id = answer["message"].as_str().ok_or_else(|| format!("{from} does not take a message: {answer}"))?;
        ledger.note(id, Sent::new(from, vec![to.to_owned()], Some(summary), priority != "ROUTINE"));
        ids.push(id.to_owned());
    }
    let call = ids.pop().unwrap_or_default();
    Ok((ids, call))
}

/// All officers work at the same time.
///
/// # Errors
/// When a node answers what it never may.
pub async fn work(world: &World, ledger: &Ledger, mut dice: Dice) -> Result<(), Wrong> {
    let [first, second, third] = OFFICES.map(|(office, _)| Officer { world, ledger, office, dice: dice.fork() });
    tokio::try_join!(first.works(), second.works(), third.works()).map(|_| ())
}

struct Officer<'a> {
    world: &'a World,
    ledger: &'a Ledger,
    office: &'static str,
    dice: Dice,
}

impl Officer<'_> {
    async fn works(mut self) -> Result<(), Wrong> {
        let busy = 6 + self.dice.roll(12);
        for n in 0..busy {
            sleep(self.pause()).await;
            match self.dice.roll(12) {
                0..=6 => self.sends(n).await?,
                7 => {
                    for burst in 0..self.dice.roll(8) {
                        self.sends(n * 100 + burst).await?;
                    }
                }
                8 | 9 => self.acknowledges().await?,
                10 => self.takes_back().await?,
                _ => drop(self.asks(json!({"op": "rotate-keys"})).await?),
            }
        }
        Ok(())
    }

    fn pause(&mut self) -> Duration {
        if self.dice.once_in(8) { self.dice.millis(20_000..=90_000) } else { self.dice.millis(10..=4_000) }
    }

    /// Asks, unlocking first where it must be. None when the node is down, or dies.
    async fn asks(&mut self, request: Value) -> Result<Option<Value>, Wrong> {
        for _ in 0..3 {
            let Some(answer) = self.world.asks(self.office, request.clone()).await else { return Ok(None) };
            if answer["error"].is_null() {
                return Ok(Some(answer));
            }
            if !answer["locked"].is_null() || answer.to_string().contains("unlock") {
                if self.world.unlocks(self.office).await.is_none() {
                    return Ok(None);
                }
                continue;
            }
            // What a node may say when its device fails, is full, or the directory does not have everybody yet.
            let said = answer.to_string();
            self.world.note(format!("{} is told {said}", self.office));
            return Ok(None);
        }
        Err(format!("{} cannot be unlocked", self.office))
    }

    async fn sends(&mut self, n: u64) -> Result<(), Wrong> {
        let mut others: Vec<&str> = OFFICES.iter().map(|(office, _)| *office).filter(|o| *o != self.office).collect();
        if !self.dice.once_in(4) {
            others.remove(self.dice.roll(2) as usize);
        }
        let priority = *self.dice.one(&["FLASH", "URGENT", "URGENT", "ROUTINE", "ROUTINE", "ROUTINE"]);
        let length = if self.dice.once_in(10) { 500 } else { 1 };
        let summary = format!("{SECRET} to {}, no. {n}.{}{}", self.office, self.dice.next(), " again".repeat(length));
        self.ledger.tried.borrow_mut().insert(summary.clone());
        let Some(answer) = self.asks(notice(&others, priority, &summary)).await? else { return Ok(()) };
        let id = answer["message"].as_str().ok_or_else(|| format!("no id: {answer}"))?;
        self.world.note(format!("{} sends {priority} {id} to {others:?}", self.office));
        let to = others.into_iter().map(str::to_owned).collect();
        self.ledger.note(id, Sent::new(self.office, to, Some(summary), priority != "ROUTINE"));
        Ok(())
    }

    async fn acknowledges(&mut self) -> Result<(), Wrong> {
        let Some(inbox) = self.asks(json!({"op": "inbox", "limit": 4000})).await? else { return Ok(()) };
        let open: Vec<&Value> = inbox["messages"].as_array().into_iter().flatten().collect();
        let open: Vec<&Value> =
            open.into_iter().filter(|m| m["state"] == "OPENED" && m["kind"] == "CASE_NOTICE").collect();
        if open.is_empty() {
            return Ok(());
        }
        let message = (*self.dice.one(&open)).clone();
        let content = json!({"accepted": true, "owner_role": "OFFICER"});
        let reply = json!({"op": "reply", "message": message["message"], "kind": "ACK", "content": content});
        let Some(answer) = self.asks(reply).await? else { return Ok(()) };
        let id = answer["message"].as_str().ok_or_else(|| format!("no id: {answer}"))?;
        self.world.note(format!("{} acknowledges {} by {id}", self.office, message["message"]));
        let to = vec![message["from"].as_str().unwrap_or_default().to_owned()];
        self.ledger.note(id, Sent::new(self.office, to, None, false));
        Ok(())
    }

    async fn takes_back(&mut self) -> Result<(), Wrong> {
        let own: Vec<String> = {
            let sent = self.ledger.sent.borrow();
            let own = sent.iter().filter(|(_, sent)| sent.from == self.office && sent.summary.is_some());
            own.filter(|(_, sent)| !sent.taken_back).map(|(id, _)| id.clone()).collect()
        };
        if own.is_empty() {
            return Ok(());
        }
        let id = self.dice.one(&own).clone();
        // Whether or not the node lives to say so.
        if let Some(sent) = self.ledger.sent.borrow_mut().get_mut(&id) {
            sent.taken_back = true;
        }
        let request = json!({"op": "take-back", "message": id, "kind": "WITHDRAW", "reason": "DUPLICATE"});
        let Some(answer) = self.asks(request).await? else { return Ok(()) };
        self.world.note(format!("{} takes {id} back: {}", self.office, answer["taken_back"]));
        if answer["taken_back"] == "BEFORE_IT_LEFT"
            && let Some(sent) = self.ledger.sent.borrow_mut().get_mut(&id)
        {
            sent.never_left = true;
        }
        if let Some(taken_back_by) = answer["message"].as_str().filter(|by| *by != id) {
            let to = self.ledger.sent.borrow().get(&id).map(|sent| sent.to.clone()).unwrap_or_default();
            self.ledger.note(taken_back_by, Sent::new(self.office, to, None, false));
        }
        Ok(())
    }
}
