//! Checking a receipt that someone hands over: a C2SP tlog-proof whose extra line carries the entry. Needs the charter
//! only; with a copy of the log it is also held against the copy.

use std::{fs, io, path::Path};

use liaison_log::{
    checkpoint::CheckpointError,
    leaf::{Event, ExchangeLeaf},
    mirror::root_of,
    proof::TlogProof,
    verify::{ReceiptError, verify_receipt},
};
use liaison_proto::{Bytes, charter::Charter, failure::chain, wire};
use serde_json::{Value, json};

use crate::{
    finding::{Finding, FindingCode},
    verify::Replay,
};

/// Largest receipt file, bytes.
const MAX_BYTES: u64 = 256 * 1024;

fn bad(evidence: impl Into<String>) -> Finding {
    Finding::of_log(FindingCode::ReceiptBad, "exchange", evidence)
}

/// What may be the matter with a receipt that was good for whoever has it.
fn hint(error: &ReceiptError) -> &'static str {
    match error {
        ReceiptError::Checkpoint(CheckpointError::Origin | CheckpointError::Signature) => {
            "; it may be of a later charter than those held here: give --copy, or put their files beside the first charter's"
        }
        ReceiptError::Checkpoint(CheckpointError::Closed) => {
            "; its entry was lost with that log, and proves nothing of the one that succeeds it"
        }
        _ => "",
    }
}

/// Checks a receipt file; returns what it proves.
///
/// # Errors
/// When the file cannot be read.
pub fn check(path: &Path, charter: &Charter, copy: Option<&Replay>) -> io::Result<Result<Value, Finding>> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Ok(Err(bad("the file is too large for a receipt")));
    }
    Ok(check_bytes(&fs::read(path)?.into(), charter, copy))
}

/// Checks a receipt's bytes.
///
/// # Errors
/// The finding.
pub fn check_bytes(bytes: &Bytes, charter: &Charter, copy: Option<&Replay>) -> Result<Value, Finding> {
    let proof = TlogProof::parse(bytes).map_err(|e| bad(e.to_string()))?;
    let leaf = proof.extra.clone().ok_or_else(|| bad("it has no extra line with the entry"))?;
    let receipt = wire::Receipt { leaf, proof: TlogProof { extra: None, ..proof }.encode().into() };
    let verified =
        verify_receipt(&receipt, charter.exchange_log()).map_err(|e| bad(format!("{}{}", chain(&e), hint(&e))))?;
    let leaf = ExchangeLeaf::parse(&verified.leaf).map_err(|e| bad(e.to_string()))?;
    let mut in_copy = Value::Null;
    if let Some(replay) = copy {
        let held = usize::try_from(verified.index.0).ok().and_then(|index| replay.leaves.get(index));
        match held {
            Some(held) if held == &verified.leaf => {
                let size = usize::try_from(verified.checkpoint.size()).unwrap_or(usize::MAX);
                let same = replay
                    .leaves
                    .get(..size)
                    .map(|leaves| root_of(leaves).is_ok_and(|root| root == verified.checkpoint.root()));
                if same == Some(false) {
                    let evidence = "the receipt's checkpoint is of another tree than the copy's at that size";
                    return Err(Finding::of_entry(FindingCode::ReceiptNotInLog, "exchange", verified.index, evidence));
                }
                in_copy = same.map_or_else(|| json!(false), |_| json!(true));
            }
            Some(_) => {
                let evidence = "the log has signed two different entries for this place";
                return Err(Finding::of_entry(FindingCode::ReceiptNotInLog, "exchange", verified.index, evidence));
            }
            None => in_copy = json!(false),
        }
    }
    let about = match &leaf.event {
        Event::Accepted { header, numbers, .. } => json!({
            "message": header.core().message_id,
            "kind": liaison_casework::catalogue::kind_name(header.core().kind),
            "from": header.core().from,
            "to": header.core().to,
            "numbers": numbers,
        }),
        Event::Attested { statement, .. } => json!({"message": statement.message_id, "by": statement.office}),
        Event::NonDelivery(given_up) => json!({"message": given_up.message_id, "to": given_up.recipient}),
        Event::Succeeded(begun) => json!({"charter": begun.charter}),
        Event::Rewrapped { statement, .. } => json!({"message": statement.message_id, "by": statement.office}),
    };
    Ok(json!({
        "entry": verified.index,
        "event": leaf.name(),
        "time": leaf.time.to_string(),
        "log_size": verified.checkpoint.size(),
        "about": about,
        "in_copy": in_copy,
        "compared": match in_copy {
            Value::Bool(true) => "compared with the copy: the same entry in the same log",
            Value::Bool(false) => "NOT compared: the copy is older than the receipt; mirror first",
            _ => "not compared with a copy; --copy does",
        },
    }))
}
