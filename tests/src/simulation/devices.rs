//! The simulated machines' disks and clocks.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use liaison_log::disk::{Disk, Disks, memory::MemoryDisk};
use liaison_proto::clock::{Clock, UnixMillis};
use tokio::time::Instant;

use crate::dice::Dice;

#[derive(Default)]
struct Inner {
    disks: BTreeMap<PathBuf, MemoryDisk>,
    dice: Option<Dice>,
    lying: bool,
}

/// Every machine's disks, by directory. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct Devices(Arc<Mutex<Inner>>);

/// Some writes take no time, most a little, a few long.
fn set_pace(disk: &MemoryDisk, mut dice: Dice) {
    disk.set_pace(move || match dice.roll(20) {
        0 => dice.millis(50..=400),
        1..=10 => dice.millis(1..=8),
        _ => Duration::ZERO,
    });
}

impl Devices {
    /// No disks yet. Lying ones say that things are synced that are not.
    #[must_use]
    pub fn new(dice: Dice, lying: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner { disks: BTreeMap::new(), dice: Some(dice), lying })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a disk in its place.
    pub fn put(&self, directory: &Path, disk: MemoryDisk) {
        let mut inner = self.lock();
        if let Some(dice) = &mut inner.dice {
            set_pace(&disk, dice.fork());
        }
        if inner.lying {
            disk.set_lying();
        }
        inner.disks.insert(directory.to_path_buf(), disk);
    }

    /// Those of a machine.
    #[must_use]
    pub fn of(&self, machine: &Path) -> Vec<(PathBuf, MemoryDisk)> {
        let inner = self.lock();
        let own = inner.disks.iter().filter(|(directory, _)| directory.starts_with(machine));
        own.map(|(directory, disk)| (directory.clone(), disk.clone())).collect()
    }

    /// How a program gets them; one that is not there yet is empty.
    #[must_use]
    pub fn disks(&self) -> Disks {
        let devices = self.clone();
        Arc::new(move |directory: &Path| -> Arc<dyn Disk> {
            if !devices.lock().disks.contains_key(directory) {
                devices.put(directory, MemoryDisk::default());
            }
            Arc::new(devices.lock().disks.get(directory).cloned().unwrap_or_default())
        })
    }

    /// What a machine finds after its power was cut; `keep` decides for each thing not synced. Whoever still holds the old
    /// disks can write nothing any more.
    pub fn cut(&self, machine: &Path, mut keep: impl FnMut() -> bool) {
        for (directory, disk) in self.of(machine) {
            let found = disk.after_power_cut(&mut keep);
            disk.fail_after(0);
            self.put(&directory, found);
        }
    }
}

/// A machine's clock: right but for what it is set wrong.
#[derive(Clone)]
pub struct MachineClock {
    base: UnixMillis,
    start: Instant,
    wrong: Arc<AtomicI64>,
}

impl MachineClock {
    /// A clock that says `base` now.
    #[must_use]
    pub fn new(base: UnixMillis, wrong: i64) -> Self {
        Self { base, start: Instant::now(), wrong: Arc::new(AtomicI64::new(wrong)) }
    }

    /// Sets it wrong by so much, milliseconds.
    pub fn set_wrong(&self, by: i64) {
        self.wrong.store(by, Ordering::SeqCst);
    }
}

impl Clock for MachineClock {
    fn now(&self) -> UnixMillis {
        let since = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.base.plus(since).plus(self.wrong.load(Ordering::SeqCst))
    }
}
