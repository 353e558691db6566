//! A beacon: one failed handshake with a name of its own, made outside every case.
//!
//! The probe must report it (SSL_ERROR_SYSCALL, ended by the client), and what a probe reports comes in
//! order. So once the beacon has been reported, everything before it has been, and a probe that reports
//! a beacon is ready. This module only makes it happen; it waits for no probe.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::lab::{Lane, Role};
use crate::scenario::model::Family;

/// How long anything here may take on a cable without loss.
const LIMIT: Duration = Duration::from_secs(5);

/// The beacons of one lane, all to the same port.
///
/// Its listeners stay. One for each beacon could not be bound at times: a child that another lane's
/// thread has forked holds a copy of every socket until it calls `execve`, the closed listener among them.
#[derive(Debug)]
pub struct Beacons {
    lane: Arc<Lane>,
    port: u16,
    listeners: BTreeMap<Family, TcpListener>,
}

impl Beacons {
    /// Beacons to `port` of the lane's server. Nothing is sent or bound yet.
    #[must_use]
    pub fn new(lane: Arc<Lane>, port: u16) -> Self {
        Self {
            lane,
            port,
            listeners: BTreeMap::new(),
        }
    }

    /// Makes a connection that sends a ClientHello asking for `name` and, once the server has read it, is
    /// reset by the client. Returns the client's address; the RST has been received by then.
    ///
    /// # Errors
    /// When a namespace cannot be entered, the port is taken, or the lane does not carry packets.
    pub fn light(&mut self, family: Family, name: &str) -> io::Result<SocketAddr> {
        let hello = client_hello(name)?;
        let address = SocketAddr::new(self.lane.address(Role::Server, family), self.port);
        // A socket stays in the namespace it was made in, so both ends can be used from here.
        let listener = match self.listeners.entry(family) {
            Entry::Occupied(bound) => bound.into_mut(),
            Entry::Vacant(free) => free.insert(
                self.lane
                    .server()
                    .run(|| TcpListener::bind(address))
                    .map_err(io::Error::other)??,
            ),
        };
        let mut client = self
            .lane
            .client()
            .run(|| TcpStream::connect_timeout(&address, LIMIT))
            .map_err(io::Error::other)??;
        let from = client.local_addr()?;
        let mut server = accept(listener, from)?;
        server.set_read_timeout(Some(LIMIT))?;

        client.write_all(&hello)?;
        server.read_exact(&mut vec![0; hello.len()])?;
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        drop(client);
        match server.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(from),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("the beacon was not reset")),
        }
    }
}

/// The connection from `client`, which has been made. One before it is of a beacon that failed.
fn accept(listener: &TcpListener, client: SocketAddr) -> io::Result<TcpStream> {
    loop {
        let (server, from) = listener.accept()?;
        if from == client {
            return Ok(server);
        }
    }
}

/// A whole TLS 1.2 ClientHello record (RFC 5246 section 7.4.1.2): one suite, and the extensions that a
/// server needs to answer it.
fn client_hello(name: &str) -> io::Result<Vec<u8>> {
    let server_name = prefixed16(&[&[0], &*prefixed16(name.as_bytes())?].concat())?;
    let extensions = [
        extension(0, &server_name)?,
        extension(10, &prefixed16(&[0x00, 0x17])?)?, // supported_groups: secp256r1
        extension(13, &prefixed16(&[0x04, 0x03])?)?, // signature_algorithms: ecdsa_secp256r1_sha256
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[0xbe; 32],         // random: a beacon has nothing to keep secret
        &[0],                // no session
        &[0, 2, 0xc0, 0x2b], // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        &[1, 0],             // no compression
        &prefixed16(&extensions)?,
    ]
    .concat();
    // The length of a handshake message has three bytes, and this one needs two of them.
    let message = [&[1, 0], &*prefixed16(&body)?].concat();
    Ok([&[22, 3, 1], &*prefixed16(&message)?].concat())
}

fn extension(kind: u8, body: &[u8]) -> io::Result<Vec<u8>> {
    Ok([&[0, kind], &*prefixed16(body)?].concat())
}

fn prefixed16(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "beacon name too long"))?;
    Ok([&length.to_be_bytes(), bytes].concat())
}
