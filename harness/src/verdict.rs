//! What a case proves: the verdict, from what was meant and what was seen. Pure: no clock, no file,
//! no process.
//!
//! The order is the point. First the handshake must have gone as the scenario says, by both
//! endpoints and the wire; only then is the probe judged, so that a case never passes for a wrong
//! reason, and the probe is never blamed for a harness that missed.

mod contract;
mod facts;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::probe::Event;
use crate::scenario::model::Expect;
use crate::scenario::{Case, NO_FAILURE};
use crate::witness::Transcript;

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As expected.
    Pass,
    /// The probe was wrong.
    Fail,
    /// The probe was wrong, as `known-deviations.toml` says.
    Xfail,
    /// The probe was right, though `known-deviations.toml` says otherwise.
    Xpass,
    /// Not run, for lack of a privilege, or of something that this kernel does not have.
    Skip,
    /// An endpoint did not end within the case's deadline.
    Hang,
    /// The handshake did not go as meant, or the probe could not be asked.
    Infra,
}

impl Verdict {
    /// As in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Xfail => "xfail",
            Self::Xpass => "xpass",
            Self::Skip => "skip",
            Self::Hang => "hang",
            Self::Infra => "infra",
        }
    }

    /// Whether a run of only these is a success.
    #[must_use]
    pub fn is_green(self) -> bool {
        matches!(self, Self::Pass | Self::Xfail)
    }

    /// Whether the probe was judged.
    #[must_use]
    pub fn was_judged(self) -> bool {
        matches!(self, Self::Pass | Self::Fail | Self::Xfail | Self::Xpass)
    }
}

/// A verdict and, unless it is `pass`, why: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Option<String>,
}

/// Everything that was seen of one case.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Whether the case's deadline passed before both endpoints ended.
    pub hung: bool,
    /// The client's outcome.
    pub client: &'a str,
    /// The server's outcome.
    pub server: &'a str,
    /// What the wire showed; the error says why there is nothing to show.
    pub wire: Result<&'a Transcript, &'a str>,
    /// What the probe reported; the error says why that is not known.
    pub reported: Result<&'a [Event], &'a str>,
    /// The server's port of this case, to tell its events from strays.
    pub port: u16,
}

impl Judgement {
    fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            reason: Some(reason.into()),
        }
    }

    /// Weighs the verdict against what is known to deviate.
    #[must_use]
    pub fn knowing(self, deviation: Option<&str>) -> Self {
        match (self.verdict, deviation) {
            (Verdict::Fail, Some(why)) => Self::new(
                Verdict::Xfail,
                format!("known ({why}): {}", self.reason.unwrap_or_default()),
            ),
            (Verdict::Pass, Some(why)) => Self::new(
                Verdict::Xpass,
                format!("passes, though known to deviate ({why})"),
            ),
            _ => self,
        }
    }
}

/// Judges one case.
#[must_use]
pub fn judge(case: &Case, seen: &Observation<'_>) -> Judgement {
    if seen.hung {
        return Judgement::new(
            Verdict::Hang,
            format!(
                "deadline passed: client: {}; server: {}",
                seen.client, seen.server
            ),
        );
    }
    let witness = &case.scenario.witness;
    for (role, meant, said) in [
        ("client", &witness.client, seen.client),
        ("server", &witness.server, seen.server),
    ] {
        if !outcome_fits(meant, said) {
            return Judgement::new(
                Verdict::Infra,
                format!("the {role} was meant to end with {meant:?} and ended with {said:?}"),
            );
        }
    }
    let wire = match seen.wire {
        Ok(wire) => wire,
        Err(why) => return Judgement::new(Verdict::Infra, why),
    };
    if let Err(missing) = wire.shows(&witness.wire) {
        return Judgement::new(
            Verdict::Infra,
            format!("the wire was meant to show {missing:?}"),
        );
    }
    let reported = match seen.reported {
        Ok(reported) => reported,
        Err(why) => return Judgement::new(Verdict::Infra, why),
    };
    match probe_mismatch(case, wire, reported, seen.port) {
        None => Judgement {
            verdict: Verdict::Pass,
            reason: None,
        },
        Some(reason) => Judgement::new(Verdict::Fail, reason),
    }
}

/// `ok` is all or nothing; anything else is part of an error.
fn outcome_fits(meant: &str, said: &str) -> bool {
    if meant == "ok" {
        said == "ok"
    } else {
        said.contains(meant)
    }
}

