//! How long an event takes from a BPF program to a reader, how many arrive, and what the reader costs: by each way
//! of delivery, at several rates, against a perf event array and against floors that have no BPF in them.
//!
//! The programs are `ring_*` and `perf_*` of `ebpf/programs/src/bench`, which tell an event with the shipped code
//! (`deliver.rs`); the readers sleep and wake by the shipped rules (`gauntlet_probes::delivery`). A producer on
//! one processor makes an event whenever one is due, each by a system call (BPF_PROG_TEST_RUN); a reader on
//! another takes the time of each. Offered = delivered + lost, or there is no result.

use std::hint::spin_loop;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{MapData, PerCpuArray, PerfEventArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use gauntlet_probes::clock::monotonic;
use gauntlet_probes::delivery::{Delivery, Found, Pace, Reader, SLEEP, Wait};
use gauntlet_probes::object;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::budget::FEWEST;
use crate::frames::udp;
use crate::measurement::Measurement;
use crate::processor::{Class, run_on};
use crate::progress;
use crate::quota::Quota;
use crate::statistics::{Interval, interval};

mod latencies;
pub mod pressed;
mod ratios;
mod records;
pub mod stops;

use latencies::{Figures, Latencies};
pub use pressed::Pressed;
use records::Records;

/// A way from a program to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Ring buffer, `--delivery latency`.
    Latency,
    /// Ring buffer, `--delivery balanced`.
    Balanced,
    /// Ring buffer, `--delivery quiet`.
    Quiet,
    /// Ring buffer, woken by the kernel's own policy: whenever the reader has read all there was.
    Adaptive,
    /// Perf event array, woken by each event.
    Perf,
    /// Floor: a word in memory, and a reader that looks at nothing else.
    SpinEcho,
    /// Floor: an eventfd, and a reader that sleeps on it.
    EventFd,
    /// Floor: a ring of records in memory, and a reader that looks at nothing else.
    RingEcho,
}

impl Way {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Latency,
        Self::Balanced,
        Self::Quiet,
        Self::Adaptive,
        Self::Perf,
        Self::SpinEcho,
        Self::RingEcho,
        Self::EventFd,
    ];

    /// Those with a BPF program.
    pub(crate) const PROGRAMS: [Self; 5] = [
        Self::Latency,
        Self::Balanced,
        Self::Quiet,
        Self::Adaptive,
        Self::Perf,
    ];

    /// The word in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Latency => "ring, latency",
            Self::Balanced => "ring, balanced",
            Self::Quiet => "ring, quiet",
            Self::Adaptive => "ring, adaptive",
            Self::Perf => "perf array",
            Self::SpinEcho => "floor: spin echo",
            Self::EventFd => "floor: eventfd",
            Self::RingEcho => "floor: bare ring",
        }
    }

    const fn program(self, bytes: u32) -> Option<&'static str> {
        match (self, bytes) {
            (Self::SpinEcho | Self::EventFd | Self::RingEcho, _) => None,
            (Self::Perf, 128) => Some("perf_128"),
            (Self::Perf, _) => Some("perf_512"),
            (_, 128) => Some("ring_128"),
            _ => Some("ring_512"),
        }
    }

    /// Whether it has one word of memory: what comes before the last was read is no event of its own.
    const fn is_word(self) -> bool {
        matches!(self, Self::SpinEcho | Self::EventFd)
    }

    const fn delivery(self) -> Option<Delivery> {
        match self {
            Self::Latency => Some(Delivery::Latency),
            Self::Balanced => Some(Delivery::Balanced),
            Self::Quiet => Some(Delivery::Quiet),
            _ => None,
        }
    }
}

/// Events a second; `None`: as many as can be made.
pub type Rate = Option<u32>;

/// The rates that budgets are for.
const LOW: Rate = Some(1_000);
const HIGH: Rate = Some(200_000);

/// What budgets are for, 128 bytes each: a run of these has as many events as a plan wants at least, and they are measured
/// on where something cannot be told.
const BUDGETED: [(Way, Rate); 7] = [
    (Way::Latency, LOW),
    (Way::EventFd, LOW),
    (Way::Latency, HIGH),
    (Way::Balanced, HIGH),
    (Way::Quiet, HIGH),
    (Way::Perf, HIGH),
    (Way::SpinEcho, HIGH),
];
const BUDGETED_BYTES: u32 = 128;
/// Where something cannot be told, so many times a plan's rounds.
const MORE: usize = 3;

