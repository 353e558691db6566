//! One connection: the steps of a peer's script, in order, until one fails or none is left, and then an
//! orderly end.
//!
//! The end is what makes outcomes repeatable. A socket closed with bytes unread sends RST, and an RST
//! destroys an alert that the other side has not read yet. So every connection that is not reset on
//! purpose sends FIN and then reads until the other side has closed too, unless its peer is one that
//! closes at once on purpose.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::openssl::{Failure, NotAsked};
use super::session::{Session, alert_record};
use super::socket::Socket;
use super::tls::Endpoint;
use crate::lab::Role;
use crate::patience::pace;
use crate::scenario::model::{Peer, Stack, Step};

/// What one side sends in [`Step::Exchange`], and the answer.
const PING: &[u8; 4] = b"ping";
const PONG: &[u8; 4] = b"pong";
/// What a server that echoes lines is sent, and answers.
const ECHO: &[u8; 5] = b"ping\n";

/// The longest thing a step reads before it gives up: more than any record, RFC 8446 section 5.2.
const READ_LIMIT: usize = 1 << 16;

/// Why a script cannot be followed by its peer.
#[derive(Debug, thiserror::Error)]
pub enum ScriptFault {
    /// A raw peer was told to speak TLS.
    #[error("{0:?} needs a TLS stack, and the peer is raw")]
    NeedsTls(Step),
    /// Steps after the connection is gone.
    #[error("{0:?} comes after reset")]
    AfterReset(Step),
    /// Not hexadecimal.
    #[error("not bytes in hexadecimal: {0:?}")]
    Hex(String),
}

/// Refuses scripts that no peer could follow, before anything is sent.
pub(super) fn check(peer: &Peer) -> Result<(), ScriptFault> {
    let mut reset = false;
    for step in &peer.script {
        if reset {
            return Err(ScriptFault::AfterReset(step.clone()));
        }
        match step {
            Step::Handshake | Step::Flight if peer.stack == Stack::Raw => {
                return Err(ScriptFault::NeedsTls(step.clone()));
            }
            Step::SendHex(text) => {
                unhex(text).ok_or_else(|| ScriptFault::Hex(text.clone()))?;
            }
            Step::Reset => reset = true,
            _ => {}
        }
    }
    Ok(())
}

/// Why a connection did not go as the script says; its text is the peer's outcome.
#[derive(Debug)]
pub(super) struct Stopped(pub(super) String);

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        let Some(inner) = error.get_ref() else {
            return Self(format!("{:?}", error.kind()));
        };
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            Self(format!("{tls:?}"))
        } else if inner.is::<Failure>() || inner.is::<NotAsked>() {
            Self(inner.to_string())
        } else {
            Self(format!("{:?}", error.kind()))
        }
    }
}

/// Whether an error of the connection is really what a TLS library found, and says what that was.
fn says_why(error: &io::Error) -> bool {
    let Some(inner) = error.get_ref() else {
        return false;
    };
    match inner.downcast_ref::<Failure>() {
        Some(failure) => failure.says_why(),
        None => inner.is::<rustls::Error>(),
    }
}

/// What happened, with the time since the case began.
#[derive(Debug)]
pub(super) struct Log {
    since: Instant,
    lines: Vec<String>,
}

impl Log {
    /// An empty log; the clock starts.
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            lines: Vec::new(),
        }
    }

    /// Adds a line.
    pub(super) fn note(&mut self, line: impl std::fmt::Display) {
        let elapsed = self.since.elapsed().as_secs_f64() * 1000.0;
        self.lines.push(format!("{elapsed:9.3} ms  {line}"));
    }

    /// The last line: what has not ended yet, and when it began.
    pub(super) fn last(&self) -> Option<&str> {
        self.lines.last().map(|line| line.trim_start())
    }

    /// The lines.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// One peer on one connection.
pub(super) struct Actor<'a> {
    /// Which end it is.
    pub(super) role: Role,
    /// What it does.
    pub(super) peer: &'a Peer,
    /// Whether the server echoes, so that a client gets back what it sent.
    pub(super) echoed: bool,
    /// Its TLS configuration; a raw peer has none.
    pub(super) endpoint: Option<&'a Endpoint>,
    /// Whether the session of an earlier connection must be resumed.
    pub(super) resumes: bool,
    /// The 0-RTT data that must go through; empty: none.
    pub(super) early: &'a [u8],
    /// Where it writes down what happens.
    pub(super) log: &'a mut Log,
}

