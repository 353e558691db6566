//! What two namespaces do with one another while it is measured: handshakes, or a stream of bytes. By rustls and
//! plain sockets at both ends; nobody here knows that it is watched.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use gauntlet_probes::netns::NetNs;
use rustls::client::Resumption;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
};

use crate::processor::{Class, run_on};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// So many handshakes, one after the other.
    Handshakes(usize),
    /// So many MiB in one connection.
    Bulk(usize),
}

impl Work {
    /// How many parts of it are told of: handshakes, or MiB.
    pub(crate) const fn parts(self) -> usize {
        match self {
            Self::Handshakes(count) | Self::Bulk(count) => count,
        }
    }
}

/// The servers, and who asks them.
pub(crate) struct Ends {
    handshakes: SocketAddr,
    bulk: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Ends {
    /// Starts the servers, which run as long as this process.
    pub(crate) fn start(server: &NetNs, address: &str, class: Class) -> Result<Self> {
        let (config, serve) = configs()?;
        Ok(Self {
            handshakes: listen(server, &format!("{address}:443"), class, move |stream| {
                answer(stream, &serve)
            })?,
            bulk: listen(server, &format!("{address}:5001"), class, take)?,
            config,
        })
    }

    /// Does it, on the calling thread.
    pub(crate) fn work(&self, work: Work) -> Result<()> {
        match work {
            Work::Handshakes(count) => {
                (0..count).try_for_each(|_| ask(self.handshakes, &self.config))
            }
            Work::Bulk(mib) => give(self.bulk, mib),
        }
    }
}

fn listen(
    server: &NetNs,
    address: &str,
    class: Class,
    serve: impl Fn(TcpStream) -> Result<()> + Send + 'static,
) -> Result<SocketAddr> {
    let listener = server.run(|| TcpListener::bind(address))??;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let _like_everybody = run_on(0, class);
        for stream in listener.incoming() {
            // The client's end says what went wrong.
            let _ended = stream.map(&serve);
        }
    });
    Ok(address)
}

const MIB: usize = 1 << 20;
/// What is written or read at once.
const PIECE: usize = 128 << 10;

/// Sends so many MiB. Over when the other end has said that it has them.
fn give(address: SocketAddr, mib: usize) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    // No TLS record begins like this.
    let piece = vec![0xa5; PIECE];
    for _ in 0..mib * MIB / PIECE {
        stream.write_all(&piece)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut had = [0; 8];
    stream.read_exact(&mut had)?;
    ensure!(
        u64::from_be_bytes(had) == (mib * MIB) as u64,
        "bytes are missing"
    );
    Ok(())
}

/// The same, as a server.
fn take(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut piece = vec![0; PIECE];
    let mut had = 0_u64;
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            count => had += count as u64,
        }
    }
    stream.write_all(&had.to_be_bytes())?;
    Ok(())
}

/// A handshake, a question, an answer, the end. As a client.
fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut session = ClientConnection::new(Arc::clone(config), NAME.try_into()?)?;
    let mut tls = Stream::new(&mut session, &mut stream);
    tls.write_all(QUESTION)?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer)?;
    ensure!(answer == ANSWER, "another answer than was sent");
    Ok(())
}

/// The same, as a server. It closes first: the client's ports are free again at once.
fn answer(mut stream: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut session = ServerConnection::new(Arc::clone(config))?;
    let mut tls = Stream::new(&mut session, &mut stream);
    let mut question = [0; QUESTION.len()];
    tls.read_exact(&mut question)?;
    tls.write_all(ANSWER)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    Ok(())
}

const NAME: &str = "bench.test";
const QUESTION: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.0 204 No Content\r\n\r\n";

/// TLS 1.3, a certificate of P-256, and nothing that is remembered from one handshake to the next.
fn configs() -> Result<(Arc<ClientConfig>, Arc<ServerConfig>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())?;
    server.send_tls13_tickets = 0;
    Ok((Arc::new(client), Arc::new(server)))
}
