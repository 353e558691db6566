//! How costs grow: with the connections that are under way beside, and with the interfaces that are watched.
//!
//! What is beside is idle: it is there to be found, or in the way. A packet of the kernel's costs is measured as
//! [`crate::program`] does, handshakes and streams as [`crate::overhead`] does.

use std::num::NonZeroU32;

use anyhow::{Context as _, Result, ensure};
use gauntlet_probes::load::Settings;
use serde::Serialize;

use crate::pair::{Block, Observer, Pair, Quad, ratio};
use crate::program::Kind;
use crate::progress;
use crate::stand::Stand;
use crate::statistics::{Interval, interval};
use crate::work::Work;

/// Connections under way, or interfaces watched, beside.
const FLOWS: [u32; 3] = [1, 100, 10_000];
const INTERFACES: [u32; 3] = [1, 10, 100];

/// Watched interfaces that a connection passes: a container's, its host's, what is between them. More routers make
/// room for more.
const PASSED: [u32; 4] = [1, 2, 4, 8];
const ROUTERS: usize = 3;

/// Room for all of them, and for those that are measured.
const ROOM: NonZeroU32 = NonZeroU32::new(16_384).unwrap();

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds for each point of a packet's costs.
    pub rounds: usize,
    /// Quads for each point of the others.
    pub quads: usize,
    /// Handshakes in a block.
    pub handshakes: usize,
    /// MiB in a block of a stream.
    pub mib: usize,
}

impl Plan {
    /// Minutes.
    pub const FULL: Self = Self {
        rounds: 51,
        quads: 20,
        handshakes: 80,
        mib: 64,
    };
}

