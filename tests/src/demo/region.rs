//! What a region needs beyond one notice: a photo, an alert to three countries at once, a call for help that overtakes a
//! queue, and a flood that hurts nobody but who makes it.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use liaison_link::{
    charter_files, dial, local, net,
    time::FlooredTime,
    tls::{self, Identity},
};
use liaison_proto::{
    clock::{SystemClock, UnixMillis},
    refusal::{Refusal, RefusalCode},
    wire::{SubmitRequest, exchange_client::ExchangeClient},
};
use serde_json::{Value, json};

use super::Teller;
use crate::{
    samples,
    world::{World, eventually},
};

const LAO_CAI: &str = "VN-BLO-LCA";
const HEKOU: &str = "CN-BLO-HKO";
const HA_NOI: &str = "VN-CCP-HAN";
const ALERTED: [&str; 3] = ["CN-CCP-PEK", "LA-CCP-VTE", "KH-CCP-PNH"];
const FLOODER: &str = "KH-BLO-BVT";
/// Words in the sample photo's metadata.
const CAMERA: &[u8] = b"Invented";
/// Routine messages before the call for help.
const ROUTINE: usize = 40;

/// Tells it.
///
/// # Errors
/// When a process does not answer.
pub(super) fn tell(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    photo(world, teller)?;
    alert(world, teller)?;
    overtaking(world, teller)?;
    flood(world, teller)
}

fn photo(world: &World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("A photo goes with a notice");
    let files = [json!({"name": "photo.jpg", "size": samples::PHOTO.len()})];
    let request = json!({"op": "send", "file": samples::ROUTINE, "attachments": files});
    let sent = local::call_with(&world.socket(LAO_CAI), &request, &mut { samples::PHOTO }, &mut io::sink())?;
    let message = sent["message"].as_str().unwrap_or_default().to_owned();
    teller.step("deploy/samples/photo.jpg is sealed in chunks and uploaded before its notice", !message.is_empty());
    let here = || {
        let shown = world.office(HEKOU).shows(&message).unwrap_or_default();
        shown["attachments"][0]["state"] == "HERE"
    };
    teller.step("Hekou has the notice, and the photo", eventually(here));
    let mut photo = Vec::new();
    let request = json!({"op": "attachment", "message": message, "number": 1});
    local::call_with(&world.socket(HEKOU), &request, &mut io::empty(), &mut photo)?;
    let has = |bytes: &[u8]| bytes.windows(CAMERA.len()).any(|part| part == CAMERA);
    let clean = photo.starts_with(&[0xff, 0xd8]) && !has(&photo) && has(samples::PHOTO);
    teller.step("it opens there, without the position and the camera that its metadata told", clean);
    Ok(())
}

fn alert(world: &World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("A suspect alert to three countries at once");
    for office in ALERTED.iter().chain([&HA_NOI]) {
        world.office(office).unlocks()?;
    }
    let alert = world.office(HA_NOI).sends(samples::SUSPECT_ALERT)?;
    let received = || ALERTED.iter().all(|office| world.office(office).times_received(&alert) == 1);
    teller
        .step(format!("Ha Noi alerts Beijing, Vientiane and Phnom Penh in one message: {alert}"), eventually(received));
    let outbox = || world.office(HA_NOI).outbox().unwrap_or_default();
    let opened = || {
        let sent = outbox().into_iter().find(|entry| entry["message"] == alert.as_str()).unwrap_or_default();
        let recipients = sent["recipients"].as_array().cloned().unwrap_or_default();
        recipients.len() == 3 && recipients.iter().all(|r| r["state"] == "RETRIEVED" && r["number"] == 1)
    };
    teller.step("all three have opened it; each has a number of its own", eventually(opened));
    Ok(())
}

/// The entry in which a message was accepted.
fn entry(world: &World, message: &str) -> Option<u64> {
    let shown = world.office(LAO_CAI).shows(message).ok()?;
    let history = shown["history"].as_array()?.clone();
    history.iter().find(|event| event["what"] == "ACCEPTED")?["entry"].as_u64()
}

