//! Where handshakes happen: two network namespaces joined by one virtual cable, and nothing else.
//!
//! [`Lane`] is the whole interface; `link` is its netlink work, `network` makes its cable a bad one. A lane has no name on the host, never
//! touches the host's namespace, and ends with the process. It refuses to know what travels over it:
//! peers, captures and probes attach to a lane, not the other way round.

mod lane;
mod link;
mod network;

pub use lane::{CLIENT_INTERFACE, LabError, Lane, Role, SERVER_INTERFACE};
pub use network::{Impaired, lacks_netem};
