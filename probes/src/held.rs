//! Our side of which connections may be in the flow table ([`gauntlet_wire::held`]): who removes one counts it
//! down, and that may be the collector.

use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{Map, MapError};
use gauntlet_wire::held::{SLOTS, slot};
use gauntlet_wire::packet::FlowKey;

use crate::shared::Shared;

/// The counts.
pub(crate) struct Held(Shared<[AtomicU32; SLOTS]>);

impl Held {
    /// Those of a map.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub(crate) fn new(map: &Map) -> Result<Self, MapError> {
        Shared::new(map).map(Self)
    }

    /// A connection was removed, by us.
    pub(crate) fn remove(&self, key: &FlowKey) {
        self.0[slot(key) as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections are counted.
    pub(crate) fn sum(&self) -> u64 {
        let counts = self.0.iter();
        counts
            .map(|count| u64::from(count.load(Ordering::Relaxed)))
            .sum()
    }
}
