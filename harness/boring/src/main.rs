//! One end of one TLS connection by BoringSSL, for gauntlet: a handshake, ping and pong, an orderly end, and what
//! came of it in the last line. Its command line is that of the harness's `peer.go`. Refuses to follow any other
//! script.
//!
//! - `configuration`: from the command line to BoringSSL's
//! - `failure`: what BoringSSL says of a call that failed

mod configuration;
mod failure;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Error, Result, bail};
use boring::ssl::{HandshakeError, Ssl, SslStream};
use clap::{Parser, ValueEnum};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use crate::failure::Failure;

/// One end of one TLS connection by BoringSSL.
#[derive(Parser)]
#[command(name = "gauntlet-boring-peer")]
struct Arguments {
    /// Which end
    #[arg(long, value_enum)]
    role: Role,
    /// Where the server listens
    #[arg(long)]
    address: SocketAddr,
    /// Whom the client asks for
    #[arg(long)]
    name: String,
    /// The CA that is trusted, PEM
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Own certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Lowest TLS version
    #[arg(long, value_enum, default_value = "1.2")]
    min: Version,
    /// Highest TLS version
    #[arg(long, value_enum, default_value = "1.3")]
    max: Version,
    /// Cipher suites of TLS 1.2, IANA names; BoringSSL lets nobody choose among those of TLS 1.3
    #[arg(long, value_delimiter = ',')]
    suites: Vec<String>,
    /// Whether the server asks for a client certificate
    #[arg(long, value_enum, default_value = "none")]
    client_auth: ClientAuth,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "1.2")]
    V1_2,
    #[value(name = "1.3")]
    V1_3,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClientAuth {
    None,
    Optional,
    Required,
}

fn main() -> ExitCode {
    let arguments = match gauntlet_cli::parse::<Arguments>() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(&arguments) {
        Ok(()) => {
            println!("outcome: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("outcome: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let session = configuration::session(arguments)?;
    let socket = match arguments.role {
        Role::Client => TcpStream::connect(arguments.address)?,
        Role::Server => accept(arguments.address)?,
    };
    // Nothing stays unread: a socket closed with bytes unread sends RST, which destroys an alert on its way.
    let mut raw = socket.try_clone()?;
    let outcome = speak(arguments.role, session, socket);
    // Whoever has reset the connection has ended it already.
    let _ended = raw.shutdown(Shutdown::Write);
    let _rest = io::copy(&mut raw, &mut io::sink());
    outcome
}

/// The one connection. Whoever waits for nobody is told to stop, by SIGTERM; a connection that stands goes on to its
/// end.
fn accept(address: SocketAddr) -> Result<TcpStream> {
    let listener = TcpListener::bind(address)?;
    let stop = SigSet::from(Signal::SIGTERM);
    stop.thread_block()?;
    let stop = SignalFd::new(&stop)?;
    println!("listening");
    let mut waiting = [
        PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        PollFd::new(stop.as_fd(), PollFlags::POLLIN),
    ];
    poll(&mut waiting, PollTimeout::NONE)?;
    if waiting[0].any() != Some(true) {
        bail!("no connection");
    }
    Ok(listener.accept()?.0)
}

/// The handshake, the exchange, and close_notify.
fn speak(role: Role, session: Ssl, socket: TcpStream) -> Result<()> {
    let handshake = match role {
        Role::Client => session.connect(socket),
        Role::Server => session.accept(socket),
    };
    let mut stream = handshake.map_err(|error| match error {
        HandshakeError::SetupFailure(errors) => Error::new(errors),
        HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed) => {
            Error::new(Failure::new(failed.error(), failed.ssl()))
        }
    })?;
    match role {
        Role::Client => {
            if let Err(error) = say(&mut stream, b"ping") {
                // A rejection that has come by now is the better answer.
                hear(&mut stream, b"pong")?;
                return Err(error.into());
            }
            hear(&mut stream, b"pong")?;
        }
        Role::Server => {
            hear(&mut stream, b"ping")?;
            say(&mut stream, b"pong")?;
        }
    }
    let closed = stream.shutdown();
    closed.map_err(|error| Failure::new(&error, stream.ssl()))?;
    Ok(())
}

fn say(stream: &mut SslStream<TcpStream>, text: &[u8]) -> Result<(), Failure> {
    // Four bytes are written whole or not at all.
    let written = stream.ssl_write(text);
    written.map_err(|error| Failure::new(&error, stream.ssl()))?;
    Ok(())
}

fn hear(stream: &mut SslStream<TcpStream>, text: &[u8]) -> Result<()> {
    let mut heard = Vec::new();
    while heard.len() < text.len() {
        let mut bytes = [0; 4];
        let room = text.len() - heard.len();
        let read = stream.ssl_read(&mut bytes[..room]);
        let read = read.map_err(|error| Failure::new(&error, stream.ssl()))?;
        heard.extend(&bytes[..read]);
    }
    if heard != text {
        bail!("unexpected {:?}", String::from_utf8_lossy(&heard));
    }
    Ok(())
}
