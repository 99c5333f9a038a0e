//! New keys of the office: out to the country's authority, and back.

use std::{fs, path::Path, process::ExitCode};

use liaison_link::process::{exit, fail};
use serde_json::json;

use super::answer;

/// Writes the office's next record for its authority to sign.
pub(super) fn renew_office(socket: &Path, json: bool, output: &Path, fresh: bool) -> ExitCode {
    answer::write_field(socket, json, &json!({"op": "renew-office-keys", "fresh": fresh}), "request", output)
}

/// Hands the signed record to the node.
pub(super) fn publish(socket: &Path, json: bool, file: &Path) -> ExitCode {
    let record = match fs::read_to_string(file) {
        Ok(record) => record,
        Err(error) => return fail("liaison", &error, exit::FAILED),
    };
    match answer::call(socket, json, &json!({"op": "publish", "record": record})) {
        Ok(answer) if json => println!("{answer:#}"),
        Ok(answer) => println!(
            "record {} is published when the broker is reached; unlock the office once, and its keys are in use",
            answer["serial"]
        ),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}
