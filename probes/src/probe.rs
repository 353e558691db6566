//! One network namespace, or one cgroup, being watched: its programs and maps, its events, the handshakes that
//! stall in it, and what was counted.
//!
//! Each namespace has programs and maps of its own, since the same addresses may be in use in two.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use aya::maps::perf::PerfBufferError;
use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::{Program, ProgramError, TestRun as _, TestRunOptions};
use aya::{Ebpf, Pod};
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::{ClassCount, Counter, class_key, from_class_key};
use gauntlet_wire::event::Event;
use gauntlet_wire::flow::Flow;
use gauntlet_wire::packet::FlowKey;
use gauntlet_wire::rules::Outcome;
use gauntlet_wire::side::{Side, Stage};
use gauntlet_wire::window::{Window, WindowKey};
use zerocopy::FromBytes;

use crate::attach::AttachError;
use crate::cgroup::{self, Cgroup, CgroupError};
use crate::delivery::{Found, Reader};
use crate::held::Held;
use crate::interfaces::{Changes, Interface, Interfaces, InterfacesError, Selection};
use crate::load::{LoadError, Settings, load_object};
use crate::netns::NetNs;
use crate::object::{self, Family};
use crate::replay_engine::UnderWay;
use crate::transport::Events;

/// How long a connection may say nothing before its ClientHello and still be remembered.
pub(crate) const IDLE: Duration = Duration::from_secs(120);

/// A type of the wire crate as a map's key or value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Plain<T>(pub(crate) T);

// SAFETY: `FromBytes` says that every bit pattern is a value, `Copy` that there is nothing to drop.
unsafe impl<T: FromBytes + Copy + 'static> Pod for Plain<T> {}

/// Why a namespace is not watched.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The programs are not in the kernel.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A cgroup is not watched.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its interfaces are not watched.
    #[error(transparent)]
    Interfaces(#[from] InterfacesError),
    /// The program was not run.
    #[error("the kernel would not run the program on a captured packet: {0}")]
    Run(#[source] ProgramError),
    /// A packet did not get to where the programs would have seen it.
    #[error("a packet cannot be sent to the programs: {0}")]
    Packet(#[source] std::io::Error),
    /// The kernel does not say which CPUs there are.
    #[error("the processors cannot be listed: {0}")]
    Cpus(#[source] std::io::Error),
    /// A CPU's events would have nowhere to go.
    #[error(
        "processor {cpu} has no buffer for events, for want of CAP_PERFMON or, without CAP_IPC_LOCK, of memory that may be locked (--ring): {source}"
    )]
    Buffer {
        /// Which.
        cpu: u32,
        /// What went wrong.
        #[source]
        source: PerfBufferError,
    },
    /// A map cannot be read.
    #[error("map {map}: {source}")]
    Map {
        /// Which.
        map: &'static str,
        /// What went wrong.
        #[source]
        source: MapError,
    },
}

/// What was counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By cause.
    pub counters: BTreeMap<Counter, u64>,
    /// Failures by class and TLS version (0: not known), with the last one's time
    /// (nanoseconds, CLOCK_MONOTONIC).
    pub classes: BTreeMap<(Class, u16), ClassCount>,
    /// What others counted than who reads packets, by the word in reports.
    pub others: BTreeMap<&'static str, Other>,
}

/// A count that is none of a packet's reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Other {
    /// How many.
    pub count: u64,
    /// Whether a failed handshake may have gone unreported for this reason.
    pub is_loss: bool,
}

/// A handshake that was told otherwise than it was counted: a library knew better. No class: no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Correction {
    /// What it was counted as; `None`: as undecided.
    pub counted: Option<Class>,
    /// What it was told as; `None`: not at all, since it was good.
    pub told: Option<Class>,
    /// The negotiated version, or 0.
    pub version: u16,
}

impl Counts {
    /// Adds to a count of somebody else.
    pub fn add(&mut self, name: &'static str, count: u64, is_loss: bool) {
        let other = self.others.entry(name).or_default();
        other.count += count;
        other.is_loss = is_loss;
    }

