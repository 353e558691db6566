//! From a scenario to its cases: one for each TLS version, pair of stacks, address family and near miss,
//! with the id that names it everywhere.
//!
//! Refuses to judge a scenario: what is wrong in one was said when it was read.

use std::sync::Arc;

use super::model::{Family, Network, Scenario, Stack, Tls};
use super::parse::Variant;

/// The ending of a near miss' id.
pub const NEAR_MISS: &str = "near_miss";
/// The ending of the id of a case whose probe reads the key log of both ends.
pub const KEY_LOG: &str = "key_log";

/// One handshake to make, and what must be seen of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// `CLASS::TLS::SIDE::STACKS::FAMILY[::VARIANT]`, unique in a suite, the same whatever the file is called.
    pub id: String,
    /// What to do and to expect, with every overlay applied.
    pub scenario: Arc<Scenario>,
    /// The TLS version of the case.
    pub tls: Tls,
    /// The address family of the case.
    pub family: Family,
    /// What its cable does to packets; none: nothing.
    pub network: Option<Network>,
    /// Whether it is a sibling that must succeed in silence.
    pub near_miss: bool,
    /// Whether the probe reads the key log of both ends, and so what TLS 1.3 hides.
    pub key_log: bool,
    /// The scenario's file, relative to the folder.
    pub file: String,
    /// The other file that holds its near miss, and the line that says so.
    pub(super) sibling: Option<(usize, String)>,
}

/// Every case of one file.
pub(super) fn expand(file: &str, variants: Vec<Variant>) -> Vec<Case> {
    let mut cases = Vec::new();
    for Variant {
        scenario,
        tls,
        near_miss,
        key_log,
        sibling,
    } in variants
    {
        let scenario = Arc::new(scenario);
        let good = scenario.family.iter().map(|&family| (family, None));
        let openssl = [&scenario.client, &scenario.server]
            .into_iter()
            .any(|peer| peer.stack == Stack::OpenSsl);
        let bad = (scenario.network.iter())
            .filter(|_| !openssl)
            .map(|&network| (Family::Ipv4, Some(network)));
        // What is read is the same over either family and any cable.
        let places = good.chain(bad);
        for (family, network) in places.take(if key_log { 1 } else { usize::MAX }) {
            let ending = match (near_miss, key_log) {
                (true, _) => Some(NEAR_MISS),
                (_, true) => Some(KEY_LOG),
                _ => None,
            };
            cases.push(Case {
                id: id(&scenario, tls, family, network, ending),
                network,
                scenario: Arc::clone(&scenario),
                tls,
                family,
                near_miss,
                key_log,
                file: file.into(),
                sibling: sibling.clone(),
            });
        }
    }
    cases
}

/// The id of a case, from what the case is and nothing else.
fn id(
    scenario: &Scenario,
    tls: Tls,
    family: Family,
    network: Option<Network>,
    ending: Option<&str>,
) -> String {
    let stacks = stacks(scenario.client.stack, scenario.server.stack);
    let mut segments: Vec<&str> = vec![
        &scenario.class,
        tls.segment(),
        &scenario.side,
        &stacks,
        family.as_str(),
    ];
    segments.extend(scenario.variant.as_deref());
    segments.extend(network.map(Network::as_str));
    segments.extend(ending);
    segments.join("::")
}

/// The segment of a case id that says who speaks with whom.
pub(super) fn stacks(client: Stack, server: Stack) -> String {
    match (client, server) {
        (Stack::Rustls, Stack::Rustls) | (Stack::OpenSsl, Stack::OpenSsl) => client.as_str().into(),
        _ => format!("{}-{}", client.as_str(), server.as_str()),
    }
}

impl Tls {
    /// As in a case id.
    #[must_use]
    pub fn segment(self) -> &'static str {
        match self {
            Self::V1_2 => "tls1_2",
            Self::V1_3 => "tls1_3",
            Self::Any => "tls_any",
        }
    }

    /// As in a scenario file and in `tls.protocol.version`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
            Self::Any => "any",
        }
    }
}

impl Family {
    /// As in a case id and in `network.type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

impl Network {
    /// As in a case id.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
        }
    }
}

impl Stack {
    /// As in a case id.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
            Self::Raw => "raw",
        }
    }

    /// The stack of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Rustls, Self::OpenSsl, Self::Raw]
            .into_iter()
            .find(|stack| stack.as_str() == name)
    }
}
