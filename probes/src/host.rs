//! The machine on a host: the wire crate's code with tables in ordinary memory, for packets from a file
//! and for tests. What it says is what the kernel's programs say of the same packets.
//!
//! Refuses to open files and to know an interface.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::counters::{ClassCount, Counter, class_key, from_class_key};
use gauntlet_wire::event::{ABI, Event};
use gauntlet_wire::flow::{CAPTURE_LABEL, CAPTURE_SPACE, Flow};
use gauntlet_wire::machine::{self, MORE, Opened, Removal, Tables, Todo};
use gauntlet_wire::packet::{self, Endpoint, FlowKey, Parsed, Skipped};
use gauntlet_wire::rules::{Failure, Outcome};
use gauntlet_wire::segment::Payload;
use gauntlet_wire::side::{GATHER, Side, Stage};
use gauntlet_wire::window::{Window, WindowKey};
use zerocopy::FromZeros;

use crate::load::Settings;
use crate::probe::{Counts, IDLE};
use crate::replay_engine::UnderWay;

/// Fields walked over before the machine is asked again, as in the kernel's programs: where a packet has
/// more than both allow, both give up at the same place.
const STEPS: u32 = 16;

/// Flows, and everything else that the kernel keeps in maps.
#[derive(Debug, Default)]
pub struct Host {
    now: Cell<u64>,
    ifindex: Cell<u32>,
    /// Most flows and windows at once.
    room: [usize; 2],
    flows: Shelf<FlowKey, Flow>,
    windows: Shelf<WindowKey, Window>,
    ports: HashSet<u16>,
    servers: RefCell<HashSet<Endpoint>>,
    counters: RefCell<BTreeMap<Counter, u64>>,
    classes: RefCell<BTreeMap<u32, ClassCount>>,
    events: RefCell<Vec<Event>>,
}

/// A table whose elements are taken out while they are worked on.
#[derive(Debug)]
struct Shelf<K, V>(RefCell<HashMap<K, Option<Box<V>>>>);

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

/// An element that was taken out; it goes back when it is dropped, unless its place was removed.
#[derive(Debug)]
pub struct Lent<'s, K: Eq + Hash, V> {
    shelf: &'s Shelf<K, V>,
    key: K,
    value: Option<Box<V>>,
}

impl<K: Copy + Eq + Hash, V> Shelf<K, V> {
    fn lend(&self, key: &K) -> Option<Lent<'_, K, V>> {
        let value = self.0.borrow_mut().get_mut(key)?.take()?;
        Some(Lent {
            shelf: self,
            key: *key,
            value: Some(value),
        })
    }

    fn put(&self, key: K, value: V) {
        self.0.borrow_mut().insert(key, Some(Box::new(value)));
    }

    fn holds(&self, key: &K) -> bool {
        self.0.borrow().contains_key(key)
    }

    fn remove(&self, key: &K) -> bool {
        self.0.borrow_mut().remove(key).is_some()
    }

    /// A copy of every element.
    fn all(&mut self) -> BTreeMap<K, Box<V>>
    where
        K: Ord,
        V: Clone,
    {
        let elements = self.0.get_mut().iter();
        elements
            .filter_map(|(key, value)| Some((*key, value.clone()?)))
            .collect()
    }

    fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl<K: Eq + Hash, V> Drop for Lent<'_, K, V> {
    fn drop(&mut self) {
        if let Some(place) = self.shelf.0.borrow_mut().get_mut(&self.key)
            && place.is_none()
        {
            *place = self.value.take();
        }
    }
}

impl<K: Eq + Hash, V> Deref for Lent<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.value.as_deref().expect("only a drop takes it")
    }
}

impl<K: Eq + Hash, V> DerefMut for Lent<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.value.as_deref_mut().expect("only a drop takes it")
    }
}

