//! A capture's packets through the shipped program, and its events out: in the kernel
//! ([`Kernel`], BPF_PROG_TEST_RUN) or on the host ([`HostEngine`]), which run the same code.
//!
//! A [`Replay`] keeps the capture's clock: packets bring their own time, and between them handshakes
//! stall. It hands every engine the same frames ([`cut`]), so that both see the same.
//!
//! Refuses to read files, and to name anything: events go out as they are.

mod both;
pub mod cut;
mod host;
mod kernel;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::{Counter, class_key, from_class_key};
use gauntlet_wire::event::Event;
use gauntlet_wire::flow::Flow;
use gauntlet_wire::packet::{self, FlowKey, Parsed};
use gauntlet_wire::segment::Segment;
use gauntlet_wire::window::{Window, WindowKey};
use zerocopy::FromZeros as _;

use crate::capture_file::Packet;
use crate::probe::{Counts, ProbeError};

pub use self::both::Both;
pub use self::host::HostEngine;
pub use self::kernel::Kernel;

/// Whatever takes frames and makes events of them.
pub trait Engine {
    /// Takes an Ethernet frame, captured at `time` (nanoseconds, any epoch) on `interface`.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn packet(&mut self, frame: &[u8], time: u64, interface: u32) -> Result<(), ProbeError>;

    /// Takes the events that there are.
    fn drain(&mut self, events: &mut Vec<Event>);

    /// Events of handshakes that have said nothing for `patience` at the time `now`.
    ///
    /// # Errors
    /// When the flow table cannot be read.
    fn sweep(&mut self, now: u64, patience: Duration) -> Result<Vec<Event>, ProbeError>;

    /// What was counted so far.
    ///
    /// # Errors
    /// When a map cannot be read.
    fn counts(&mut self) -> Result<Counts, ProbeError>;

    /// What it keeps of connections that are not over.
    ///
    /// # Errors
    /// When a map cannot be read.
    fn under_way(&mut self) -> Result<UnderWay, ProbeError>;

    /// The first thing in which several engines differ.
    fn difference(&self) -> Option<&str> {
        None
    }
}

impl<E: Engine + ?Sized> Engine for Box<E> {
    fn packet(&mut self, frame: &[u8], time: u64, interface: u32) -> Result<(), ProbeError> {
        (**self).packet(frame, time, interface)
    }

    fn drain(&mut self, events: &mut Vec<Event>) {
        (**self).drain(events);
    }

    fn sweep(&mut self, now: u64, patience: Duration) -> Result<Vec<Event>, ProbeError> {
        (**self).sweep(now, patience)
    }

    fn counts(&mut self) -> Result<Counts, ProbeError> {
        (**self).counts()
    }

    fn under_way(&mut self) -> Result<UnderWay, ProbeError> {
        (**self).under_way()
    }

    fn difference(&self) -> Option<&str> {
        (**self).difference()
    }
}

/// What an engine keeps of connections that are not over, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Their state.
    pub flows: BTreeMap<FlowKey, Box<Flow>>,
    /// Their segments that came early.
    pub windows: BTreeMap<WindowKey, Box<Window>>,
}

/// Frames that are shorter have no packet in them, and BPF_PROG_TEST_RUN refuses them.
const SHORTEST: usize = 15;
/// Stalls are looked for this often within the threshold: one that ends sooner was none.
const LOOKS: u64 = 4;

/// A capture being replayed.
#[derive(Debug)]
pub struct Replay<E> {
    engine: E,
    patience: Duration,
    /// The longest frame that is handed over.
    longest: usize,
    /// When stalls are looked for next.
    look: Option<u64>,
    /// The last packet's time.
    last: u64,
    scratch: Vec<u8>,
    /// Every connection so far.
    connections: HashSet<FlowKey>,
    begun_before: u64,
    cut_short: u64,
    no_packet: u64,
}

/// How a replay ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// What was counted.
    pub counts: Counts,
    /// Handshakes under way when the capture ended, not silent for long enough to be stalled.
    pub unfinished: u64,
    /// Connections that were open before the capture began: their handshake was not seen.
    pub begun_before: u64,
    /// Packets of which bytes were not kept (snapshot length).
    pub cut_short: u64,
    /// Frames too short to be read at all.
    pub no_packet: u64,
    /// The first thing in which several engines differ.
    pub difference: Option<String>,
}

