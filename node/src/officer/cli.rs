//! The command line of `liaison`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use liaison_casework::{codes, labels::Language};
use liaison_link::process::{EXIT_HELP, exit, fail};
use liaison_proto::ids::OfficeId;
use serde_json::{Value, json};

use super::{
    answer,
    answer::{Terminal, sent},
    attach, keys, offline, output, passphrase, policy,
    policy::Policy,
    threads,
    words::Words,
};

/// Send, read and answer messages of your office.
#[derive(Debug, Parser)]
#[command(name = "liaison", version, after_help = EXIT_HELP)]
struct Arguments {
    /// The node's local socket.
    #[arg(long, global = true, env = "LIAISON_SOCKET", default_value = "node-data/liaison.sock")]
    socket: PathBuf,
    /// For machines.
    #[arg(long, global = true)]
    json: bool,
    /// Language of labels and codes: en, vi, km, lo, th, zh.
    #[arg(long, global = true, env = "LIAISON_LANGUAGE", default_value = "en")]
    language: Language,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a commented template of a case file: CASE_NOTICE, TEST, ...
    New {
        /// Kind of message.
        kind: String,
    },
    /// Writes a case file by question and answer, in your language. Needs no node.
    Write {
        /// Kind of message.
        kind: String,
        /// File to write; it must not exist.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Prints a code list with its meanings, or the names of all lists.
    Codes {
        /// Name of the list, as templates name it.
        list: Option<String>,
    },
    /// Checks a case file without sending it.
    Check {
        /// Case file, YAML or JSON; - for standard input.
        file: PathBuf,
    },
    /// Unlocks your signing key for some minutes.
    Unlock {
        /// Your officer id.
        officer: String,
        /// File with your passphrase; asked for when missing.
        #[arg(long)]
        passphrase_file: Option<PathBuf>,
    },
    /// Forgets every unlocked key of the node.
    Lock,
    /// Signs, seals and sends a case file. It leaves after a pause in which withdraw takes it back unseen.
    Send {
        /// Case file, YAML or JSON; - for standard input.
        file: PathBuf,
        /// A file to go with it; pictures lose their metadata. May be given again.
        #[arg(long)]
        attach: Vec<PathBuf>,
        /// Leaves place, time and device in pictures.
        #[arg(long)]
        keep_metadata: bool,
        /// It waits until a supervisor has signed it, too; where two persons are needed it does so by itself.
        #[arg(long)]
        countersign: bool,
    },
    /// Signs what another officer of your office wrote, as a supervisor, and lets it leave. Read it first: liaison show.
    Countersign {
        /// Message id.
        message: String,
    },
    /// Takes an own message back: unseen before it leaves; later its recipients are told.
    Withdraw {
        /// Message id.
        message: String,
        /// Reason code; liaison codes withdraw_reason lists them.
        #[arg(long)]
        reason: String,
        /// Words to the recipients.
        #[arg(long)]
        text: Option<String>,
    },
    /// Takes back what was sent to the wrong office: its node shows the content no more.
    Recall {
        /// Message id.
        message: String,
        /// Reason code; liaison codes recall_reason lists them.
        #[arg(long)]
        reason: String,
    },
    /// Writes an attachment of a message to a file.
    Attachment {
        /// Message id.
        message: String,
        /// Its number, as show lists it.
        #[arg(default_value_t = 1)]
        number: usize,
        /// File to write; it must not exist.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Makes new encryption keys of the office and publishes them; the ones before open what was sent before.
    RotateKeys,
    /// Makes new keys for what is stored here: the office key, and the key under which messages' keys are sealed.
    RenewStorageKeys,
    /// Makes the office's next signing and receipt key, and writes the record that your country's authority is to sign.
    /// They are used once the directory has it; what was signed before stays good for 7 days.
    RenewOfficeKeys {
        /// File to write for the authority.
        #[arg(long, short)]
        output: PathBuf,
        /// Make other keys than those that were made and are not in the directory yet.
        #[arg(long)]
        fresh: bool,
    },
    /// Publishes the office's next record, as your country's authority signed it.
    Publish {
        /// The signed record.
        file: PathBuf,
    },
    /// Renews an officer's credential for 90 days: your own, or anybody's for a supervisor.
    RenewOfficer {
        /// Officer id.
        officer: String,
        /// Make a new signing key for the officer, too; asks for the officer's passphrase.
        #[arg(long)]
        new_key: bool,
        /// File with the officer's passphrase; asked for when missing.
        #[arg(long)]
        passphrase_file: Option<PathBuf>,
    },
    /// Lists what the office received, newest last.
    Inbox {
        /// How many, at most 4000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Lists what the office sent, newest last, with its state at each recipient.
    Outbox {
        /// How many, at most 4000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Shows a message with its content, history and proof.
    Show {
        /// Message id.
        message: String,
    },
    /// What the agreements between the countries allow, and why.
    #[command(subcommand)]
    Policy(Policy),
    /// Signs what this office holds of a channel, number by number, for the counterpart to compare; or compares, and answers.
    Reconcile {
        /// The counterpart, or the message id of its reconciliation to answer.
        with: String,
        /// FLASH, URGENT or BULK.
        #[arg(long, default_value = "BULK")]
        lane: String,
        /// The channel on which this office received, in place of the one on which it sent.
        #[arg(long)]
        received: bool,
        /// Legal basis of the message; its answer takes over the counterpart's.
        #[arg(long, default_value = "COMMIT")]
        legal_basis: String,
    },
    /// Shows where the thread of a message stands: every step, who is expected to do what until when.
    Thread {
        /// Id of any message in it.
        message: String,
    },
    /// Lists the newest threads, and what each expects.
    Threads {
        /// How many, at most 4000.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Acknowledges a received message: you have it.
    Ack {
        /// Message id.
        message: String,
        /// Who owns it from here: OFFICER, DUTY_OFFICER, SUPERVISOR.
        #[arg(long, default_value = "OFFICER")]
        owner_role: String,
        /// Classifies it at once: LIFE_DANGER, URGENT, ROUTINE, INFORMATION.
        #[arg(long)]
        triage: Option<String>,
        /// Words to the counterpart.
        #[arg(long)]
        note: Option<String>,
    },
    /// Declines a received message, with the reason.
    Decline {
        /// Message id.
        message: String,
        /// Reason code; liaison codes decline_reason lists them.
        #[arg(long)]
        reason: String,
        /// A resubmission can succeed; --text says what is missing.
        #[arg(long)]
        fixable: bool,
        /// Words to the counterpart.
        #[arg(long)]
        text: Option<String>,
    },
    /// Writes a message's receipt: a C2SP tlog-proof that anyone can check offline.
    Receipt {
        /// Message id.
        message: String,
        /// File to write; standard output when missing.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Says how the node is.
    Status,
    /// Lists alarms: things that only trouble or bad faith explains.
    Alarms {
        /// You have seen those that are listed; what happens again is told again.
        #[arg(long)]
        seen: bool,
    },
}

/// Runs the command line.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(e) => e.exit(),
    };
    let Arguments { socket, json, language, command } = arguments;
    let tag = language.tag();
    let at = &Terminal { socket, json, words: Words::new(language) };
    let ask = |request: Value, print: fn(&Value, Words) -> String| at.ask(&request, print);
    match command {
        Command::New { kind } => offline::new(at, &kind),
        Command::Write { kind, output } => offline::write(at, &kind, &output),
        Command::Codes { list: Some(list) } => offline::codes(at, &list),
        Command::Codes { list: None } => {
            let names: Vec<&str> = codes::names().collect();
            if json {
                println!("{:#}", json!(names));
            } else {
                println!("{}", names.join("\n"));
            }
            ExitCode::SUCCESS
        }
        Command::Check { file } => match answer::read_file(&file) {
            Ok(text) => offline::check(at, &text),
            Err(error) => fail("liaison", &error, exit::FAILED),
        },
        Command::Unlock { officer, passphrase_file } => {
            match passphrase::read(passphrase_file.as_deref(), "Passphrase: ") {
                Ok(passphrase) => {
                    ask(json!({"op": "unlock", "officer": officer, "passphrase": *passphrase}), output::unlocked)
                }
                Err(error) => fail("liaison", &error, exit::FAILED),
            }
        }
        Command::Lock => ask(json!({"op": "lock"}), |_, words| format!("{}\n", words.word("locked"))),
        Command::Countersign { message } => ask(json!({"op": "countersign", "message": message}), sent),
        Command::Send { file, attach, keep_metadata, countersign } => match answer::read_file(&file) {
            Ok(text) => attach::send(at, &text, &attach, keep_metadata, countersign),
            Err(error) => fail("liaison", &error, exit::FAILED),
        },
        Command::Withdraw { message, reason, text } => {
            let request = json!({"op": "take-back", "message": message, "kind": "WITHDRAW", "reason": reason,
                "text": text});
            ask(request, taken_back)
        }
        Command::Recall { message, reason } => {
            ask(json!({"op": "take-back", "message": message, "kind": "RECALL", "reason": reason}), taken_back)
        }
        Command::Attachment { message, number, output } => attach::fetch(at, &message, number, &output),
        Command::RotateKeys => ask(json!({"op": "rotate-keys"}), |answer, words| {
            format!("{}\n", words.of("new-encryption-keys", &answer["new_keys"]))
        }),
        Command::RenewStorageKeys => ask(json!({"op": "renew-storage-keys"}), output::storage_keys),
        Command::RenewOfficeKeys { output, fresh } => keys::renew_office(at, &output, fresh),
        Command::Publish { file } => keys::publish(at, &file),
        Command::RenewOfficer { officer, new_key, passphrase_file } => {
            let file = passphrase_file.as_deref();
            match new_key.then(|| passphrase::read(file, "Passphrase of the officer: ")).transpose() {
                Ok(passphrase) => {
                    let passphrase = passphrase.as_ref().map(|text| text.as_str());
                    let request = json!({"op": "renew-officer", "officer": officer, "passphrase": passphrase});
                    ask(request, output::renewed)
                }
                Err(error) => fail("liaison", &error, exit::FAILED),
            }
        }
        Command::Inbox { limit } => ask(json!({"op": "inbox", "limit": limit}), output::inbox),
        Command::Outbox { limit } => ask(json!({"op": "outbox", "limit": limit}), output::outbox),
        Command::Show { message } => ask(json!({"op": "show", "message": message, "language": tag}), output::message),
        Command::Reconcile { with, lane, received, legal_basis } => {
            let request = match with.parse::<OfficeId>() {
                Ok(office) => json!({"op": "reconcile", "office": office, "lane": lane, "received": received,
                    "legal_basis": legal_basis}),
                Err(_) => json!({"op": "reconcile-answer", "message": with}),
            };
            ask(request, threads::reconciled)
        }
        Command::Policy(policy) => policy::run(at, &policy),
        Command::Thread { message } => {
            ask(json!({"op": "thread", "message": message, "language": tag}), threads::thread)
        }
        Command::Threads { limit } => ask(json!({"op": "threads", "limit": limit, "language": tag}), threads::list_of),
        Command::Ack { message, owner_role, triage, note } => {
            let content = json!({"accepted": true, "owner_role": owner_role, "triage": triage, "note": note});
            ask(json!({"op": "reply", "message": message, "kind": "ACK", "content": content}), sent)
        }
        Command::Decline { message, reason, fixable, text } => {
            let content = json!({"reason": reason, "fixable": fixable, "text": text});
            ask(json!({"op": "reply", "message": message, "kind": "DECLINE", "content": content}), sent)
        }
        Command::Receipt { message, output } => {
            let request = json!({"op": "receipt", "message": message});
            match output {
                None => ask(request, |answer, _| answer["proof"].as_str().unwrap_or_default().to_owned()),
                Some(path) => at.write_field(&request, "proof", &path),
            }
        }
        Command::Status => ask(json!({"op": "status"}), output::status),
        Command::Alarms { seen } => alarms(at, seen),
    }
}

fn taken_back(answer: &Value, words: Words) -> String {
    let told = answer["taken_back"] == "RECIPIENTS_ARE_TOLD";
    let how = words.word(if told { "recipients-are-told" } else { "before-it-left" });
    format!("{}\n{}: {how}\n", answer["message"].as_str().unwrap_or_default(), words.word("taken-back"))
}

fn alarms(at: &Terminal, seen: bool) -> ExitCode {
    let answer = match at.call(&json!({"op": "alarms"})) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let newest = answer["alarms"].as_array().into_iter().flatten().filter_map(|alarm| alarm["at_ms"].as_i64()).max();
    let said = at.say(Ok(answer), output::alarms);
    match newest.filter(|_| seen) {
        None => said,
        Some(up_to) => match at.call(&json!({"op": "alarms-seen", "up_to_ms": up_to})) {
            Ok(_) => ExitCode::SUCCESS,
            Err(code) => code,
        },
    }
}
