//! NDJSON: one object a line. An event has no `type`; what is no event has one.

use std::collections::BTreeMap;

use gauntlet_wire::record;
use serde::Serialize;

use crate::failure::Failure;
use crate::probe::Counts;

/// One line, without its end, for a failed handshake.
///
/// # Panics
/// Never: a [`Failure`] holds nothing that JSON cannot.
#[must_use]
pub fn failure(failure: &Failure) -> String {
    serde_json::to_string(failure).expect("strings, numbers and lists are JSON")
}

/// The last line of a watch.
#[derive(Serialize)]
struct Counters {
    r#type: &'static str,
    /// Failed handshakes: class -> TLS version (`unknown` before a ServerHello) -> how many.
    events: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// What may have hidden a failed handshake, by cause.
    lost: BTreeMap<&'static str, u64>,
    /// What else was counted.
    seen: BTreeMap<&'static str, u64>,
}

/// One line, without its end, for all counters.
///
/// # Panics
/// Never, as [`failure`].
#[must_use]
pub fn counters(counts: &Counts) -> String {
    let mut events: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
    for ((class, version), count) in &counts.classes {
        let version = record::version_name(*version).unwrap_or("unknown");
        *events
            .entry(class.name())
            .or_default()
            .entry(version)
            .or_default() += count.count;
    }
    let named = |loss: bool| {
        let others = counts
            .others
            .iter()
            .filter(|(_, other)| other.is_loss == loss)
            .map(|(name, other)| (*name, other.count));
        counts
            .counters
            .iter()
            .filter(|(counter, _)| counter.is_loss() == loss)
            .map(|(counter, count)| (counter.name(), *count))
            .chain(others)
            .collect()
    };
    let line = Counters {
        r#type: "counters",
        events,
        lost: named(true),
        seen: named(false),
    };
    serde_json::to_string(&line).expect("strings, numbers and maps are JSON")
}
