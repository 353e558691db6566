//! What a probe costs those whom it watches: handshakes and a stream of bytes between two network namespaces,
//! with and without an observer at the client's interface.
//!
//! Plain runs one after the other show nothing here, so blocks are paired (`pair`); the same observer
//! against itself is measured as well, and says how much the others' figures are worth.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use gauntlet_probes::load::Settings;

use crate::budget::FEWEST;
use crate::measurement::{Measurement, noise};
use crate::pair::{Block, Observer, Pair, Quad, ratio};
use crate::progress;
use crate::report::NotMeasured;
use crate::work::Work;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Quads of blocks for each observer.
    pub quads: usize,
    /// The same for one that is a process, and has to be started for each block; none: it is left out.
    pub of_processes: usize,
    /// Handshakes in a block.
    pub handshakes: usize,
    /// MiB in a block of a stream; none: there are no streams.
    pub mib: usize,
}

impl Plan {
    /// Seconds.
    pub const QUICK: Self = Self {
        quads: 7,
        of_processes: 0,
        handshakes: 40,
        mib: 0,
    };
    /// The least that says anything, for a machine that is emulated.
    pub const LEAST: Self = Self {
        quads: FEWEST,
        handshakes: 8,
        ..Self::QUICK
    };
    /// Some minutes.
    ///
    /// Blocks of 0.3 s: in such of 50 ms the shipped program cost 5 to 7 %, in these 3 to 4 % on the same machine;
    /// and most of the blocks of an observer that sleeps showed that it uses nothing.
    pub const FULL: Self = Self {
        quads: 12,
        of_processes: 6,
        handshakes: 480,
        mib: 512,
    };
}

/// An observer, and its quads.
type Observed = (Observer, Vec<Quad>);

/// The shipped program where packets pass it, by the kernel's own count, block by block.
#[derive(Default)]
struct InPlace {
    /// Of a packet, ns.
    packet: Vec<f64>,
    /// Of a packet, in an empty program's.
    of_empty: Vec<f64>,
    /// Of a handshake, us.
    handshake: Vec<f64>,
    /// Of a handshake, in the time that it takes.
    share: Vec<f64>,
}

/// Measures all observers, again and again.
pub struct Session {
    pair: Pair,
    plan: Plan,
    handshakes: Vec<Observed>,
    bulk: Vec<Observed>,
    in_place: InPlace,
    missing: Vec<NotMeasured>,
    measured: bool,
}

impl Session {
    /// With an object that has the shipped programs and maps; `watch`: the shipped command, if it is there.
    ///
    /// # Errors
    /// When namespaces cannot be made, or programs not be loaded.
    pub fn new(object: &[u8], plan: Plan, watch: Option<PathBuf>) -> Result<Self> {
        let mut observers = vec![
            Observer::None,
            Observer::Empty,
            Observer::Probe,
            Observer::Tap,
        ];
        let mut pair = Pair::new(object, &Settings::default(), watch)?;
        // Once unmeasured.
        pair.block(Observer::None, Work::Handshakes(plan.handshakes))?;
        let mut missing = Vec::new();
        for observer in [Observer::Watch, Observer::Tcpdump, Observer::Tshark] {
            let why = if plan.of_processes == 0 {
                "only in a full run".into()
            } else if !pair.has(observer) {
                "not installed".into()
            } else {
                match pair.block(observer, Work::Handshakes(1)) {
                    Ok(_) => {
                        observers.push(observer);
                        continue;
                    }
                    Err(error) if observer == Observer::Watch => return Err(error),
                    // Another's program has reasons of its own.
                    Err(error) => format!("{error:#}"),
                }
            };
            missing.push(NotMeasured::new(observer.what(), &why));
        }
        if plan.mib == 0 {
            missing.push(NotMeasured::new("bulk streams", "only in a full run"));
        }
        let fresh =
            |observers: &[Observer]| observers.iter().map(|one| (*one, Vec::new())).collect();
        Ok(Self {
            handshakes: fresh(&observers),
            bulk: fresh(if plan.mib == 0 { &[] } else { &observers }),
            pair,
            plan,
            in_place: InPlace::default(),
            missing,
            measured: false,
        })
    }

    /// What is not measured, and why.
    #[must_use]
    pub fn missing(&self) -> &[NotMeasured] {
        &self.missing
    }

    /// The plan's quads once more.
    ///
    /// # Errors
    /// When handshakes fail, or an observer cannot be had.
    pub fn measure(&mut self) -> Result<Vec<Measurement>> {
        let mut plan = self.plan;
        let handshakes = Work::Handshakes(plan.handshakes);
        if self.measured {
            // What is measured on are budgets, of which streams and processes have none that is close.
            plan.of_processes = 0;
        } else {
            quads(&mut self.pair, plan, Work::Bulk(plan.mib), &mut self.bulk)?;
        }
        quads(&mut self.pair, plan, handshakes, &mut self.handshakes)?;
        self.measured = true;
        in_place(&mut self.pair, self.plan, &mut self.in_place)?;
        let mut all = Vec::new();
        for (work, one, observed) in [
            ("handshakes", "a handshake", &self.handshakes),
            ("bulk", "a MiB of a stream", &self.bulk),
        ] {
            let what = format!("time of {one}");
            all.extend(of(observed, (work, "time"), &what, |block| block.time));
            let what = format!("processor time of {one}, both ends");
            let processor = |block: &Block| block.processor;
            all.extend(of(observed, (work, "processor"), &what, processor));
            all.extend(half_of_tap(observed, work, one));
            all.extend(of_tshark(observed, work, one));
        }
        all.extend(self.in_place.measurements());
        Ok(all)
    }
}

