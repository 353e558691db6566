//! The shipped program in the kernel, a captured packet at a time (BPF_PROG_TEST_RUN).
//!
//! # Kernel
//! 5.10, and the capabilities of [`crate::load`]. Nothing is attached: no other packet is seen.

use std::collections::HashMap;
use std::time::Duration;

use aya::Ebpf;
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::event::Event;
use gauntlet_wire::packet::{self, FlowKey, Parsed};
use gauntlet_wire::segment::Segment;
use zerocopy::FromZeros as _;

use super::{Engine, UnderWay};
use crate::load::Settings;
use crate::object::{self, Family};
use crate::probe::{Counts, Probe, ProbeError};

/// The program, loaded and attached to nothing.
pub struct Kernel {
    probe: Probe,
    /// Where each connection's SYN was captured, and its sequence number. The kernel runs every packet as
    /// if the loopback device had it.
    opened: HashMap<FlowKey, (u32, u32)>,
    events: Vec<Event>,
}

impl Kernel {
    /// Loads the program.
    ///
    /// # Errors
    /// [`ProbeError::Load`].
    pub fn load(settings: &Settings) -> Result<Self, ProbeError> {
        Self::load_object(object::OBJECT, settings, object::INTERFACE)
    }

    /// Loads the program of another object with the same programs and maps, an ELF file's bytes, or of another
    /// family. That of a cgroup has a place written over the lower half of a packet's time.
    ///
    /// # Errors
    /// [`ProbeError::Load`].
    pub fn load_object(
        object: &[u8],
        settings: &Settings,
        family: Family,
    ) -> Result<Self, ProbeError> {
        Ok(Self {
            probe: Probe::of_object(object, settings, family)?,
            opened: HashMap::new(),
            events: Vec::new(),
        })
    }

    /// What is loaded, for who measures it.
    pub fn loaded(&self) -> &Ebpf {
        self.probe.loaded()
    }

    /// Remembers where a SYN was captured, the first time.
    fn opens(&mut self, frame: &[u8], interface: u32) {
        let mut parsed = Parsed::new_zeroed();
        if packet::parse(&Bytes::new(frame), &mut parsed).is_err() {
            return;
        }
        let (flags, sequence) = (parsed.segment.flags, parsed.segment.sequence);
        if flags & Segment::SYN == 0 {
            return;
        }
        let answers = flags & Segment::ACK != 0;
        match self.opened.get(&parsed.key) {
            Some((_, known)) if answers || *known == sequence => {}
            _ => {
                self.opened.insert(parsed.key, (interface, sequence));
            }
        }
    }
}

impl Engine for Kernel {
    fn packet(&mut self, frame: &[u8], time: u64, interface: u32) -> Result<(), ProbeError> {
        self.opens(frame, interface);
        self.probe.run(frame, time)?;
        let Self {
            probe,
            opened,
            events,
        } = self;
        probe.drain(|event| {
            let mut event = *event;
            event.ifindex = interface;
            event.flow.ifindex = opened.remove(&event.key).map_or(interface, |(on, _)| on);
            events.push(event);
        });
        Ok(())
    }

    fn drain(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.events);
    }

    fn sweep(&mut self, now: u64, patience: Duration) -> Result<Vec<Event>, ProbeError> {
        let mut events = self.probe.sweep(now, patience)?;
        for event in &mut events {
            if let Some((on, _)) = self.opened.remove(&event.key) {
                event.flow.ifindex = on;
                event.ifindex = on;
            }
        }
        Ok(events)
    }

    fn counts(&mut self) -> Result<Counts, ProbeError> {
        self.probe.counts()
    }

    fn under_way(&mut self) -> Result<UnderWay, ProbeError> {
        let mut under_way = self.probe.under_way()?;
        for (key, flow) in &mut under_way.flows {
            if let Some((on, _)) = self.opened.get(key) {
                flow.ifindex = *on;
            }
        }
        Ok(under_way)
    }
}
