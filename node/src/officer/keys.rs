//! New keys of the office: out to the country's authority, and back.

use std::{fs, path::Path, process::ExitCode};

use liaison_link::process::{exit, fail};
use serde_json::json;

use super::answer::Terminal;

/// Writes the office's next record for its authority to sign.
pub(super) fn renew_office(at: &Terminal, output: &Path, fresh: bool) -> ExitCode {
    let request = json!({"op": "renew-office-keys", "fresh": fresh});
    let code = at.write_field(&request, "request", output);
    if code == ExitCode::SUCCESS && !at.json {
        println!(
            "written to {}; your country's authority signs it, then: liaison publish FILE\nuntil then, and for 7 days \
             after, the keys of today are good",
            output.display()
        );
    }
    code
}

/// Hands the signed record to the node.
pub(super) fn publish(at: &Terminal, file: &Path) -> ExitCode {
    let record = match fs::read_to_string(file) {
        Ok(record) => record,
        Err(error) => return fail("liaison", &error, exit::FAILED),
    };
    match at.call(&json!({"op": "publish", "record": record})) {
        Ok(answer) if at.json => println!("{answer:#}"),
        Ok(answer) if answer["agreement"].is_string() || answer["table"].is_string() => {
            let what = if answer["table"].is_string() { "table" } else { "agreement" };
            let name = answer[what].as_str().unwrap_or_default();
            println!("{what} {name} goes into the directory when the broker is reached");
        }
        Ok(answer) => println!(
            "record {} is published when the broker is reached; its keys are in use from then on, once the office is \
             unlocked; the ones before stay good for 7 days",
            answer["serial"]
        ),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}
