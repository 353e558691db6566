//! What a key log made of the events that were about hidden alerts, so that what is counted is what was
//! told.

use std::collections::BTreeMap;

use gauntlet_wire::class::Class;
use gauntlet_wire::counters::{ClassCount, Counter, class_key, from_class_key};
use gauntlet_wire::event::Event;

use crate::hidden::Look;
use crate::keylog::KeyLog;
use crate::probe::Counts;

/// Counts what was found in hidden alerts.
#[derive(Debug, Default)]
pub struct HiddenCount {
    /// What the wire said, and what was true; how often, and when last.
    changed: BTreeMap<Change, ClassCount>,
    named: u64,
    no_failure: u64,
    no_keys: u64,
    locked: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    /// The class that was counted; none, where the wire could not decide.
    from: Option<Class>,
    /// The class that is true; none, where nothing failed.
    to: Option<Class>,
    /// The TLS version.
    version: u16,
}

impl HiddenCount {
    /// Counts what was found of an event.
    pub fn add(&mut self, event: &Event, look: Look) {
        let to = match look {
            Look::Plain | Look::Undecided => return,
            Look::NoKeys => {
                self.no_keys += 1;
                return;
            }
            Look::Locked => {
                self.locked += 1;
                return;
            }
            Look::Named(alert) => {
                self.named += 1;
                Some(alert.class)
            }
            Look::NoFailure => {
                self.no_failure += 1;
                None
            }
        };
        let decided = event.undecided == 0;
        let change = self
            .changed
            .entry(Change {
                from: Class::from_number(event.verdict.class).filter(|_| decided),
                to,
                version: event.flow.server().version,
            })
            .or_default();
        change.count += 1;
        change.last_seen = change.last_seen.max(event.time);
    }

    /// Counts as it was told: each failure under the class that it had, and none where none was told.
    pub fn apply(&self, log: &KeyLog, counts: &mut Counts) {
        for (change, how) in &self.changed {
            let key = |class: Class| from_class_key(class_key(class, change.version));
            let mut move_one = |counter: Counter, by: i64| {
                let counter = counts.counters.entry(counter).or_default();
                *counter = counter.saturating_add_signed(by);
            };
            let count = how.count.cast_signed();
            match (change.from, change.to) {
                // The record was no alert that a failure is made of: an end after the handshake.
                (None, None) => {
                    move_one(Counter::Undecided, -count);
                    move_one(Counter::HandshakeDone, count);
                }
                (None, Some(_)) => {
                    move_one(Counter::Undecided, -count);
                    move_one(Counter::HandshakeFailed, count);
                }
                (Some(_), None) => move_one(Counter::HandshakeFailed, -count),
                (Some(_), Some(_)) => {}
            }
            if let Some(class) = change.from.and_then(key)
                && let Some(entry) = counts.classes.get_mut(&class)
            {
                entry.count = entry.count.saturating_sub(how.count);
            }
            if let Some(class) = change.to.and_then(key) {
                let entry = counts.classes.entry(class).or_default();
                entry.count += how.count;
                entry.last_seen = entry.last_seen.max(how.last_seen);
            }
        }
        counts.classes.retain(|_, class| class.count > 0);
        counts.add("hidden_alert_named", self.named, false);
        counts.add("hidden_no_failure", self.no_failure, false);
        counts.add("key_log_missing", self.no_keys, false);
        counts.add("key_log_does_not_fit", self.locked, false);
        counts.add("key_log_malformed_line", log.malformed(), false);
    }
}