fn quads(pair: &mut Pair, plan: Plan, work: Work, observed: &mut [Observed]) -> Result<()> {
    for round in 0..plan.quads {
        progress::at(round, plan.quads)?;
        for place in 0..observed.len() {
            let which = (place + round) % observed.len();
            let (with, quads) = &mut observed[which];
            if !with.is_process() || round < plan.of_processes {
                quads.push(pair.quad(*with, work, round % 2 == 0)?);
            }
        }
    }
    Ok(())
}

/// One figure of all observers.
fn of(
    observed: &[Observed],
    (work, figure): (&str, &str),
    what: &str,
    value: fn(&Block) -> f64,
) -> Vec<Measurement> {
    let ratios =
        |quads: &[Quad]| -> Vec<f64> { quads.iter().map(|quad| ratio(quad, value)).collect() };
    let control = observed.iter().find(|(one, _)| *one == Observer::None);
    let noise = control.map(|(_, quads)| noise(&ratios(quads)));
    let measurement = |(observer, quads): &Observed| {
        Measurement::new(
            format!("{work}.{figure}.{}", observer.name()),
            format!("{what}, with {}", observer.what()),
            "nothing",
            (quads.iter().map(|quad| value(&quad[1])).collect(), "us"),
            ratios(quads),
            noise.filter(|_| *observer != Observer::None),
        )
    };
    observed.iter().map(measurement).collect()
}

/// The time with the probe, in what it is halfway from nothing to a tap: 1 is the probe that takes half of what a tap
/// takes. No ratio of what both take, which are small differences of large figures.
fn half_of_tap(observed: &[Observed], work: &str, one: &str) -> Option<Measurement> {
    let of = |wanted| observed.iter().find(|(observer, _)| *observer == wanted);
    let (_, probe) = of(Observer::Probe)?;
    let (_, tap) = of(Observer::Tap)?;
    let time = |block: &Block| block.time;
    let ratios = probe.iter().zip(tap).map(|(probe, tap)| {
        let halfway = f64::midpoint(1.0, ratio(tap, time));
        ratio(probe, time) / halfway
    });
    let (_, control) = of(Observer::None)?;
    let control: Vec<f64> = control.iter().map(|quad| ratio(quad, time)).collect();
    Some(Measurement::new(
        format!("{work}.time.half_of_tap"),
        format!("time of {one}, with {}", Observer::Probe.what()),
        "halfway from nothing to a tap",
        (probe.iter().map(|quad| quad[1].time).collect(), "us"),
        ratios.collect(),
        Some(noise(&control)),
    ))
}

/// What the observers' own processes use, in what tshark's do.
fn of_tshark(observed: &[Observed], work: &str, one: &str) -> Vec<Measurement> {
    let used = |quads: &[Quad]| -> Vec<f64> {
        let both = |quad: &Quad| f64::midpoint(quad[1].observer, quad[2].observer);
        quads.iter().map(both).collect()
    };
    let tshark = observed.iter().find(|(one, _)| *one == Observer::Tshark);
    let Some(tshark) = tshark.map(|(_, quads)| used(quads)) else {
        return Vec::new();
    };
    let others = observed.iter().filter(|(one, _)| one.is_process());
    let measurement = |(observer, quads): &Observed| {
        let used = used(quads);
        let ratios = used.iter().zip(&tshark).map(|(ours, theirs)| ours / theirs);
        Measurement::new(
            format!("{work}.observer.{}", observer.name()),
            format!("{}: its own processor time for {one}", observer.what()),
            "tshark's",
            (used.clone(), "us"),
            ratios.collect(),
            None,
        )
    };
    others.map(measurement).collect()
}

/// The shipped program in place and an empty one, in turns, over the packets of handshakes: with cold caches, and with
/// what the kernel's own counting costs in both.
fn in_place(pair: &mut Pair, plan: Plan, measured: &mut InPlace) -> Result<()> {
    let _counting = aya::sys::enable_stats(aya::sys::Stats::RunTime)?;
    for _ in 0..plan.quads {
        let [empty, probe] = [Observer::Empty, Observer::Probe].map(|observer| {
            let before = pair.ran(observer)?;
            let block = pair.block(observer, Work::Handshakes(plan.handshakes))?;
            let after = pair.ran(observer)?;
            let runs = after.1 - before.1;
            ensure!(runs > 0, "no packet passed {}", observer.what());
            let ran = (after.0 - before.0).as_nanos() as f64;
            Ok((ran / runs as f64, ran / 1e3 / plan.handshakes as f64, block))
        });
        let ((empty, ..), (packet, handshake, block)) = (empty?, probe?);
        measured.packet.push(packet);
        measured.of_empty.push(packet / empty);
        measured.handshake.push(handshake);
        measured.share.push(handshake / block.time);
    }
    Ok(())
}

impl InPlace {
    fn measurements(&self) -> [Measurement; 2] {
        [
            Measurement::new(
                "program.in_place",
                "a packet of a handshake, in place",
                "an empty program in place",
                (self.packet.clone(), "ns"),
                self.of_empty.clone(),
                None,
            ),
            Measurement::new(
                "handshakes.program",
                "all packets of a handshake, in place",
                "the time of the handshake",
                (self.handshake.clone(), "us"),
                self.share.clone(),
                None,
            ),
        ]
    }
}
