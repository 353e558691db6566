//! `gauntlet recut`: recorded cases again, in other packets. Needs no root on the host build.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use gauntlet_cli::exit;
use gauntlet_harness::recut::{Case, Live, RecutError, Recutter, read};
use gauntlet_probes::attach::Hook;
use gauntlet_probes::load::Settings;
use gauntlet_probes::privileges;
use gauntlet_probes::replay_engine::{Both, Engine, HostEngine, Kernel};

use super::{Failure, cannot_print};
use crate::cli::Packets;

pub(super) fn recut(
    folder: &Path,
    filters: &[String],
    (ways, failing): (u64, bool),
    seed: u64,
    engine: Packets,
) -> Result<u8, Failure> {
    let mut cases = read(folder).map_err(Failure::usage)?;
    cases.retain(|case| filters.is_empty() || filters.iter().any(|part| case.id.contains(part)));
    cases.retain(|case| !failing || !case.classes.is_empty());
    if cases.is_empty() {
        return Err(Failure::nothing("no recorded case has that in its id"));
    }
    let settings = Settings {
        capture_time: true,
        ..Settings::default()
    };
    let kernel = match engine {
        Packets::Live | Packets::LiveClsact => {
            let hook = match engine {
                Packets::Live => Hook::Auto,
                _ => Hook::Clsact,
            };
            let live = Live::new(&settings, hook).map_err(Failure::infra)?;
            return all(&cases, ways, seed, (Box::new(live), "a cable"));
        }
        Packets::Host => None,
        Packets::Kernel | Packets::Both => Some(Kernel::load(&settings).map_err(Failure::infra)?),
        Packets::Auto => match privileges::check(false) {
            Ok(()) => Some(Kernel::load(&settings).map_err(Failure::infra)?),
            Err(missing) => {
                eprintln!("gauntlet: on the host build only: {missing}");
                None
            }
        },
    };
    let host = HostEngine::new(&settings);
    let engine: (Box<dyn Engine>, &str) = match (kernel, engine) {
        (None, _) => (Box::new(host), "the host build"),
        (Some(kernel), Packets::Kernel) => (Box::new(kernel), "the kernel"),
        (Some(kernel), _) => (
            Box::new(Both::new(kernel, host)),
            "the kernel and the host build, which agree",
        ),
    };
    all(&cases, ways, seed, engine)
}

fn all(
    cases: &[Case],
    ways: u64,
    seed: u64,
    (engine, name): (Box<dyn Engine>, &str),
) -> Result<u8, Failure> {
    let began = Instant::now();
    let mut recutter = Recutter::new(engine);
    let mut different = 0;
    for case in cases {
        match recutter.check(case, seed, ways) {
            Ok(()) => {}
            Err(RecutError::Engine(error)) => return Err(Failure::infra(error)),
            Err(error) => {
                different += 1;
                writeln!(io::stdout(), "fail  {error}").map_err(cannot_print)?;
            }
        }
    }
    let failing = cases.iter().filter(|case| !case.classes.is_empty()).count();
    writeln!(
        io::stdout(),
        "{} cases, {failing} of them failures, each in {ways} ways from seed {seed}: {} say something else; {} packets on {name}, {:.1} s",
        cases.len(),
        different,
        recutter.packets,
        began.elapsed().as_secs_f64()
    )
    .map_err(cannot_print)?;
    Ok(if different == 0 {
        exit::OK
    } else {
        exit::UNEXPECTED
    })
}
