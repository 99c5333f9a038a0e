//! The fuzzer: `LIAISON_FUZZ_TARGET` names the target, the arguments are libFuzzer's. Built by `tests/fuzz/run`.

#![no_main]

use std::sync::OnceLock;

use liaison_fuzz::{Target, target};

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("LIAISON_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("LIAISON_FUZZ_TARGET names no target: {name:?}"))
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (chosen().run)(bytes));
