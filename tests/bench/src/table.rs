//! What was measured as a page: every subject with its medians, then the aims, each with the figures it is judged by.

use std::{fmt::Write as _, fs, io, path::Path};

use crate::ledger::{Ledger, Sample};

/// Where the page and its plots go, below the repository.
pub(crate) const PAGE: &str = "docs/benchmarks.md";

/// An aim, what was found, and whether that is enough.
struct Aim {
    what: &'static str,
    aim: String,
    found: String,
    met: bool,
}

/// The CPU of what a whole journey cannot do without, microseconds: seal, open, eight strict checks (header, DELIVERED and
/// RETRIEVED at the broker; header, officer and credential at the recipient; DELIVERED and RETRIEVED at the sender), four
/// signatures (officer, office, DELIVERED, RETRIEVED), and two calls.
fn journey_floor(ledger: &Ledger) -> Option<f64> {
    let each = |subject: &str| Some(1e6 / ledger.median(subject, |sample| sample.rate)?);
    let call = ledger.median("no-op, 64 on 16", |sample| sample.server_cpu + sample.client_cpu)?;
    Some(
        each("floor: sealing 2 KiB, one core")?
            + each("floor: opening 2 KiB, one core")?
            + 8.0 * each("floor: strict verification, one core")?
            + 4.0 * each("floor: signing, one core")?
            + 2.0 * call,
    )
}

fn ratio(what: &'static str, found: Option<f64>, base: Option<f64>, least: f64) -> Option<Aim> {
    let (found, base) = (found?, base?);
    let ratio = found / base;
    Some(Aim {
        what,
        aim: format!("at least {least}"),
        found: format!("{ratio:.2} ({found:.0} of {base:.0} a second)"),
        met: ratio >= least,
    })
}

fn most(what: &'static str, unit: &str, found: Option<f64>, most: f64) -> Option<Aim> {
    let found = found?;
    let (aim, met) = (format!("at most {most:.2} {unit}"), found <= most);
    Some(Aim { what, aim, found: format!("{found:.2} {unit}"), met })
}

