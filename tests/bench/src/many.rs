//! A log of a million entries with a hundred thousand messages undelivered: what a message costs there, how soon a broker
//! is ready again, and in how much memory.

use std::{fs, io, sync::Arc};

use liaison_log::{
    leaf::{Event, ExchangeLeaf, Statement},
    proof::TlogProof,
};
use liaison_proto::{
    clock::{Clock as _, SystemClock},
    header::Header,
    ids::OfficeId,
    sign::PayloadType,
    wire::{self, CannotOpenReason, StatementKind},
};
use liaison_tests::forger::Forger;

use crate::{
    bed::{Bed, SENDERS},
    ledger::{Ledger, Sample, Watch},
    measure::{Round, closed_loop, now},
    submit::stream_all,
};

/// Messages submitted, and then stated about, together.
const PART: usize = 20_000;
const CALLERS: usize = 64;

/// How many entries there are to be, and of how many messages nothing is stated.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) entries: usize,
    pub(crate) undelivered: usize,
}

fn mebibytes(process: u32, field: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    let kibibytes: f64 = line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse().unwrap_or(0.0);
    Ok(kibibytes / 1024.0)
}

fn of_memory(mebibytes: f64) -> Sample {
    Sample { rate: mebibytes, ..Sample::default() }
}

/// DELIVERED, then RETRIEVED, of every message, each signed by its recipient.
async fn state(bed: &Bed, receipts: &[wire::Receipt]) -> io::Result<()> {
    let forgers: Vec<Forger> = SENDERS.iter().map(|(_, to)| Forger::new(&bed.world, to)).collect();
    let (address, _) = bed.broker()?;
    let mut clients = Vec::new();
    for (_, to) in SENDERS {
        clients.push(bed.connect_as(to, &address).await?);
    }
    for kind in [StatementKind::Delivered, StatementKind::Retrieved] {
        let mut requests = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            let proof = TlogProof::parse(&receipt.proof).map_err(io::Error::other)?;
            let leaf = ExchangeLeaf::parse(&receipt.leaf).map_err(io::Error::other)?;
            let Event::Accepted { header, numbers, .. } = leaf.event else { continue };
            let to: OfficeId = header.core().to[0];
            let recipient = SENDERS.iter().position(|(_, office)| *office == to.to_string()).unwrap_or_default();
            let statement = Statement {
                message_id: header.core().message_id,
                office: to,
                accepted: proof.index,
                header_sha256: Header::sha256(&header),
                number: numbers[0],
                at: SystemClock.now(),
                reason: CannotOpenReason::Unspecified,
            }
            .encode();
            let signature = match kind {
                StatementKind::Delivered => forgers[recipient].receipt.sign(PayloadType::Delivered, &statement),
                _ => forgers[recipient].signing.sign(PayloadType::Retrieved, &statement),
            };
            let attested = Some(wire::Attested { statement, signature: Some(signature) });
            requests.push((recipient, wire::AttestRequest { kind: kind.into(), attested, seen_size: 0 }));
        }
        let (requests, clients, count) = (Arc::new(requests), clients.clone(), receipts.len());
        closed_loop(CALLERS, count, move |_, number| {
            let (recipient, request) = requests[number].clone();
            let mut client = clients[recipient].clone();
            async move { client.attest(request).await.map(|_| ()).map_err(io::Error::other) }
        })
        .await?;
    }
    Ok(())
}

/// What a message costs now.
async fn cost(bed: &Bed, ledger: &mut Ledger, subject: &str) -> io::Result<()> {
    let (address, process) = bed.broker()?;
    let messages = bed.seal(PART / 2);
    let watch = Watch::begin(&[process], None)?;
    let (round, _) = stream_all(bed, &address, &messages, 256).await?;
    ledger.add(subject, watch.end(&round)?);
    Ok(())
}

/// Fills a log, then stops and kills its broker.
///
/// # Errors
/// When something cannot be entered, or the broker does not come back.
pub(crate) async fn run(ledger: &mut Ledger, size: Size) -> io::Result<()> {
    let mut bed = Bed::new()?;
    cost(&bed, ledger, "broker, streamed, a log of 10,000 entries").await?;
    let (mut entries, mut undelivered) = (PART / 2, PART / 2);
    while entries < size.entries {
        let (address, process) = bed.broker()?;
        let (_, receipts) = stream_all(&bed, &address, &bed.seal(PART), 256).await?;
        entries += PART;
        if undelivered < size.undelivered {
            undelivered += PART;
        } else {
            state(&bed, &receipts).await?;
            entries += 2 * PART;
        }
        if entries / 100_000 != (entries - PART) / 100_000 {
            eprintln!("  {entries} entries, {undelivered} undelivered, {:.0} MiB", mebibytes(process, "VmRSS")?);
        }
    }
    cost(&bed, ledger, "broker, streamed, a log of 1,000,000 entries").await?;
    let (_, process) = bed.broker()?;
    ledger.add("broker's memory at 1,000,000 entries, MiB", of_memory(mebibytes(process, "VmRSS")?));
    ledger.add("broker's highest memory, MiB", of_memory(mebibytes(process, "VmHWM")?));
    let once = |begin: std::time::Instant| {
        Sample::from(&Round { count: 1, wall: begin.elapsed(), latencies: vec![begin.elapsed()] })
    };
    bed.world.stop_broker()?;
    let begin = now();
    bed.world.start_broker()?;
    ledger.add("broker, ready after a clean stop", once(begin));
    let (_, process) = bed.broker()?;
    ledger.add("broker's memory after it, MiB", of_memory(mebibytes(process, "VmHWM")?));
    bed.world.kill_broker()?;
    let begin = now();
    bed.world.start_broker()?;
    ledger.add("broker, index rebuilt after a kill", once(begin));
    let (_, process) = bed.broker()?;
    ledger.add("broker's memory after that, MiB", of_memory(mebibytes(process, "VmHWM")?));
    Ok(())
}