fn overtaking(world: &mut World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("A call for help overtakes a queue");
    world.stop_broker()?;
    let office = world.office(LAO_CAI);
    let routine: Vec<String> = (0..ROUTINE).map(|_| office.sends(samples::ROUTINE)).collect::<io::Result<_>>()?;
    let call = office.sends(samples::HOTLINE_CALL)?;
    teller.step(format!("the line is down; {ROUTINE} routine notices wait, then comes a hot-line call"), true);
    world.start_broker()?;
    let office = world.office(LAO_CAI);
    let all = office.sees(&call, &["RETRIEVED"]) && routine.iter().all(|message| office.sees(message, &["RETRIEVED"]));
    let flash = entry(world, &call).unwrap_or(u64::MAX);
    let behind = routine.iter().filter(|message| entry(world, message).is_some_and(|entry| entry > flash)).count();
    teller.step(
        format!("the line is back: the call is in the log before {behind} of them, on its own connection"),
        all && behind > ROUTINE / 2,
    );
    Ok(())
}

fn flood(world: &World, teller: &mut Teller) -> io::Result<()> {
    teller.chapter("An office that has gone wild hurts nobody else");
    let runtime = tokio::runtime::Runtime::new()?;
    let entered = runtime.enter();
    let (answered, told) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    // As many connections as its own node leaves it, and many calls at once on each.
    let clients: Vec<_> = (0..4).map(|_| connect(world, FLOODER)).collect::<io::Result<_>>()?;
    for client in clients.iter().cycle().take(64) {
        let mut client = ExchangeClient::new(client.clone());
        let (answered, told) = (Arc::clone(&answered), Arc::clone(&told));
        runtime.spawn(async move {
            loop {
                let status = client.submit(SubmitRequest::default()).await.err();
                let refusal = status.as_ref().and_then(Refusal::from_status);
                answered.fetch_add(1, Ordering::Relaxed);
                if refusal.is_some_and(|refusal| refusal.code == RefusalCode::TooMany) {
                    told.fetch_add(1, Ordering::Relaxed);
                } else {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    let flooding = eventually(|| told.load(Ordering::Relaxed) > 0);
    let message = world.office(LAO_CAI).sends(samples::HOTLINE_CALL)?;
    let arrived = world.office(LAO_CAI).sees(&message, &["RETRIEVED"]);
    drop(entered);
    runtime.shutdown_timeout(Duration::from_millis(100));
    let (answered, told) = (answered.load(Ordering::Relaxed), told.load(Ordering::Relaxed));
    teller.step(format!("{FLOODER} sends {answered} bad calls; {told} are told to slow down (TOO_MANY)"), flooding);
    teller.step("Lao Cai's call for help goes through all the same", arrived);
    Ok(())
}

/// A connection of an office's own certificate, past its node.
fn connect(world: &World, office: &str) -> io::Result<tonic::transport::Channel> {
    let place = PathBuf::from(world.path("charter"));
    let charter = charter_files::load(&place.join("charter.toml"), None).map_err(io::Error::other)?;
    let own = place.join("offices").join(office);
    let identity = Identity::read(&own.join("tls.pem"), &own.join("tls.key")).map_err(io::Error::other)?;
    let time = FlooredTime::new(Arc::new(SystemClock), &charter, UnixMillis(0));
    let tls = tls::client_config(&charter.file().broker.ca, identity, false, time).map_err(io::Error::other)?;
    let address = world.broker_address()?.parse().map_err(io::Error::other)?;
    dial::channel(&charter, address, tls.into(), net::tcp()).map_err(io::Error::other)
}

/// Whether what the region sent is all delivered, by the auditor's report.
pub(super) fn is_delivered(verdict: &Value) -> bool {
    verdict["report"]["undelivered"].as_array().is_some_and(Vec::is_empty)
}