fn aims(ledger: &Ledger, cores: f64) -> Vec<Aim> {
    let rate = |subject: &str| ledger.median(subject, |sample| sample.rate);
    let p50 = |subject: &str| ledger.median(subject, |sample| sample.p50);
    let cpu = |subject: &str| ledger.median(subject, |sample| sample.server_cpu);
    let streamed = rate("broker, streamed, 256 in flight");
    let idle = p50("FLASH, command to durable, idle");
    let one = p50("no-op, 1").zip(p50("floor: two parallel syncs of 4 KiB")).map(|(call, syncs)| call + syncs + 0.3);
    let verification = rate("floor: strict verification, one core").map(|rate| rate * cores);
    let floor = journey_floor(ledger).map(|cpu| cores * 1e6 / cpu);
    let (few, many) =
        (cpu("broker, streamed, a log of 10,000 entries"), cpu("broker, streamed, a log of 1,000,000 entries"));
    [
        ratio(
            "broker alone, 64 callers on 16 connections, of the no-op's rate",
            rate("broker, 64 on 16"),
            rate("no-op, 64 on 16"),
            0.45,
        ),
        ratio("broker alone, streamed, 256 in flight, of the no-op's rate", streamed, rate("no-op, 256 on 16"), 0.7),
        ratio(
            "broker alone, streamed, of JetStream synced every write, 256 in flight",
            streamed,
            rate("JetStream, every write synced, 256 in flight"),
            6.0,
        ),
        one.and_then(|one| {
            most("one caller, median: the no-op's, the two syncs and 0.3 ms", "ms", p50("broker, 1"), one)
        }),
        most("FLASH from command to durable at the recipient, idle, median", "ms", idle, 5.0),
        idle.and_then(|idle| {
            most(
                "FLASH beside saturated bulk, 99th percentile: five times idle",
                "ms",
                ledger.median("FLASH, command to durable, beside bulk", |sample| sample.p99),
                5.0 * idle,
            )
        }),
        ratio("whole journey, of its floor", rate("notices, command to RETRIEVED"), floor, 0.7),
        ratio("auditor, of raw strict verification on all cores", rate("auditor, verify"), verification, 0.7),
        most("auditor, mirror of 1,000 new entries", "ms", p50("auditor, mirror of 1,000 new entries"), 1000.0),
        most(
            "1,000,000 entries: ready after a clean stop",
            "s",
            p50("broker, ready after a clean stop").map(|ms| ms / 1e3),
            5.0,
        ),
        most(
            "1,000,000 entries: index rebuilt",
            "s",
            p50("broker, index rebuilt after a kill").map(|ms| ms / 1e3),
            30.0,
        ),
        few.zip(many).and_then(|(few, many)| {
            most("1,000,000 entries: CPU of a message, to that at 10,000", "times", Some(many / few), 1.2)
        }),
        most("1,000,000 entries: the broker's memory", "MiB", rate("broker's highest memory, MiB"), 300.0),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("an unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {model}")
}

/// The page.
fn page(ledger: &Ledger, rounds: usize, date: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let mut page = format!(
        "# Benchmarks\n\nMade by `cargo run --release --bin bench` on {date}: {}, loopback, medians of {rounds} rounds in one run. \
         Compare inside this table only: rates of disk and network vary between runs and machines.\n\n\
         Bodies have 2 KiB; every connection is TLS 1.3 with certificates on both sides; every guarantee is on (strict \
         signatures, numbers, both files synced, a signed checkpoint and a proof in every receipt); the shares of an office are \
         raised, so that they do not hold a measurement back. Client and server share the cores. Latencies are in \
         milliseconds, CPU in microseconds for each operation (server + client), disk in bytes for each.\n\n\
         | subject | a second | p50 | p99 | CPU | disk |\n|---|--:|--:|--:|--:|--:|\n",
        machine()
    );
    let shown = |value: f64, digits: usize| if value > 0.0 { format!("{value:.digits$}") } else { "-".to_owned() };
    for subject in ledger.subjects() {
        let of = |figure: fn(&Sample) -> f64| ledger.median(subject, figure).unwrap_or(0.0);
        if subject.ends_with("MiB") {
            continue;
        }
        let cpu = match (of(|s| s.server_cpu), of(|s| s.client_cpu)) {
            (server, client) if server + client > 0.0 => format!("{server:.0} + {client:.0}"),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            page,
            "| {subject} | {} | {} | {} | {cpu} | {} |",
            shown(of(|s| s.rate), usize::from(of(|s| s.rate) < 10.0) * 2),
            shown(of(|s| s.p50), 3),
            shown(of(|s| s.p99), 3),
            shown(of(|s| s.disk), 0),
        );
    }
    page.push_str("\n![Messages a second](benchmarks/rates.svg)\n\n![Latency of one caller](benchmarks/latencies.svg)\n\n## Aims\n\n");
    page.push_str("| what | aim | found | |\n|---|---|---|---|\n");
    for Aim { what, aim, found, met } in aims(ledger, cores) {
        let _ = writeln!(page, "| {what} | {aim} | {found} | {} |", if met { "met" } else { "**short**" });
    }
    page.push_str(
        "\nWhat falls short, and the profile that explains it: [benchmarks-profile.md](benchmarks-profile.md).\n\n\
         ## What the peers do not do\n\n\
         - **JetStream, every write synced** (NATS 2.15.1, one replica, `sync_interval: always`): one `fsync` a message before it is \
         confirmed. It knows no signatures, no receipts that a third party could check, no numbers per sender and recipient, no \
         admission by an agreement, and its operator can read, reorder, change or drop every message unseen.\n\
         - **JetStream, as it comes**: the same, and nothing is synced before it is confirmed: the last two minutes go with the power.\n\
         - **RabbitMQ, quorum queue** (Debian's 3.10.8, one replica, persistent messages, confirms): synced in groups; otherwise the \
         same as JetStream synced. Rounds are short: its log is rewritten into segments later, which they do not show.\n\
         - Peers have 16 connections, as the broker has; with four they are 4 to 13 % faster.\n\
         - Peers are asked by the leanest client that could be written, without a gRPC call each; the broker is asked as a node asks it.\n",
    );
    page
}

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(root: &Path, ledger: &Ledger, rounds: usize, date: &str) -> io::Result<()> {
    let file = root.join(PAGE);
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(file, page(ledger, rounds, date))
}