impl Actor<'_> {
    /// Follows the script over `socket`.
    pub(super) async fn play(&mut self, socket: Socket) -> Result<(), Stopped> {
        let mut session = Session::Clear(socket.clone());
        let outcome = self.follow(&mut session, &socket).await;
        match &outcome {
            Ok(()) => self.log.note("script done"),
            Err(Stopped(text)) => self.log.note(format_args!("stopped: {text}")),
        }
        drop(session);
        if !self.peer.lingers {
            self.log.note("closed at once");
        } else if !self.peer.script.contains(&Step::Reset) || outcome.is_err() {
            let mut socket = socket;
            socket.fin();
            // Whatever the other side does from here on, this one is done.
            let _ended = socket.drain().await;
            self.log.note("closed");
        }
        outcome
    }

    async fn follow(&mut self, session: &mut Session, socket: &Socket) -> Result<(), Stopped> {
        let patience = pace(Duration::from_millis(self.peer.patience_ms));
        for step in &self.peer.script {
            self.log.note(format_args!("{step:?}"));
            match step {
                // These end by the other side or by the clock, not by patience.
                Step::Silence => socket.clone().drain().await?,
                Step::PauseMs(duration) => {
                    tokio::time::sleep(Duration::from_millis(*duration)).await;
                }
                _ => match timeout(patience, self.act(step, session, socket)).await {
                    Ok(done) => done?,
                    Err(_elapsed) => {
                        let waits = session.waiting().map(|waits| format!(" {waits}"));
                        return Err(Stopped(format!("timeout{}", waits.unwrap_or_default())));
                    }
                },
            }
        }
        Ok(())
    }

    async fn act(
        &mut self,
        step: &Step,
        session: &mut Session,
        socket: &Socket,
    ) -> Result<(), Stopped> {
        // Steps that are "in the clear" go past whatever TLS there is.
        let mut clear = socket.clone();
        match step {
            Step::Handshake => self.handshake(session).await?,
            Step::Flight => {
                self.step_by_hand(session)?;
                session.flight().await?;
            }
            Step::Exchange => self.exchange(session).await?,
            Step::Send(text) => session.write(text.as_bytes()).await?,
            Step::SendHex(text) => clear.write_all(&unhex(text).unwrap_or_default()).await?,
            Step::Expect(text) => expect(&mut clear, text.as_bytes()).await?,
            Step::ReadRecord => read_record(&mut clear).await?,
            Step::ReadToEnd => {
                let mut chunk = [0; 4096];
                while session.read(&mut chunk).await? > 0 {}
            }
            Step::CloseNotify => {
                self.step_by_hand(session)?;
                session.close_notify().await?;
            }
            Step::Alert(alert) => clear.write_all(&alert_record(*alert)).await?,
            Step::Fin => clear.fin(),
            Step::Reset => clear.reset_on_drop()?,
            // Done by `follow`.
            Step::PauseMs(_) | Step::Silence => {}
        }
        Ok(())
    }

    async fn handshake(&mut self, session: &mut Session) -> Result<(), Stopped> {
        let Some(endpoint) = self.endpoint else {
            return Ok(());
        };
        session
            .handshake(
                endpoint,
                if self.role == Role::Client {
                    self.early
                } else {
                    &[]
                },
            )
            .await?;
        if let Some(agreed) = session.agreed() {
            let how = if agreed.resumed { "resumed" } else { "full" };
            self.log.note(format_args!("{}, {how}", agreed.text));
            if self.resumes && !agreed.resumed {
                return Err(Stopped("NotResumed".into()));
            }
        }
        if !self.early.is_empty() {
            if !session.took_early_data(self.early) {
                return Err(Stopped("EarlyDataRejected".into()));
            }
            self.log.note(format_args!(
                "{} bytes of early data accepted",
                self.early.len()
            ));
        }
        Ok(())
    }

    async fn exchange(&mut self, session: &mut Session) -> Result<(), Stopped> {
        match self.role {
            Role::Client => {
                let (ping, pong): (&[u8], &[u8]) = if self.echoed {
                    (ECHO, ECHO)
                } else {
                    (PING, PONG)
                };
                let mut word = vec![0; pong.len()];
                let sent = session.write(ping).await;
                let answered = session.read_exact(&mut word).await;
                // A write fails where the server has ended the connection already. If it said why, that
                // is still to be read and is the better answer; else the write knows best how it ended.
                match (sent, answered) {
                    (Err(sent), Err(answered)) if !says_why(&answered) => {
                        return Err(sent.into());
                    }
                    (_, Err(answered)) => return Err(answered.into()),
                    (sent, Ok(())) => sent?,
                }
                same(&word, pong)
            }
            Role::Server => {
                let mut word = [0; 4];
                session.read_exact(&mut word).await?;
                same(&word, PING)?;
                Ok(session.write(PONG).await?)
            }
        }
    }

    fn step_by_hand(&mut self, session: &mut Session) -> Result<(), Stopped> {
        match self.endpoint {
            Some(endpoint) => Ok(session.step_by_hand(endpoint)?),
            None => Ok(()),
        }
    }
}

fn same(read: &[u8], expected: &[u8]) -> Result<(), Stopped> {
    if read == expected {
        return Ok(());
    }
    Err(Stopped(format!(
        "Unexpected({:?})",
        String::from_utf8_lossy(read)
    )))
}

/// Reads until `needle` has come by, and not a byte further.
async fn expect(socket: &mut Socket, needle: &[u8]) -> Result<(), Stopped> {
    let mut seen = Vec::new();
    loop {
        if let Some(at) = seen
            .windows(needle.len().max(1))
            .position(|part| part == needle)
        {
            socket.unread(&seen[at + needle.len()..]);
            return Ok(());
        }
        if seen.len() > READ_LIMIT {
            return Err(Stopped(format!("no {:?}", String::from_utf8_lossy(needle))));
        }
        if socket.read_buf(&mut seen).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

async fn read_record(socket: &mut Socket) -> Result<(), Stopped> {
    let mut header = [0; 5];
    socket.read_exact(&mut header).await?;
    let mut body = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
    socket.read_exact(&mut body).await?;
    Ok(())
}

/// The bytes of a text like `80 2e 01 00 02`.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split_whitespace().collect();
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}
