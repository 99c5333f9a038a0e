//! Whole worlds from seeds (`liaison_tests::simulation`), each in a process of its own. LIAISON_WORLDS says how many,
//! LIAISON_WORLDS_FROM from which seed; what is wrong is told with its seed and all that happened.

use std::process::Command;

use crate::support::from_environment;

fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Promises 1 to 10 and 12; and a log is seldom closed for a loss that nobody could mend.
#[test]
fn every_promise_holds_in_worlds_where_machines_lines_clocks_and_disks_fail() {
    let (worlds, from) =
        (from_environment("LIAISON_WORLDS", 40), from_environment("LIAISON_WORLDS_FROM", std::process::id()));
    let (held, said) = simulate(&["--seeds", &worlds.to_string(), "--from", &from.to_string()]);
    println!("{said}");
    assert!(held, "{said}");
    let refused = said.lines().find_map(|line| line.split_once(" hostile tries were refused")?.0.parse::<u32>().ok());
    assert!(refused.is_some_and(|refused| refused >= worlds), "the hostile office was hardly heard: {said}");
    let lost = said.lines().find_map(|line| line.split_once(" ended with a log that is closed")?.0.parse::<u32>().ok());
    assert!(lost.is_some_and(|lost| lost <= 1 + worlds / 20), "too many logs were closed: {said}");
}

#[test]
fn the_same_seed_gives_the_same_world_event_for_event() {
    let (same, said) = simulate(&["--seeds", "6", "--from", "1", "--twice"]);
    assert!(same, "{said}");
}

/// A test that cannot fail proves nothing: with disks that forget what they said was synced, something is lost, and told.
#[test]
fn the_oracle_tells_what_lying_disks_lose() {
    let (held, said) = simulate(&["--seeds", "12", "--from", "1", "--lying-disks"]);
    assert!(!held, "nothing was noticed: {said}");
    assert!(said.contains("promise 1") || said.contains("does not start"), "{said}");
}
