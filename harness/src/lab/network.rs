//! A cable that loses, reorders, doubles or delays packets: netem on both of its ends, by iproute2's `tc`.
//! (No netlink crate that we use knows netem's options, and whoever reads a log can type the command. What
//! rtnetlink knows goes through it: four programs fewer to start took a quarter of a second off each case in a guest.)
//!
//! Refuses to decide what must still be true on such a cable.

use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use gauntlet_probes::netns::NetNs;

use super::lane::{LabError, Lane, Role};
use super::link;
use crate::scenario::model::{Family, Network};

/// Shortest time after which TCP repeats what was not acknowledged. The kernel's own 200 ms, doubled each
/// time, would take a lossy handshake past the time after which a probe calls it stalled.
const RTO_MIN: Duration = Duration::from_millis(20);

/// An impaired cable. [`lift`](Self::lift) makes it a good one again; so does dropping it, if it can.
#[derive(Debug)]
pub struct Impaired<'l> {
    lane: &'l Lane,
    lifted: bool,
}

impl Lane {
    /// Makes the cable a bad one, in both directions, for IPv4.
    ///
    /// # Errors
    /// When the kernel lacks netem ([`lacks_netem`]), or `tc` is missing.
    pub fn impair(&self, network: Network) -> Result<Impaired<'_>, LabError> {
        let impaired = Impaired {
            lane: self,
            lifted: false,
        };
        for role in [Role::Client, Role::Server] {
            let interface = role.interface();
            let mut netem = vec!["qdisc", "replace", "dev", interface, "root", "netem"];
            netem.extend(options(network));
            command(self.namespace(role), "tc", &netem)?;
            let (own, peer) = self.ends(role);
            link::hurry(self.namespace(role), interface, own, peer, RTO_MIN)?;
        }
        Ok(impaired)
    }

    fn lift(&self) -> Result<(), LabError> {
        for role in [Role::Client, Role::Server] {
            let interface = role.interface();
            let netem = ["qdisc", "del", "dev", interface, "root"];
            command(self.namespace(role), "tc", &netem)?;
            link::take_time(self.namespace(role), self.ends(role).1)?;
        }
        Ok(())
    }

    /// The addresses of `role` and of its peer.
    fn ends(&self, role: Role) -> (IpAddr, IpAddr) {
        [role, role.peer()]
            .map(|role| self.address(role, Family::Ipv4))
            .into()
    }
}

impl Impaired<'_> {
    /// Makes the cable a good one again.
    ///
    /// # Errors
    /// When it stays a bad one, or part of it does: nothing that is run on it means what it should.
    pub fn lift(mut self) -> Result<(), LabError> {
        self.lifted = true;
        self.lane.lift()
    }
}

impl Drop for Impaired<'_> {
    fn drop(&mut self) {
        if !self.lifted {
            // Whatever went wrong before is told already, and perhaps nothing was put there.
            let _worse = self.lane.lift();
        }
    }
}

/// netem's words for it. Moderate: TCP gets through within a second or two, however the dice fall.
fn options(network: Network) -> &'static [&'static str] {
    match network {
        Network::Loss => &["loss", "8%"],
        // Four of ten packets overtake those before them.
        Network::Reorder => &["delay", "4ms", "reorder", "40%"],
        Network::Duplicate => &["duplicate", "40%"],
        Network::Delay => &["delay", "12ms", "8ms"],
    }
}

/// Why no cable can be a bad one here, if so. Asked once.
#[must_use]
pub fn lacks_netem() -> Option<&'static str> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let nowhere = NetNs::anonymous("netem").map_err(LabError::from);
        let tried = nowhere.and_then(|namespace| {
            command(
                &namespace,
                "tc",
                &["qdisc", "add", "dev", "lo", "root", "netem", "loss", "1%"],
            )
        });
        let error = tried.err()?;
        Some(format!(
            "there is no netem here ({error}); `cargo xtask matrix` runs it on kernels that have it"
        ))
    };
    ANSWER.get_or_init(ask).as_deref()
}

/// Runs iproute2 in a namespace.
fn command(namespace: &NetNs, program: &'static str, arguments: &[&str]) -> Result<(), LabError> {
    let line = || format!("{program} {}", arguments.join(" "));
    let output = namespace
        .run(|| {
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .output()
        })?
        .map_err(|error| LabError::Iproute {
            command: line(),
            said: error.to_string(),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(LabError::Iproute {
        command: line(),
        said: said.lines().collect::<Vec<_>>().join("; "),
    })
}
