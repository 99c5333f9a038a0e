//! Power cuts under real processes on a real file system: an ext4 image on a loop device that is shut down without a flush
//! while broker and nodes work, then mounted again. Needs root and a loop device; says so where there is none.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use liaison_tests::world::World;

use super::{Exchange, HEKOU, LAO_CAI, seeded};
use crate::support::{from_environment, world_in};

/// Size of the image, bytes, most of them never written: what can wait is refused below half a GiB.
const IMAGE_BYTES: u64 = 1536 << 20;

/// An ext4 image, mounted.
struct Device {
    image: PathBuf,
    place: PathBuf,
    powercut: PathBuf,
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Device {
    /// None where a file system cannot be mounted.
    fn new(directory: &Path) -> Option<Self> {
        let (image, place, powercut) = (directory.join("image"), directory.join("place"), directory.join("powercut"));
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        std::fs::create_dir(&place).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/faults/powercut.c");
        assert!(succeeds(Command::new("cc").arg("-O1").arg("-o").arg(&powercut).arg(source)));
        if !succeeds(Command::new("mkfs.ext4").arg("-q").arg(&image)) {
            return None;
        }
        let device = Self { image, place, powercut };
        device.mount().then_some(device)
    }

    fn mount(&self) -> bool {
        succeeds(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.place))
    }

    fn unmount(&self) -> bool {
        succeeds(Command::new("umount").arg(&self.place))
    }

    fn cut_power(&self) {
        assert!(succeeds(Command::new(&self.powercut).arg(&self.place)), "the power could not be cut");
    }

    /// Power is back: the file system's own recovery runs.
    fn comes_back(&self) {
        assert!(self.unmount() && self.mount(), "the device does not come back");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

fn start(world: &mut World) {
    world.start_broker().unwrap();
    for office in [LAO_CAI, HEKOU] {
        world.start_node(office).unwrap();
        world.office(office).unlocks().unwrap();
    }
}

/// Promises 1 and 3, and with them 2, 4 and 8. LIAISON_POWER_CUTS says how often.
#[test]
fn promise_1_nothing_accepted_is_lost_by_power_cuts_under_load() {
    let cuts = from_environment("LIAISON_POWER_CUTS", 2);
    let mut dice = seeded(cuts);
    let directory = tempfile::tempdir().unwrap();
    let Some(device) = Device::new(directory.path()) else {
        eprintln!("NOT TESTED: power cuts need root, mkfs.ext4 and a loop device");
        return;
    };
    let world = world_in(&device.place.join("world"), &[LAO_CAI, HEKOU]);
    let mut exchange = Exchange::of(None, world);
    // What was set up is on the device; from now on only what is promised has to be.
    assert!(succeeds(Command::new("sync").arg("-f").arg(&device.place)));
    for cut in 0..cuts {
        let count = 1 + dice.roll(12);
        exchange.sends(count);
        thread::sleep(Duration::from_micros(dice.roll(12_000)));
        device.cut_power();
        exchange.world.kill_broker().unwrap();
        for office in [LAO_CAI, HEKOU] {
            exchange.world.kill_node(office).unwrap();
        }
        device.comes_back();
        start(&mut exchange.world);
        println!("cut {cut}: {} messages promised so far", exchange.promised.len());
    }
    exchange.sends(1);
    exchange.holds();
    exchange.world.stop_broker().unwrap();
    for office in [LAO_CAI, HEKOU] {
        exchange.world.stop_node(office).unwrap();
    }
}
