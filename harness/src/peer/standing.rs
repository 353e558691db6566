//! A case's server that stays, for someone who wants to try it by hand: whoever connects meets what the
//! scenario says, again and again.
//!
//! Refuses to judge: what becomes of a connection is for the one who made it, and for the probe.

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::case::{Match, PeerError};
use super::certs::Authorities;
use super::side::Side;
use super::tls::ConfigFailure;
use crate::lab::Role;

/// Serves on the case's port until `until` is sent or its sender dropped. For a thread of its own, which
/// enters the server's namespace.
///
/// # Errors
/// When the server cannot be made as the scenario says, its port is taken, or it is a program of its own, which
/// is started for one connection.
pub fn serve(m: &Match<'_>, until: oneshot::Receiver<()>) -> Result<(), PeerError> {
    if m.scenario.server.stack.is_program() {
        return Err(PeerError::Config {
            role: Role::Server,
            source: ConfigFailure::Program("a server that is a program of its own does not stay"),
        });
    }
    let server = Side::prepare(m, Role::Server, &Authorities::new(m.seed)?)?;
    m.lane.server().enter()?;
    let socket = |action| move |source| PeerError::Socket { action, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(socket("start a runtime"))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(server.server_address())
            .await
            .map_err(socket("listen"))?;
        tokio::select! {
            _stopped = until => Ok(()),
            failed = server.accept_all(&listener) => Err(socket("accept")(failed)),
        }
    })
}
