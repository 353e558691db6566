//! Drives one case: a client and a server, each on a thread inside its namespace, each following the
//! script of its [`Peer`](crate::scenario::model::Peer).
//!
//! [`drive`] answers what each end experienced and nothing more: it does not compare outcomes with what
//! the scenario wants, and it knows no probe.
//!
//! - `certs`, `verifier`, `tls`: from a `Peer` to rustls' configuration
//! - `openssl`: the same for OpenSSL, and its connections
//! - `socket`, `session`, `stepped`, `script`: one connection, one step after another
//! - `case`, `side`: the two threads of a case, and the connections each makes
//! - `program`: a stack that is a program of its own
//! - `standing`: a server that stays, for trying a case by hand
//! - `beacon`: the failed handshake by which the harness knows that the probe has seen everything so far

mod beacon;
mod case;
mod certs;
mod keylog;
mod openssl;
mod program;
mod script;
mod session;
mod side;
mod socket;
mod standing;
mod stepped;
mod tls;
mod verifier;

pub use beacon::Beacons;
pub use case::{Endpoints, Match, Outcome, PeerError, drive};
pub use certs::CertificateFailure;
pub use program::{ProgramFailure, lacks};
pub use script::ScriptFault;
pub use standing::serve;
pub use tls::ConfigFailure;
