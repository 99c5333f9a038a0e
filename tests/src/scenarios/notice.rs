//! What happens to a notice after it was sent: it is translated, corrected, talked about; or recalled.

use std::io;

use serde_json::json;

use super::{both_stand, sample, sends, thread};
use crate::{demo::Teller, samples, world::World};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
pub(super) const OFFICES: [&str; 2] = [LAO_CAI, HEKOU];
/// Words of the notice.
const SECRET: &str = "Giang Thi My";

pub(super) fn translation(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("A notice in Vietnamese");
    let notice = sends(world, LAO_CAI, HEKOU, samples::CASE_NOTICE)?;
    let request = json!({"op": "show", "message": notice, "language": "zh"});
    let shown = world.office(HEKOU).ask(&request)?;
    let text = shown["text"].as_str().unwrap_or_default();
    teller.step(
        "Hekou reads its fields and codes in Chinese",
        text.contains("FM (") && !text.contains("forced marriage"),
    );
    teller.step("what Lao Cai wrote in words stays Vietnamese", text.contains("Bản Phiệt"));

    teller.chapter("Translated, corrected, talked about");
    let translated = sends(world, HEKOU, LAO_CAI, &sample("translation", &notice)?)?;
    let corrected = sends(world, LAO_CAI, HEKOU, &sample("correction", &notice)?)?;
    let called = sends(world, LAO_CAI, HEKOU, &sample("call-note", &notice)?)?;
    let shown = world.office(HEKOU).shows(&notice)?;
    let answers = shown["answers"].as_array().cloned().unwrap_or_default();
    let has = |id: &str| answers.iter().any(|answer| answer["message"] == id);
    let original = shown["content"]["vehicles"][0]["plate"] == "24B1-123.45";
    teller.step(
        "the notice stays as it was signed; what was said about it stands beside it",
        original && has(&corrected) && has(&called),
    );
    let shown = world.office(LAO_CAI).shows(&translated)?;
    let words = shown["content"]["fields"][0]["text"].as_str().is_some_and(|text| text.contains("板撇乡"));
    teller.step("the translation is signed by the officer who made it", words && shown["officer"]["name"].is_string());
    teller.step("none of it moves the thread", both_stand(world, OFFICES, &notice, "SENT"));
    Ok(())
}

pub(super) fn recall(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("A notice that went to the wrong office");
    let notice = sends(world, LAO_CAI, HEKOU, samples::CASE_NOTICE)?;
    let shown = world.office(HEKOU).shows(&notice)?;
    teller.step("Hekou can read it", shown["text"].as_str().is_some_and(|text| text.contains(SECRET)));
    sends(world, LAO_CAI, HEKOU, &sample("recall", &notice)?)?;
    let shown = world.office(HEKOU).shows(&notice)?;
    teller.step(
        "Lao Cai recalls it: Hekou's node shows it no more",
        shown["text"].is_null() && shown["content_missing"].is_string(),
    );
    teller.step("both sides see the thread withdrawn", both_stand(world, OFFICES, &notice, "WITHDRAWN"));
    let marked = thread(world, HEKOU, &notice)["messages"].as_array().map_or(0, Vec::len);
    teller.step("and that it was there", marked == 2);
    Ok(())
}
