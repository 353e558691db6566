//! The lab, the peers and the wire witness against each other: every way to end that peers can be told
//! really ends that way, at both ends and on the wire. No probe looks on.
//!
//! Needs root. Without it the trials are shown as ignored, with the reason, and the run fails when
//! `GAUNTLET_REQUIRE=bpf` says that this machine must be able to run them.

mod cases;
mod host;
mod proofs;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gauntlet_harness::lab::{Lane, SERVER_INTERFACE};
use gauntlet_harness::peer::{Beacons, Endpoints, Match, drive};
use gauntlet_harness::scenario::model::{Family, Scenario, Tls};
use gauntlet_harness::witness::{Capture, Captured};
use libtest_mimic::{Arguments, Failed};

/// A stand's cases have the ports above, each its own: a listener may still be held by a child that another
/// trial has forked.
const PORT: u16 = 10_000;
/// Beacons go elsewhere, so that a case's port shows the case alone.
const BEACON_PORT: u16 = 444;

fn main() -> ExitCode {
    if host::holds_a_lane() {
        return ExitCode::SUCCESS;
    }
    let mut trials = cases::trials();
    trials.extend(proofs::trials());
    trials.extend(host::trials());
    if !nix::unistd::geteuid().is_root() {
        let count = trials.len();
        if std::env::var("GAUNTLET_REQUIRE")
            .is_ok_and(|list| list.split(',').any(|name| name.trim() == "bpf"))
        {
            eprintln!("GAUNTLET_REQUIRE names bpf, but {count} trials cannot run: not root");
            return ExitCode::FAILURE;
        }
        eprintln!("{count} trials ignored: network namespaces need root");
        trials = trials
            .into_iter()
            .map(|trial| trial.with_ignored_flag(true))
            .collect();
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A lane with a complete capture of its server's side.
struct Stand {
    /// The port of the case that was run last.
    port: Cell<u16>,
    beacons: RefCell<Beacons>,
    capture: Capture,
    lane: Arc<Lane>,
}

impl Stand {
    fn new() -> Result<Self, Failed> {
        let lane = Arc::new(Lane::new(0)?);
        Ok(Self {
            port: PORT.into(),
            beacons: Beacons::new(Arc::clone(&lane), BEACON_PORT).into(),
            capture: Capture::start(lane.server(), SERVER_INTERFACE)?,
            lane,
        })
    }

    /// Makes a beacon to [`BEACON_PORT`]; its client's address.
    fn beacon(&self, family: Family, name: &str) -> io::Result<SocketAddr> {
        self.beacons.borrow_mut().light(family, name)
    }

    /// A case for [`drive`], on a port of its own.
    fn matched<'a>(&'a self, scenario: &'a Scenario, tls: Tls, family: Family) -> Match<'a> {
        let deadline = Duration::from_secs(20);
        self.port.update(|last| last + 1);
        Match {
            scenario,
            tls,
            family,
            lane: &self.lane,
            port: self.port.get(),
            seed: 7,
            deadline,
            key_log: None,
        }
    }

    /// Runs a case, then closes the capture's view with a beacon.
    fn run(
        &self,
        scenario: &Scenario,
        tls: Tls,
        family: Family,
    ) -> Result<(Endpoints, Captured), Failed> {
        let ends = drive(&self.matched(scenario, tls, family))?;
        let after = self.beacon(family, "after.beacon.internal")?;
        Ok((ends, self.capture.until(after, BEACON_PORT)?))
    }
}
