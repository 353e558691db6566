//! The shipped program on one packet, by BPF_PROG_TEST_RUN: what a packet of a kind costs, in nanoseconds.
//!
//! Packets that change nothing are repeated as they are. Others must differ each time (another connection, or
//! the next bytes of one): a program of `ebpf/programs/src/bench` sees to that and hands over, and what the same
//! costs in front of the empty program is taken off. Whether the shipped program really did with the packets
//! what is said here is read from its counters and its ring buffer: else there is no result.
//!
//! Knows no ratios: who measures what against what is [`crate::program`]'s and [`crate::compare`]'s.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{HashMap, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::{ProgramFd, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use gauntlet_benches::{ALERT, client_hello, server_hello};
use gauntlet_probes::load::{self, Settings};
use gauntlet_probes::object;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::packet::FlowKey;
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};

use crate::frames::{ACK, Client, HEADERS, SYN, udp};
use crate::program::Kind;
use crate::statistics::median;

/// How many connections are measured in a row: their state stays in the second cache.
const FLOWS: u16 = 64;
/// Bytes of a connection's key.
const KEY: usize = size_of::<FlowKey>();
/// How many others are under way beside them, where nothing else is said.
pub(crate) const BESIDE: u32 = 1_000;
/// Ports of each client of those, and the one before the first.
const PORTS: u32 = 10_000;
const FIRST_PORT: u32 = 20_000;
/// The payload of a packet inside a record, and how many of them a record holds.
const PIECE: usize = 96;
const PIECES: u32 = 128;

/// The shipped program, the programs of the benchmark, and what the first says.
pub(crate) struct Stand {
    shipped: Ebpf,
    bench: Ebpf,
    target: ProgramArray<MapData>,
    counts: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    /// The next port that no connection had yet.
    port: u16,
    hello: Vec<u8>,
}

impl Stand {
    /// With an object that has the shipped programs and maps, and so many connections under way beside those that
    /// are measured.
    pub(crate) fn new(object: &[u8], settings: &Settings, beside: u32) -> Result<Self> {
        let shipped = load::load_object(object, settings, object::INTERFACE)?;
        let mut stand = Self::of(shipped)?;
        stand.beside(0..beside)?;
        Ok(stand)
    }

    /// With what is loaded.
    pub(crate) fn of(mut shipped: Ebpf) -> Result<Self> {
        let mut bench = EbpfLoader::new().load(object::BENCH)?;
        let map = |ebpf: &mut Ebpf, name| ebpf.take_map(name).context(name);
        // A connection whose key is all zero.
        let mut table: HashMap<_, [u8; KEY], u64> = map(&mut bench, "TABLE")?.try_into()?;
        table.insert([0; KEY], 0, 0)?;
        for name in ["empty", "floor", "next_port", "next_bytes"] {
            classifier(&mut bench, name)?.load()?;
        }
        Ok(Self {
            target: map(&mut bench, "TARGET")?.try_into()?,
            counts: map(&mut shipped, object::COUNTS)?.try_into()?,
            events: map(&mut shipped, object::EVENTS)?.try_into()?,
            shipped,
            bench,
            port: 1_024,
            hello: client_hello(),
        })
    }

    /// Nanoseconds of the program that does nothing.
    pub(crate) fn empty(&mut self) -> Result<f64> {
        let frame = udp(&[0; 64]);
        repeated(classifier(&mut self.bench, "empty")?, &frame)
    }

    /// Nanoseconds of one packet: of some runs the middle one, where a run is short.
    pub(crate) fn several(&mut self, kind: Kind, empty: f64) -> Result<f64> {
        if matches!(kind, Kind::Floor | Kind::NonTcp | Kind::Bulk | Kind::Ack) {
            return self.one(kind, empty);
        }
        let mut took = [0.0; 3];
        for took in &mut took {
            *took = self.one(kind, empty)?;
        }
        Ok(median(&took))
    }

