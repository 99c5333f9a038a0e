//! What the node answered, or why it did not, said on the terminal and as an exit code.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use liaison_casework::case_file;
use liaison_link::{
    local,
    process::{exit, fail},
};
use serde_json::{Value, json};

use super::{output, words::Words};

/// Where the node is asked, and how its answers are said.
#[derive(Debug)]
pub(super) struct Terminal {
    /// The node's local socket.
    pub(super) socket: PathBuf,
    /// For machines.
    pub(super) json: bool,
    /// For people.
    pub(super) words: Words,
}

/// A message that was sent, or waits for a second person.
pub(super) fn sent(answer: &Value, words: Words) -> String {
    let message = answer["message"].as_str().unwrap_or_default();
    if answer["state"] == "WAITS" {
        return format!("{message}\n{}: liaison countersign\n", words.word("waits-for-countersignature"));
    }
    match answer["leaves_at"].as_str() {
        Some(_) => {
            let leaves = words.of("leaves-at", words.time(&answer["leaves_at"]));
            format!("{message}\n{leaves}; {}\n", words.word("can-be-withdrawn"))
        }
        None => format!("{message}\n"),
    }
}

impl Terminal {
    /// The node's answer, or why there is none, said as an exit code.
    pub(super) fn answered(&self, request: &Value, answer: std::io::Result<Value>) -> Result<Value, ExitCode> {
        let answer = answer.map_err(|error| {
            // The node may have taken the request before it went away.
            let sent = ["send", "reply", "take-back", "countersign"].iter().any(|op| request["op"] == *op);
            let advice = if sent { "; look into the outbox before sending again" } else { "" };
            let message = format!("no node answers on {}: {error}{advice}", self.socket.display());
            if self.json {
                println!("{:#}", json!({"error": "unreachable", "message": message}));
            } else {
                eprintln!("liaison: {message}");
            }
            ExitCode::from(exit::UNREACHABLE)
        })?;
        let Some(kind) = answer["error"].as_str() else { return Ok(answer) };
        if self.json {
            println!("{answer:#}");
        } else {
            eprint!("liaison: {}", output::failure(&answer, self.words.by_the_clock_of(&answer)));
        }
        Err(ExitCode::from(match kind {
            "refused" => exit::REFUSED,
            "locked" => exit::LOCKED,
            _ => exit::FAILED,
        }))
    }

    /// Asks the node.
    pub(super) fn call(&self, request: &Value) -> Result<Value, ExitCode> {
        self.answered(request, local::call(&self.socket, request))
    }

    /// Says what the node answered.
    pub(super) fn say(&self, answer: Result<Value, ExitCode>, print: fn(&Value, Words) -> String) -> ExitCode {
        match answer {
            Ok(answer) if self.json => println!("{answer:#}"),
            Ok(answer) => print!("{}", print(&answer, self.words.by_the_clock_of(&answer))),
            Err(code) => return code,
        }
        ExitCode::SUCCESS
    }

    /// Asks the node and says what it answered.
    pub(super) fn ask(&self, request: &Value, print: fn(&Value, Words) -> String) -> ExitCode {
        self.say(self.call(request), print)
    }

    /// Asks the node and writes one field of its answer to a file.
    pub(super) fn write_field(&self, request: &Value, field: &str, path: &Path) -> ExitCode {
        match self.call(request) {
            Ok(answer) => match fs::write(path, answer[field].as_str().unwrap_or_default()) {
                Ok(()) => {
                    if self.json {
                        println!("{:#}", json!({"written": path.display().to_string()}));
                    }
                    ExitCode::SUCCESS
                }
                Err(error) => fail("liaison", &error, exit::FAILED),
            },
            Err(code) => code,
        }
    }
}

/// A file that an officer names; `-` is standard input.
pub(super) fn read_file(path: &Path) -> std::io::Result<String> {
    if path != Path::new("-") {
        let named = |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        return fs::read_to_string(path).map_err(named);
    }
    let mut text = String::new();
    let limit = u64::try_from(case_file::MAX_BYTES).unwrap_or(u64::MAX);
    std::io::stdin().take(limit + 1).read_to_string(&mut text)?;
    Ok(text)
}