    /// Counts so many handshakes as they were told.
    pub fn correct(&mut self, correction: &Correction, handshakes: u64) {
        let key = |class| from_class_key(class_key(class, correction.version));
        let mut seen = 0;
        if let Some(class) = correction.counted {
            if let Some(key) = key(class)
                && let Some(entry) = self.classes.get_mut(&key)
            {
                entry.count = entry.count.saturating_sub(handshakes);
                seen = entry.last_seen;
                if entry.count == 0 {
                    self.classes.remove(&key);
                }
            }
        } else {
            self.shift(Counter::Undecided, Counter::HandshakeFailed, handshakes);
        }
        if let Some(class) = correction.told {
            if let Some(key) = key(class) {
                let entry = self.classes.entry(key).or_default();
                entry.count += handshakes;
                entry.last_seen = entry.last_seen.max(seen);
            }
        } else {
            self.shift(Counter::HandshakeFailed, Counter::HandshakeDone, handshakes);
        }
    }

    fn shift(&mut self, from: Counter, to: Counter, handshakes: u64) {
        let entry = self.counters.entry(from).or_default();
        *entry = entry.saturating_sub(handshakes);
        *self.counters.entry(to).or_default() += handshakes;
    }

    /// Adds what another namespace counted.
    pub fn merge(&mut self, other: &Self) {
        for (counter, count) in &other.counters {
            *self.counters.entry(*counter).or_default() += count;
        }
        for (key, theirs) in &other.classes {
            let ours = self.classes.entry(*key).or_default();
            ours.count += theirs.count;
            ours.last_seen = ours.last_seen.max(theirs.last_seen);
        }
        for (name, other) in &other.others {
            self.add(name, other.count, other.is_loss);
        }
    }

    /// Failed handshakes that may have gone unreported.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let others = self.others.values().filter(|other| other.is_loss);
        self.counters
            .iter()
            .filter(|(counter, _)| counter.is_loss())
            .map(|(_, count)| count)
            .chain(others.map(|other| &other.count))
            .sum()
    }
}

/// What the programs are attached to.
enum Attached {
    Nothing,
    Interfaces(Box<Interfaces>),
    Cgroup(#[expect(dead_code, reason = "it is attached as long as it lives")] Cgroup),
}

/// A namespace or a cgroup being watched. Dropping it detaches everything.
pub struct Probe {
    // Dropped first: nothing may run once the maps go.
    attached: Attached,
    netns: u32,
    skipped: Vec<AttachError>,
    events: Events,
    reader: Reader,
    flows: HashMap<MapData, Plain<FlowKey>, Plain<Flow>>,
    held: Held,
    windows: HashMap<MapData, Plain<WindowKey>, Plain<Window>>,
    counts: PerCpuArray<MapData, u64>,
    classes: PerCpuHashMap<MapData, u32, Plain<ClassCount>>,
    /// What the collector itself found, beside the kernel.
    swept: Counts,
    /// The program that packets come to.
    watch: &'static str,
    // The programs, and the table of the tail call, which the kernel empties with its last user.
    ebpf: Ebpf,
}

impl Probe {
    /// Loads, attaches, and is ready: every packet after this is seen.
    ///
    /// # Errors
    /// [`ProbeError`]; then nothing is left attached.
    pub fn start(
        namespace: &NetNs,
        selection: &Selection,
        settings: &Settings,
    ) -> Result<Self, ProbeError> {
        Self::unattached(settings)?.attach(namespace, selection)
    }

    /// Attaches what was loaded before ([`Self::unattached`]), which is what takes time.
    ///
    /// # Errors
    /// [`ProbeError::Interfaces`]; then nothing is left attached.
    pub fn attach(mut self, namespace: &NetNs, selection: &Selection) -> Result<Self, ProbeError> {
        let (interfaces, skipped) = Interfaces::start(&mut self.ebpf, namespace, selection)?;
        self.attached = Attached::Interfaces(Box::new(interfaces));
        // An inode number of that kind of file has 32 bits. Where the kernel does not say, it is not known.
        self.netns = namespace
            .identity()
            .ok()
            .and_then(|(_, inode)| inode.try_into().ok())
            .unwrap_or(0);
        self.skipped = skipped;
        Ok(self)
    }

