//! What goes wrong, one thing after the other or several at once, and how it ends.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    net::Quality,
    template::OFFICES,
    world::{BROKER_MACHINE, Death, World, Wrong},
};
use crate::dice::Dice;

/// Kinds of trouble.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A machine dies at an instant.
    Dies,
    /// A machine's device fails at one of its next writes or syncs; a process that has not ended by itself within a minute is killed.
    DeviceFails,
    /// The broker is stopped and started as an operator does.
    Restart,
    /// A line carries nothing for a while.
    DeadLine,
    /// A line's connections are cut, with what is on its way.
    CutLine,
    /// A line is slow for a while.
    SlowLine,
    /// A clock is set wrong.
    WrongClock,
    /// A disk is full for a while.
    FullDisk,
    /// The broker's logs are put back to what they were some time before.
    Restored,
    /// An office is locked, and stays so for a while.
    Locked,
}

const KINDS: [Kind; 15] = [
    Kind::Dies,
    Kind::Dies,
    Kind::Dies,
    Kind::DeviceFails,
    Kind::DeviceFails,
    Kind::Restart,
    Kind::DeadLine,
    Kind::CutLine,
    Kind::CutLine,
    Kind::SlowLine,
    Kind::WrongClock,
    Kind::FullDisk,
    Kind::Restored,
    Kind::Locked,
    Kind::Locked,
];

/// Trouble comes as often as the dice say. Two kinds of it at a time.
///
/// # Errors
/// When a machine does not do what it must in it.
pub async fn comes(world: &World, mut dice: Dice) -> Result<(), Wrong> {
    let (first, second) = (dice.fork(), dice.fork());
    let machines = Turns::default();
    tokio::try_join!(series(world, &machines, first), series(world, &machines, second)).map(|_| ())
}

/// A machine has one trouble with its process at a time.
#[derive(Default)]
struct Turns([tokio::sync::Mutex<()>; 1 + OFFICES.len()]);

async fn series(world: &World, turns: &Turns, mut dice: Dice) -> Result<(), Wrong> {
    for _ in 0..2 + dice.roll(4) {
        sleep(dice.millis(200..=15_000)).await;
        let kind = *dice.one(&KINDS);
        let at = dice.roll(1 + OFFICES.len() as u64) as usize;
        let (office, _) = OFFICES[at.saturating_sub(1)];
        let machine = if at == 0 { BROKER_MACHINE } else { office };
        match kind {
            Kind::Dies => {
                let _turn = turns.0[at].lock().await;
                let death = if dice.once_in(2) { Death::Power } else { Death::Kill };
                world.dies(machine, death).await?;
                sleep(down_for(&mut dice)).await;
                starts(world, machine).await?;
            }
            Kind::DeviceFails => {
                let _turn = turns.0[at].lock().await;
                fails(world, machine, &mut dice).await?;
            }
            Kind::Restart => {
                let _turn = turns.0[0].lock().await;
                world.stops_broker().await?;
                sleep(down_for(&mut dice)).await;
                world.start_broker()?;
            }
            Kind::DeadLine => {
                world.note(format!("the line of {office} is dead"));
                world.net.set_alive(office, false);
                sleep(dice.millis(1_000..=150_000)).await;
                world.note(format!("the line of {office} carries again"));
                world.net.set_alive(office, true);
            }
            Kind::CutLine => {
                world.note(format!("the line of {office} is cut"));
                world.net.cut(office);
            }
            Kind::SlowLine => {
                world.note(format!("the line of {office} is slow"));
                world.net.set_quality(office, Quality::BAD);
                sleep(dice.millis(5_000..=120_000)).await;
                world.net.set_quality(office, Quality::GOOD);
            }
            Kind::WrongClock => {
                let by = *dice.one(&[-3_600_000, -90_000, 90_000, 240_000, i64::MIN / 4]);
                world.note(format!("the clock of {machine} is wrong by {by} ms"));
                world.clocks[machine].set_wrong(by);
            }
            Kind::Restored => {
                let _turn = turns.0[0].lock().await;
                world.note("broker is backed up");
                let of = world.devices.of(&world.data(BROKER_MACHINE));
                let backup: Vec<_> = of.into_iter().map(|(directory, disk)| (directory, disk.copied())).collect();
                sleep(dice.millis(1_000..=60_000)).await;
                world.dies(BROKER_MACHINE, Death::Power).await?;
                world.restores_broker(&backup);
                sleep(down_for(&mut dice)).await;
                world.start_broker()?;
            }
            Kind::Locked => {
                world.note(format!("{office} locks its node"));
                world.set_locked(office, true).await;
                sleep(dice.millis(1_000..=120_000)).await;
                world.set_locked(office, false).await;
            }
            Kind::FullDisk => {
                world.note(format!("the disks of {machine} are full"));
                let say =
                    |bytes| world.devices.of(&world.data(machine)).iter().for_each(|(_, d)| d.say_available(bytes));
                say(Some(0));
                sleep(dice.millis(2_000..=60_000)).await;
                say(None);
            }
        }
    }
    Ok(())
}

fn down_for(dice: &mut Dice) -> Duration {
    if dice.once_in(4) { dice.millis(10_000..=120_000) } else { dice.millis(0..=5_000) }
}

async fn starts(world: &World, machine: &'static str) -> Result<(), Wrong> {
    if machine == BROKER_MACHINE { world.start_broker() } else { world.start_node(machine).await }
}

/// Looks, of half a second, within which a process ends whose device has failed: connections have ten seconds to end.
const ENDS_WITHIN: u32 = 40;

/// One of the machine's disks fails after some more operations. Its process ends by itself, or is killed when no operation
/// failed in a minute.
async fn fails(world: &World, machine: &'static str, dice: &mut Dice) -> Result<(), Wrong> {
    let disks = world.devices.of(&world.data(machine));
    let (directory, disk) = dice.one(&disks);
    let operations = dice.roll(60);
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    world.note(format!("the {name} disk of {machine} fails after {operations} more operations"));
    disk.fail_after(operations);
    let (mut looks, mut since_failed) = (0, 0);
    while looks < 120 && world.runs(machine) {
        sleep(Duration::from_millis(500)).await;
        looks += 1;
        since_failed += u32::from(disk.has_failed());
        if since_failed > ENDS_WITHIN {
            return Err(format!("promise 1: the {name} disk of {machine} has failed, and its process goes on"));
        }
    }
    if !world.runs(machine) {
        world.note(format!("{machine} has ended by itself"));
    }
    let death = if dice.once_in(2) { Death::Power } else { Death::Kill };
    world.dies(machine, death).await?;
    sleep(down_for(dice)).await;
    starts(world, machine).await
}

/// All trouble ends: lines carry, clocks are right, everything runs and is unlocked.
///
/// # Errors
/// When a machine does not start.
pub async fn ends(world: &World) -> Result<(), Wrong> {
    world.note("all trouble is over");
    world.clocks.values().for_each(|clock| clock.set_wrong(0));
    world.start_broker()?;
    for (office, _) in OFFICES {
        world.net.set_quality(office, Quality::GOOD);
        world.net.set_alive(office, true);
        world.start_node(office).await?;
    }
    Ok(())
}
