//! The auditor: a copy verified offline, entry by entry, and how soon a copy has what is new.

use std::{io, sync::Arc};

use crate::{
    bed::Bed,
    ledger::{Ledger, Sample},
    measure::{Round, now},
    submit::stream_all,
};

/// Entries that are new since the last copy.
const NEW: usize = 1000;

fn timed(count: usize, work: impl FnOnce() -> io::Result<()>) -> io::Result<Sample> {
    let begin = now();
    work()?;
    let wall = begin.elapsed();
    Ok(Sample::from(&Round { count, wall, latencies: vec![wall] }))
}

/// Copies and verifies the log that the other subjects have filled.
///
/// # Errors
/// When something is found, or the broker does not answer.
pub(crate) async fn round(bed: &Bed, ledger: &mut Ledger) -> io::Result<()> {
    let copy = bed.world.path("copy");
    let audit = |arguments: &[&str]| match bed.world.audit(arguments)? {
        (0, verdict) => Ok(verdict),
        (code, verdict) => Err(io::Error::other(format!("the auditor ended with {code}: {verdict}"))),
    };
    audit(&["mirror", "--copy", &copy])?;
    let (address, _) = bed.broker()?;
    let messages = bed.seal(NEW);
    stream_all(bed, &address, &messages, 256).await?;
    drop::<Arc<_>>(messages);
    ledger.add("auditor, mirror of 1,000 new entries", timed(NEW, || audit(&["mirror", "--copy", &copy]).map(drop))?);
    let mut entries = 0;
    let verified = timed(1, || {
        entries = audit(&["verify", "--copy", &copy])?["report"]["exchange_entries"].as_u64().unwrap_or(0);
        Ok(())
    })?;
    let each = Sample { rate: verified.rate * entries as f64, ..verified };
    ledger.add("auditor, verify", each);
    Ok(())
}
