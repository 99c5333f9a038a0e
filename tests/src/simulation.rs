//! Whole worlds in one process, from a seed: officers send while lines, machines, disks and clocks fail, and an oracle knows
//! promises 1 to 10 and 12. The same seed gives the same world, event for event.
//!
//! Reading order: [`run`] -> [`officers`], [`trouble`] and [`hostile`] (what happens) -> [`oracle`] (what must hold) -> [`world`] ->
//! [`net`], [`devices`].
//!
//! Out of scope: what only the operating system does: signals, local sockets, real files. Key files, the spool of a repair and
//! attachments are real files here, and lose nothing by a power cut.

use std::{io, path::Path, time::Duration};

use liaison_proto::sha256;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::dice::Dice;

pub mod cli;
pub mod devices;
pub mod hostile;
pub mod loss;
pub mod net;
pub mod officers;
pub mod oracle;
pub mod template;
pub mod trouble;
pub mod world;

use hostile::Deeds;
use officers::Ledger;
use template::{OFFICES, Template};
use world::{World, Wrong};

/// Simulated time in which everything must have arrived once all trouble is over.
const SETTLED: Duration = Duration::from_secs(30 * 60);

const LOST: &str = "entries are lost that nobody has";

/// What a run was.
#[derive(Debug)]
pub struct Run {
    /// What went wrong, if anything did.
    pub wrong: Option<Wrong>,
    /// Hash of everything that happened, and of the exchange log where it is whole in the end.
    pub fingerprint: String,
    /// What happened, a line each.
    pub trace: Vec<String>,
    /// Figures for whoever reads the summary.
    pub figures: Value,
}

/// Runs the world of a seed, from a template that was made before; with disks that lie about what is synced, or do not.
///
/// # Errors
/// When the world cannot be made at all.
pub fn run(template: &Path, seed: u64, lying: bool) -> io::Result<Run> {
    let template = Template::open(template)?;
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let mut dice = Dice::new(seed);
        let world = World::new(&template, dice.fork(), lying)?;
        let (ledger, deeds) = (Ledger::default(), Deeds::default());
        let judged = story(&world, &ledger, &deeds, &mut dice).await;
        let (roots, wrong) = match judged {
            Ok(roots) => (roots, None),
            Err(wrong) => (String::new(), Some(wrong)),
        };
        let trace = world.trace();
        let all = trace.join("\n") + &roots;
        let fingerprint = sha256(&[all.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
        let lost = u64::from(trace.iter().any(|line| line.ends_with(LOST)));
        let figures = json!({"lost": lost, "refused": deeds.refused(), "simulated_seconds": world.elapsed().as_secs(), "messages": ledger.sent(), "events": trace.len()});
        Ok(Run { wrong, fingerprint, trace, figures })
    })
}

/// Everything starts, officers work while trouble comes, trouble ends, everything settles, and is judged.
async fn story(world: &World, ledger: &Ledger, deeds: &Deeds, dice: &mut Dice) -> Result<String, Wrong> {
    world.start_broker()?;
    for (office, _) in OFFICES {
        world.start_node(office).await?;
    }
    let (work, trouble) = (officers::work(world, ledger, dice.fork()), trouble::comes(world, dice.fork()));
    let hostile = hostile::comes(world, deeds, dice.fork());
    let happens = async {
        tokio::try_join!(work, trouble, hostile)?;
        trouble::ends(world).await?;
        if !settles(world, ledger).await? {
            return Ok(false);
        }
        oracle::flash_goes_first(world, ledger).await?;
        settles(world, ledger).await
    };
    let settled = tokio::select! {
        settled = happens => settled?,
        wrong = oracle::watches(world, ledger) => return Err(wrong),
    };
    if settled {
        return oracle::judges(world, ledger, deeds).await;
    }
    world.note(LOST);
    loss::judges(world, ledger, deeds).await.map(|()| String::new())
}

/// Whether everything has come to its end; false when the log is closed for what it lost.
async fn settles(world: &World, ledger: &Ledger) -> Result<bool, Wrong> {
    let settled = tokio::time::timeout(SETTLED, oracle::settles(world, ledger)).await;
    match settled {
        Ok(()) => Ok(true),
        Err(_) if loss::is_closed_by(world) => Ok(false),
        Err(_) => Err(format!("not everything arrived: {}", oracle::missing(world, ledger).await)),
    }
}