/// So long that at the high rate more comes than there is room for: whoever does not read, loses.
const LONG_ENOUGH: Duration = Duration::from_millis(250);

/// `50000`, or `max`.
#[must_use]
pub fn rate_word(rate: Rate) -> String {
    rate.map_or_else(|| "max".into(), |rate| rate.to_string())
}

/// What is measured: each way at each rate with each size, in each round once.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// How long one run is at least.
    pub time: Duration,
    /// How many events a run has at least that a budget is for.
    pub events: u32,
    /// Rates.
    pub rates: &'static [Rate],
    /// Sizes, bytes: 128 or 512.
    pub sizes: &'static [u32],
    /// Ways. What is held against a way that is not among them has no figure.
    pub ways: &'static [Way],
    /// Whether a round counts only if the machine let it, where that matters ([`stops`]).
    pub looks: bool,
}

impl Plan {
    /// Seconds.
    pub const QUICK: Self = Self {
        rounds: 7,
        time: LONG_ENOUGH,
        events: 200,
        rates: &[LOW, HIGH],
        sizes: &[128],
        ways: &Way::ALL,
        looks: true,
    };
    /// The least that says anything, for a machine that is emulated: what stops its processors is of no use to know.
    pub const LEAST: Self = Self {
        rounds: FEWEST,
        looks: false,
        ..Self::QUICK
    };
    /// Some minutes.
    pub const FULL: Self = Self {
        rounds: 9,
        time: LONG_ENOUGH,
        events: 1_000,
        rates: &[LOW, Some(10_000), Some(50_000), HIGH, None],
        sizes: &[128, 512],
        ways: &Way::ALL,
        looks: true,
    };

    fn time_of(&self, way: Way, rate: Rate, bytes: u32) -> Duration {
        let least = rate
            .filter(|_| is_budgeted(way, rate, bytes))
            .map(|rate| Duration::from_secs(1) * self.events / rate);
        self.time.max(least.unwrap_or_default())
    }
}

/// Whether it is a matter of microseconds, which a machine that stops a reader while events are made takes away.
fn is_delicate(way: Way, rate: Rate, bytes: u32) -> bool {
    way == Way::Latency && rate == HIGH && bytes == BUDGETED_BYTES
}

fn is_budgeted(way: Way, rate: Rate, bytes: u32) -> bool {
    bytes == BUDGETED_BYTES && BUDGETED.contains(&(way, rate))
}

/// A way at a rate: medians over rounds, microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which way.
    pub way: Way,
    /// How long an event is, bytes.
    pub bytes: u32,
    /// How many were to be made a second; none: as many as can be.
    pub rate: Rate,
    /// How many were made a second.
    pub made: f64,
    /// All that were made.
    pub offered: u64,
    /// All that arrived. A floor has one word of memory: what comes before the last was read is no event of its own.
    pub delivered: u64,
    /// All that found no room.
    pub lost: u64,
    /// Half of the events take less.
    pub p50: Interval,
    /// 99 of 100 do.
    pub p99: Interval,
    /// 999 of 1,000 do.
    pub p999: Interval,
    /// All do.
    pub max: Interval,
    /// The p99 of the median moment: what a processor's interruptions leave of it. Of all rounds, whether they count for a
    /// budget or not.
    pub moment: Interval,
    /// The reader's share of a processor.
    pub processor: Interval,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Delivered {
    /// The scheduling class of both ends.
    pub class: Class,
    /// Around each run that is a matter of microseconds.
    pub stops: Vec<Looked>,
    /// Every way at every rate.
    pub rows: Vec<Row>,
}

/// For how long in the median millisecond the machine stopped the reader and not the producer, us.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Around {
    /// Just before a run.
    pub before: f64,
    /// Just after it.
    pub after: f64,
}

/// Whether a run counts, and what it came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Looked {
    /// From 0 on.
    pub round: usize,
    /// Which way's.
    pub way: Way,
    /// What the machine did.
    #[serde(flatten)]
    pub around: Around,
    /// The p99 of the median moment, us.
    pub moment: f64,
    /// Whether it counts.
    pub counts: bool,
}

/// What a run is to be.
#[derive(Debug, Clone, Copy)]
struct Asked {
    way: Way,
    rate: Rate,
    bytes: u32,
    time: Duration,
    manner: Manner,
}