    /// The same for the sockets of a cgroup v2 and all that is below it, whatever interface and network
    /// namespace they are on.
    ///
    /// # Errors
    /// [`ProbeError`]; then nothing is left attached.
    pub fn start_cgroup(path: &Path, settings: &Settings) -> Result<Self, ProbeError> {
        let mut probe = Self::of_object(object::OBJECT, settings, object::CGROUP)?;
        probe.attached = Attached::Cgroup(cgroup::attach(&mut probe.ebpf, path)?);
        Ok(probe)
    }

    /// Loads, and attaches nothing: it sees the packets that are handed to it ([`Self::run`]).
    ///
    /// # Errors
    /// [`ProbeError::Load`].
    pub fn unattached(settings: &Settings) -> Result<Self, ProbeError> {
        Self::of_object(object::OBJECT, settings, object::INTERFACE)
    }

    /// The same with another object that has these programs and maps, an ELF file's bytes, or another family.
    ///
    /// # Errors
    /// [`ProbeError::Load`].
    pub fn of_object(
        object: &[u8],
        settings: &Settings,
        family: Family,
    ) -> Result<Self, ProbeError> {
        let mut ebpf = load_object(object, settings, family)?;
        let events = Events::new(&mut ebpf, settings.transport, settings.ring_bytes)?;
        let reader = take(&mut ebpf, object::READER, |map| Reader::new(&map))?;
        let flows = take(&mut ebpf, object::FLOWS, HashMap::try_from)?;
        let held = take(&mut ebpf, object::HELD, |map| Held::new(&map))?;
        let windows = take(&mut ebpf, object::WINDOWS, HashMap::try_from)?;
        let counts = take(&mut ebpf, object::COUNTS, PerCpuArray::try_from)?;
        let classes = take(&mut ebpf, object::CLASSES, PerCpuHashMap::try_from)?;
        Ok(Self {
            attached: Attached::Nothing,
            netns: 0,
            skipped: Vec::new(),
            events,
            reader,
            flows,
            held,
            windows,
            counts,
            classes,
            swept: Counts::default(),
            watch: family.watch,
            ebpf,
        })
    }

    /// Runs the program on one frame, as if it had come at `time` (nanoseconds); see
    /// [`Settings::capture_time`]. The frame has at least 15 bytes and, before Linux 6.18 or so, at most
    /// about a page.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn run(&mut self, frame: &[u8], time: u64) -> Result<(), ProbeError> {
        let context = context(time);
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = Some(&context);
        let ran = match self.ebpf.program(self.watch) {
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            Some(Program::CgroupSkb(program)) => program.test_run(options),
            _ => return Err(LoadError::Missing(self.watch).into()),
        };
        ran.map_err(ProbeError::Run)?;
        Ok(())
    }

    /// The programs, and the maps that the probe does not read itself, for who measures them.
    pub fn loaded(&self) -> &Ebpf {
        &self.ebpf
    }

    /// Stops watching: no packet after this is seen. Events and counters stay, and say the same.
    pub fn detach(&mut self) {
        match &mut self.attached {
            // What was done to interfaces is still to be told.
            Attached::Interfaces(interfaces) => interfaces.detach(),
            attached => *attached = Attached::Nothing,
        }
    }

    /// Attaches to interfaces that have come, lets go of those that are gone, and says which it could not
    /// attach to.
    ///
    /// # Errors
    /// When changes can no longer be followed.
    pub fn follow(&mut self) -> Result<Vec<AttachError>, ProbeError> {
        match &mut self.attached {
            Attached::Interfaces(interfaces) => Ok(interfaces.follow(&mut self.ebpf)?),
            _ => Ok(Vec::new()),
        }
    }

