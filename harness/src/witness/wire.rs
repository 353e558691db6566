//! From packets to what went over each connection, one line for each thing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::capture::Captured;
use super::hello::{Chosen, Hello};
use super::records::{Records, Seen, Shown};
use super::segment::Segment;
use super::stream::Stream;
use crate::lab::Role;
use crate::scenario::model::Family;

/// One connection as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Who connected.
    pub client: SocketAddr,
    /// Who listened.
    pub server: SocketAddr,
    /// What went over the wire, in order: `client: ClientHello`, `server: alert fatal unknown_ca`,
    /// `client: not TLS "CONNECT ..."`, `server: FIN`.
    pub lines: Vec<String>,
    /// The first ClientHello.
    pub client_hello: Option<Hello>,
    /// The ServerHello; a HelloRetryRequest is none.
    pub server_hello: Option<Chosen>,
    /// The common name in the client's certificate, where it is in the clear.
    pub client_certificate: Option<String>,
    /// The common name in the server's certificate, where it is in the clear.
    pub server_certificate: Option<String>,
}

impl Transcript {
    /// The connections of `clients` to `port`, one after the other, as one: lines of all of them, and
    /// the facts of the last, which is the one a case is about.
    ///
    /// # Errors
    /// When there is none, or one of them was not captured; says which.
    pub fn read(captured: &Captured, clients: &[SocketAddr], port: u16) -> Result<Self, String> {
        let mut flows = transcripts(captured, port);
        let mut lines = Vec::new();
        let mut last = None;
        for client in clients {
            let Some(at) = flows.iter().position(|flow| flow.client == *client) else {
                return Err(format!(
                    "no connection from {client} to port {port} was captured"
                ));
            };
            let flow = flows.remove(at);
            lines.extend_from_slice(&flow.lines);
            last = Some(flow);
        }
        let last = last.ok_or_else(|| format!("no connection to port {port} was made"))?;
        Ok(Self { lines, ..last })
    }

    /// The IP version.
    #[must_use]
    pub fn family(&self) -> Family {
        if self.server.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }

    /// Whether all of `wanted` stand here in this order, others between them allowed. A wanted line that
    /// ends in `..` stands for every line that begins so: lengths of records with certificates vary.
    ///
    /// # Errors
    /// The first wanted line that is missing.
    pub fn shows(&self, wanted: &[String]) -> Result<(), String> {
        let mut lines = self.lines.iter();
        for want in wanted {
            let found = match want.strip_suffix("..") {
                Some(start) => lines.any(|line| line.starts_with(start)),
                None => lines.any(|line| line == want),
            };
            if !found {
                return Err(want.clone());
            }
        }
        Ok(())
    }
}

/// The connections to `port`, in the order of their SYNs.
#[must_use]
pub fn transcripts(captured: &Captured, port: u16) -> Vec<Transcript> {
    let mut flows: Vec<Flow> = Vec::new();
    // A client's port may come back for a second connection; the index is of its latest.
    let mut latest: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for segment in captured.packets().iter().filter_map(Segment::of) {
        let (role, client, server) = if segment.to.port() == port {
            (Role::Client, segment.from, segment.to)
        } else if segment.from.port() == port {
            (Role::Server, segment.to, segment.from)
        } else {
            continue;
        };
        let opens = segment.syn && !segment.ack;
        let at = match latest.get(&client) {
            // A SYN sent again opens nothing.
            Some(&at) if !opens || flows[at].opened_by == segment.sequence => at,
            // Not opened while the capture ran: nothing can be said about it.
            None if !opens => continue,
            _ => {
                flows.push(Flow::new(client, server, segment.sequence));
                latest.insert(client, flows.len() - 1);
                flows.len() - 1
            }
        };
        flows[at].accept(role, &segment);
    }
    flows.into_iter().map(|flow| flow.transcript).collect()
}

/// One connection while it is read.
struct Flow {
    transcript: Transcript,
    opened_by: u32,
    client: Direction,
    server: Direction,
    shown: Shown,
    /// Who sent bytes last, if they were not TLS: what follows them belongs to the same line.
    clear: Option<Role>,
}

#[derive(Default)]
struct Direction {
    stream: Stream,
    records: Records,
}

impl Flow {
    fn new(client: SocketAddr, server: SocketAddr, opened_by: u32) -> Self {
        let transcript = Transcript {
            client,
            server,
            lines: Vec::new(),
            client_hello: None,
            server_hello: None,
            client_certificate: None,
            server_certificate: None,
        };
        Self {
            transcript,
            opened_by,
            client: Direction::default(),
            server: Direction::default(),
            shown: Shown::default(),
            clear: None,
        }
    }

    fn accept(&mut self, role: Role, segment: &Segment<'_>) {
        let (direction, who, certificate) = match role {
            Role::Client => (
                &mut self.client,
                "client",
                &mut self.transcript.client_certificate,
            ),
            Role::Server => (
                &mut self.server,
                "server",
                &mut self.transcript.server_certificate,
            ),
        };
        let lines = &mut self.transcript.lines;
        let fresh = direction.stream.accept(segment);
        for seen in direction.records.read(&fresh.bytes, &mut self.shown) {
            let what = match seen {
                Seen::Tls(line) => line,
                Seen::Certificate(name) => {
                    *certificate = name;
                    "Certificate".into()
                }
                Seen::Clear(_) if self.clear == Some(role) => continue,
                Seen::Clear(line) => {
                    self.clear = Some(role);
                    lines.push(format!("{who}: not TLS \"{line}\""));
                    continue;
                }
            };
            self.clear = None;
            lines.push(format!("{who}: {what}"));
        }
        if fresh.fin {
            lines.push(format!("{who}: FIN"));
        }
        if fresh.rst {
            lines.push(format!("{who}: RST"));
        }
        self.transcript
            .client_hello
            .clone_from(&self.shown.client_hello);
        self.transcript
            .server_hello
            .clone_from(&self.shown.server_hello);
    }
}
