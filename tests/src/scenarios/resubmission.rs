//! Lao Cai asks, Hekou declines for want of something, Lao Cai asks again with it, Hekou answers.

use std::io;

use super::{both_stand, expects, is_refused, sample, sends, thread};
use crate::{demo::Teller, world::World};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
pub(super) const OFFICES: [&str; 2] = [LAO_CAI, HEKOU];

pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("A request that lacks something");
    let request = sends(world, LAO_CAI, HEKOU, &sample("info-request", "")?)?;
    teller.step(format!("Lao Cai asks: {request}"), both_stand(world, OFFICES, &request, "SENT"));
    let own = sample("info-reply", &request)?.replace(LAO_CAI, HEKOU);
    teller.step("it cannot answer itself", is_refused(world, LAO_CAI, &own, "OUT_OF_STEP", "other side"));
    let declined = sends(world, HEKOU, LAO_CAI, &sample("decline", &request)?)?;
    teller.step("Hekou declines, and says what is missing", both_stand(world, OFFICES, &request, "DECLINED"));
    let waits = expects(&thread(world, LAO_CAI, &request), "resubmission", LAO_CAI);
    teller.step("a resubmission is expected of Lao Cai", waits);

    teller.chapter("The request again, in the same thread");
    let again =
        sample("info-request", "")?.replace("language: vie", &format!("language: vie\nin_reply_to: {declined}"));
    let again = sends(world, LAO_CAI, HEKOU, &again)?;
    teller.step("it is in progress", both_stand(world, OFFICES, &request, "IN_PROGRESS"));
    let answer = sends(world, HEKOU, LAO_CAI, &sample("info-reply", &again)?)?;
    teller.step("Hekou answers", both_stand(world, OFFICES, &request, "ANSWERED"));
    let late = is_refused(world, HEKOU, &sample("decline", &answer)?, "OUT_OF_STEP", "answered");
    teller.step("what is answered is not declined", late);
    let close = sample("case-update", &answer)?.replace(LAO_CAI, HEKOU);
    let close = close.replace("stage: INVESTIGATING", "stage: CLOSED\n  outcome: SETTLED");
    sends(world, LAO_CAI, HEKOU, &close)?;
    teller.step("Lao Cai closes the thread", both_stand(world, OFFICES, &request, "CLOSED"));
    Ok(())
}
