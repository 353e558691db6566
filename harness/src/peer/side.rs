//! One end of a case: what is prepared before anything is sent, and the connections it then makes or
//! accepts, one after another.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::case::{Match, Outcome, PeerError};
use super::certs::Authorities;
use super::keylog::MemoryKeyLog;
use super::program::Program;
use super::script::{Actor, Log, Stopped, check};
use super::socket::Socket;
use super::tls::{Endpoint, Setting};
use crate::lab::Role;
use crate::scenario::model::{Peer, Stack};

/// What 0-RTT data is made of.
const EARLY: u8 = b'0';

/// One end of a case before it starts.
pub(super) struct Side<'a> {
    m: &'a Match<'a>,
    role: Role,
    endpoint: Option<Endpoint>,
    /// Where another program is this end.
    program: Option<Program>,
    /// The good peer of the handshake that goes first, if one does.
    warmup: Option<(Peer, Endpoint)>,
    keys: Arc<MemoryKeyLog>,
}

/// One end of a case after it.
pub(super) struct Played {
    pub(super) outcome: Outcome,
    pub(super) hung: bool,
    /// The client's address of each connection of the case.
    pub(super) flows: Vec<SocketAddr>,
}

/// Where connections come from.
enum Source {
    Connects(SocketAddr),
    Accepts {
        listener: TcpListener,
        /// The same listener, to be asked without waiting.
        peek: std::net::TcpListener,
        /// Ends when the client's thread does; none once that is known.
        client_gone: Option<oneshot::Receiver<()>>,
    },
}

/// How an end stopped before it was done.
enum Halt {
    /// That is its outcome.
    Outcome(Stopped),
    /// The case could not be run.
    Infra(PeerError),
}

impl<'a> Side<'a> {
    /// Makes configurations and checks the script; nothing is sent.
    pub(super) fn prepare(
        m: &'a Match<'a>,
        role: Role,
        authorities: &Authorities,
    ) -> Result<Self, PeerError> {
        let keys = MemoryKeyLog::new(m.key_log).map_err(|source| PeerError::Socket {
            action: "write the key log",
            source,
        })?;
        let keys = Arc::new(keys);
        let configure = |peer: &Peer, client: &Peer| {
            let setting = Setting {
                authorities,
                tls: m.tls,
                client,
            };
            let endpoint = setting.endpoint(role, peer, keys.clone());
            endpoint.map_err(|source| PeerError::Config { role, source })
        };
        let peer = match role {
            Role::Client => &m.scenario.client,
            Role::Server => &m.scenario.server,
        };
        check(peer).map_err(|source| PeerError::Script { role, source })?;
        let endpoint = match peer.stack {
            Stack::Rustls | Stack::OpenSsl => Some(configure(peer, &m.scenario.client)?),
            Stack::Raw | Stack::GnuTls | Stack::Go | Stack::Boring => None,
        };
        let program = if peer.stack.is_program() {
            let setting = Setting {
                authorities,
                tls: m.tls,
                client: &m.scenario.client,
            };
            let program = Program::new(&setting, role, peer, server_address(m));
            Some(program.map_err(|source| PeerError::Config { role, source })?)
        } else {
            None
        };
        let warmup = if m.scenario.known_tls_server {
            // A raw end never speaks TLS, so somebody else does for it.
            let mut good = Peer::default();
            if peer.stack != Stack::Raw {
                good.stack = peer.stack;
            }
            let endpoint = configure(&good, &good)?;
            Some((good, endpoint))
        } else {
            None
        };
        Ok(Self {
            m,
            role,
            endpoint,
            program,
            warmup,
            keys,
        })
    }