/// Some curves over the same thing.
#[derive(Debug, Clone, Serialize)]
pub struct Growth {
    /// Of what: `A packet in the kernel`.
    pub what: &'static str,
    /// What grows: `connections under way`.
    pub with: &'static str,
    /// What else is to be known.
    pub about: &'static str,
    /// Against what the ratios are.
    pub against: &'static str,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// How one thing's cost grows.
#[derive(Debug, Clone, Serialize)]
pub struct Curve {
    /// What.
    pub what: String,
    /// Smallest first.
    pub points: Vec<Point>,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    /// How many there are.
    pub at: u32,
    /// What it costs then.
    pub ratio: Interval,
}

/// Measures all of it.
///
/// # Errors
/// As what it measures by.
pub fn measure(object: &[u8], plan: Plan) -> Result<Vec<Growth>> {
    let settings = Settings {
        flows: ROOM,
        ..Settings::default()
    };
    Ok(vec![
        packets(object, &settings, plan.rounds).context("packets, by connections")?,
        connections(object, &settings, plan).context("work, by connections")?,
        interfaces(object, &settings, plan).context("work, by interfaces")?,
        passed(object, &settings, plan).context("work, by interfaces on its way")?,
    ])
}

/// A packet's costs in the kernel, each number with programs and maps of its own, which take turns.
fn packets(object: &[u8], settings: &Settings, rounds: usize) -> Result<Growth> {
    const KINDS: [Kind; 4] = [Kind::Bulk, Kind::Syn, Kind::Tracked, Kind::ClientHello];
    let mut stands = Vec::new();
    for flows in FLOWS {
        stands.push(Stand::new(object, settings, flows)?);
    }
    let mut ratios = [const { [const { Vec::new() }; FLOWS.len()] }; KINDS.len()];
    // Once unmeasured.
    for round in 0..=rounds {
        progress::at(round, rounds + 1)?;
        for (of_kind, kind) in ratios.iter_mut().zip(KINDS) {
            for place in 0..FLOWS.len() {
                let which = (place + round) % FLOWS.len();
                let stand = &mut stands[which];
                let empty = stand.empty()?;
                let took = stand.several(kind, empty)?;
                if round > 0 {
                    of_kind[which].push(took / f64::midpoint(empty, stand.empty()?));
                }
            }
        }
    }
    let curves = KINDS.into_iter().zip(ratios);
    Ok(Growth {
        what: "A packet in the kernel",
        with: "connections under way",
        about: "The connections beside are idle.",
        against: "empty programs",
        curves: curves
            .map(|(kind, ratios)| Curve {
                what: kind.what().into(),
                points: points(FLOWS.into_iter().zip(&ratios)),
            })
            .collect(),
    })
}

/// Handshakes and a stream, with more and more connections beside.
fn connections(object: &[u8], settings: &Settings, plan: Plan) -> Result<Growth> {
    let mut pair = Pair::new(object, settings, None)?;
    let works = [
        ("a handshake", Work::Handshakes(plan.handshakes)),
        ("a MiB of a stream", Work::Bulk(plan.mib)),
    ];
    let mut held = 0;
    let mut curves = Vec::new();
    for flows in FLOWS {
        pair.beside(held..flows)?;
        held = flows;
        for (at, (what, work)) in works.into_iter().enumerate() {
            add(
                &mut curves,
                at,
                what,
                (flows, &quads(&mut pair, plan, work)?),
            );
        }
    }
    Ok(Growth {
        what: "Handshakes and streams",
        with: "connections under way",
        about: "The connections beside are idle.",
        against: "times without the probe",
        curves,
    })
}

/// Handshakes, with the probe at more and more interfaces.
fn interfaces(object: &[u8], settings: &Settings, plan: Plan) -> Result<Growth> {
    let mut pair = Pair::new(object, settings, None)?;
    let work = Work::Handshakes(plan.handshakes);
    let mut curves = Vec::new();
    for interfaces in INTERFACES {
        pair.watch_also(interfaces - 1)?;
        let found = quads(&mut pair, plan, work)?;
        add(&mut curves, 0, "a handshake", (interfaces, &found));
    }
    Ok(Growth {
        what: "Handshakes",
        with: "interfaces watched",
        about: "The interfaces beside are idle.",
        against: "times without the probe",
        curves,
    })
}

/// Handshakes along a way of many interfaces, of which more and more are watched: each packet is seen at each.
fn passed(object: &[u8], settings: &Settings, plan: Plan) -> Result<Growth> {
    let mut pair = Pair::through(ROUTERS, object, settings, None)?;
    let work = Work::Handshakes(plan.handshakes);
    let mut curves = Vec::new();
    for interfaces in PASSED {
        pair.watch_of_the_way(interfaces as usize)?;
        let before = pair.followed()?;
        let found = quads(&mut pair, plan, work)?;
        let followed = pair.followed()? - before;
        let were = ((1 + 2 * plan.quads) * plan.handshakes) as u64;
        ensure!(
            followed == were,
            "{were} connections passed {interfaces} interfaces, {followed} were followed"
        );
        add(&mut curves, 0, "a handshake", (interfaces, &found));
    }
    Ok(Growth {
        what: "Handshakes",
        with: "watched interfaces that a connection passes",
        about: "The way has three routers, and so eight interfaces; each packet is seen at each that is watched, \
                and each connection followed once.",
        against: "times without the probe",
        curves,
    })
}

fn quads(pair: &mut Pair, plan: Plan, work: Work) -> Result<Vec<Quad>> {
    // Once unmeasured.
    pair.block(Observer::Probe, work)?;
    (0..plan.quads)
        .map(|round| pair.quad(Observer::Probe, work, round % 2 == 0))
        .collect()
}

/// What of a block is looked at.
type Figure = (&'static str, fn(&Block) -> f64);

/// The next point of two curves: by the clock, and by processor.
fn add(curves: &mut Vec<Curve>, at: usize, what: &str, (count, quads): (u32, &[Quad])) {
    let figures: [Figure; 2] = [
        ("time", |block| block.time),
        ("processor time", |block| block.processor),
    ];
    for (place, (figure, value)) in figures.into_iter().enumerate() {
        let ratios: Vec<f64> = quads.iter().map(|quad| ratio(quad, value)).collect();
        let point = Point {
            at: count,
            ratio: interval(&ratios),
        };
        match curves.get_mut(2 * at + place) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve {
                what: format!("{figure} of {what}"),
                points: vec![point],
            }),
        }
    }
}

fn points<'r>(of: impl Iterator<Item = (u32, &'r Vec<f64>)>) -> Vec<Point> {
    of.map(|(at, ratios)| Point {
        at,
        ratio: interval(ratios),
    })
    .collect()
}