impl Asked {
    /// Whoever had to wait for these two processors has them now.
    fn rest(&self) {
        thread::sleep(self.time / 4);
    }
}

/// One run.
struct Run {
    way: Way,
    bytes: u32,
    rate: Rate,
    offered: u64,
    delivered: u64,
    lost: u64,
    made: f64,
    took: Figures,
    processor: f64,
    /// None where nobody looked.
    stops: Option<Around>,
}

impl Run {
    /// Whether it says something of its way, and not of the machine alone.
    fn counts(&self) -> bool {
        self.stops
            .is_none_or(|stops| stops.before.max(stops.after) <= stops::MOST)
    }
}

/// What readers do; all but the first is what measurements are shown to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As they should.
    Sound,
    /// They never say that they are awake, so that the kernel wakes them by its own policy.
    Mute,
    /// They do not look before no event will come any more.
    Late,
    /// They are awake so long, and then do nothing for so long.
    Dozing(Duration, Duration),
}

/// Measures all ways, again and again.
pub struct Session {
    stand: Stand,
    plan: Plan,
    manner: Manner,
    /// By round.
    runs: Vec<Vec<Run>>,
}

impl Session {
    /// By a plan.
    ///
    /// # Errors
    /// When the programs cannot be loaded.
    pub fn new(plan: Plan, manner: Manner) -> Result<Self> {
        Ok(Self {
            stand: Stand::new()?,
            plan,
            manner,
            runs: Vec::new(),
        })
    }

    /// The plan's rounds; when asked again, more of them, of what budgets are for.
    ///
    /// # Errors
    /// When programs cannot be run, or events are neither delivered nor lost.
    pub fn measure(&mut self) -> Result<Vec<Measurement>> {
        let again = !self.runs.is_empty();
        let rounds = self.plan.rounds * if again { MORE } else { 1 };
        // Once unmeasured.
        for round in 0..=rounds {
            progress::at(round, rounds + 1)?;
            let these = self.round(round, again)?;
            if round > 0 {
                self.runs.push(these);
            }
        }
        Ok(ratios::measurements(&self.runs))
    }

    /// All that was measured.
    #[must_use]
    pub fn delivered(&self) -> Delivered {
        Delivered {
            class: self.stand.class,
            stops: looked(&self.runs),
            rows: rows(&self.runs),
        }
    }

    fn round(&mut self, round: usize, budgeted: bool) -> Result<Vec<Run>> {
        let plan = self.plan;
        let mut runs = Vec::new();
        for &rate in plan.rates {
            for &bytes in plan.sizes {
                // Each has each place in the order once in a while.
                for place in 0..plan.ways.len() {
                    let way = plan.ways[(place + round) % plan.ways.len()];
                    if way.is_word() && bytes != plan.sizes[0]
                        || budgeted && !is_budgeted(way, rate, bytes)
                    {
                        continue;
                    }
                    let asked = Asked {
                        way,
                        rate,
                        bytes,
                        time: plan.time_of(way, rate, bytes),
                        manner: self.manner,
                    };
                    let class = self.stand.class;
                    runs.push(if plan.looks && is_delicate(way, rate, bytes) {
                        self.stand.delicate(asked, class)?
                    } else {
                        self.stand.run(asked, class, None)?
                    });
                }
            }
        }
        Ok(runs)
    }
}

/// What a run comes to, in one figure.
type Figure = fn(&Run) -> f64;

fn looked(runs: &[Vec<Run>]) -> Vec<Looked> {
    let of = |(round, run): (usize, &Run)| {
        run.stops.map(|around| Looked {
            round,
            way: run.way,
            around,
            moment: run.took.moment,
            counts: run.counts(),
        })
    };
    let rounds = runs.iter().enumerate();
    rounds
        .flat_map(|(round, runs)| runs.iter().filter_map(move |run| of((round, run))))
        .collect()
}