    /// Nanoseconds of one packet.
    fn one(&mut self, kind: Kind, empty: f64) -> Result<f64> {
        let stranger = Client {
            address: [10, 9, 9, 9],
            port: 50_000,
        };
        match kind {
            Kind::Floor => repeated(classifier(&mut self.bench, "floor")?, &udp(&[0; 64])),
            Kind::NonTcp => self.same(&udp(&[0; 1_024])),
            Kind::Bulk => self.same(&stranger.says(ACK, 1, &[0xa5; 1_024])),
            Kind::Ack => self.same(&stranger.says(ACK, 1, &[])),
            Kind::Syn => {
                let client = self.client();
                let took = self.each(empty, |stand, target| {
                    let before = stand.count(Counter::FlowOpened)?;
                    let took = stand.over_ports(target, &client.says(SYN, 0, &[]))?;
                    stand.counted(target, Counter::FlowOpened, before)?;
                    Ok(took)
                });
                self.forget(client)?;
                took
            }
            Kind::Tracked => self.inside_a_record(empty),
            Kind::ClientHello => {
                let client = self.opened()?;
                let hello = client.says(ACK, 1, &self.hello);
                let took = self.each(empty, |stand, target| stand.over_ports(target, &hello));
                self.forget(client)?;
                took
            }
            Kind::AlertEvent => {
                let client = self.opened()?;
                self.over_ports(Target::Shipped, &client.says(ACK, 1, &self.hello.clone()))?;
                let alert = client.says(ACK, 1 + self.hello.len() as u32, &ALERT);
                self.each(empty, |stand, target| stand.told(target, &alert))
            }
            Kind::ClientHelloEvent => {
                let client = self.opened()?;
                let both = client.says(ACK, 1, &[&self.hello[..], &ALERT].concat());
                self.each(empty, |stand, target| stand.told(target, &both))
            }
        }
    }

    /// Nanoseconds of a packet that changes nothing.
    fn same(&mut self, frame: &[u8]) -> Result<f64> {
        let opened = self.count(Counter::FlowOpened)?;
        let took = repeated(
            load::program(&mut self.shipped, object::INTERFACE.watch)?,
            frame,
        )?;
        ensure!(
            self.count(Counter::FlowOpened)? == opened,
            "a packet that was to be ignored opened a connection"
        );
        Ok(took)
    }

    /// What `work` takes with the shipped program behind it, less what it takes with the empty one, plus what
    /// that one takes.
    fn each(
        &mut self,
        empty: f64,
        mut work: impl FnMut(&mut Self, Target) -> Result<f64>,
    ) -> Result<f64> {
        let without = work(self, Target::Empty)?;
        let with = work(self, Target::Shipped)?;
        Ok(with - without + empty)
    }

    /// Nanoseconds of a packet, with the next port each time. The first run has the frame's port plus one.
    fn over_ports(&mut self, target: Target, frame: &[u8]) -> Result<f64> {
        self.aim(target)?;
        let program = classifier(&mut self.bench, "next_port")?;
        timed(program, frame, FLOWS.into())
    }

    /// The same; each ends in an event.
    fn told(&mut self, target: Target, frame: &[u8]) -> Result<f64> {
        while self.events.next().is_some() {}
        let before = self.count(Counter::HandshakeFailed)?;
        let took = self.over_ports(target, frame)?;
        self.counted(target, Counter::HandshakeFailed, before)?;
        let mut told = 0;
        while self.events.next().is_some() {
            told += 1;
        }
        let meant = if target == Target::Shipped { FLOWS } else { 0 };
        ensure!(told == meant, "{meant} events were meant, {told} came");
        Ok(took)
    }

