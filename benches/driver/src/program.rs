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
pub struct Session {
    stand: Stand,
    control: Vec<f64>,
    /// By kind.
    ratios: [Vec<f64>; Kind::ALL.len()],
    values: [Vec<f64>; Kind::ALL.len()],
}

impl Session {
    /// With an object that has the shipped programs and maps.
    ///
    /// # Errors
    /// When the programs cannot be loaded.
    pub fn new(object: &[u8], settings: &Settings) -> Result<Self> {
        Ok(Self {
            stand: Stand::new(object, settings, BESIDE)?,
            control: Vec::new(),
            ratios: Default::default(),
            values: Default::default(),
        })
    }

    /// So many rounds more.
    ///
    /// # Errors
    /// When the programs cannot be run, or did something else than was meant.
    pub fn measure(&mut self, rounds: usize) -> Result<Vec<Measurement>> {
        // Once unmeasured: caches, and the processor's clock.
        for round in 0..=rounds {
            progress::at(round, rounds + 1)?;
            let mut empty = self.stand.empty()?;
            for (at, kind) in Kind::ALL.into_iter().enumerate() {
                let took = self.stand.several(kind, empty)?;
                let after = self.stand.empty()?;
                if round > 0 {
                    self.control.push(after / empty);
                    self.ratios[at].push(took / f64::midpoint(empty, after));
                    self.values[at].push(took);
                }
                empty = after;
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