impl Payload for Lent<'_, WindowKey, Window> {
    fn gather(&self, from: u32, into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> bool {
        Bytes::new(&self.bytes).gather(from, into, at, count)
    }

    fn capture(&self, from: u32, into: &mut [u8; CAPTURE_SPACE], at: u32, count: u32) -> bool {
        Bytes::new(&self.bytes).capture(from, into, at, count)
    }

    fn label(&self, into: &mut [u8; CAPTURE_SPACE], at: u32, label: [u8; CAPTURE_LABEL as usize]) {
        Bytes::new(&self.bytes).label(into, at, label);
    }

    fn settle(&self, _place: &mut u32, number: u32) -> u32 {
        number
    }
}

impl Host {
    /// Empty tables, as large as the kernel's would be; the ring buffer's size does not matter.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let size = |entries: u32| usize::try_from(entries).unwrap_or(usize::MAX);
        Self {
            room: [size(settings.flows.get()), size(settings.windows().get())],
            ports: settings.tls_ports.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// Takes an Ethernet frame that went by at `time` (nanoseconds, any clock that events are to have).
    pub fn packet(&self, frame: &[u8], time: u64, ifindex: u32) {
        self.now.set(time);
        self.ifindex.set(ifindex);
        let frame = Bytes::new(frame);
        let mut parsed = Parsed::new_zeroed();
        match packet::parse(&frame, &mut parsed) {
            Ok(()) => {}
            Err(Skipped::NotTcp) => return,
            Err(Skipped::Link) => return self.count(Counter::UnparsedLink),
            Err(Skipped::Network) => return self.count(Counter::UnparsedNetwork),
            Err(Skipped::Fragment) => return self.count(Counter::Fragment),
        }
        let mut todo = machine::arrive::<STEPS, _>(self, &frame, &mut parsed);
        for _ in 0..MORE {
            todo = match todo {
                Todo::Nothing => return,
                Todo::WalkOn => machine::walk_on::<STEPS, _>(self, &frame, &mut parsed),
                Todo::Keep => machine::keep(self, &frame, &mut parsed),
                Todo::Replay => machine::replay::<STEPS, _>(self, &mut parsed),
            };
        }
        if todo != Todo::Nothing {
            machine::give_up(self, &parsed);
        }
    }

    /// Events so far, each once, in order.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(self.events.get_mut())
    }

    /// Looks for handshakes that have said nothing for `threshold`, and removes connections that never
    /// became one, as [`crate::probe::Probe::sweep`] does.
    pub fn sweep(&mut self, now: u64, threshold: Duration) -> Vec<Event> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (patience, idle) = (nanoseconds(threshold), nanoseconds(IDLE));
        let mut overdue: Vec<(FlowKey, Flow, Outcome)> = self
            .flows
            .0
            .get_mut()
            .iter()
            .filter_map(|(key, flow)| {
                let flow = flow.as_deref()?;
                Some((*key, *flow, flow.overdue(now, patience, idle)?))
            })
            .collect();
        // The table has no order; a report should.
        overdue.sort_by_key(|(key, flow, _)| (flow.progress(), key.addresses, key.ports));
        let mut events = Vec::new();
        for (key, flow, outcome) in overdue {
            self.flows.remove(&key);
            events.extend(Event::of_silence(flow, key, now, outcome));
            match outcome {
                Outcome::Failed(failure) => {
                    self.count(Counter::HandshakeFailed);
                    self.count_class(&failure, flow.server().version, now);
                }
                Outcome::Done => self.count(Counter::HandshakeDone),
                Outcome::Undecided => self.count(Counter::Undecided),
                Outcome::Ignore if flow.client().stage >= Stage::GREETING => {
                    self.count(Counter::Unseen);
                }
                Outcome::Ignore | Outcome::On(_) => self.count(Counter::FlowExpired),
            }
        }
        self.sweep_windows();
        events
    }

    /// Removes windows that outlived their flows.
    fn sweep_windows(&mut self) {
        let flows = self.flows.0.get_mut();
        self.windows.0.get_mut().retain(|key, _| {
            let flow = flows.get(&key.flow).and_then(Option::as_deref);
            flow.is_some_and(|flow| flow.sides[usize::from(key.role & 1)].is(Side::KEPT))
        });
    }

    /// What is kept of connections that are not over.
    pub fn under_way(&mut self) -> UnderWay {
        UnderWay {
            flows: self.flows.all(),
            windows: self.windows.all(),
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counters = self.counters.borrow();
        Counts {
            counters: Counter::ALL
                .into_iter()
                .map(|counter| (counter, counters.get(&counter).copied().unwrap_or(0)))
                .collect(),
            classes: self
                .classes
                .borrow()
                .iter()
                .filter_map(|(key, count)| Some((from_class_key(*key)?, *count)))
                .collect(),
            others: BTreeMap::new(),
        }
    }
}

