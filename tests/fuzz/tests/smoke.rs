//! Each target over its corpus, and over mutations of that: seconds, so that a decoder that breaks is seen at once.
//!
//! `KAOS_FUZZ_RUNS=10000000 cargo test --release -p kaos-fuzz` does more of them, blindly; `tests/fuzz/run` is better at it.

use kaos_fuzz::{TARGETS, Target, mutate};
use kaos_rudp::lab::Rng;

fn smoke(target: &Target) {
    let corpus = target.corpus().unwrap_or_else(|error| panic!("tests/fuzz/corpus/{}: {error}", target.name));
    assert!(!corpus.is_empty(), "tests/fuzz/corpus/{} is empty", target.name);
    for (name, bytes) in &corpus {
        assert!(bytes.len() <= target.bytes_max, "tests/fuzz/corpus/{}/{name} is too long", target.name);
        attempt(target, bytes, name);
    }
    let asked = std::env::var("KAOS_FUZZ_RUNS").ok().and_then(|text| text.parse().ok());
    let runs: u64 = asked.unwrap_or(if target.name == "rudp_pair" { 100 } else { 20_000 });
    let mut rng = Rng::new(runs);
    for run in 0..runs {
        let mut pick = || &corpus[rng.below(corpus.len() as u64) as usize].1;
        let (mut bytes, other) = (pick().clone(), pick());
        mutate(&mut rng, &mut bytes, other, target.bytes_max);
        attempt(target, &bytes, &format!("mutation {run}"));
    }
}

fn attempt(target: &Target, bytes: &[u8], what: &str) {
    if std::panic::catch_unwind(|| (target.run)(bytes)).is_err() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} fails on {what}; its bytes in hex: {hex}", target.name);
    }
}

#[test]
fn every_target_stands_its_corpus_and_mutations_of_it() {
    std::thread::scope(|scope| {
        for target in TARGETS {
            scope.spawn(|| smoke(target));
        }
    });
}
