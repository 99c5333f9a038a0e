//! Files that go with a message, and files that came with one: streamed, never whole in memory.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use liaison_link::{
    local,
    process::{exit, fail},
};
use serde_json::{Value, json};

use super::answer::{Terminal, sent};

fn open(path: &Path) -> io::Result<(Value, fs::File)> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let file = fs::File::open(path).map_err(named)?;
    let found = file.metadata().map_err(named)?;
    if !found.is_file() {
        return Err(named(io::ErrorKind::InvalidInput.into()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok((json!({"name": name, "size": found.len()}), file))
}

/// Sends a case file with files.
pub(super) fn send(at: &Terminal, text: &str, files: &[PathBuf], keep_metadata: bool, countersign: bool) -> ExitCode {
    let opened: io::Result<Vec<(Value, fs::File)>> = files.iter().map(|path| open(path)).collect();
    let (described, mut opened): (Vec<Value>, Vec<fs::File>) = match opened {
        Ok(opened) => opened.into_iter().unzip(),
        Err(error) => return fail("liaison", &error, exit::FAILED),
    };
    let request = json!({"op": "send", "file": text, "attachments": described, "keep_metadata": keep_metadata,
        "countersign": countersign});
    let nothing: Box<dyn Read> = Box::new(io::empty());
    let mut body = opened.drain(..).fold(nothing, |before, file| Box::new(before.chain(file)));
    let answer = local::call_with(&at.socket, &request, &mut body, &mut io::sink());
    at.say(at.answered(&request, answer), sent)
}

/// Writes an attachment to a file, which only its owner may read.
pub(super) fn fetch(at: &Terminal, message: &str, number: usize, output: &Path) -> ExitCode {
    let request = json!({"op": "attachment", "message": message, "number": number});
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(output);
    let mut file = match created {
        Ok(file) => file,
        Err(error) => return fail("liaison", &error, exit::FAILED),
    };
    let answer = local::call_with(&at.socket, &request, &mut io::empty(), &mut file);
    let answer = match at.answered(&request, answer) {
        Ok(answer) => answer,
        Err(code) => {
            // Nothing of it came: an empty file would look like an attachment.
            let _ = fs::remove_file(output);
            return code;
        }
    };
    let whole = file.metadata().is_ok_and(|found| Some(found.len()) == answer["size"].as_u64());
    if !whole {
        let _ = fs::remove_file(output);
        return fail("liaison", &io::Error::other("the attachment does not open as it was sealed"), exit::FAILED);
    }
    if at.json {
        println!("{:#}", json!({"written": output.display().to_string(), "size": answer["size"]}));
    } else {
        println!("{}: {} bytes", output.display(), answer["size"]);
    }
    ExitCode::SUCCESS
}
