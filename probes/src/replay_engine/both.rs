//! Both engines at once, and the first thing in which they differ.

use std::time::Duration;

use gauntlet_wire::event::Event;

use super::{Engine, HostEngine, Kernel};
use crate::failure::Failure;
use crate::probe::{Counts, ProbeError};
use crate::report::ndjson;

/// The kernel's events go out; the host's are compared with them, byte by byte.
pub struct Both {
    kernel: Kernel,
    host: HostEngine,
    difference: Option<String>,
}

impl Both {
    /// Takes both.
    #[must_use]
    pub fn new(kernel: Kernel, host: HostEngine) -> Self {
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

impl Engine for Both {
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

    fn difference(&self) -> Option<&str> {
        self.difference.as_deref()
    }
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
    use gauntlet_wire::rules::{Cause, Failure};
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
}
