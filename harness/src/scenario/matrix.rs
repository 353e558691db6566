//! From a scenario to its cases: one for each TLS version, pair of stacks, address family and near miss,
//! with the id that names it everywhere.
//!
//! Refuses to judge a scenario: what is wrong in one was said when it was read.

use std::sync::Arc;

use super::model::{Family, Network, Scenario, Stack, Tls};
use super::parse::Variant;

/// The ending of a near miss' id.
pub const NEAR_MISS: &str = "near_miss";

/// What the probe of a case has beside the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beside {
    /// Nothing: what the wire alone can show.
    #[default]
    Nothing,
    /// The key log of both ends.
    KeyLog,
    /// What TLS libraries say while they do handshakes: all that a probe asks by itself.
    Library,
    /// What they say while they read and write, too.
    LibraryDeep,
}

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
    /// What the probe has beside the wire, and so may know of what TLS 1.3 hides.
    pub beside: Beside,
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
        beside,
        sibling,
    } in variants
    {
        let scenario = Arc::new(scenario);
        let good = scenario.family.iter().map(|&family| (family, None));
        let on_top = [&scenario.client, &scenario.server]
            .into_iter()
            .any(|peer| peer.stack.comes_on_top());
        let bad = (scenario.network.iter())
            .filter(|_| !on_top)
            .map(|&network| (Family::Ipv4, Some(network)));
        // What is read is the same over either family and any cable.
        let places = good.chain(bad);
        let all = if beside == Beside::Nothing {
            usize::MAX
        } else {
            1
        };
        for (family, network) in places.take(all) {
            let ending = if near_miss {
                Some(NEAR_MISS)
            } else {
                beside.key()
            };
            cases.push(Case {
                id: id(&scenario, tls, family, network, ending),
                network,
                scenario: Arc::clone(&scenario),
                tls,
                family,
                near_miss,
                beside,
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

impl Beside {
    /// Everything but the wire alone.
    pub const MORE: [Self; 3] = [Self::KeyLog, Self::Library, Self::LibraryDeep];

    /// The table of a scenario file, and the ending of a case id; none for the wire alone.
    #[must_use]
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::KeyLog => Some("key_log"),
            Self::Library => Some("library"),
            Self::LibraryDeep => Some("library_deep"),
        }
    }

    /// Whether libraries are asked.
    #[must_use]
    pub fn hears_libraries(self) -> bool {
        matches!(self, Self::Library | Self::LibraryDeep)
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
    /// Whether it is a library that others can be asked about: one file, that exports its functions.
    #[must_use]
    pub fn is_shared_library(self) -> bool {
        matches!(self, Self::OpenSsl | Self::GnuTls)
    }

    /// Whether it is a program of its own, which this machine may not have.
    #[must_use]
    pub fn is_program(self) -> bool {
        matches!(self, Self::GnuTls | Self::Go | Self::Boring)
    }

    /// Whether its cases come on top of those of rustls, and need not be run at every place.
    pub(super) fn comes_on_top(self) -> bool {
        self == Self::OpenSsl || self.is_program()
    }

    /// As in a case id.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
            Self::Raw => "raw",
            Self::GnuTls => "gnutls",
            Self::Go => "go",
            Self::Boring => "boring",
        }
    }

    /// The stack of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [
            Self::Rustls,
            Self::OpenSsl,
            Self::Raw,
            Self::GnuTls,
            Self::Go,
            Self::Boring,
        ]
        .into_iter()
        .find(|stack| stack.as_str() == name)
    }
}
