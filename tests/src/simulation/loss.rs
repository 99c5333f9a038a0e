//! A log that is closed for what it lost: after a restore it lacks entries that no office has, because they were entered in
//! its last moments and nobody got to know of them. The broker says so and waits for the countries (`broker close-log`);
//! meanwhile what cannot wait goes on.

use liaison_proto::{ids::LogIndex, wire::LogName};
use serde_json::json;

use super::{
    hostile::Deeds,
    officers::Ledger,
    oracle::{self, Arrival},
    template::OFFICES,
    world::{World, Wrong},
};

/// Whether the broker says that it waits for that.
#[must_use]
pub fn is_closed_by(world: &World) -> bool {
    let says = |problem: &String| problem.contains("are missing") && problem.contains("broker close-log");
    world.was_restored() && world.broker_problems().iter().any(says)
}

/// Judges a world in which it does.
///
/// # Errors
/// When somebody has what the broker says is lost, when what cannot wait has not arrived, or when anything is where it may not
/// be.
pub async fn judges(world: &World, ledger: &Ledger, deeds: &Deeds) -> Result<(), Wrong> {
    for lost in world.broker_lacks() {
        for gap in &lost.missing {
            for index in gap.from..gap.to {
                if let Some(office) = holder(world, lost.log(), index) {
                    return Err(format!("promise 1: {office} has the entry {index}, and the broker still lacks it"));
                }
            }
        }
    }
    rolled_back_is_told(world).await?;
    oracle::inboxes(world, ledger, deeds, Arrival::Urgent).await?;
    oracle::alarms(world).await?;
    oracle::secrets(world)
}

/// Every office that had seen more of the log than the broker has is alarmed.
async fn rolled_back_is_told(world: &World) -> Result<(), Wrong> {
    let own = world.broker_lacks().iter().filter(|lost| lost.log() == LogName::Exchange).map(|lost| lost.size).max();
    for (office, _) in OFFICES {
        let seen = world.looks_into(office, |node| node.view.seen_size()).unwrap_or_default();
        let alarms = world.asks(office, json!({"op": "alarms"})).await.unwrap_or_default().to_string();
        if own.is_some_and(|own| own < seen) && !alarms.contains(oracle::ROLLED_BACK) {
            return Err(format!(
                "promise 8: {office} has seen {seen} entries, the broker has {own:?}, and nobody is told"
            ));
        }
    }
    Ok(())
}

/// Who could hand back an entry.
fn holder(world: &World, log: LogName, index: u64) -> Option<&'static str> {
    let has = |office: &str| {
        world.looks_into(office, |node| match log {
            LogName::Directory => node.directory.directory().size() > index,
            _ => node.store.state().entries.get(&LogIndex(index)).is_some_and(|held| held.complete),
        })
    };
    OFFICES.iter().map(|(office, _)| *office).find(|office| has(office).unwrap_or_default())
}
