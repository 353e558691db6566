//! What a probe prints: contract events, kept as they came, and the counters of its last line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use gauntlet_wire::class::Class;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One event, in the contract's fields. Kept whole, since a probe may say more than we ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Event(Map<String, Value>);

impl Event {
    /// The event in a line of JSON; the error says what is not as the contract has it.
    pub(super) fn from_object(object: Map<String, Value>) -> Result<Self, &'static str> {
        let event = Self(object);
        if event.class().is_none() {
            return Err("no error.type");
        }
        if event.address("client").is_none() || event.port("server").is_none() {
            return Err("no client.address, client.port and server.port");
        }
        Ok(event)
    }

    /// An event that nobody saw.
    pub(super) fn invented(class: Class, client: SocketAddr, server: SocketAddr) -> Self {
        let fields = json!({
            "error.type": class.name(),
            "confidence": "certain",
            "root_cause.layer": class.layer().name(),
            "retryable": class.retryable(),
            "client.address": client.ip().to_string(),
            "client.port": client.port(),
            "server.port": server.port(),
        });
        Self(fields.as_object().cloned().unwrap_or_default())
    }

    /// A field, whatever it holds.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A field that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }

    /// A field that is a list of texts.
    #[must_use]
    pub fn texts(&self, name: &str) -> Option<Vec<&str>> {
        self.field(name)?
            .as_array()?
            .iter()
            .map(Value::as_str)
            .collect()
    }

    /// Without a field.
    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.shift_remove(name);
        self
    }

    /// With a field that it has set to something else; not one that it lacks.
    #[must_use]
    pub(crate) fn setting(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Some(field) = self.0.get_mut(name) {
            *field = value.into();
        }
        self
    }

    /// `error.type`.
    #[must_use]
    pub fn class(&self) -> Option<&str> {
        self.text("error.type")
    }

    /// `ROLE.port`.
    #[must_use]
    pub fn port(&self, role: &str) -> Option<u16> {
        self.field(&format!("{role}.port"))?
            .as_u64()?
            .try_into()
            .ok()
    }

    /// `ROLE.address` and `ROLE.port`.
    #[must_use]
    pub fn address(&self, role: &str) -> Option<SocketAddr> {
        let ip: IpAddr = self.text(&format!("{role}.address"))?.parse().ok()?;
        Some(SocketAddr::new(ip, self.port(role)?))
    }
}

#[cfg(test)]
impl Event {
    /// For tests: an event of these fields, unchecked.
    pub(crate) fn of(fields: Value) -> Self {
        Self(fields.as_object().cloned().unwrap_or_default())
    }

    /// For tests: sets a field, or takes it away with null.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        if value.is_null() {
            self.0.remove(name);
        } else {
            self.0.insert(name.into(), value);
        }
        self
    }
}

/// The last line of a probe that ends in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Counters {
    /// What was not seen or not reported, by cause.
    #[serde(default)]
    pub lost: BTreeMap<String, u64>,
    /// What else was counted.
    #[serde(default)]
    pub seen: BTreeMap<String, u64>,
    /// Events that it printed, counted here.
    #[serde(skip)]
    pub told: u64,
}

impl Counters {
    /// Everything lost, whatever the cause.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.lost.values().sum()
    }

    /// How what it counted does not fit what it printed, or itself. Of what it lost, or does not count, nothing
    /// is known.
    #[must_use]
    pub fn miscounted(&self) -> Option<String> {
        let told = self.told;
        let failed = *self.seen.get("handshake_failed")?;
        if self.lost_events() == 0 && failed != told {
            return Some(format!(
                "the probe counted {failed} failed handshakes, and reported {told}"
            ));
        }
        let opened = *self.seen.get("flow_opened")?;
        // Of a connection, one at most.
        let ends = ["handshake_done", "handshake_failed", "handshake_undecided"];
        let ended: u64 = ends.iter().filter_map(|end| self.seen.get(*end)).sum();
        (ended > opened).then(|| format!("the probe counted {ended} ends of {opened} connections"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_counts_other_than_it_reports_is_wrong() {
        let ended = |line: &str, told| Counters {
            told,
            ..serde_json::from_str(line).unwrap()
        };
        let counted = |told| {
            ended(
                r#"{"lost":{"ring_full":0},"seen":{"handshake_failed":3}}"#,
                told,
            )
        };
        assert_eq!(counted(3).miscounted(), None);
        assert_eq!(
            counted(2).miscounted().as_deref(),
            Some("the probe counted 3 failed handshakes, and reported 2")
        );
        assert!(
            ended(r#"{"seen":{"handshake_failed":0}}"#, 1)
                .miscounted()
                .is_some()
        );
        assert_eq!(ended("{}", 1).miscounted(), None);
        let lost = ended(
            r#"{"lost":{"ring_full":1},"seen":{"handshake_failed":3}}"#,
            2,
        );
        assert_eq!(lost.miscounted(), None);
        let kept = |opened| {
            let line = format!(
                r#"{{"seen":{{"flow_opened":{opened},"handshake_done":2,"handshake_failed":1}}}}"#
            );
            ended(&line, 1).miscounted()
        };
        assert_eq!(kept(3), None);
        assert_eq!(
            kept(2).as_deref(),
            Some("the probe counted 3 ends of 2 connections")
        );
    }
}
