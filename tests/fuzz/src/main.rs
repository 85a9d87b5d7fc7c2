//! The engine: libFuzzer on the target that `KILTER_FUZZ` names. Built by `cargo xt fuzz`.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let run = TARGET.get_or_init(|| {
        let name = std::env::var("KILTER_FUZZ").unwrap_or_default();
        kilter_fuzz::find(&name).unwrap_or_else(|| panic!("KILTER_FUZZ names no target: {name:?}"))
    });
    run(bytes);
});