fn rows(runs: &[Vec<Run>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for first in runs.first().into_iter().flatten() {
        let same =
            |run: &&Run| (run.way, run.rate, run.bytes) == (first.way, first.rate, first.bytes);
        let these: Vec<&Run> = runs.iter().flatten().filter(same).collect();
        let of = |value: Figure| interval(&these.iter().map(|run| value(run)).collect::<Vec<_>>());
        let sum = |value: fn(&Run) -> u64| these.iter().map(|run| value(run)).sum();
        rows.push(Row {
            way: first.way,
            bytes: first.bytes,
            rate: first.rate,
            made: of(|run| run.made).median,
            offered: sum(|run| run.offered),
            delivered: sum(|run| run.delivered),
            lost: sum(|run| run.lost),
            p50: of(|run| run.took.p50),
            p99: of(|run| run.took.p99),
            p999: of(|run| run.took.p999),
            max: of(|run| run.took.max),
            moment: of(|run| run.took.moment),
            processor: of(|run| run.processor),
        });
    }
    rows.sort_by_key(|row| {
        let way = Way::ALL.iter().position(|way| *way == row.way);
        (row.rate.unwrap_or(u32::MAX), row.bytes, way)
    });
    rows
}

/// The programs, their buffers, and both processors.
struct Stand {
    bench: Ebpf,
    ring: RingBuf<MapData>,
    perf: Vec<PerfEventArrayBuffer<MapData>>,
    lost: PerCpuArray<MapData, u64>,
    reader: Reader,
    latencies: Latencies,
    class: Class,
    /// Where the reader runs, and where the producer does.
    processors: [usize; 2],
}

/// As large as the shipped ring buffer is, where nothing else is said.
const RING_BYTES: u32 = 4 << 20;
/// Pages of each processor's perf buffer: 1 MiB.
const PERF_PAGES: usize = 256;

/// More than twice what a run at the high rate makes; at no bound there may be more.
const EVENTS: usize = 1 << 17;

impl Stand {
    fn new() -> Result<Self> {
        let processors = thread::available_parallelism()?.get();
        ensure!(
            processors > 1,
            "one processor: a reader beside its producer cannot be measured"
        );
        let mut bench = EbpfLoader::new()
            .map_max_entries("RING", RING_BYTES)
            .load(object::BENCH)?;
        for way in Way::ALL {
            for bytes in [128, 512] {
                if let Some(name) = way.program(bytes) {
                    let program = classifier(&mut bench, name)?;
                    if program.fd().is_err() {
                        program.load().with_context(|| name.to_owned())?;
                    }
                }
            }
        }
        let map = |bench: &mut Ebpf, name| bench.take_map(name).context(name);
        let mut perf: PerfEventArray<_> = map(&mut bench, "PERF")?.try_into()?;
        let mut buffers = Vec::new();
        for cpu in 0..processors {
            buffers.push(perf.open(u32::try_from(cpu)?, Some(PERF_PAGES))?);
        }
        Ok(Self {
            ring: map(&mut bench, "RING")?.try_into()?,
            lost: map(&mut bench, "LOST")?.try_into()?,
            reader: Reader::new(&map(&mut bench, object::READER)?)?,
            perf: buffers,
            latencies: Latencies::new(EVENTS),
            bench,
            class: Class::highest(),
            processors: [0, processors - 1],
        })
    }

    /// One run, with a reader of that class, and under a quota if there is one.
    fn run(&mut self, asked: Asked, class: Class, quota: Option<&Quota>) -> Result<Run> {
        progress::ongoing()?;
        let what = || format!("{} at {}/s", asked.way.word(), rate_word(asked.rate));
        let run = self.once(asked, class, quota).with_context(what)?;
        asked.rest();
        Ok(run)
    }

    /// The same, and whether it counts.
    fn delicate(&mut self, asked: Asked, class: Class) -> Result<Run> {
        progress::ongoing()?;
        let before = stops::quiet(self.processors, class)?;
        let run = self.once(asked, class, None)?;
        let after = stops::alone(self.processors, class)?;
        asked.rest();
        Ok(Run {
            stops: Some(Around { before, after }),
            ..run
        })
    }

    fn once(&mut self, asked: Asked, class: Class, quota: Option<&Quota>) -> Result<Run> {
        let Asked {
            way, rate, bytes, ..
        } = asked;
        let before = self.losses()?;
        self.reader.silent();
        let program = match way.program(bytes) {
            Some(name) => Some(&*classifier(&mut self.bench, name)?),
            None => None,
        };
        let link = Link {
            word: AtomicU64::new(0),
            bell: EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK)?,
            records: Records::new(if way == Way::RingEcho { bytes } else { 8 }),
            over: AtomicBool::new(false),
            end: EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK)?,
        };
        let (ring, perf, reader) = (&mut self.ring, &mut self.perf, &self.reader);
        let latencies = &mut self.latencies;
        latencies.clear();
        let (makers, [here, there]) = (self.class, self.processors);
        let (processor, made) = thread::scope(|scope| {
            let link = &link;
            let reading = scope.spawn(move || {
                run_on(here, class)?;
                quota.map_or(Ok(()), Quota::enter)?;
                let start = (Instant::now(), spent()?);
                match way {
                    Way::Perf => read_perf(perf, link, latencies)?,
                    Way::SpinEcho | Way::EventFd => echo(way, link, latencies)?,
                    Way::RingEcho => read_records(link, latencies),
                    _ => {
                        if asked.manner == Manner::Late {
                            link.until_over()?;
                        }
                        read_ring(ring, reader, asked, link, latencies)?;
                    }
                }
                let share = (spent()? - start.1).as_secs_f64() / start.0.elapsed().as_secs_f64();
                anyhow::Ok(share)
            });
            let making = scope.spawn(move || {
                let made = run_on(there, makers).and_then(|()| produce(asked, program, link));
                link.over.store(true, Ordering::Release);
                link.end.write(1)?;
                made
            });
            let made = making
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let read = reading
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            anyhow::Ok((read?, made?))
        })?;
        let Made {
            offered,
            no_room,
            took,
        } = made;
        let delivered = self.latencies.len() as u64;
        let lost = self.losses()? - before + no_room;
        ensure!(
            way.is_word() || offered == delivered + lost,
            "{offered} events offered, {delivered} delivered, {lost} lost"
        );
        Ok(Run {
            way,
            bytes,
            rate,
            offered,
            delivered,
            lost,
            made: offered as f64 / took.as_secs_f64(),
            took: self.latencies.figures(rate),
            processor,
            stops: None,
        })
    }

    fn losses(&self) -> Result<u64> {
        Ok(self.lost.get(&0, 0)?.iter().sum())
    }
}

