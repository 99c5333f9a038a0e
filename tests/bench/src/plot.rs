//! Two plots of what was measured, as SVG.

use std::{fs, io, path::Path};

use plotters::prelude::*;

use crate::ledger::{Ledger, Sample};

const WIDTH: u32 = 900;
const ROW: u32 = 34;
const MARGIN: u32 = 90;
/// Where bars begin: behind the longest name.
const NAMES: i32 = 330;
const OURS: RGBColor = RGBColor(0x1d, 0x70, 0xb8);
const OTHERS: RGBColor = RGBColor(0xb1, 0xb4, 0xb6);

/// Subjects whose rates are shown together.
const RATES: [&str; 10] = [
    "no-op, 64 on 16",
    "no-op, 256 on 16",
    "broker, 64 on 16",
    "broker, streamed, 256 in flight",
    "JetStream, every write synced, 64 in flight",
    "JetStream, every write synced, 256 in flight",
    "JetStream, as it comes, 64 in flight",
    "JetStream, as it comes, 256 in flight",
    "RabbitMQ, quorum queue, 64 in flight",
    "RabbitMQ, quorum queue, 256 in flight",
];

/// Subjects with one caller.
const LATENCIES: [&str; 7] = [
    "floor: two parallel syncs of 4 KiB",
    "no-op, 1",
    "broker, 1",
    "JetStream, every write synced, 1 in flight",
    "JetStream, as it comes, 1 in flight",
    "RabbitMQ, quorum queue, 1 in flight",
    "FLASH, command to durable, idle",
];

/// Horizontal bars, one a subject, with its figure behind it.
fn bars(
    file: &Path,
    title: &str,
    ledger: &Ledger,
    subjects: &[&str],
    figure: fn(&Sample) -> f64,
    show: fn(f64) -> String,
) -> io::Result<()> {
    let rows: Vec<(&str, f64)> =
        subjects.iter().filter_map(|&subject| Some((subject, ledger.median(subject, figure)?))).collect();
    let largest = rows.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let height = MARGIN + ROW * u32::try_from(rows.len()).unwrap_or(1);
    let failed = |error: &dyn std::error::Error| io::Error::other(error.to_string());
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    area.draw(&Text::new(title.to_owned(), (16, 18), text(22))).map_err(|e| failed(&e))?;
    let room = f64::from(WIDTH) - f64::from(NAMES) - 110.0;
    for (number, (subject, value)) in (0_i32..).zip(&rows) {
        let top = 62 + number * i32::try_from(ROW).unwrap_or(0);
        #[expect(clippy::cast_possible_truncation, reason = "a width in pixels")]
        let end = NAMES + (value / largest * room) as i32;
        let ours = subject.starts_with("broker") || subject.starts_with("FLASH");
        let colour = if ours { OURS } else { OTHERS };
        area.draw(&Text::new((*subject).to_owned(), (16, top + 3), text(15))).map_err(|e| failed(&e))?;
        area.draw(&Rectangle::new([(NAMES, top), (end.max(NAMES + 1), top + 22)], colour.filled()))
            .map_err(|e| failed(&e))?;
        area.draw(&Text::new(show(*value), (end + 8, top + 3), text(15))).map_err(|e| failed(&e))?;
    }
    area.present().map_err(|e| failed(&e))
}

/// Writes the plots below `docs/benchmarks`.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write(root: &Path, ledger: &Ledger) -> io::Result<()> {
    let place = root.join("docs/benchmarks");
    fs::create_dir_all(&place)?;
    bars(
        &place.join("rates.svg"),
        "Messages of 2 KiB a second",
        ledger,
        &RATES,
        |s| s.rate,
        |rate| format!("{rate:.0}"),
    )?;
    let show = |ms| format!("{ms:.2} ms");
    bars(&place.join("latencies.svg"), "One caller, median latency", ledger, &LATENCIES, |s| s.p50, show)
}
