//! Command lines with their exact output: each file of `tests/cli/` is a command, its exit code, and what it prints.
//! LIAISON_UPDATE=1 writes them anew.

use std::{fmt::Write as _, fs, path::Path, process::Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_demo");

fn transcript(command: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(PROGRAM).arg("role").args(command.split(' ')).current_dir(root).output().unwrap();
    let mut text = format!("$ {command}\n");
    write!(text, "{}", String::from_utf8_lossy(&output.stdout)).unwrap();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        writeln!(text, "! {line}").unwrap();
    }
    writeln!(text, "[{}]", output.status.code().unwrap()).unwrap();
    text
}

#[test]
fn command_lines_print_exactly_what_is_documented() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli");
    let mut checked = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let expected = fs::read_to_string(&path).unwrap();
        let command = expected.lines().next().unwrap().strip_prefix("$ ").unwrap();
        let found = transcript(command);
        if std::env::var_os("LIAISON_UPDATE").is_some() {
            fs::write(&path, found).unwrap();
        } else {
            assert_eq!(found, expected, "{}", path.display());
        }
        checked += 1;
    }
    assert!(checked >= 8, "the transcripts are gone");
}

/// Every sample case file is complete.
#[test]
fn every_sample_is_a_complete_case_file() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples");
    for entry in fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jpg") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        liaison_casework::case_file::parse(&text).unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
    }
}

/// Problems never repeat what was written: a refusal shown on a screen leaks nobody's name.
#[test]
fn problems_do_not_repeat_what_was_written() {
    let bad = liaison_tests::samples::CASE_NOTICE
        .replace("latin: Giang Thi My", "latin: Гянг Тхи Ми")
        .replace("\"+84912000017\"", "\"0912000017\"")
        .replace("value: 2009-03", "value: 2552-03");
    let problems = liaison_casework::case_file::parse(&bad).unwrap_err();
    let shown = serde_json::to_string(&problems).unwrap();
    assert_eq!(problems.len(), 3, "{shown}");
    for secret in ["Гянг", "0912000017", "2552"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("Gregorian"), "a Buddhist year must be named as such: {shown}");
}
