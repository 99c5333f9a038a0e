//! Ha Noi looks for a recruiter. Vientiane meets two men: the first is another, the second is the one.

use std::io;

use super::{both_stand, expects, is_refused, sample, sends, thread};
use crate::{demo::Teller, samples, world::World};

pub(super) const HA_NOI: &str = "VN-CCP-HAN";
pub(super) const VIENTIANE: &str = "LA-CCP-VTE";
const BOTH: [&str; 2] = [HA_NOI, VIENTIANE];
const ALERTED: &str = "CN-CCP-PEK, LA-CCP-VTE, KH-CCP-PNH";

pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("Ha Noi raises an alert");
    // To the one office that runs here.
    let alert = samples::SUSPECT_ALERT.replace(ALERTED, VIENTIANE);
    let alert = sends(world, HA_NOI, VIENTIANE, &alert)?;
    teller.step(format!("it is active at Vientiane: {alert}"), both_stand(world, BOTH, &alert, "ALERT_ACTIVE"));
    let own = sample("alert-confirmed", &alert)?;
    teller.step("nobody confirms a hit that nobody had", is_refused(world, HA_NOI, &own, "OUT_OF_STEP", "hit"));

    teller.chapter("Vientiane meets somebody");
    let hit = sends(world, VIENTIANE, HA_NOI, &sample("alert-hit", &alert)?)?;
    let waits =
        both_stand(world, BOTH, &alert, "ALERT_HIT") && expects(&thread(world, HA_NOI, &alert), "hit-check", HA_NOI);
    teller.step("Ha Noi is to say whether it is the person", waits);
    let confirms = sample("alert-confirmed", &hit)?.replace(VIENTIANE, HA_NOI);
    let refused = is_refused(world, VIENTIANE, &confirms, "OUT_OF_STEP", "other side");
    teller.step("Vientiane cannot say so itself", refused);
    sends(world, HA_NOI, VIENTIANE, &sample("alert-false-hit", &hit)?)?;
    teller.step("it was another: the alert stays in force", both_stand(world, BOTH, &alert, "ALERT_ACTIVE"));

    teller.chapter("Vientiane meets somebody else");
    let hit = sends(world, VIENTIANE, HA_NOI, &sample("alert-hit", &alert)?)?;
    let confirmed = sends(world, HA_NOI, VIENTIANE, &sample("alert-confirmed", &hit)?)?;
    teller.step("it is the person", both_stand(world, BOTH, &alert, "ALERT_CONFIRMED"));
    let cancel = sample("alert-cancel", &confirmed)?.replace(ALERTED, VIENTIANE);
    sends(world, HA_NOI, VIENTIANE, &cancel)?;
    teller.step("Ha Noi cancels the alert", both_stand(world, BOTH, &alert, "ALERT_CANCELLED"));
    let renewed = samples::SUSPECT_ALERT.replace(ALERTED, VIENTIANE);
    let renewed = renewed.replace("language: eng", &format!("language: eng\nin_reply_to: {alert}"));
    teller.step("which is not renewed any more", is_refused(world, HA_NOI, &renewed, "OUT_OF_STEP", "closed"));
    Ok(())
}
