//! What the fuzzer has kept is taken by every parser of an outside format as its target says; and so is what is a few
//! changes away from it. The fuzzer itself: `tests/fuzz/run`.

use std::{collections::BTreeSet, fs, path::Path};

use liaison_fuzz::TARGETS;

use liaison_tests::dice::Dice;

use crate::{crash::seeded, support::from_environment};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let found = fs::read_dir(Path::new(CORPUS).join(target)).unwrap_or_else(|e| panic!("{target} has no corpus: {e}"));
    let mut files: Vec<_> = found
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Promise 12: bad input crashes nothing.
#[test]
fn promise_12_every_outside_format_is_taken_as_its_corpus_was() {
    for target in TARGETS {
        let files = files(target.name);
        assert!(!files.is_empty(), "{} has an empty corpus", target.name);
        for (name, bytes) in files {
            println!("{} {name}", target.name);
            (target.run)(&bytes);
        }
    }
    let kept: BTreeSet<String> =
        fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(kept, TARGETS.iter().map(|target| target.name.to_owned()).collect());
}

/// Changes some bytes: flips, cuts, doubles, takes from another file.
fn changed(bytes: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() as u64 + 1) as usize;
        match dice.roll(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, dice.roll(256) as u8),
            4 if at < bytes.len() => bytes.extend_from_within(at..),
            _ => {
                let from = dice.roll(other.len() as u64 + 1) as usize;
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

/// The same for what is near it. LIAISON_FUZZ_CHANGES says how many for each file.
#[test]
fn promise_12_every_outside_format_is_taken_a_few_changes_away_from_its_corpus() {
    let changes = from_environment("LIAISON_FUZZ_CHANGES", 40);
    let mut dice = seeded(changes);
    for target in TARGETS {
        let files = files(target.name);
        for (name, bytes) in &files {
            for _ in 0..changes {
                let (_, other) = &files[dice.roll(files.len() as u64) as usize];
                let bytes = changed(bytes, other, &mut dice);
                // Told by its seed when it fails.
                let taken = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(taken.is_ok(), "{}, changed from {name}: {bytes:02x?}", target.name);
            }
        }
    }
}