    /// A server's Certificate in one record of many packets, of which every packet but the first is measured.
    fn inside_a_record(&mut self, empty: f64) -> Result<f64> {
        let mut client = self.client();
        client.port += 1;
        self.run(&client.says(SYN, 0, &[]))?;
        self.run(&client.hears(SYN | ACK, 0, 1, &[]))?;
        let hello = self.hello.clone();
        self.run(&client.says(ACK, 1, &hello))?;
        let heard = 1 + hello.len() as u32;
        let answer = server_hello();
        self.run(&client.hears(ACK, 1, heard, &answer))?;
        // Longer than what is kept of it.
        let mut certificate = vec![22, 3, 3, 0x3f, 0xf0, 11, 0, 0x3f, 0xec, 0, 0x3f, 0xe9];
        certificate.extend([0, 0x3f, 0xe6]);
        certificate.resize(1_400, 0x30);
        let at = 1 + answer.len() as u32;
        self.run(&client.hears(ACK, at, heard, &certificate))?;
        // It is advanced before it is run.
        let at = at + certificate.len() as u32 - PIECE as u32;
        let piece = client.hears(ACK, at, heard, &[0x30; PIECE]);
        let strange = [Counter::Duplicate, Counter::Gap, Counter::NotTls];
        let before = self.sum(&strange)?;
        let took = self.each(empty, |stand, target| {
            stand.aim(target)?;
            timed(classifier(&mut stand.bench, "next_bytes")?, &piece, PIECES)
        });
        ensure!(
            self.sum(&strange)? == before,
            "packets inside a record were not followed"
        );
        // Whether it was followed to the end: the alert after it is told.
        let end = at + (PIECES + 1) * PIECE as u32;
        let left = 0x3ff0 + 5 + 1 + answer.len() as u32 - end;
        self.run(&client.hears(ACK, end, heard, &vec![0x30; left as usize]))?;
        let failed = self.count(Counter::HandshakeFailed)?;
        self.run(&client.hears(ACK, end + left, heard, &ALERT))?;
        ensure!(
            self.count(Counter::HandshakeFailed)? == failed + 1,
            "a connection was lost inside a record"
        );
        while self.events.next().is_some() {}
        took
    }

    /// Connections that are under way beside those that are measured.
    pub(crate) fn beside(&mut self, numbers: Range<u32>) -> Result<()> {
        let before = opened(&self.counts)?;
        let wanted = numbers.len() as u64;
        self.one_of_each(numbers, |client| client.says(SYN, 0, &[]))?;
        let opened = opened(&self.counts)? - before;
        ensure!(opened == wanted, "{opened} of {wanted} connections opened");
        Ok(())
    }

    /// Segments of those that come too early, and are kept.
    pub(crate) fn early(&mut self, numbers: Range<u32>) -> Result<()> {
        let unwanted = [Counter::EarlyDropped, Counter::Unreadable];
        let before = (self.count(Counter::Gap)?, self.sum(&unwanted)?);
        let wanted = numbers.len() as u64;
        self.one_of_each(numbers, |client| client.says(ACK, 601, &[0x16; 600]))?;
        let after = (self.count(Counter::Gap)?, self.sum(&unwanted)?);
        ensure!(
            after == (before.0 + wanted, before.1),
            "early segments were not kept"
        );
        Ok(())
    }

    /// One packet of each client with a number in this range.
    fn one_of_each(
        &mut self,
        numbers: Range<u32>,
        frame: impl Fn(Client) -> Vec<u8>,
    ) -> Result<()> {
        self.aim(Target::Shipped)?;
        one_of_each(classifier(&mut self.bench, "next_port")?, numbers, frame)
    }

    /// A client with ports that were not used yet.
    fn client(&mut self) -> Client {
        let port = self.port;
        // Ports up to 60,000, then the first again: by then its connections are over.
        self.port = if port > 60_000 - 2 * FLOWS {
            1_024
        } else {
            port + 2 * FLOWS
        };
        Client {
            address: [10, 0, 0, 1],
            port,
        }
    }

    /// The same, with its connections opened.
    fn opened(&mut self) -> Result<Client> {
        let client = self.client();
        let before = self.count(Counter::FlowOpened)?;
        self.over_ports(Target::Shipped, &client.says(SYN, 0, &[]))?;
        self.counted(Target::Shipped, Counter::FlowOpened, before)?;
        Ok(client)
    }