/// What the probe got wrong, if anything.
fn probe_mismatch(case: &Case, wire: &Transcript, reported: &[Event], port: u16) -> Option<String> {
    if let Some(stray) = reported
        .iter()
        .find(|event| event.port("server") != Some(port))
    {
        return Some(format!(
            "the probe reported {} for a connection to port {}, which is not this case's ({port})",
            summary(stray),
            stray.port("server").unwrap_or_default()
        ));
    }
    let Some(expect) = &case.scenario.expect else {
        let first = reported.first()?;
        let also = others(reported);
        return Some(format!(
            "the probe said {}{also}; the handshake was good",
            summary(first)
        ));
    };
    let truth = format!(
        "{} ({}) by the {}",
        expect.class, expect.confidence, expect.ended_by
    );
    let [event] = reported else {
        let Some(first) = reported.first() else {
            return Some(format!("the probe said nothing; true was {truth}"));
        };
        let also = others(reported);
        return Some(format!(
            "the probe said {}{also}; true was one {truth}",
            summary(first)
        ));
    };
    if event.class() != Some(&expect.class) {
        return Some(format!(
            "the probe said {}; true was {truth}",
            summary(event)
        ));
    }
    expectation(expect, event)
        .or_else(|| {
            let asked = case.beside.hears_libraries();
            asked.then(|| quotes(expect, event)).flatten()
        })
        .or_else(|| facts::mismatch(event, wire, case.family))
        .map(|what| format!("{}: {what}", expect.class))
}

fn others(reported: &[Event]) -> String {
    match reported.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    }
}

fn summary(event: &Event) -> String {
    format!(
        "{} ({}) by the {}",
        event.class().unwrap_or("no class"),
        event.text("confidence").unwrap_or("no confidence"),
        event.text("handshake.ended_by").unwrap_or("(unsaid)")
    )
}

/// What the scenario asks of the event beside its class.
fn expectation(expect: &Expect, event: &Event) -> Option<String> {
    let code = event.field("tls.alert.code");
    let encrypted = event.field("tls.alert.encrypted");
    facts::differs(
        "confidence",
        event.text("confidence"),
        Some(&expect.confidence),
    )
    .or_else(|| {
        let said = event.text("handshake.ended_by");
        facts::differs("handshake.ended_by", said, Some(&expect.ended_by))
    })
    .or_else(|| {
        let meant = expect.alert.map(serde_json::Value::from);
        facts::differs("tls.alert.code", code, meant.as_ref())
    })
    .or_else(|| {
        // An alert that can be read says so, or does not mention it.
        let meant = match (expect.encrypted, expect.alert, encrypted) {
            (None, Some(_), Some(_)) => Some(false),
            (meant, ..) => meant,
        };
        let meant = meant.map(serde_json::Value::from);
        facts::differs("tls.alert.encrypted", encrypted, meant.as_ref())
    })
    .or_else(|| {
        let stage = expect.stage.as_deref()?;
        facts::differs(
            "handshake.stage",
            event.text("handshake.stage"),
            Some(stage),
        )
    })
    .or_else(|| candidates(expect, event))
    .or_else(|| derived(expect, event))
}

/// What a library is quoted with, where libraries are asked.
fn quotes(expect: &Expect, event: &Event) -> Option<String> {
    let quotes = expect.quotes.as_ref();
    let field = |name, meant: Option<&String>| {
        facts::differs(name, event.text(name), meant.map(String::as_str))
    };
    field("tls.library.name", quotes.map(|quotes| &quotes.library))
        .or_else(|| field("tls.library.side", quotes.map(|quotes| &quotes.side)))
        .or_else(|| {
            let reason = quotes.and_then(|quotes| quotes.reason.as_ref());
            field("tls.library.reason", reason)
        })
        .or_else(|| {
            let error = quotes.and_then(|quotes| quotes.verify_error.as_ref());
            field("tls.library.x509.verify_error", error)
        })
}

/// Only an ambiguous event has candidates. The scenario's must be among them; beyond those each may be
/// named that tells something: a class, once, and not every class there is. That the handshake was
/// good, `none`, is no guess to make freely.
fn candidates(expect: &Expect, event: &Event) -> Option<String> {
    let field = event.field("candidates");
    if expect.confidence != "ambiguous" {
        return facts::differs("candidates", field, None);
    }
    let said = event.texts("candidates").unwrap_or_default();
    let wrong = |what: String| Some(format!("candidates were {said:?}; {what}"));
    let meant = |name: &str| expect.candidates.iter().any(|meant| meant == name);
    if let Some(missing) = expect
        .candidates
        .iter()
        .find(|name| !said.contains(&name.as_str()))
    {
        return wrong(format!("{missing} must be among them"));
    }
    for (at, name) in said.iter().enumerate() {
        if said[..at].contains(name) {
            return wrong(format!("{name} is among them twice"));
        }
        if *name == NO_FAILURE && !meant(name) {
            return wrong(format!("{name} must not be among them"));
        }
        if *name != NO_FAILURE && contract::of(name).is_none() {
            return wrong(format!("{name} is no class"));
        }
    }
    let all = contract::ROWS.iter().all(|row| said.contains(&row.class));
    if all {
        return wrong("every class is among them, which says nothing".into());
    }
    None
}

/// Layer and retryability follow from the class (contract).
fn derived(expect: &Expect, event: &Event) -> Option<String> {
    let row = contract::of(&expect.class)?;
    let retryable = serde_json::Value::from(row.retryable);
    let layer = row.layer;
    facts::differs(
        "root_cause.layer",
        event.text("root_cause.layer"),
        Some(layer),
    )
    .or_else(|| facts::differs("retryable", event.field("retryable"), Some(&retryable)))
}
