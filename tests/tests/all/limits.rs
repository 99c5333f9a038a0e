//! Promise 12 under pressure: every limit answers with its code, and whoever goes beyond one harms nobody else. Each
//! test has a broker process of its own; what it may use is read from `/proc`.

use liaison_proto::wire::{self, log_client::LogClient};
use liaison_tests::world::World;
use tonic::Status;

use crate::support::connect;

mod abuse;
mod codes;
mod device;
mod disk;
mod drain;
mod floods;
mod memory;
mod numbers;

const LAO_CAI: &str = "VN-BLO-LCA";
const MONG_CAI: &str = "VN-BLO-MBA";
const HEKOU: &str = "CN-BLO-HKO";
const ARANYAPRATHET: &str = "TH-BLO-ARN";
const MIB: u64 = 1024 * 1024;

/// A call on a connection of its own.
async fn honest_call(world: &World, office: &str) -> Result<(), Status> {
    let request = wire::CheckpointRequest { log: wire::LogName::Exchange.into() };
    LogClient::new(connect(world, &format!("offices/{office}"))).checkpoint(request).await.map(|_| ())
}

/// What the broker's process uses, from `/proc`.
struct Usage {
    pid: u32,
}

impl Usage {
    fn of(world: &World) -> Self {
        Self { pid: world.broker_pid().unwrap() }
    }

    fn bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Memory now.
    fn resident(&self) -> u64 {
        self.bytes("VmRSS")
    }

    /// The most memory it ever had.
    fn peak(&self) -> u64 {
        self.bytes("VmHWM")
    }

    /// File handles.
    fn handles(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }
}

/// As [`liaison_tests::world::eventually`], for tests whose tasks must go on meanwhile.
async fn eventually(mut condition: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..3000 {
        if condition().await {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    false
}
