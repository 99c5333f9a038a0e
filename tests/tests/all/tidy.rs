//! What a reader of the repository may rely on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Source files, as a walk finds them: works in a tree without git, too.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                directories.push(path);
            } else if ["rs", "proto"].contains(&path.extension().unwrap_or_default().to_str().unwrap()) {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 80, "the walk found too little");
    found
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut lengths: Vec<(usize, PathBuf)> =
        sources().into_iter().map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path)).collect();
    lengths.sort();
    let (longest, path) = lengths.last().unwrap();
    assert!(*longest <= 500, "{} has {longest} lines", path.display());
    let median = lengths[lengths.len() / 2].0;
    assert!(median < 200, "the median file has {median} lines");
}

#[test]
fn nothing_is_left_unfinished_in_the_sources() {
    let marks = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "unimplemented".to_owned() + "!(",
        "#[ig".to_owned() + "nore",
    ];
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} has {mark}", path.display());
        }
    }
}

/// Never broker <-> node; never audit -> broker or node.
#[test]
fn rooms_use_only_what_they_may() {
    let depends =
        |room: &str, other: &str| read(&format!("{room}/Cargo.toml")).contains(&format!("liaison-{other}.workspace"));
    for (room, forbidden) in [
        ("broker", vec!["node", "audit", "casework"]),
        ("node", vec!["broker", "audit"]),
        ("audit", vec!["broker", "node"]),
        ("log", vec!["broker", "node", "audit", "link", "casework"]),
        ("proto", vec!["broker", "node", "audit", "log", "link", "casework"]),
        ("proto/casework", vec!["broker", "node", "audit", "log", "link"]),
        ("proto/link", vec!["broker", "node", "audit", "log", "casework"]),
    ] {
        for other in forbidden {
            assert!(!depends(room, other), "{room} must not use {other}");
        }
    }
}

/// The README's two commands are the only ones a fresh machine needs.
#[test]
fn the_readme_has_exactly_two_set_up_commands() {
    let readme = read("README.md");
    let section = readme.split("## Two commands").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = section
        .split("```sh\n")
        .skip(1)
        .flat_map(|block| block.split("```").next().unwrap().lines())
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    assert_eq!(commands, ["cargo run --release --bin demo", "tests/run"]);
    assert!(read(".ci/run").contains("tests/run"), "continuous integration must run the same command");
}

/// The pages name files that exist.
#[test]
fn the_pages_name_files_that_exist() {
    for page in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "docs/formats.md", "docs/proof.md"] {
        let text = read(page);
        for word in text.split('`').skip(1).step_by(2) {
            let looks_like_a_path = word.contains('/')
                && word.contains('.')
                && !word.contains(' ')
                && ["rs", "proto", "md", "toml", "yaml", "json", "tsv"]
                    .iter()
                    .any(|e| word.ends_with(&format!(".{e}")))
                && !word.contains(['<', '*', '{']);
            if looks_like_a_path {
                assert!(root().join(word).exists(), "{page} names {word}, which does not exist");
            }
        }
    }
}

/// Every command the README shows is one that the programs know.
#[test]
fn the_readme_shows_commands_that_exist() {
    let readme = read("README.md");
    let mut seen = 0;
    for line in readme.lines().filter_map(|line| line.trim_start_matches("../").strip_prefix("target/release/")) {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap();
        let command = match program {
            "certs-dev" => continue,
            "audit" => words.find(|word| !word.starts_with('-') && !word.ends_with(".toml")).unwrap(),
            _ => words.next().unwrap(),
        };
        let output =
            Command::new(env!("CARGO_BIN_EXE_demo")).args(["role", program, command, "--help"]).output().unwrap();
        assert!(output.status.success(), "the README shows {program} {command}");
        seen += 1;
    }
    assert!(seen > 8, "the README shows too few commands");
}
