//! Both engines at once, and the first thing in which they differ.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use gauntlet_wire::event::Event;
use gauntlet_wire::packet::FlowKey;

use super::{Engine, HostEngine, Kernel, UnderWay};
use crate::failure::Failure;
use crate::probe::{Counts, ProbeError};
use crate::report::ndjson;

/// The kernel's events go out; the host's are compared with them, byte by byte. So is what both keep and count,
/// whenever they are asked for it. Other engines than these two are for tests of the comparison.
pub struct Both<K = Kernel, H = HostEngine> {
    kernel: K,
    host: H,
    difference: Option<String>,
}

impl<K: Engine, H: Engine> Both<K, H> {
    /// Takes both.
    #[must_use]
    pub fn new(kernel: K, host: H) -> Self {
        Self {
            kernel,
            host,
            difference: None,
        }
    }

    fn compare(&mut self, kernel: &[Event], host: &[Event]) {
        if self.difference.is_none() {
            self.difference = difference(kernel, host);
        }
    }
}

/// The first event that is not the same in both.
fn difference(kernel: &[Event], host: &[Event]) -> Option<String> {
    let most = kernel.len().max(host.len());
    let at = (0..most).find(|at| kernel.get(*at) != host.get(*at))?;
    let (kernel, host) = (told(kernel.get(at)), told(host.get(at)));
    Some(if kernel == host {
        format!("both say {kernel}, of flows that are not the same")
    } else {
        format!("the kernel says {kernel}; the host says {host}")
    })
}

impl<K: Engine, H: Engine> Engine for Both<K, H> {
    fn packet(&mut self, frame: &[u8], time: u64, interface: u32) -> Result<(), ProbeError> {
        self.kernel.packet(frame, time, interface)?;
        self.host.packet(frame, time, interface)
    }

    fn drain(&mut self, events: &mut Vec<Event>) {
        let (mut kernel, mut host) = (Vec::new(), Vec::new());
        self.kernel.drain(&mut kernel);
        self.host.drain(&mut host);
        self.compare(&kernel, &host);
        events.extend(kernel);
    }

    fn sweep(&mut self, now: u64, patience: Duration) -> Result<Vec<Event>, ProbeError> {
        let mut kernel = self.kernel.sweep(now, patience)?;
        let mut host = self.host.sweep(now, patience)?;
        // Tables have no order.
        for events in [&mut kernel, &mut host] {
            events.sort_by_key(|event| (event.key.ports, event.key.addresses));
        }
        self.compare(&kernel, &host);
        Ok(kernel)
    }

    fn counts(&mut self) -> Result<Counts, ProbeError> {
        let (kernel, host) = (self.kernel.counts()?, self.host.counts()?);
        if kernel != host && self.difference.is_none() {
            let [kernel, host] = [&kernel, &host].map(ndjson::counters);
            self.difference = Some(format!("the kernel counted {kernel}; the host {host}"));
        }
        Ok(kernel)
    }

    fn under_way(&mut self) -> Result<UnderWay, ProbeError> {
        let (kernel, host) = (self.kernel.under_way()?, self.host.under_way()?);
        if self.difference.is_none() {
            self.difference = state_difference(&kernel, &host);
        }
        Ok(kernel)
    }

    fn difference(&self) -> Option<&str> {
        self.difference.as_deref()
    }
}

/// The first connection of which not the same is kept.
fn state_difference(kernel: &UnderWay, host: &UnderWay) -> Option<String> {
    fn differing<'a, Q: Ord + Copy, V: Eq>(
        kernel: &'a BTreeMap<Q, V>,
        host: &'a BTreeMap<Q, V>,
    ) -> Option<(Q, &'static str)> {
        let keys = kernel.keys().chain(host.keys());
        let key = *keys.filter(|key| kernel.get(key) != host.get(key)).min()?;
        let how = match (kernel.contains_key(&key), host.contains_key(&key)) {
            (true, true) => "both keep, and not the same",
            (true, false) => "only the kernel keeps",
            _ => "only the host keeps",
        };
        Some((key, how))
    }
    if let Some((key, how)) = differing(&kernel.flows, &host.flows) {
        return Some(format!("{how}: the state of {}", connection(&key)));
    }
    let (key, how) = differing(&kernel.windows, &host.windows)?;
    let by = if key.role == 0 { "client" } else { "server" };
    let of = connection(&key.flow);
    Some(format!("{how}: what came early from the {by} of {of}"))
}

fn connection(key: &FlowKey) -> String {
    let [one, other] = [0, 1].map(|at| {
        let address = Ipv6Addr::from(key.addresses[at]).to_canonical();
        SocketAddr::new(address, key.ports[at])
    });
    format!("{one} and {other}")
}

fn told(event: Option<&Event>) -> String {
    let Some(event) = event else {
        return "nothing".into();
    };
    match Failure::new(event, event.time, None) {
        Ok(failure) => ndjson::failure(&failure),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use gauntlet_wire::event::{ABI, Verdict};
    use gauntlet_wire::flow::Flow;
    use gauntlet_wire::rules::{Cause, Failure};
    use gauntlet_wire::window::{Window, WindowKey};
    use zerocopy::FromZeros as _;

    use super::*;

    fn event(time: u64) -> Event {
        let mut event = Event::new_zeroed();
        event.abi = ABI;
        event.time = time;
        event.verdict = Verdict::from(Failure {
            cause: Cause::Reset,
            by: gauntlet_wire::Role::Client,
            level: 0,
            description: 0,
            answers_hello: false,
        });
        event
    }

    #[test]
    fn whatever_differs_is_said_and_what_does_not_is_not() {
        assert_eq!(difference(&[], &[]), None);
        assert_eq!(difference(&[event(1)], &[event(1)]), None);
        let said = |kernel: &[Event], host: &[Event]| difference(kernel, host).expect("different");
        assert!(said(&[event(1)], &[]).ends_with("the host says nothing"));
        assert!(said(&[], &[event(1)]).starts_with("the kernel says nothing; the host says {"));
        let other = said(&[event(1), event(2)], &[event(1), event(3)]);
        assert!(other.contains(r#""time_unix_nano":2,"#), "{other}");
        // What no report shows counts, too.
        let mut hidden = event(1);
        hidden.flow.sides[0].next = 7;
        assert!(said(&[event(1)], &[hidden]).ends_with("of flows that are not the same"));
    }

    #[test]
    fn what_is_kept_is_compared_to_the_last_byte() {
        let key = FlowKey {
            addresses: [Ipv6Addr::LOCALHOST.octets(); 2],
            ports: [443, 50_000],
        };
        let mut one = UnderWay::default();
        one.flows.insert(key, Box::new(Flow::new_zeroed()));
        let early = WindowKey::new(key, gauntlet_wire::Role::Server);
        one.windows.insert(early, Box::new(Window::new_zeroed()));
        assert_eq!(state_difference(&one, &one), None);
        let said = |other: &UnderWay| state_difference(&one, other).expect("different");
        let mut other = one.clone();
        other.flows.get_mut(&key).expect("it is there").bytes[9] = 1;
        assert_eq!(
            said(&other),
            "both keep, and not the same: the state of [::1]:443 and [::1]:50000"
        );
        other.flows.clear();
        assert!(said(&other).starts_with("only the kernel keeps: the state of"));
        other = one.clone();
        other.windows.get_mut(&early).expect("it is there").bytes[9] = 1;
        assert!(said(&other).ends_with("came early from the server of [::1]:443 and [::1]:50000"));
    }
}