    /// What to wait for: events, and changes of interfaces.
    pub fn wakes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.events().chain(self.changes())
    }

    /// What to wait for beside events: changes of interfaces.
    pub fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.interfaces().map(AsFd::as_fd)
    }

    /// Readable when there are events; see [`Self::reader`].
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.events.descriptors()
    }

    /// How many connections are counted as being in the flow table ([`gauntlet_wire::held`]), and how many are:
    /// the same, unless a packet is just being looked at.
    ///
    /// # Errors
    /// When the flow table cannot be read.
    pub fn held(&self) -> Result<(u64, usize), ProbeError> {
        let keys: Result<Vec<_>, _> = self.flows.keys().collect();
        Ok((self.held.sum(), keys.map_err(flow_table)?.len()))
    }

    /// What is kept of connections that are not over.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn under_way(&self) -> Result<UnderWay, ProbeError> {
        let mut under_way = UnderWay::default();
        for entry in self.flows.iter() {
            let (Plain(key), Plain(flow)) = entry.map_err(flow_table)?;
            under_way.flows.insert(key, Box::new(flow));
        }
        for entry in self.windows.iter() {
            let (Plain(key), Plain(window)) = entry.map_err(windows)?;
            under_way.windows.insert(key, Box::new(window));
        }
        Ok(under_way)
    }

    /// How many interfaces are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.interfaces().map_or(0, Interfaces::watched)
    }

    fn interfaces(&self) -> Option<&Interfaces> {
        match &self.attached {
            Attached::Interfaces(interfaces) => Some(interfaces),
            _ => None,
        }
    }

    /// Why interfaces that were there at the start, and not asked for by name, are not watched.
    #[must_use]
    pub fn skipped(&self) -> &[AttachError] {
        &self.skipped
    }

    /// The interface with this index, or the last one that had it.
    #[must_use]
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces()?.interface(index)
    }

    /// The network namespace that it watches, by inode number; 0: a cgroup is watched, or nothing.
    #[must_use]
    pub fn netns(&self) -> u32 {
        self.netns
    }

    /// What it says to the programs of whether it sleeps. As long as nothing is said, the kernel wakes it
    /// whenever it has read all there was.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Takes the events that the programs have told, or about as many as the buffers hold
    /// ([`Found::Part`]: there may be more), in the order in which they were told;
    /// [`Transport::Perf`](crate::transport::Transport::Perf) says where that ends.
    pub fn drain(&mut self, each: impl FnMut(&Event)) -> Found {
        self.events.drain(each)
    }

    /// Looks for handshakes that have said nothing for `threshold`, and removes connections that
    /// never became one. `now` is CLOCK_MONOTONIC, nanoseconds. Each stall is told once.
    ///
    /// # Errors
    /// When the flow table cannot be read.
    pub fn sweep(&mut self, now: u64, threshold: Duration) -> Result<Vec<Event>, ProbeError> {
        let patience = nanoseconds(threshold);
        let idle = nanoseconds(IDLE);
        let keys: Vec<_> = self
            .flows
            .keys()
            .collect::<Result<_, _>>()
            .map_err(flow_table)?;
        let mut events = Vec::new();
        for key in keys {
            let Some(flow) = self.flow(&key)? else {
                continue;
            };
            if flow.told() {
                let _ = self.forget(&key);
                continue;
            }
            let Some(outcome) = flow.overdue(now, patience, idle) else {
                continue;
            };
            // A packet, or a new connection of the same ports, may have come just now.
            let still = |now: Flow| now.opened == flow.opened && now.progress() == flow.progress();
            if !self.flow(&key)?.is_some_and(still) {
                continue;
            }
            // Whoever removes the flow reports it; the kernel may have been faster.
            if self.forget(&key).is_err() {
                continue;
            }
            events.extend(Event::of_silence(flow, key.0, now, outcome));
            match outcome {
                Outcome::Failed(failure) => {
                    self.count_failure(failure.class(), flow.server().version, now);
                }
                Outcome::Done => self.count(Counter::HandshakeDone),
                Outcome::Undecided => self.count(Counter::Undecided),
                Outcome::Ignore if flow.client().stage >= Stage::GREETING => {
                    self.count(Counter::Unseen);
                }
                Outcome::Ignore | Outcome::On(_) => self.count(Counter::FlowExpired),
            }
        }
        self.sweep_windows()?;
        Ok(events)
    }

    /// Removes windows that outlived their flows: the kernel could not remove them, or the collector has
    /// just removed the flow.
    fn sweep_windows(&mut self) -> Result<(), ProbeError> {
        let keys: Vec<_> = self
            .windows
            .keys()
            .collect::<Result<_, _>>()
            .map_err(windows)?;
        for key in keys {
            let Plain(WindowKey { flow, role, .. }) = key;
            let kept = self
                .flow(&Plain(flow))?
                .is_some_and(|flow| flow.sides[usize::from(role & 1)].is(Side::KEPT));
            if !kept {
                let _gone = self.windows.remove(&key);
            }
        }
        Ok(())
    }

    /// Removes a flow.
    fn forget(&mut self, key: &Plain<FlowKey>) -> Result<(), MapError> {
        self.flows.remove(key)?;
        self.held.remove(&key.0);
        Ok(())
    }

    fn count(&mut self, counter: Counter) {
        *self.swept.counters.entry(counter).or_default() += 1;
    }

    fn flow(&self, key: &Plain<FlowKey>) -> Result<Option<Flow>, ProbeError> {
        match self.flows.get(key, 0) {
            Ok(Plain(flow)) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(flow_table(error)),
        }
    }

    /// Counts what the collector found. SSL_ERROR_WANT_READ goes to the kernel's map, where every
    /// reader looks, since no program writes that key; other classes have writers there already.
    /// What the map does not take is counted here.
    fn count_failure(&mut self, class: Class, version: u16, now: u64) {
        self.count(Counter::HandshakeFailed);
        let key = class_key(class, version);
        if class == Class::WantRead && self.count_in_map(key, now).is_some() {
            return;
        }
        if let Some(known) = from_class_key(key) {
            let entry = self.swept.classes.entry(known).or_default();
            entry.count += 1;
            entry.last_seen = now;
        }
    }

    fn count_in_map(&mut self, key: u32, now: u64) -> Option<()> {
        let mut values: Vec<_> = match self.classes.get(&key, 0) {
            Ok(values) => values.to_vec(),
            Err(MapError::KeyNotFound) => {
                vec![Plain(ClassCount::default()); aya::util::nr_cpus().ok()?]
            }
            Err(_) => return None,
        };
        let Plain(first) = values.first_mut()?;
        first.count += 1;
        first.last_seen = now;
        let values = PerCpuValues::try_from(values).ok()?;
        self.classes.insert(key, values, 0).ok()
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counts(&self) -> Result<Counts, ProbeError> {
        let mut counts = Counts::default();
        for counter in Counter::ALL {
            let values =
                self.counts
                    .get(&(counter as u32), 0)
                    .map_err(|source| ProbeError::Map {
                        map: object::COUNTS,
                        source,
                    })?;
            counts.counters.insert(counter, values.iter().sum());
        }
        for entry in self.classes.iter() {
            let (key, values) = entry.map_err(|source| ProbeError::Map {
                map: object::CLASSES,
                source,
            })?;
            let Some(key) = from_class_key(key) else {
                continue;
            };
            let total = counts.classes.entry(key).or_default();
            for Plain(value) in values.iter() {
                total.count += value.count;
                total.last_seen = total.last_seen.max(value.last_seen);
            }
        }
        counts.merge(&self.swept);
        if let Some(interfaces) = self.interfaces() {
            let Changes {
                attached,
                detached,
                failed,
            } = interfaces.changes();
            counts.add("interface_attached", attached, false);
            counts.add("interface_detached", detached, false);
            counts.add("interface_attach_failed", failed, true);
        }
        Ok(counts)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// A `struct __sk_buff` as BPF_PROG_TEST_RUN takes it, up to its control block, in whose first two words the
/// time stands: the lower half, then the upper.
fn context(time: u64) -> [u8; CONTROL_BLOCK + 20] {
    let mut context = [0; CONTROL_BLOCK + 20];
    context[CONTROL_BLOCK..][..4].copy_from_slice(&(time as u32).to_ne_bytes());
    context[CONTROL_BLOCK + 4..][..4].copy_from_slice(&((time >> 32) as u32).to_ne_bytes());
    context
}

/// Offset of `cb` in `struct __sk_buff`.
const CONTROL_BLOCK: usize = 48;

fn flow_table(source: MapError) -> ProbeError {
    ProbeError::Map {
        map: object::FLOWS,
        source,
    }
}

fn windows(source: MapError) -> ProbeError {
    ProbeError::Map {
        map: object::WINDOWS,
        source,
    }
}

pub(crate) fn take<M>(
    ebpf: &mut Ebpf,
    name: &'static str,
    from: impl FnOnce(Map) -> Result<M, MapError>,
) -> Result<M, ProbeError> {
    let map = ebpf.take_map(name).ok_or(LoadError::Missing(name))?;
    from(map).map_err(|source| ProbeError::Map { map: name, source })
}
