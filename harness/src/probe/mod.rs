//! The probe under test: whichever it is, it is asked one thing, what it reported between two
//! beacons.
//!
//! [`Spec`] is what `--probe` says; [`Probe`] is one that watches a lane. The shipped probe is the
//! program users run (`child`); `null` and `always` are in this process and exist to show that the
//! harness can fail. Refuses to judge: events come out as the probe said them.

mod child;
mod event;
mod spec;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use gauntlet_probes::library::join;
use gauntlet_probes::library::object::Kernel;
use gauntlet_probes::netns::NetNs;
use gauntlet_wire::class::Class;

use crate::patience::pace;
use crate::scenario::Beside;

pub use child::ProbeError;
pub use event::{Counters, Event};
pub use spec::{Program, Spec, SpecError};

use child::{Child, Watched};

/// Silence that the shipped probe, as the harness runs it, calls a stall.
const STALL_AFTER: Duration = Duration::from_millis(600);

/// The same, on this machine ([`mod@crate::patience`]).
#[must_use]
pub fn stall_after() -> Duration {
    pace(STALL_AFTER)
}

/// How long the shipped probe may hold a failure back for what a library will say of it. What it saw
/// later it may tell before.
pub const HELD: Duration = join::PATIENCE;

/// Why this kernel cannot be asked what libraries say, if so: it does not tell where a socket's fields are.
#[must_use]
pub fn lacks_libraries() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| Some(Kernel::running().err()?.to_string()))
        .as_deref()
}

/// A connection that the probe must report: its client's address, and the server's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon {
    /// Who connected.
    pub client: SocketAddr,
    /// To which port.
    pub port: u16,
}

impl Beacon {
    fn is_told_by(&self, event: &Event) -> bool {
        event.address("client") == Some(self.client) && event.port("server") == Some(self.port)
    }
}

/// A probe that watches one interface in one namespace.
#[derive(Debug)]
pub struct Probe(Kind);

#[derive(Debug)]
enum Kind {
    Null,
    Always(Class),
    Child(Box<Child>),
}

impl Probe {
    /// Starts a probe at `interface` inside `netns`, with that beside the wire; a key log is at a path. It is
    /// ready when it has reported a beacon.
    ///
    /// The calling thread must live as long as the probe: when it ends, the kernel ends the probe.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(
        program: &Program,
        netns: &NetNs,
        interface: &str,
        beside: Beside,
        key_log: Option<&Path>,
    ) -> Result<Self, ProbeError> {
        Ok(Self(match program {
            Program::Null => Kind::Null,
            Program::Always(class) => Kind::Always(*class),
            Program::Command { command, more } => {
                let more = more(beside).iter().map(ToString::to_string);
                let command: Vec<String> = command.iter().cloned().chain(more).collect();
                let watched = Watched {
                    netns,
                    interface,
                    beside,
                    key_log,
                };
                Kind::Child(Box::new(Child::spawn(&command, &watched)?))
            }
        }))
    }

    /// Whether it watches the network, and so reports beacons.
    #[must_use]
    pub fn sees_beacons(&self) -> bool {
        matches!(self.0, Kind::Child(_))
    }

    /// Its process id, when it has one of its own.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.0 {
            Kind::Child(child) => Some(child.pid()),
            Kind::Null | Kind::Always(_) => None,
        }
    }

    /// What was reported before one of the `beacons`, which is not in the answer. A beacon is known by
    /// both its ends: its client's port alone may be that of a case's client, too.
    ///
    /// # Errors
    /// When the probe ends, prints what is no event, or is silent for `patience`.
    pub fn until(
        &mut self,
        beacons: &[Beacon],
        patience: Duration,
    ) -> Result<Vec<Event>, ProbeError> {
        match &mut self.0 {
            Kind::Null | Kind::Always(_) => Ok(Vec::new()),
            Kind::Child(child) => child.until(beacons, patience),
        }
    }

    /// What a probe that does not look at the network says of these connections (client, server).
    #[must_use]
    pub fn invent(&self, connections: &[(SocketAddr, SocketAddr)]) -> Vec<Event> {
        match self.0 {
            Kind::Always(class) => connections
                .iter()
                .map(|(client, server)| Event::invented(class, *client, *server))
                .collect(),
            Kind::Null | Kind::Child(_) => Vec::new(),
        }
    }

    /// What it reports within `patience`, for as long as nothing is meant to happen.
    #[must_use]
    pub fn linger(&mut self, patience: Duration) -> Vec<Event> {
        match &mut self.0 {
            Kind::Null | Kind::Always(_) => Vec::new(),
            Kind::Child(child) => child.linger(patience),
        }
    }

    /// Ends it; what it counted, if it says so.
    ///
    /// # Errors
    /// When it had died before, or does not end.
    pub fn stop(self) -> Result<Counters, ProbeError> {
        match self.0 {
            Kind::Null | Kind::Always(_) => Ok(Counters::default()),
            Kind::Child(child) => child.stop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_from_the_beacon_s_client_port_is_not_the_beacon() {
        let client: SocketAddr = "192.0.2.1:40000".parse().unwrap();
        let server = |port| SocketAddr::new("192.0.2.2".parse().unwrap(), port);
        let beacon = Beacon {
            client,
            port: 9_999,
        };
        let event = |port| Event::invented(Class::Syscall, client, server(port));
        assert!(beacon.is_told_by(&event(9_999)));
        assert!(!beacon.is_told_by(&event(10_000)));
    }
}