/// What both ends share.
struct Link {
    /// An echo's event: when it was made.
    word: AtomicU64,
    /// Rings for it.
    bell: EventFd,
    /// The events of a bare ring.
    records: Records,
    /// No event will be made any more.
    over: AtomicBool,
    /// Wakes a reader for that.
    end: EventFd,
}

impl Link {
    /// Sleeps until no event will be made any more.
    fn until_over(&self) -> Result<()> {
        while !self.over.load(Ordering::Acquire) {
            wait([], self)?;
        }
        Ok(())
    }
}

/// What a producer did.
struct Made {
    offered: u64,
    /// Of those, what a bare ring had no room for. What BPF's had none for, its program counts.
    no_room: u64,
    took: Duration,
}

/// Makes events whenever one is due.
fn produce(asked: Asked, program: Option<&SchedClassifier>, link: &Link) -> Result<Made> {
    let Asked {
        way, rate, time, ..
    } = asked;
    let frame = udp(&[0; 64]);
    let start = Instant::now();
    let (mut offered, mut no_room) = (0, 0);
    // A producer that is late goes on for a while; one that makes as many as can be is never late.
    let last = rate.map_or(time, |_| 2 * time);
    loop {
        let due = rate.map_or(Duration::ZERO, |rate| {
            Duration::from_nanos(offered * 1_000_000_000 / u64::from(rate))
        });
        if due >= time || start.elapsed() >= last {
            return Ok(Made {
                offered,
                no_room,
                took: start.elapsed(),
            });
        }
        while start.elapsed() < due {
            spin_loop();
        }
        match (program, way) {
            (Some(program), _) => {
                let mut options = TestRunOptions::new();
                options.data_in = Some(&frame);
                program.test_run(options)?;
            }
            (None, Way::RingEcho) => no_room += u64::from(!link.records.put(monotonic())),
            (None, _) => {
                link.word.store(monotonic(), Ordering::Release);
                if way == Way::EventFd {
                    link.bell.write(1)?;
                }
            }
        }
        offered += 1;
    }
}