    /// Listens, says so, and serves. For the server's own thread.
    pub(super) fn listen(
        self,
        listening: mpsc::Sender<()>,
        client_gone: oneshot::Receiver<()>,
    ) -> Result<Played, PeerError> {
        self.m.lane.server().enter()?;
        if let Some(program) = &self.program {
            let played = program.listen(self.m.deadline, &listening, client_gone);
            return played.map_err(|source| PeerError::Program {
                role: self.role,
                source,
            });
        }
        let bound = std::net::TcpListener::bind(self.server_address()).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.try_clone()?, listener))
        });
        let (listener, peek) = bound.map_err(|source| PeerError::Socket {
            action: "listen",
            source,
        })?;
        // Nobody hears it only if the client's thread has died, which is reported there.
        let _unheard = listening.send(());
        self.play(move || {
            let listener = TcpListener::from_std(listener)?;
            Ok(Source::Accepts {
                listener,
                peek,
                client_gone: Some(client_gone),
            })
        })
    }

    /// Connects. For the client's own thread.
    pub(super) fn connect(self) -> Result<Played, PeerError> {
        self.m.lane.client().enter()?;
        if let Some(program) = &self.program {
            let played = program.connect(self.m.deadline);
            return played.map_err(|source| PeerError::Program {
                role: self.role,
                source,
            });
        }
        let server = self.server_address();
        self.play(move || Ok(Source::Connects(server)))
    }

    /// Follows the script with each connection, one after another, until accepting fails.
    pub(super) async fn accept_all(&self, listener: &TcpListener) -> io::Error {
        loop {
            let socket = match listener.accept().await.map(|(tcp, _)| Socket::new(tcp)) {
                Ok(Ok(socket)) => socket,
                Ok(Err(error)) | Err(error) => return error,
            };
            let mut log = Log::new();
            let mut actor = Actor {
                role: self.role,
                peer: &self.m.scenario.server,
                echoed: false,
                endpoint: self.endpoint.as_ref(),
                resumes: false,
                early: &[],
                log: &mut log,
            };
            // How it ended is for the client to see.
            let _ended = timeout(self.m.deadline, actor.play(socket)).await;
        }
    }

    pub(super) fn server_address(&self) -> SocketAddr {
        server_address(self.m)
    }

    /// Makes every connection within the deadline. `open` is called inside the runtime.
    fn play(self, open: impl FnOnce() -> io::Result<Source>) -> Result<Played, PeerError> {
        let infra = |source| PeerError::Socket {
            action: "start a runtime",
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(infra)?;
        let mut log = Log::new();
        let mut flows = Vec::new();
        let ended = runtime.block_on(async {
            let mut source = open().map_err(infra)?;
            let all = self.connections(&mut source, &mut log, &mut flows);
            match timeout(self.m.deadline, all).await {
                Ok(Ok(())) => Ok(("ok".into(), false)),
                Ok(Err(Halt::Outcome(Stopped(text)))) => Ok((text, false)),
                Ok(Err(Halt::Infra(error))) => Err(error),
                Err(_elapsed) => Ok(("deadline".into(), true)),
            }
        });
        let (mut text, hung) = ended?;
        if hung && let Some(last) = log.last() {
            text = format!("{text} since {last}");
        }
        let outcome = Outcome {
            text,
            log: log.into_lines(),
            key_log: self.keys.lines(),
        };
        Ok(Played {
            outcome,
            hung,
            flows,
        })
    }

    async fn connections(
        &self,
        source: &mut Source,
        log: &mut Log,
        flows: &mut Vec<SocketAddr>,
    ) -> Result<(), Halt> {
        let scenario = self.m.scenario;
        if let Some((peer, endpoint)) = &self.warmup {
            log.note("good handshake before the case");
            let (socket, _) = source.next().await?;
            let mut actor = Actor {
                role: self.role,
                peer,
                echoed: false,
                endpoint: Some(endpoint),
                resumes: false,
                early: &[],
                log,
            };
            actor.play(socket).await.map_err(|Stopped(text)| {
                Halt::Infra(PeerError::Warmup {
                    role: self.role,
                    text,
                })
            })?;
        }
        let early = vec![EARLY; scenario.client.early_data];
        for nth in 0..scenario.client.connections {
            let (socket, client) = match source.next().await {
                // Once the first connection stood, what keeps a later one away is part of the case.
                Err(Halt::Infra(PeerError::Socket { source, .. })) if nth > 0 => {
                    return Err(Halt::Outcome(source.into()));
                }
                next => next?,
            };
            log.note(format_args!("connection {} from {client}", nth + 1));
            flows.push(client);
            let resumes = nth > 0;
            let mut actor = Actor {
                role: self.role,
                peer: match self.role {
                    Role::Client => &scenario.client,
                    Role::Server => &scenario.server,
                },
                echoed: scenario.server.stack == Stack::GnuTls,
                endpoint: self.endpoint.as_ref(),
                resumes,
                early: if resumes { &early } else { &[] },
                log,
            };
            actor.play(socket).await.map_err(Halt::Outcome)?;
        }
        Ok(())
    }
}

fn server_address(m: &Match<'_>) -> SocketAddr {
    SocketAddr::new(m.lane.address(Role::Server, m.family), m.port)
}

impl Source {
    /// The next connection, and the client's address.
    async fn next(&mut self) -> Result<(Socket, SocketAddr), Halt> {
        let (action, next) = match self {
            Self::Connects(server) => ("connect", connect(*server).await),
            Self::Accepts {
                listener,
                peek,
                client_gone,
            } => {
                let accepted = match client_gone {
                    None => None,
                    Some(gone) => tokio::select! {
                        biased;
                        accepted = listener.accept() => Some(accepted),
                        _ = gone => None,
                    },
                };
                let accepted = match accepted {
                    Some(accepted) => accepted,
                    None => {
                        *client_gone = None;
                        // The client is gone, but its last connection may be waiting all the same.
                        match waiting(peek) {
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                                return Err(Halt::Outcome(Stopped("NoConnection".into())));
                            }
                            accepted => accepted,
                        }
                    }
                };
                ("accept", accepted)
            }
        };
        let socket = next.and_then(|(tcp, client)| Ok((Socket::new(tcp)?, client)));
        socket.map_err(|source| Halt::Infra(PeerError::Socket { action, source }))
    }
}

async fn connect(server: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let tcp = TcpStream::connect(server).await?;
    let client = tcp.local_addr()?;
    Ok((tcp, client))
}

/// A connection that needs no waiting for.
fn waiting(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (tcp, client) = listener.accept()?;
    tcp.set_nonblocking(true)?;
    Ok((TcpStream::from_std(tcp)?, client))
}
