//! One target under LLVM's libFuzzer: `KAOS_FUZZ=<target>`; `tests/fuzz/run` builds it with coverage and runs it.
#![no_main]

use std::sync::LazyLock;

use kaos_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let wanted = std::env::var("KAOS_FUZZ").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == wanted).unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        panic!("KAOS_FUZZ={wanted:?} names no target; there are {}", names.join(", "))
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if bytes.len() <= TARGET.bytes_max {
        (TARGET.run)(bytes);
    }
});
