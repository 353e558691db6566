//! One lane: a namespace for the client, one for the server, and the cable between them.
//!
//! Every lane has addresses of its own, though no two lanes could meet: logs and captures of several
//! lanes stay distinguishable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gauntlet_probes::netns::{NetNs, NetNsError};

use super::link;
use crate::scenario::model::Family;

/// The interface in the client's namespace.
pub const CLIENT_INTERFACE: &str = "client0";
/// The interface in the server's namespace.
pub const SERVER_INTERFACE: &str = "server0";

/// One end of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Who sends the SYN.
    Client,
    /// Who listens.
    Server,
}

/// Two namespaces and the veth pair between them. Dropping it removes all of it; so does any end of
/// the process, since nothing but its open descriptors keeps the namespaces.
#[derive(Debug)]
pub struct Lane {
    index: usize,
    client: NetNs,
    server: NetNs,
}

/// Why a lane could not be built. Always the environment's fault.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A namespace could not be made or entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// The runtime that netlink needs could not be started, or its socket could not be opened.
    #[error("netlink in {namespace}: {source}")]
    Socket {
        /// Which namespace.
        namespace: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused a change.
    #[error("netlink in {namespace}: {action}: {source}")]
    Refused {
        /// Which namespace.
        namespace: String,
        /// What was asked for.
        action: String,
        /// The kernel's answer.
        #[source]
        source: Box<rtnetlink::Error>,
    },
    /// iproute2 refused, or is not installed.
    #[error("{command}: {said}")]
    Iproute {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// An interface did not come up in time.
    #[error("{interface} in {namespace} has no carrier after {seconds} s")]
    Carrier {
        /// Which namespace.
        namespace: String,
        /// Which interface.
        interface: String,
        /// How long was waited.
        seconds: u64,
    },
}

impl Lane {
    /// Builds a lane and returns when both families work in both directions.
    ///
    /// `index` only picks the addresses and the labels.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN and CAP_NET_ADMIN, or without IPv6 or veth in the kernel.
    pub fn new(index: usize) -> Result<Self, LabError> {
        let lane = Self {
            index,
            client: NetNs::anonymous(&format!("lane {index} client"))?,
            server: NetNs::anonymous(&format!("lane {index} server"))?,
        };
        // The pair is born with its two ends already apart, so no third namespace ever holds one.
        link::join(
            &lane.client,
            CLIENT_INTERFACE,
            &lane.server,
            SERVER_INTERFACE,
        )?;
        link::bring_up(&lane.client, CLIENT_INTERFACE)?;
        link::bring_up(&lane.server, SERVER_INTERFACE)?;
        // Only now can either end have a carrier.
        for role in [Role::Client, Role::Server] {
            let addresses = [Family::Ipv4, Family::Ipv6].map(|family| lane.address(role, family));
            link::settle(lane.namespace(role), role.interface(), &addresses)?;
        }
        Ok(lane)
    }

    /// Lets the cable take packets of so many bytes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stretch(&self, mtu: u32) -> Result<(), LabError> {
        for role in [Role::Client, Role::Server] {
            link::stretch(self.namespace(role), role.interface(), mtu)?;
        }
        Ok(())
    }

    /// Which lane it is.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The client's namespace.
    #[must_use]
    pub fn client(&self) -> &NetNs {
        &self.client
    }

    /// The server's namespace.
    #[must_use]
    pub fn server(&self) -> &NetNs {
        &self.server
    }

    /// The namespace of `role`.
    #[must_use]
    pub fn namespace(&self, role: Role) -> &NetNs {
        match role {
            Role::Client => &self.client,
            Role::Server => &self.server,
        }
    }

    /// The address of `role`: in 192.0.2.0/24 (RFC 5737) or in a unique local /64 (RFC 4193).
    #[must_use]
    pub fn address(&self, role: Role, family: Family) -> IpAddr {
        let host = match role {
            Role::Client => 1,
            Role::Server => 2,
        };
        match family {
            // 64 subnets of four addresses; from the 65th lane on they repeat, unseen by each other.
            Family::Ipv4 => Ipv4Addr::new(192, 0, 2, (self.index % 64) as u8 * 4 + host).into(),
            Family::Ipv6 => {
                let subnet = (self.index % 0x1_0000) as u16;
                Ipv6Addr::new(0xfd67, 0x6175, 0x6e74, subnet, 0, 0, 0, host.into()).into()
            }
        }
    }
}

impl Role {
    /// The other end.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// The interface at this end.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::Client => CLIENT_INTERFACE,
            Self::Server => SERVER_INTERFACE,
        }
    }
}
