//! Whole journeys between two nodes: from the officer's command to the opened message, and how long a call for help takes
//! while nothing else is on its way and while everything is.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use liaison_tests::{samples, world::World};
use serde_json::json;

use crate::{
    ledger::{Ledger, Sample, Watch},
    measure::{Round, now},
};

const SENDER: &str = "VN-BLO-LCA";
const RECIPIENT: &str = "CN-BLO-HKO";
/// How often it is looked whether something has arrived.
const LOOK: Duration = Duration::from_micros(200);
/// Officers who send at the same time.
const OFFICERS: usize = 8;

fn world(directory: &std::path::Path) -> io::Result<World> {
    let mut world = World::create(directory, &std::env::current_exe()?)?;
    world.broker_keys = ["messages_per_second = 4000000", "message_burst = 4000000", "kibibytes_per_second = 4000000"]
        .iter()
        .chain(&["segment_mebibytes = 16", "log = \"warn\""])
        .map(|&line| line.to_owned())
        .collect();
    world.start_broker()?;
    for office in [SENDER, RECIPIENT] {
        world.create_node(office)?;
        world.start_node(office)?;
        world.office(office).unlocks()?;
    }
    Ok(world)
}

fn status(world: &World, office: &str, field: &str) -> io::Result<u64> {
    Ok(world.office(office).ask(&json!({"op": "status"}))?[field].as_u64().unwrap_or(0))
}

/// Whether everything has arrived, was opened, and both sides have said so.
fn is_finished(world: &World, count: u64) -> io::Result<bool> {
    Ok(status(world, RECIPIENT, "received")? >= count
        && status(world, RECIPIENT, "to_open")? == 0
        && status(world, RECIPIENT, "to_confirm")? == 0
        && status(world, SENDER, "to_submit")? == 0)
}

/// So many notices from command to RETRIEVED in the log.
fn notices(world: &World, count: usize) -> io::Result<Sample> {
    let before = status(world, RECIPIENT, "received")?;
    let processes: Vec<u32> =
        world.broker_pid().into_iter().chain([world.node_pid(SENDER), world.node_pid(RECIPIENT)]).collect();
    let (watch, begin) = (Watch::begin(&processes, None)?, now());
    thread::scope(|scope| {
        let officers: Vec<_> = (0..OFFICERS)
            .map(|officer| {
                scope.spawn(move || {
                    (officer..count)
                        .step_by(OFFICERS)
                        .try_for_each(|_| world.office(SENDER).sends(samples::ROUTINE).map(drop))
                })
            })
            .collect();
        officers.into_iter().try_for_each(|officer| officer.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
    })?;
    while !is_finished(world, before + count as u64)? {
        thread::sleep(LOOK * 10);
    }
    let round = Round { count, wall: begin.elapsed(), latencies: Vec::new() };
    watch.end(&round)
}

/// One call for help after the other, each until it is durable at the recipient.
fn calls(world: &World, count: usize) -> io::Result<Sample> {
    let mut latencies = Vec::with_capacity(count);
    let whole = now();
    for _ in 0..count {
        let begin = now();
        let message = world.office(SENDER).sends(samples::HOTLINE_CALL)?;
        while world.office(RECIPIENT).ask(&json!({"op": "show", "message": message})).is_err() {
            thread::sleep(LOOK);
        }
        latencies.push(begin.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Sample::from(&Round::new(whole.elapsed(), latencies)))
}

/// Calls for help while officers send routine notices as fast as they can.
fn calls_beside_bulk(world: &World, count: usize) -> io::Result<Sample> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = || loop {
            let sent = world.office(SENDER).sends(samples::ROUTINE);
            if sent.is_err() || over.load(Ordering::Relaxed) {
                return;
            }
        };
        let officers: Vec<_> = (0..OFFICERS).map(|_| scope.spawn(sending)).collect();
        thread::sleep(Duration::from_millis(500));
        let measured = calls(world, count);
        over.store(true, Ordering::Relaxed);
        officers.into_iter().for_each(|officer| drop(officer.join()));
        measured
    })
}

/// One round.
///
/// # Errors
/// When one cannot be measured.
pub(crate) fn round(ledger: &mut Ledger, scale: usize) -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let world = world(&directory.path().join("world"))?;
    ledger.add("FLASH, command to durable, idle", calls(&world, 100 * scale)?);
    ledger.add("notices, command to RETRIEVED", notices(&world, 1000 * scale)?);
    ledger.add("FLASH, command to durable, beside bulk", calls_beside_bulk(&world, 100 * scale)?);
    Ok(())
}
