//! A client that shares no code with ours: Python and grpcio, generated from the `.proto` files, written from
//! `docs/formats.md`. Its packages come from PyPI once, into an environment below the target directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use liaison_proto::sha256;

use crate::support::{charter, world};

/// Where the client is.
fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(name)
}

fn run(command: &mut Command, otherwise: &str) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{otherwise} ({command:?}: {e})"));
    assert!(
        output.status.success(),
        "{otherwise} ({command:?}: {})\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The interpreter of an environment with exactly the packages of `requirements.txt`, made when there is none. Several
/// test processes may ask at once: the first makes it, the others wait.
fn python() -> PathBuf {
    const NEEDED: &str = "the foreign client needs Python 3.11 or later with venv: tests/run installs it for root on \
                          Debian, elsewhere install python3 and python3-venv";
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let environment = target.join("foreign-venv");
    let (python, marker) = (environment.join("bin/python"), environment.join("complete"));
    let lock = File::options().create(true).truncate(false).write(true).open(target.join("foreign-venv.lock")).unwrap();
    lock.lock().unwrap();
    let version = ["-c", "import ensurepip, sys, tomllib, venv; print(sys.version)"];
    let version = run(Command::new("python3").args(version), NEEDED).stdout;
    let requirements = client("requirements.txt");
    let wanted = sha256(&[&fs::read(&requirements).unwrap(), &version]);
    if fs::read(&marker).is_ok_and(|found| found == wanted) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment), NEEDED);
    let install =
        ["-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:", "--requirement"];
    run(Command::new(&python).args(install).arg(&requirements), "pip could not install the foreign client's packages");
    fs::write(marker, wanted).unwrap();
    python
}

/// Lao Cai and Hekou, spoken for by the foreign client.
fn foreign_client(python: &Path, charter: &str, broker: &str) -> Command {
    let mut command = Command::new(python);
    // No bytecode beside the sources.
    command.arg("-B").arg(client("client.py")).args([charter, broker, "VN-BLO-LCA", "CN-BLO-HKO"]);
    command
}

#[test]
fn a_client_written_from_the_formats_speaks_to_the_broker_and_verifies_what_it_says() {
    let python = python();
    let (_directory, world) = world(&[]);
    let broker = world.broker_address().unwrap();
    let mut command = foreign_client(&python, &world.path("charter"), &broker);
    let output = run(&mut command, "a check of the foreign client failed");
    let checks = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(checks.ends_with("all checks passed\n"), "the foreign client did not come to its end:\n{checks}");

    // With another log's key in its charter it believes no receipt: its checks do check.
    let path = PathBuf::from(world.path("charter/charter.toml"));
    let (text, keys) = (fs::read_to_string(&path).unwrap(), charter(&world));
    let key = |log: &str| keys.file().log.iter().find(|entry| entry.name == log).unwrap().key.clone();
    fs::write(&path, text.replace(&key("exchange"), &key("directory"))).unwrap();
    let output = foreign_client(&python, &world.path("charter"), &broker).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.trim(), "FAILED  the checkpoint of exchange.liaison.example is not good");
    assert!(!output.status.success());
}