fn read_ring(
    ring: &mut RingBuf<MapData>,
    reader: &Reader,
    Asked { way, manner, .. }: Asked,
    link: &Link,
    latencies: &mut Latencies,
) -> Result<()> {
    let mut pace = way.delivery().map(Pace::new);
    let says = |what: fn(&Reader)| {
        if manner != Manner::Mute {
            what(reader);
        }
    };
    let mut awake = Instant::now();
    loop {
        if let Manner::Dozing(after, time) = manner
            && awake.elapsed() >= after
        {
            thread::sleep(time);
            awake = Instant::now();
        }
        let over = link.over.load(Ordering::Acquire);
        let mut found = Found::Nothing;
        while let Some(event) = ring.next() {
            latencies.seen(made(event.first_chunk().copied()));
            found = Found::All;
        }
        if over && found == Found::Nothing {
            return Ok(());
        }
        match pace.as_mut().map(|pace| pace.next(found, Instant::now())) {
            Some(Wait::Not) => {
                says(Reader::wakes);
                spin_loop();
            }
            Some(Wait::Pause(time)) => {
                says(Reader::wakes);
                thread::sleep(time);
            }
            Some(Wait::Sleep) => {
                says(Reader::sleeps);
                wait([ring.as_fd()], link)?;
                says(Reader::wakes);
            }
            None => wait([ring.as_fd()], link)?,
        }
    }
}

fn read_perf(
    buffers: &mut [PerfEventArrayBuffer<MapData>],
    link: &Link,
    latencies: &mut Latencies,
) -> Result<()> {
    loop {
        let over = link.over.load(Ordering::Acquire);
        let before = latencies.len();
        for buffer in &mut *buffers {
            buffer.for_each(|event| {
                if let PerfEvent::Sample { head, tail } = event {
                    let mut bytes = head.iter().chain(tail).copied();
                    let time = std::array::from_fn(|_| bytes.next().unwrap_or_default());
                    latencies.seen(made(Some(time)));
                }
            });
        }
        if over && latencies.len() == before {
            return Ok(());
        }
        if latencies.len() == before {
            wait(buffers.iter().map(|buffer| buffer.as_fd()), link)?;
        }
    }
}

/// Reads a word, spinning or woken by an eventfd.
fn echo(way: Way, link: &Link, latencies: &mut Latencies) -> Result<()> {
    let mut last = 0;
    loop {
        let over = link.over.load(Ordering::Acquire);
        let made = link.word.load(Ordering::Acquire);
        if made != last {
            latencies.seen(made);
            last = made;
        } else if over {
            return Ok(());
        } else if way == Way::EventFd {
            wait([link.bell.as_fd()], link)?;
            let _none_yet = link.bell.read();
        } else {
            spin_loop();
        }
    }
}

/// Reads records, spinning.
fn read_records(link: &Link, latencies: &mut Latencies) {
    loop {
        let over = link.over.load(Ordering::Acquire);
        if let Some(made) = link.records.take() {
            latencies.seen(made);
        } else if over {
            return;
        } else {
            spin_loop();
        }
    }
}

/// Sleeps until one of these has something, the run is over, or the longest sleep is.
fn wait<'f>(on: impl IntoIterator<Item = BorrowedFd<'f>>, link: &'f Link) -> Result<()> {
    let mut waiting: Vec<_> = on
        .into_iter()
        .chain([link.end.as_fd()])
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    poll(&mut waiting, PollTimeout::try_from(SLEEP)?)?;
    Ok(())
}

/// When an event was made, which its first eight bytes say.
fn made(time: Option<[u8; 8]>) -> u64 {
    u64::from_ne_bytes(time.unwrap_or_default())
}

/// What this thread has used of a processor.
fn spent() -> Result<Duration> {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from_nanos(u64::try_from(
        spent.num_nanoseconds(),
    )?))
}

fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier> {
    let program = ebpf.program_mut(name).context("no such program")?;
    Ok(program.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_a_budget_is_for_has_events_enough() {
        let time = |plan: Plan, way, rate| plan.time_of(way, rate, BUDGETED_BYTES);
        let long = Duration::from_secs(1);
        assert_eq!(time(Plan::FULL, Way::Latency, LOW), long);
        assert_eq!(time(Plan::FULL, Way::Latency, HIGH), LONG_ENOUGH);
        assert_eq!(time(Plan::FULL, Way::Quiet, LOW), LONG_ENOUGH);
        assert_eq!(time(Plan::FULL, Way::Latency, None), LONG_ENOUGH);
        assert_eq!(time(Plan::QUICK, Way::Latency, LOW), LONG_ENOUGH);
    }
}
