//! A girl was found in Bangkok. She goes home: verified, held until her best interests are decided, handed over at a gate
//! with the signatures of both sides, and asked after a month later.

use std::io;

use liaison_proto::clock::DAY_MS;

use super::{both_stand, expects, is_refused, sample, sends, thread};
use crate::{demo::Teller, roles::CLOCK_OFFSET, samples, world::World};

pub(super) const BANGKOK: &str = "TH-CCP-BKK";
pub(super) const HA_NOI: &str = "VN-CCP-HAN";
const BOTH: [&str; 2] = [BANGKOK, HA_NOI];

pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    let (request, last) = verification(world, teller)?;
    let last = hold(world, teller, &request, &last)?;
    let last = handover(world, teller, &request, &last)?;
    a_month_later(world, teller, &request, &last)
}

fn verification(world: &World, teller: &mut Teller) -> io::Result<(String, String)> {
    teller.chapter("Bangkok asks Ha Noi to verify and receive a girl of 17");
    let request = sends(world, BANGKOK, HA_NOI, samples::RETURN_REQUEST)?;
    let there = both_stand(world, BOTH, &request, "RETURN_REQUESTED");
    teller.step(format!("R1: the request is at Ha Noi, on the corridor TH-VN: {request}"), there);
    let seen = thread(world, HA_NOI, &request);
    teller.step("Ha Noi sees what is expected of it, and until when", expects(&seen, "verification", HA_NOI));
    let early = is_refused(world, BANGKOK, &sample("handover-proposal", &request)?, "OUT_OF_STEP", "VERIFY_REPLY");
    teller.step("Bangkok cannot propose a handover yet: its own node says what comes first", early);
    let verifying = sends(world, HA_NOI, BANGKOK, &sample("return-verifying", &request)?)?;
    teller.step("R2: Ha Noi says who verifies", both_stand(world, BOTH, &request, "RETURN_VERIFYING"));
    let verified = sends(world, HA_NOI, BANGKOK, &sample("verify-reply", &verifying)?)?;
    teller.step("R3: she is a national, and safe to return", both_stand(world, BOTH, &request, "RETURN_VERIFIED"));
    let ready = sends(world, HA_NOI, BANGKOK, &sample("return-docs-ready", &verified)?)?;
    teller.step("R4: her papers are ready", both_stand(world, BOTH, &request, "RETURN_DOCS_READY"));
    Ok((request, ready))
}

fn hold(world: &World, teller: &mut Teller, request: &str, last: &str) -> io::Result<String> {
    teller.chapter("She is a child: held until her best interests are decided");
    let held = BOTH.iter().all(|office| thread(world, office, request)["held"] == true);
    teller.step("both sides see the hold", held);
    let seen = thread(world, BANGKOK, request);
    teller.step("the decision is expected of Bangkok", expects(&seen, "best-interests", BANGKOK));
    let proposal = sample("handover-proposal", last)?;
    let refused = is_refused(world, BANGKOK, &proposal, "OUT_OF_STEP", "best-interests decision");
    teller.step("until then no handover can be proposed", refused);
    let decided = sends(world, BANGKOK, HA_NOI, &sample("return-best-interests", last)?)?;
    let released = BOTH.iter().all(|office| thread(world, office, request)["held"] == false);
    teller.step("the committee has decided that she goes home, and her mother is recorded: released", released);
    Ok(decided)
}

fn handover(world: &World, teller: &mut Teller, request: &str, last: &str) -> io::Result<String> {
    teller.chapter("The handover at Lao Bao");
    let proposal = sends(world, BANGKOK, HA_NOI, &sample("handover-proposal", last)?)?;
    let shown = world.office(HA_NOI).shows(&proposal)?;
    let both = shown["text"].as_str().is_some_and(|text| text.contains("10:00 UTC+7") && text.contains("11:00 UTC+8"));
    teller.step("R5: Bangkok proposes gate and time; the appointment shows both wall times", both);
    let agreed = sends(world, HA_NOI, BANGKOK, &sample("handover-answer", &proposal)?)?;
    teller.step("R6: Ha Noi agrees", both_stand(world, BOTH, request, "RETURN_AGREED"));
    let receipt = sends(world, BANGKOK, HA_NOI, &sample("handover-receipt", &agreed)?)?;
    teller.step("R7: Bangkok signs the minutes", both_stand(world, BOTH, request, "RETURN_HANDED_OVER"));
    let seen = thread(world, HA_NOI, request);
    teller.step("Ha Noi's signature is expected", expects(&seen, "handover-receipt", HA_NOI));
    let messages = seen["messages"].as_array().cloned().unwrap_or_default();
    let record = messages.iter().find_map(|message| message["record_sha256"].as_str()).unwrap_or_default().to_owned();
    let unsigned = sample("handover-receipt-receiving", &receipt)?;
    let other = is_refused(world, HA_NOI, &unsigned, "OUT_OF_STEP", "same record");
    teller.step("it cannot sign other minutes than those of Bangkok", other);
    let signed = unsigned.replace(&"0".repeat(64), &record);
    let signed = sends(world, HA_NOI, BANGKOK, &signed)?;
    let done = BOTH.iter().all(|office| !expects(&thread(world, office, request), "handover-receipt", HA_NOI));
    teller.step("Ha Noi signs the same minutes, quoting their hash", done && !record.is_empty());
    Ok(signed)
}

fn a_month_later(world: &mut World, teller: &mut Teller, request: &str, last: &str) -> io::Result<()> {
    teller.chapter("Thirty-one days later");
    let offset = (CLOCK_OFFSET.to_owned(), (31 * DAY_MS).to_string());
    world.environment.push(offset.clone());
    for office in BOTH {
        world.stop_node(office)?;
    }
    world.stop_broker()?;
    world.start_broker()?;
    for office in BOTH {
        world.start_node(office)?;
        world.office(office).unlocks()?;
    }
    let seen = thread(world, HA_NOI, request);
    let lines = seen["expected"].as_array().cloned().unwrap_or_default();
    let overdue = lines.iter().any(|line| line["what"] == "feedback" && line["overdue"] == true);
    teller.step("Ha Noi's node says that feedback is overdue", overdue);
    sends(world, HA_NOI, BANGKOK, &sample("reinteg-feedback", last)?)?;
    let held = both_stand(world, BOTH, request, "RETURN_REINTEGRATING");
    teller.step("R8: Ha Noi tells how she fares: at school again", held);
    world.environment.retain(|pair| *pair != offset);
    Ok(())
}
