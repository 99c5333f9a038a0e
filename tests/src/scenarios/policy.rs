//! Lao Cai writes to an office that no agreement lets it write to. Its node says why, and what would do; a node that does not
//! ask is refused by the broker.

use std::io;

use liaison_proto::{
    refusal::Refusal,
    wire::{Kind, LegalBasis, SubmitRequest, exchange_client::ExchangeClient},
};
use serde_json::{Value, json};

use super::{is_refused, sends};
use crate::{
    demo::Teller,
    forger::{Forger, connect},
    samples,
    world::World,
};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const ARANYAPRATHET: &str = "TH-BLO-ARN";
pub(super) const OFFICES: [&str; 3] = [LAO_CAI, HEKOU, ARANYAPRATHET];

fn explained(world: &World, file: &str) -> io::Result<Value> {
    Ok(world.office(LAO_CAI).ask(&json!({"op": "explain", "file": file}))?["decisions"][0].clone())
}

pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("The agreements are entries of the directory, signed by the countries that they bind");
    let answer = world.office(LAO_CAI).ask(&json!({"op": "explain", "file": samples::CASE_NOTICE}))?;
    let names = answer["agreements"].as_array().cloned().unwrap_or_default();
    teller.step(format!("Lao Cai's node has {} of them", names.len()), names.contains(&json!("VNCN10")));
    let decision = explained(world, samples::CASE_NOTICE)?;
    let by = decision["by"][0].as_str().unwrap_or_default().to_owned();
    teller.step(format!("its notice may go to Hekou: {by}"), decision["allowed"] == true && by.contains("VNCN10"));

    teller.chapter("A notice to an office that no agreement names");
    let stray = samples::CASE_NOTICE.replace(HEKOU, ARANYAPRATHET);
    let refused = is_refused(world, LAO_CAI, &stray, "NOT_AGREED", "VNTH08");
    teller.step("Lao Cai's node does not send it to Aranyaprathet on VNCN10", refused);
    let decision = explained(world, &stray)?;
    let would = decision["would_allow"].as_array().cloned().unwrap_or_default();
    teller.step("it says which basis would allow it", would.contains(&json!("legal_basis VNTH08")));
    let right = stray.replace("VNCN10", "VNTH08");
    sends(world, LAO_CAI, ARANYAPRATHET, &right)?;
    teller.step("on that basis it goes", true);
    let open = samples::CASE_NOTICE.replace("AMBER+STRICT", "AMBER");
    teller.step("a notice about a victim is never sent with a wider TLP", world.office(LAO_CAI).sends(&open).is_err());

    teller.chapter("A node that does not ask");
    let told = submits_unasked(world)?;
    teller.step(format!("is refused by the broker: {told}"), told.starts_with("NOT_AGREED"));
    Ok(())
}

/// Signs and submits what Lao Cai's node would not, past it; what the broker said.
fn submits_unasked(world: &World) -> io::Result<String> {
    let forger = Forger::new(world, LAO_CAI);
    let envelope = forger.changed(ARANYAPRATHET, |parts| {
        parts.core.kind = Kind::CaseNotice.into();
        parts.core.legal_basis = vec![LegalBasis::Vncn10.into()];
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = ExchangeClient::new(connect(world, &format!("offices/{LAO_CAI}")));
        let request = SubmitRequest { envelope: Some(envelope), ..SubmitRequest::default() };
        match client.submit(request).await {
            Ok(_) => Ok("accepted".to_owned()),
            Err(status) => Ok(Refusal::from_status(&status).map_or_else(|| status.to_string(), |r| r.to_string())),
        }
    })
}
