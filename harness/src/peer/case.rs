//! The connections of one case, and the two threads that make them.
//!
//! The server listens before the client's thread is even started, so nothing waits for readiness. The
//! deadline ends each thread's work wherever it stands; both threads have ended when [`drive`] returns.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gauntlet_probes::netns::NetNsError;
use tokio::sync::oneshot;

use super::certs::{Authorities, CertificateFailure};
use super::program::ProgramFailure;
use super::script::ScriptFault;
use super::side::Side;
use super::tls::ConfigFailure;
use crate::lab::{Lane, Role};
use crate::scenario::model::{Family, Scenario, Tls};

/// One case of a scenario, and where to run it.
#[derive(Debug, Clone, Copy)]
pub struct Match<'a> {
    /// What both peers are and do.
    pub scenario: &'a Scenario,
    /// The TLS version of the case.
    pub tls: Tls,
    /// The address family of the case.
    pub family: Family,
    /// The namespaces.
    pub lane: &'a Lane,
    /// The server's port.
    pub port: u16,
    /// What serial numbers and CA names derive from.
    pub seed: u64,
    /// How long all of it may take.
    pub deadline: Duration,
    /// A file that both ends write their secrets to, as they come.
    pub key_log: Option<&'a Path>,
}

/// What both ends experienced.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The end that connected.
    pub client: Outcome,
    /// The end that listened.
    pub server: Outcome,
    /// Whether the deadline had to end it.
    pub hung: bool,
    /// The client's address of each connection of the case, in order. The handshake that makes a server
    /// known goes before the case and is not among them.
    pub flows: Vec<SocketAddr>,
}

/// What one end experienced.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `ok`, or the first error: of rustls in its `Debug` form (`AlertReceived(UnknownCA)`), of OpenSSL as
    /// `SSL_get_error` and its error queue say it (`SSL_ERROR_SSL(1) 20:1048(tlsv1 alert unknown ca)`), of
    /// a program in its own words (`GnuTLS received alert 48 (CA is unknown): ..`, `Go: remote error: ..`,
    /// `BoringSSL: SSL_ERROR_SSL(1) ..`), of
    /// the system by its kind (`ConnectionReset`, `UnexpectedEof`), `timeout` when its patience ended,
    /// `deadline since`, when and what, when the case's did, `NotResumed`, `EarlyDataRejected`, `NoConnection`.
    pub text: String,
    /// What it did and when, for people.
    pub log: Vec<String>,
    /// The secrets of its connections, in the format of `SSLKEYLOGFILE`.
    pub key_log: Vec<String>,
}

/// Why a case could not be run at all: never a result of the case.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// A namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// The certificates could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateFailure),
    /// A peer could not be configured as the scenario says.
    #[error("{role:?}: {source}")]
    Config {
        /// Which peer.
        role: Role,
        /// What is wrong.
        #[source]
        source: ConfigFailure,
    },
    /// A script cannot be followed.
    #[error("{role:?}: script: {source}")]
    Script {
        /// Whose script.
        role: Role,
        /// What is wrong.
        #[source]
        source: ScriptFault,
    },
    /// A program could not be asked.
    #[error("{role:?}: {source}")]
    Program {
        /// Which peer.
        role: Role,
        /// What is wrong.
        #[source]
        source: ProgramFailure,
    },
    /// Sockets failed where no scenario makes them fail.
    #[error("{action}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The good handshake before the case failed.
    #[error("{role:?}: the good handshake before the case: {text}")]
    Warmup {
        /// Which end says so.
        role: Role,
        /// Its outcome.
        text: String,
    },
}

/// Runs one case to its end.
///
/// # Errors
/// When the case could not be run: no privileges, a port in use, a scenario that makes no sense.
///
/// # Panics
/// When a peer's thread does, which is a bug.
pub fn drive(m: &Match<'_>) -> Result<Endpoints, PeerError> {
    let authorities = Authorities::new(m.seed)?;
    let client = Side::prepare(m, Role::Client, &authorities)?;
    let server = Side::prepare(m, Role::Server, &authorities)?;
    let (listening, ready) = mpsc::channel();
    let (client_alive, client_gone) = oneshot::channel::<()>();
    let (client, server) = thread::scope(|scope| {
        let server = scope.spawn(move || server.listen(listening, client_gone));
        let client = scope.spawn(move || {
            // Dropped when the client's thread is done, which tells the server.
            let _alive = client_alive;
            // An error here means that the server's thread has ended, with its own error.
            ready.recv().ok().map(|()| client.connect())
        });
        (joined(client), joined(server))
    });
    let server = server?;
    // A server that has an outcome has listened, so the client has one too.
    let Some(client) = client.transpose()? else {
        return Err(PeerError::Socket {
            action: "listen",
            source: io::ErrorKind::Other.into(),
        });
    };
    Ok(Endpoints {
        hung: client.hung || server.hung,
        // A client that is a program does not say from where it connected; who accepted knows.
        flows: if client.flows.is_empty() {
            server.flows
        } else {
            client.flows
        },
        client: client.outcome,
        server: server.outcome,
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
