//! TLS by a program of its own at one end: started in that end's namespace with files and options, and
//! witnessed by what it prints and how it ends.
//!
//! Such a program does one thing, a handshake and an exchange, so it follows no script; what a scenario may ask
//! of it is in `scenario/check.rs`. Refuses to guess: an end that no line of the program explains is told as
//! unknown, and never fits what a scenario means.
//!
//! - `gnutls`: `gnutls-cli` and `gnutls-serv`
//! - `ours`: the command line and the last line of programs of ours
//! - `go`: one in `peer.go`, over Go's crypto/tls
//! - `boring`: one in `harness/boring`, over BoringSSL
//! - `running`: the process

mod boring;
mod gnutls;
mod go;
mod ours;
mod running;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::x509::X509;
use tempfile::TempDir;
use tokio::sync::oneshot;

use self::running::{Ended, Running};
use super::case::Outcome;
use super::certs::Issued;
use super::side::Played;
use super::tls::{ConfigFailure, Setting};
use crate::lab::Role;
use crate::scenario::model::{Peer, Stack};

/// Why the programs of a stack are not here, if so; none for stacks that are in this process.
#[must_use]
pub fn lacks(stack: Stack) -> Option<&'static str> {
    match stack {
        Stack::Rustls | Stack::OpenSsl | Stack::Raw => None,
        Stack::GnuTls => gnutls::lacks(),
        Stack::Go => go::lacks(),
        Stack::Boring => boring::lacks(),
    }
}

/// The files of one end, PEM.
struct Files {
    /// The CA that it trusts.
    authority: PathBuf,
    /// Its certificate and key, where it has one.
    own: Option<(PathBuf, PathBuf)>,
    // Removed when this is dropped.
    _folder: TempDir,
}

/// What a program prints that means something.
struct Means {
    /// Whether a line says that the server listens.
    ready: fn(&str) -> bool,
    /// What all of it and the exit status come to: `ok`, or the first failure.
    outcome: fn(Role, &Ended) -> String,
}

/// A program before it is started.
pub(super) struct Program {
    role: Role,
    command: Vec<String>,
    /// What a client is given to send.
    input: &'static str,
    means: Means,
    _files: Files,
}

/// Why a program could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProgramFailure {
    /// It did not start.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A server that never listened.
    #[error("{program} does not listen: {said}")]
    Deaf {
        /// Which.
        program: String,
        /// The last it said.
        said: String,
    },
}

impl Program {
    /// Writes a peer's files and makes its command line; nothing is started. `server` is where the server
    /// listens.
    pub(super) fn new(
        setting: &Setting<'_>,
        role: Role,
        peer: &Peer,
        server: SocketAddr,
    ) -> Result<Self, ConfigFailure> {
        let files = Files::write(setting, role, peer)?;
        let ours = |program: Result<&Path, &'static str>| {
            let program = program.map_err(ConfigFailure::Program)?;
            let command = ours::command(program, setting, role, peer, server, &files);
            Ok::<_, ConfigFailure>(command)
        };
        let (command, input, means) = match peer.stack {
            Stack::Go => (ours(go::program())?, "", go::MEANS),
            Stack::Boring => (ours(boring::program())?, "", boring::MEANS),
            _ => {
                let command = gnutls::command(setting, role, peer, server, &files)?;
                (command, gnutls::INPUT, gnutls::MEANS)
            }
        };
        Ok(Self {
            role,
            command,
            input,
            means,
            _files: files,
        })
    }

    /// Connects, and runs to its end. For a thread in the client's namespace.
    pub(super) fn connect(&self, deadline: Duration) -> Result<Played, ProgramFailure> {
        let mut running = Running::start(&self.command, deadline)?;
        running.send(self.input);
        Ok(self.played(running.end()))
    }

    /// Listens, says so, and serves until the client is gone. For a thread in the server's namespace.
    ///
    /// The client reads its connection to the end, so the server has closed it by then, and said before what it
    /// has to say of it.
    pub(super) fn listen(
        &self,
        deadline: Duration,
        listening: &Sender<()>,
        client_gone: oneshot::Receiver<()>,
    ) -> Result<Played, ProgramFailure> {
        let mut running = Running::start(&self.command, deadline)?;
        running.until(self.means.ready)?;
        // Nobody hears it only if the client's thread has died, which is reported there.
        let _unheard = listening.send(());
        // Either way it is gone.
        let _gone = client_gone.blocking_recv();
        running.terminate();
        Ok(self.played(running.end()))
    }

    fn played(&self, ended: Ended) -> Played {
        let text = if ended.hung {
            "deadline".into()
        } else {
            (self.means.outcome)(self.role, &ended)
        };
        let hung = ended.hung;
        Played {
            outcome: Outcome {
                text,
                log: ended.into_lines(),
                key_log: Vec::new(),
            },
            hung,
            flows: Vec::new(),
        }
    }
}

impl Files {
    fn write(setting: &Setting<'_>, role: Role, peer: &Peer) -> Result<Self, ConfigFailure> {
        let folder = tempfile::Builder::new()
            .prefix("gauntlet-peer-")
            .tempdir()
            .map_err(ConfigFailure::Files)?;
        let put = |name: &str, pem: Vec<u8>| {
            let path = folder.path().join(name);
            fs::write(&path, pem).map_err(ConfigFailure::Files)?;
            Ok::<_, ConfigFailure>(path)
        };
        let root = X509::from_der(setting.authorities.root())?;
        let authority = put("ca.pem", root.to_pem()?)?;
        let wanted = match role {
            Role::Client => peer.certificate.clone(),
            Role::Server => Some(peer.certificate.clone().unwrap_or_default()),
        };
        let issued = match &wanted {
            Some(wanted) => {
                let name = &setting.client.server_name;
                setting.authorities.issue(wanted, role, name)?
            }
            None => None,
        };
        let own = match issued {
            Some(Issued { der, pkcs8 }) => Some((
                put("own.pem", X509::from_der(&der)?.to_pem()?)?,
                put(
                    "own.key",
                    PKey::private_key_from_der(&pkcs8)?.private_key_to_pem_pkcs8()?,
                )?,
            )),
            None => None,
        };
        Ok(Self {
            authority,
            own,
            _folder: folder,
        })
    }
}

/// Where a program is, by its name.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    found(name, std::env::split_paths(&path))
}

fn found(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let mut files = folders.into_iter().map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}