impl Tables for Host {
    type Flow<'t> = Lent<'t, FlowKey, Flow>;
    type Window<'t> = Lent<'t, WindowKey, Window>;
    type Offer = Box<Event>;

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn cgroup(&self, _from: u16, _to: u16) -> u64 {
        0 // a packet from elsewhere has no socket here
    }

    fn flow(&self, key: &FlowKey) -> Option<Lent<'_, FlowKey, Flow>> {
        self.flows.lend(key)
    }

    fn open(&self, key: &FlowKey, opened: &Opened) -> bool {
        if !self.flows.holds(key) && self.flows.len() >= self.room[0] {
            return false;
        }
        let mut flow = Flow::new_zeroed();
        flow.open(
            opened.time,
            self.ifindex.get(),
            opened.known,
            opened.client_first,
        );
        self.flows.put(*key, flow);
        true
    }

    fn remove(&self, key: &FlowKey) -> Removal {
        if self.flows.remove(key) {
            Removal::Ours
        } else {
            Removal::Gone
        }
    }

    fn window(&self, key: &WindowKey) -> Option<Lent<'_, WindowKey, Window>> {
        self.windows.lend(key)
    }

    fn open_window(&self, key: &WindowKey) -> Option<Lent<'_, WindowKey, Window>> {
        if !self.windows.holds(key) {
            if self.windows.len() >= self.room[1] {
                return None;
            }
            self.windows.put(*key, Window::new_zeroed());
        }
        self.windows.lend(key)
    }

    fn remove_window(&self, key: &WindowKey) {
        self.windows.remove(key);
    }

    fn knows(&self, server: &Endpoint) -> bool {
        self.ports.contains(&server.port) || self.servers.borrow().contains(server)
    }

    fn learn(&self, server: &Endpoint) {
        self.servers.borrow_mut().insert(*server);
    }

    fn count(&self, counter: Counter) {
        *self.counters.borrow_mut().entry(counter).or_default() += 1;
    }

    fn count_class(&self, failure: &Failure, version: u16, time: u64) {
        let mut classes = self.classes.borrow_mut();
        let entry = classes
            .entry(class_key(failure.class(), version))
            .or_default();
        entry.count += 1;
        entry.last_seen = time;
    }

    fn room(&self) -> Option<Box<Event>> {
        Some(Box::new(Event::new_zeroed()))
    }

    fn fill(
        &self,
        offer: &mut Box<Event>,
        flow: &Flow,
        parsed: &Parsed,
        failure: Failure,
        undecided: bool,
    ) {
        **offer = Event {
            flow: *flow,
            time: parsed.segment.time,
            abi: ABI,
            ifindex: self.ifindex.get(),
            key: parsed.key,
            verdict: failure.into(),
            undecided: u8::from(undecided),
            reserved: [0; 5],
        };
    }

    fn tell(&self, offer: Box<Event>) -> bool {
        self.events.borrow_mut().push(*offer);
        true
    }

    fn withdraw(&self, _offer: Box<Event>) {}
}