    /// Ends its connections: a RST each.
    fn forget(&mut self, client: Client) -> Result<()> {
        const RST: u8 = 4;
        let at = 1 + self.hello.len() as u32;
        for at in [at, 1] {
            self.over_ports(Target::Shipped, &client.says(RST | ACK, at, &[]))?;
        }
        while self.events.next().is_some() {}
        Ok(())
    }

    /// Runs the shipped program on one packet.
    fn run(&mut self, frame: &[u8]) -> Result<()> {
        let program = load::program(&mut self.shipped, object::INTERFACE.watch)?;
        timed(program, frame, 1).map(drop)
    }

    fn aim(&mut self, target: Target) -> Result<()> {
        let program: ProgramFd = match target {
            Target::Empty => classifier(&mut self.bench, "empty")?.fd()?.try_clone()?,
            Target::Shipped => {
                load::program::<SchedClassifier>(&mut self.shipped, object::INTERFACE.watch)?
                    .fd()?
                    .try_clone()?
            }
        };
        Ok(self.target.set(0, &program, 0)?)
    }

    fn count(&self, counter: Counter) -> Result<u64> {
        Ok(self.counts.get(&(counter as u32), 0)?.iter().sum())
    }

    fn sum(&self, counters: &[Counter]) -> Result<u64> {
        counters.iter().map(|counter| self.count(*counter)).sum()
    }

    /// The shipped program counted each of the packets, and the empty one none.
    fn counted(&self, target: Target, counter: Counter, before: u64) -> Result<()> {
        let counted = self.count(counter)? - before;
        let meant = if target == Target::Shipped { FLOWS } else { 0 };
        if counted != u64::from(meant) {
            bail!("{}: {meant} were meant, {counted} counted", counter.name());
        }
        Ok(())
    }
}

/// What is behind the program that changes packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Empty,
    Shipped,
}

/// One packet of each client with a number in this range, through the program that goes on to the next port.
pub(crate) fn one_of_each(
    next_port: &SchedClassifier,
    numbers: Range<u32>,
    frame: impl Fn(Client) -> Vec<u8>,
) -> Result<()> {
    let mut next = numbers.start;
    while next < numbers.end {
        let (which, at) = (next / PORTS, next % PORTS);
        let count = (PORTS - at).min(numbers.end - next);
        let client = Client {
            address: [10, 1, (which >> 8) as u8, which as u8],
            port: (FIRST_PORT + at) as u16,
        };
        timed(next_port, &frame(client), count)?;
        next += count;
    }
    Ok(())
}

/// How many connections were opened.
pub(crate) fn opened(counts: &PerCpuArray<MapData, u64>) -> Result<u64> {
    Ok(counts.get(&(Counter::FlowOpened as u32), 0)?.iter().sum())
}

pub(crate) fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier> {
    let program = ebpf.program_mut(name).context("no such program")?;
    Ok(program.try_into()?)
}

/// Nanoseconds of one of many runs on the same packet, by this thread's processor time: the kernel's own figure
/// is in whole nanoseconds. The fastest of some series: others' work can only slow one down.
fn repeated(program: &SchedClassifier, frame: &[u8]) -> Result<f64> {
    const SERIES: u32 = 8;
    const TIMES: u32 = 6_000;
    let mut fastest = f64::INFINITY;
    for _ in 0..SERIES {
        let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        timed(program, frame, TIMES)?;
        let after = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let took = after.num_nanoseconds() - before.num_nanoseconds();
        fastest = fastest.min(took as f64 / f64::from(TIMES));
    }
    Ok(fastest)
}

/// Nanoseconds of one of some runs, by the kernel's figure.
fn timed(program: &SchedClassifier, frame: &[u8], times: u32) -> Result<f64> {
    debug_assert!(frame.len() >= HEADERS - 12);
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.repeat = times;
    let took: Duration = program.test_run(options)?.duration;
    Ok(took.as_nanos() as f64)
}
