//! What fuzzing has found, and every seed, held against the laws without libFuzzer. A file below
//! `fuzz/regressions/TARGET/` is one finding, minimised; its name says what it showed.
//!
//! A trial for each law and each finding, one that sees the comparison of kernel and host find something out, and one
//! that holds the programs with marks of coverage against those without; those that load programs are ignored, with the reason, where that
//! cannot be done, and an error where `GAUNTLET_REQUIRE` names bpf.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use gauntlet_laws::coverage::{Blocks, Corpus, Instrumented, Run, instrument};
use gauntlet_laws::differential::Round;
use gauntlet_laws::player::{Player, Stopped};
use gauntlet_laws::stories::Stories;
use gauntlet_laws::{KERNEL_LAWS, LAWS, Law, seeds, settings};
use gauntlet_probes::load::Settings;
use gauntlet_probes::object::{CGROUP, INTERFACE, OBJECT};
use gauntlet_probes::privileges;
use gauntlet_probes::replay_engine::{Both, HostEngine, Kernel};
use libtest_mimic::{Arguments, Failed, Trial};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Fewer seeds of a law prove nothing.
const FEWEST: usize = 5;

fn main() -> ExitCode {
    match trials() {
        Ok(trials) => libtest_mimic::run(&Arguments::from_args(), trials).exit_code(),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Result<Vec<Trial>, String> {
    let missing = privileges::check(false).err().map(|why| why.to_string());
    if let Some(missing) = &missing {
        let required = std::env::var("GAUNTLET_REQUIRE").unwrap_or_default();
        if required.split(',').any(|name| name.trim() == "bpf") {
            return Err(format!("GAUNTLET_REQUIRE names bpf, and {missing}"));
        }
        eprintln!("what is held against the kernel is ignored: {missing}");
    }
    let plain = LAWS.iter().map(|law| (*law, false));
    let kernel = KERNEL_LAWS.iter().map(|law| (*law, missing.is_some()));
    let laws: BTreeMap<&str, (Law, bool)> = plain
        .chain(kernel)
        .map(|(law, ignored)| (law.0, (law, ignored)))
        .collect();
    let mut trials: Vec<Trial> = laws
        .iter()
        .map(|(name, &(law, ignored))| {
            Trial::test(format!("{name}::every_seed"), move || every_seed(law))
                .with_ignored_flag(ignored)
        })
        .collect();
    let planted = "kernel::a_rule_that_the_host_does_not_have_is_found_out";
    trials.push(Trial::test(planted, planted_rule).with_ignored_flag(missing.is_some()));
    let marks = "coverage::programs_with_marks_tell_the_same_and_mark_where_they_were";
    trials.push(Trial::test(marks, programs_with_marks).with_ignored_flag(missing.is_some()));
    for (target, (name, bytes)) in findings()? {
        let Some(&((_, law), ignored)) = laws.get(&*target) else {
            return Err(format!(
                "fuzz/regressions/{target}: there is no such target"
            ));
        };
        let holds = move || {
            law(&bytes);
            Ok(())
        };
        let trial = Trial::test(format!("{target}::{name}"), holds);
        trials.push(trial.with_ignored_flag(ignored));
    }
    Ok(trials)
}

fn every_seed((name, law): Law) -> Result<(), Failed> {
    let all = seeds::all(Path::new(REPOSITORY))?;
    let seeds = all.iter().filter(|(target, _)| *target == name);
    let tried = seeds.map(|(_, bytes)| law(bytes)).count();
    if tried < FEWEST {
        return Err(format!("{tried} seeds prove nothing").into());
    }
    Ok(())
}

/// Wrong on purpose, in the real kernel: its programs take every server for one that is known to speak TLS.
fn planted_rule() -> Result<(), Failed> {
    let known = Settings {
        tls_ports: vec![443],
        ..settings()
    };
    let stories = Stories::new(seeds::of("kernel", Path::new(REPOSITORY))?);
    let rounds = |player: &mut Player<Both>| {
        let mut rounds = (0..20).map(|number| Round::new(&stories, 1, number).play(player));
        rounds.find_map(Result::err)
    };
    let host = || HostEngine::new(&settings());
    let mut same = Player::new(Both::new(Kernel::load(&settings())?, host()));
    if let Some(stopped) = rounds(&mut same) {
        return Err(stopped.into());
    }
    let mut other = Player::new(Both::new(Kernel::load(&known)?, host()));
    match rounds(&mut other) {
        Some(Stopped::Broken(why)) => {
            println!("after {} packets: {why}", other.packets);
            Ok(())
        }
        other => Err(format!("not found out: {other:?}").into()),
    }
}

/// The shipped programs with marks, in the real kernel: next to engines without, and with marks that are neither
/// all set nor none, of what the verifier has left of them.
fn programs_with_marks() -> Result<(), Failed> {
    let Instrumented { object, blocks } = instrument(OBJECT)?;
    let corpus = Corpus::read(Path::new(REPOSITORY))?.every(20);
    let run = Run::play(&object, &corpus, 1, 2_000, |_| {})?;
    let marked = |function: &str, of: &Blocks| {
        let numbered = blocks.iter().enumerate();
        let of_it = numbered.filter(|(_, block)| block.function == function && block.has_mark);
        of_it.filter(|(number, _)| of.has(*number)).count()
    };
    for function in INTERFACE.all().chain(CGROUP.all()) {
        let (can, did) = (
            marked(function, &run.reachable),
            marked(function, &run.by_all),
        );
        if did == 0 || did >= can {
            return Err(format!("{function}: {did} of {can} blocks").into());
        }
    }
    let impossible = (0..blocks.len()).find(|at| run.by_all.has(*at) && !run.reachable.has(*at));
    match impossible {
        None => Ok(()),
        Some(block) => Err(format!("block {block} was run, and is in no program").into()),
    }
}

/// A finding's name and bytes.
type Finding = (String, Vec<u8>);

/// Each with its target.
fn findings() -> Result<Vec<(String, Finding)>, String> {
    let root = Path::new(REPOSITORY).join("fuzz/regressions");
    let read = || -> std::io::Result<Vec<_>> {
        let mut found = Vec::new();
        for target in fs::read_dir(&root)? {
            let target = target?;
            if !target.file_type()?.is_dir() {
                continue;
            }
            for finding in fs::read_dir(target.path())? {
                let finding = finding?;
                let name = finding.file_name().to_string_lossy().into_owned();
                let of = target.file_name().to_string_lossy().into_owned();
                found.push((of, (name, fs::read(finding.path())?)));
            }
        }
        Ok(found)
    };
    let found = read().map_err(|error| format!("fuzz/regressions: {error}"))?;
    if found.is_empty() {
        return Err("fuzz/regressions has no finding, and once had".into());
    }
    Ok(found)
}
