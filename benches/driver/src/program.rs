//! What the shipped program costs a packet, by kind, as multiples of a program that does nothing, measured right
//! before and after. How a packet is measured is `stand`'s.

use anyhow::Result;
use gauntlet_probes::load::Settings;

use crate::measurement::{Measurement, noise};
use crate::progress;
use crate::stand::{BESIDE, Stand};

/// The kinds of packets, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Floor,
    NonTcp,
    Bulk,
    Ack,
    Syn,
    Tracked,
    ClientHello,
    AlertEvent,
    ClientHelloEvent,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Floor,
        Self::NonTcp,
        Self::Bulk,
        Self::Ack,
        Self::Syn,
        Self::Tracked,
        Self::ClientHello,
        Self::AlertEvent,
        Self::ClientHelloEvent,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "program.floor",
            Self::NonTcp => "program.non_tcp",
            Self::Bulk => "program.bulk",
            Self::Ack => "program.ack",
            Self::Syn => "program.syn",
            Self::Tracked => "program.tracked",
            Self::ClientHello => "program.client_hello",
            Self::AlertEvent => "program.alert_event",
            Self::ClientHelloEvent => "program.client_hello_event",
        }
    }

    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Floor => "no packet at all: an entry in a table is found, and the time taken",
            Self::NonTcp => "UDP packet",
            Self::Bulk => "data of a connection that is not followed",
            Self::Ack => "bare acknowledgement",
            Self::Syn => "SYN: a connection is remembered",
            Self::Tracked => "packet inside a record of a handshake",
            Self::ClientHello => "ClientHello (rustls)",
            Self::AlertEvent => "alert, and the event",
            Self::ClientHelloEvent => "ClientHello and alert in one packet, and the event",
        }
    }
}

/// Measures all kinds, again and again.
pub struct Session<'a> {
    object: &'a [u8],
    settings: &'a Settings,
    loads: usize,
    control: Vec<f64>,
    /// By kind.
    ratios: [Vec<f64>; Kind::ALL.len()],
    values: [Vec<f64>; Kind::ALL.len()],
}

impl<'a> Session<'a> {
    /// With an object that has the shipped programs and maps, which is loaded so many times for each measurement:
    /// where code comes to lie is worth some percent for as long as it is loaded.
    #[must_use]
    pub fn new(object: &'a [u8], settings: &'a Settings, loads: usize) -> Self {
        Self {
            object,
            settings,
            loads,
            control: Vec::new(),
            ratios: Default::default(),
            values: Default::default(),
        }
    }

    /// So many rounds more, or a few above that: each load has as many.
    ///
    /// # Errors
    /// When the programs cannot be loaded or run, or did something else than was meant.
    pub fn measure(&mut self, rounds: usize) -> Result<Vec<Measurement>> {
        for load in 0..self.loads {
            let mut stand = Stand::new(self.object, self.settings, BESIDE)?;
            let rounds = rounds.div_ceil(self.loads);
            // Once unmeasured: caches, and the processor's clock.
            for round in 0..=rounds {
                progress::at(load * (rounds + 1) + round, self.loads * (rounds + 1))?;
                let mut empty = stand.empty()?;
                for (at, kind) in Kind::ALL.into_iter().enumerate() {
                    let took = stand.several(kind, empty)?;
                    let after = stand.empty()?;
                    if round > 0 {
                        self.control.push(after / empty);
                        self.ratios[at].push(took / f64::midpoint(empty, after));
                        self.values[at].push(took);
                    }
                    empty = after;
                }
            }
        }
        let noise = noise(&self.control);
        let of = |(at, kind): (usize, Kind)| {
            Measurement::new(
                kind.name(),
                kind.what(),
                "an empty program",
                (self.values[at].clone(), "ns"),
                self.ratios[at].clone(),
                Some(noise),
            )
        };
        Ok(Kind::ALL.into_iter().enumerate().map(of).collect())
    }
}
