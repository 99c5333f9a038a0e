//! What needs no node: templates, questions, code lists, checks. Where one answers, what the countries have agreed on counts.

use std::{
    fs,
    io::{self, BufRead as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
};

use liaison_casework::{
    case_file, catalogue, codes as lists,
    prompt::{self, Question},
    tables::Tables,
    template,
};
use liaison_link::{
    local,
    process::{exit, fail},
};
use liaison_proto::{policy_text::PolicyText, wire::Kind};
use serde_json::json;

use super::{answer::Terminal, output, words::Words};

/// Prints a template.
pub(super) fn new(at: &Terminal, kind: &str) -> ExitCode {
    let known = catalogue::kind_by_name(&kind.to_ascii_uppercase());
    match known.and_then(|kind| template::template(kind, at.words.language())) {
        Some(text) => {
            if at.json {
                println!("{:#}", json!({"kind": kind.to_ascii_uppercase(), "template": text}));
            } else {
                print!("{text}");
            }
            ExitCode::SUCCESS
        }
        None => no_such_kind(kind),
    }
}

fn no_such_kind(kind: &str) -> ExitCode {
    let kinds: Vec<&str> = catalogue::kinds().iter().map(|entry| catalogue::kind_name(entry.kind)).collect();
    eprintln!("liaison: no kind {kind:?} in this version; there are: {}", kinds.join(", "));
    ExitCode::from(exit::REFUSED)
}

/// What the countries have agreed on, as far as a node can be asked.
fn agreed(at: &Terminal) -> Tables {
    let answer = local::call(&at.socket, &json!({"op": "tables"})).unwrap_or_default();
    let texts = answer["tables"].as_array().into_iter().flatten().filter_map(|table| table["text"].as_str());
    let texts: Vec<PolicyText> = texts.filter_map(|text| PolicyText::parse(text.as_bytes()).ok()).collect();
    Tables::read(&texts)
}

/// Puts a question on the terminal.
fn ask(question: &Question, words: Words) -> Option<String> {
    let mut out = io::stderr().lock();
    let what = words.word(if question.required { "required" } else { "optional" });
    let _ = writeln!(out, "\n{} [{}] ({what})", question.label, question.field);
    if !question.hint.is_empty() {
        let _ = writeln!(out, "  {}", question.hint);
    }
    for (code, meaning) in &question.codes {
        let _ = writeln!(out, "  {code:<16} {meaning}");
    }
    if let Some(problem) = &question.problem {
        let _ = writeln!(out, "  {}: {problem}", words.word("unknown-answer"));
    }
    let usual = question.usual.as_ref().map(|usual| format!(" [{usual}]")).unwrap_or_default();
    let _ = write!(out, "{usual}> ");
    let _ = out.flush();
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line),
    }
}

/// Writes a case file by question and answer.
pub(super) fn write(at: &Terminal, kind: &str, output: &Path) -> ExitCode {
    let Some(kind): Option<Kind> = catalogue::kind_by_name(&kind.to_ascii_uppercase()) else {
        return no_such_kind(kind);
    };
    // Before anybody answers fifty questions for nothing.
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(output);
    let mut file = match created {
        Ok(file) => file,
        Err(error) => return fail("liaison", &error, exit::FAILED),
    };
    let words = at.words;
    let written = prompt::write(kind, words.language(), &agreed(at), &mut |question| ask(question, words));
    let Some((case, problems)) = written else {
        let _ = fs::remove_file(output);
        return fail("liaison", &io::Error::from(io::ErrorKind::UnexpectedEof), exit::FAILED);
    };
    if let Err(error) = writeln!(file, "{case:#}") {
        return fail("liaison", &error, exit::FAILED);
    }
    eprintln!("\n{}: {}", output.display(), words.word("file-written"));
    if !problems.is_empty() {
        let answer = json!({"message": words.word("problems"), "problems": problems});
        eprint!("{}", output::failure(&answer, words));
        return ExitCode::from(exit::REFUSED);
    }
    ExitCode::SUCCESS
}

/// Prints a code list.
pub(super) fn codes(at: &Terminal, name: &str) -> ExitCode {
    let language = at.words.language();
    let meant = |code: &'static str| (code, lists::meaning_in(language, name, code).unwrap_or_default());
    match lists::list(name) {
        Some(list) if at.json => {
            let codes: serde_json::Map<_, _> =
                list.iter().map(|(code, _)| meant(code)).map(|(code, text)| (code.to_owned(), json!(text))).collect();
            println!("{:#}", json!(codes));
        }
        Some(list) => {
            list.iter().map(|(code, _)| meant(code)).for_each(|(code, meaning)| println!("{code:<20}  {meaning}"));
        }
        None => {
            eprintln!("liaison: no code list {name:?}");
            return ExitCode::from(exit::REFUSED);
        }
    }
    ExitCode::SUCCESS
}

/// Checks a case file.
pub(super) fn check(at: &Terminal, text: &str) -> ExitCode {
    match case_file::parse_by(text, &agreed(at)) {
        Ok(case) => {
            let class = catalogue::short_name("DATA_CLASS_", case.data_class.as_str_name());
            let kind = catalogue::kind_name(case.kind);
            if at.json {
                println!("{:#}", json!({"kind": kind, "complete": true, "data_class": class}));
            } else {
                println!("{kind} is complete; highest data class {class}");
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            let answer = json!({"message": "the case file has problems", "problems": problems});
            if at.json {
                println!("{answer:#}");
            } else {
                eprint!("liaison: {}", output::failure(&answer, at.words));
            }
            ExitCode::from(exit::REFUSED)
        }
    }
}