impl<E: Engine> Replay<E> {
    /// Starts one. A handshake is stalled that says nothing for `patience`.
    pub fn new(engine: E, patience: Duration) -> Self {
        Self {
            engine,
            patience,
            longest: cut::LONGEST,
            look: None,
            last: 0,
            scratch: Vec::new(),
            connections: HashSet::new(),
            begun_before: 0,
            cut_short: 0,
            no_packet: 0,
        }
    }

    /// Cuts segments so that no frame is longer than this, if it has room for headers: less than every kernel
    /// takes, to see that it makes no difference.
    #[must_use]
    pub fn cut_to(mut self, longest: usize) -> Self {
        self.longest = longest.min(cut::LONGEST);
        self
    }

    /// Takes a packet; its events, and those of handshakes that stalled before it, are added to `events`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn packet(
        &mut self,
        packet: &Packet<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), ProbeError> {
        self.advance(packet.time, events)?;
        if packet.frame.len() < SHORTEST {
            self.no_packet += 1;
            return Ok(());
        }
        self.note(packet.frame);
        let Self {
            engine, scratch, ..
        } = self;
        let (kept, length) = (packet.frame, packet.length);
        let missing = cut::cut(kept, length, self.longest, scratch, |frame| {
            engine.packet(frame, packet.time, packet.interface)
        })?;
        self.cut_short += u64::from(missing);
        self.engine.drain(events);
        Ok(())
    }

    /// Notes a connection that does not begin with its SYN: an engine does not follow it.
    fn note(&mut self, frame: &[u8]) {
        let mut parsed = Parsed::new_zeroed();
        if packet::parse(&Bytes::new(frame), &mut parsed).is_ok()
            && self.connections.insert(parsed.key)
            && parsed.segment.flags & (Segment::SYN | Segment::RST) == 0
        {
            self.begun_before += 1;
        }
    }

    /// The first thing in which several engines differ.
    #[must_use]
    pub fn difference(&self) -> Option<&str> {
        self.engine.difference()
    }

    /// The capture has ended.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn end(mut self, events: &mut Vec<Event>) -> Result<Ended, ProbeError> {
        self.sweep(self.last, events)?;
        // What is still under way can be said to have failed only by who saw more. Far later it would
        // have: that is how many there are.
        let under_way = self.engine.sweep(u64::MAX, self.patience)?;
        let mut counts = self.engine.counts()?;
        let unfinished = counts.take_back(&under_way);
        Ok(Ended {
            counts,
            unfinished,
            begun_before: self.begun_before,
            cut_short: self.cut_short,
            no_packet: self.no_packet,
            difference: self.engine.difference().map(str::to_owned),
        })
    }

    /// The clock says `time`.
    fn advance(&mut self, time: u64, events: &mut Vec<Event>) -> Result<(), ProbeError> {
        let pause = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX) / LOOKS;
        let next = time.saturating_add(pause.max(1));
        match self.look {
            Some(look) if time >= look => {
                self.sweep(time, events)?;
                self.look = Some(next);
            }
            // The first packet; or a clock that was set back, or one stamp that is far off.
            None => self.look = Some(next),
            Some(look) if look > next => self.look = Some(next),
            Some(_) => {}
        }
        self.last = time;
        Ok(())
    }

    /// Adds the stalls up to `now`, each at the moment it became one.
    fn sweep(&mut self, now: u64, events: &mut Vec<Event>) -> Result<(), ProbeError> {
        let mut found = self.engine.sweep(now, self.patience)?;
        let patience = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
        for event in &mut found {
            event.time = event.flow.progress().saturating_add(patience);
        }
        // By time; tables have no order.
        found.sort_by_key(|event| (event.time, event.key.ports, event.key.addresses));
        events.extend(found);
        Ok(())
    }
}

impl Counts {
    /// Counts failures out again that are not reported after all, and says how many they are.
    pub fn take_back(&mut self, events: &[Event]) -> u64 {
        let failed = events.iter().filter(|event| event.undecided == 0);
        failed.map(|event| self.take_one_back(event)).count() as u64
    }

    fn take_one_back(&mut self, event: &Event) {
        if let Some(failed) = self.counters.get_mut(&Counter::HandshakeFailed) {
            *failed = failed.saturating_sub(1);
        }
        let version = event.flow.server().version;
        let key = Class::from_number(event.verdict.class)
            .and_then(|class| from_class_key(class_key(class, version)));
        if let Some(key) = key
            && let Some(class) = self.classes.get_mut(&key)
        {
            class.count = class.count.saturating_sub(1);
            self.classes.retain(|_, class| class.count > 0);
        }
    }
}
