//! The shipped program, compiled for this host ([`Host`]): no privileges, no kernel.

use std::time::Duration;

use gauntlet_wire::event::Event;

use super::{Engine, UnderWay};
use crate::host::Host;
use crate::load::Settings;
use crate::probe::{Counts, ProbeError};

/// The program on this host.
#[derive(Debug)]
pub struct HostEngine(Host);

impl HostEngine {
    /// One that has seen nothing, with as much room as the kernel's tables would have.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self(Host::new(settings))
    }
}

impl Engine for HostEngine {
    fn packet(&mut self, frame: &[u8], time: u64, interface: u32) -> Result<(), ProbeError> {
        self.0.packet(frame, time, interface);
        Ok(())
    }

    fn drain(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.0.events());
    }

    fn sweep(&mut self, now: u64, patience: Duration) -> Result<Vec<Event>, ProbeError> {
        Ok(self.0.sweep(now, patience))
    }

    fn counts(&mut self) -> Result<Counts, ProbeError> {
        Ok(self.0.counts())
    }

    fn under_way(&mut self) -> Result<UnderWay, ProbeError> {
        Ok(self.0.under_way())
    }
}
