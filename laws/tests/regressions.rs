//! What fuzzing has found, and every seed, held against the laws without libFuzzer. A file below
//! `fuzz/regressions/TARGET/` is one finding, minimised; its name says what it showed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gauntlet_laws::{KERNEL_LAWS, LAWS, Law};
use gauntlet_probes::privileges;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The laws that can be tried on this machine.
fn laws() -> BTreeMap<&'static str, fn(&[u8])> {
    let kernel: &[Law] = match privileges::check(false) {
        Ok(()) => &KERNEL_LAWS,
        Err(missing) => {
            let required = std::env::var("GAUNTLET_REQUIRE").unwrap_or_default();
            assert!(!required.contains("bpf"), "{missing}");
            eprintln!("not against the kernel: {missing}");
            &[]
        }
    };
    LAWS.iter().chain(kernel).copied().collect()
}

#[test]
fn every_finding_is_still_mended() {
    let laws = laws();
    let folder = Path::new(REPOSITORY).join("fuzz/regressions");
    for target in fs::read_dir(&folder).expect("fuzz/regressions is there") {
        let target = target.expect("a folder can be read");
        let name = target.file_name().to_string_lossy().into_owned();
        if !target.path().is_dir() {
            continue;
        }
        let is_known = LAWS.iter().chain(&KERNEL_LAWS).any(|(law, _)| *law == name);
        assert!(is_known, "fuzz/regressions/{name}: there is no such target");
        let Some(law) = laws.get(&*name) else {
            continue;
        };
        for finding in fs::read_dir(target.path()).expect("a folder can be read") {
            let path = finding.expect("a folder can be read").path();
            eprintln!("{}", path.display());
            law(&fs::read(&path).expect("a file can be read"));
        }
    }
}

#[test]
fn every_seed_keeps_the_laws() {
    let laws = laws();
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    for (target, bytes) in gauntlet_laws::seeds::all(Path::new(REPOSITORY)).expect("recordings") {
        if let Some(law) = laws.get(target) {
            law(&bytes);
            *tried.entry(target).or_default() += 1;
        }
    }
    for name in laws.keys() {
        assert!(
            tried.get(name).is_some_and(|count| *count >= 5),
            "{name}: too few seeds, {tried:?}"
        );
    }
    println!("{tried:?}");
}
