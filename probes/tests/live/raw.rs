//! Handshakes that fail by hand: a ClientHello, then an alert by the client, which is all that a
//! certain verdict takes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};

use gauntlet_probes::netns::NetNs;
use libtest_mimic::Failed;

use crate::stand::Stand;
use crate::watch::PATIENCE;

/// unknown_ca
pub(crate) const UNKNOWN_CA: u8 = 48;
/// bad_certificate
pub(crate) const BAD_CERTIFICATE: u8 = 42;

/// A TLS 1.2 ClientHello that asks for `name`, as a record.
pub(crate) fn client_hello(name: &str) -> Vec<u8> {
    let name_length = name.len() as u16;
    let mut extension = vec![0, 0];
    extension.extend((name_length + 5).to_be_bytes());
    extension.extend((name_length + 3).to_be_bytes());
    extension.push(0);
    extension.extend(name_length.to_be_bytes());
    extension.extend(name.as_bytes());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend((extension.len() as u16).to_be_bytes());
    body.extend(extension);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// A fatal alert, as a record.
pub(crate) fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// A connection, both ends.
pub(crate) struct Connection {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

impl Connection {
    /// Opens one to a new listener at `address` (port 0: any).
    pub(crate) fn open(stand: &Stand, address: SocketAddr) -> Result<Self, Failed> {
        Self::between(&stand.client, &stand.server, address)
    }

    /// The same, between any two namespaces.
    pub(crate) fn between(
        client: &NetNs,
        server: &NetNs,
        address: SocketAddr,
    ) -> Result<Self, Failed> {
        let listener = server.run(|| TcpListener::bind(address))??;
        let address = listener.local_addr()?;
        let client = client.run(|| TcpStream::connect_timeout(&address, PATIENCE))??;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE))?;
        }
        Ok(Self { client, server })
    }

    /// The client sends bytes, and the server has received them.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.client.write_all(bytes)?;
        Ok(self.server.read_exact(&mut vec![0; bytes.len()])?)
    }

    /// Both close in the ordinary way.
    pub(crate) fn close(mut self) -> Result<(), Failed> {
        self.client.shutdown(Shutdown::Write)?;
        self.server.read_to_end(&mut Vec::new())?;
        drop(self.server);
        self.client.read_to_end(&mut Vec::new())?;
        Ok(())
    }
}

/// One handshake that the client rejects.
pub(crate) fn fail(
    stand: &Stand,
    address: IpAddr,
    name: &str,
    description: u8,
) -> Result<(), Failed> {
    let mut connection = Connection::open(stand, (address, 0).into())?;
    connection.say(&client_hello(name))?;
    connection.say(&alert(description))?;
    connection.close()
}
