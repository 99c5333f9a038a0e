//! Hekou wants to pass Lao Cai's notice on to Beijing. Lao Cai decides.

use std::io;

use super::{both_stand, expects, is_refused, sample, sends, thread};
use crate::{demo::Teller, samples, world::World};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const BEIJING: &str = "CN-CCP-PEK";
pub(super) const OFFICES: [&str; 3] = [LAO_CAI, HEKOU, BEIJING];

pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("Lao Cai's notice to Hekou: handling H2, TLP AMBER+STRICT");
    let notice = sends(world, LAO_CAI, HEKOU, samples::CASE_NOTICE)?;
    teller.step(format!("it is at Hekou: {notice}"), both_stand(world, [LAO_CAI, HEKOU], &notice, "SENT"));
    // Within one country on that country's own law.
    let passed_on = sample("case-update", &notice)?.replace(LAO_CAI, BEIJING).replace("VNCN10", "DOMESTIC");
    let refused = is_refused(world, HEKOU, &passed_on, "ONWARD_NOT_GRANTED", BEIJING);
    teller.step("Hekou's node does not let it go to Beijing", refused);
    let wider = sample("classify", &notice)?.replace("AMBER+STRICT", "GREEN");
    let refused = is_refused(world, HEKOU, &wider, "ONWARD_NOT_GRANTED", "AMBER+STRICT");
    teller.step("nor answer with a wider TLP", refused);

    teller.chapter("Hekou asks");
    let request = sends(world, HEKOU, LAO_CAI, &sample("onward-request", &notice)?)?;
    let waits = expects(&thread(world, LAO_CAI, &notice), "decision", LAO_CAI);
    teller.step("a decision is expected of Lao Cai", waits);
    let decision = |name: &str| Ok::<_, io::Error>(decides(&sample(name, &notice)?, &request));
    sends(world, LAO_CAI, HEKOU, &decision("onward-refusal")?)?;
    let refused = is_refused(world, HEKOU, &passed_on, "ONWARD_NOT_GRANTED", BEIJING);
    teller.step("Lao Cai refuses: the source is not safe yet", refused);
    sends(world, LAO_CAI, HEKOU, &decision("onward-decision")?)?;
    let passed = sends(world, HEKOU, BEIJING, &passed_on)?;
    let shown = world.office(BEIJING).shows(&passed)?;
    let bound = shown["handling"] == "H2" && shown["tlp"] == "AMBER_STRICT";
    teller.step("later it grants, and what Beijing gets is as closely held", bound);
    Ok(())
}

/// The decision answers the request, and is about the notice.
fn decides(decision: &str, request: &str) -> String {
    let reply = |line: &str| match line.starts_with("in_reply_to:") {
        true => format!("in_reply_to: {request}\n"),
        false => format!("{line}\n"),
    };
    decision.lines().map(reply).collect()
}
