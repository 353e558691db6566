//! What a peer speaks at the moment: bytes in the clear, TLS through tokio-rustls, TLS moved by hand, or
//! OpenSSL's TLS. The same acts for all of them; no step of a script is known here.

use std::io::{self, Read};

use rustls::{ClientConnection, CommonState, Connection, HandshakeKind, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::openssl;
use super::socket::Socket;
use super::stepped::Stepped;
use super::tls::Endpoint;

/// The state of a connection above TCP.
pub(super) enum Session {
    /// No TLS yet, or none at all.
    Clear(Socket),
    /// A handshake that tokio-rustls has finished.
    Library(Box<TlsStream<Socket>>),
    /// A handshake that is moved by hand.
    Stepped(Box<Stepped>),
    /// OpenSSL, which can always be moved by hand.
    OpenSsl(Box<openssl::Connection>),
}

/// What a handshake came to.
pub(super) struct Agreed {
    /// For people: version, suite, protocol.
    pub(super) text: String,
    /// Whether it resumed a session.
    pub(super) resumed: bool,
}

impl Session {
    /// Does the handshake, or what is left of it. `early` is sent as 0-RTT where the session allows it.
    pub(super) async fn handshake(&mut self, endpoint: &Endpoint, early: &[u8]) -> io::Result<()> {
        if let (Self::Clear(socket), Endpoint::OpenSsl(context)) = (&*self, endpoint) {
            *self = Self::open(context, socket)?;
        }
        let socket = match self {
            Self::Clear(socket) => socket.clone(),
            Self::Stepped(stepped) => return stepped.handshake().await,
            Self::OpenSsl(connection) => return connection.handshake().await,
            Self::Library(_) => return Ok(()),
        };
        let stream = match endpoint {
            // Opened above.
            Endpoint::OpenSsl(_) => return Ok(()),
            Endpoint::Client { config, name } => {
                let connector = TlsConnector::from(config.clone()).early_data(!early.is_empty());
                let mut stream = connector.connect(name.clone(), socket).await?;
                if !early.is_empty() {
                    // With early data the handshake has not begun yet; the flush does all of it.
                    stream.write_all(early).await?;
                    stream.flush().await?;
                }
                TlsStream::Client(stream)
            }
            Endpoint::Server(config) => {
                TlsStream::Server(TlsAcceptor::from(config.clone()).accept(socket).await?)
            }
        };
        *self = Self::Library(Box::new(stream));
        Ok(())
    }

    /// Turns a connection in the clear into one moved by hand; others stay what they are.
    pub(super) fn step_by_hand(&mut self, endpoint: &Endpoint) -> io::Result<()> {
        if let Self::Clear(socket) = self {
            let tls: Result<Connection, rustls::Error> = match endpoint {
                Endpoint::Client { config, name } => {
                    ClientConnection::new(config.clone(), name.clone()).map(Into::into)
                }
                Endpoint::Server(config) => ServerConnection::new(config.clone()).map(Into::into),
                Endpoint::OpenSsl(context) => {
                    *self = Self::open(context, socket)?;
                    return Ok(());
                }
            };
            let tls = tls.map_err(io::Error::other)?;
            *self = Self::Stepped(Box::new(Stepped::new(tls, socket.clone())));
        }
        Ok(())
    }

    fn open(context: &openssl::Context, socket: &Socket) -> io::Result<Self> {
        let connection = openssl::Connection::new(context, socket.clone())?;
        Ok(Self::OpenSsl(Box::new(connection)))
    }

    /// Moves the handshake on by one flight, where it is moved by hand.
    pub(super) async fn flight(&mut self) -> io::Result<()> {
        match self {
            Self::Stepped(stepped) => stepped.flight().await,
            Self::OpenSsl(connection) => connection.flight().await,
            Self::Clear(_) | Self::Library(_) => Ok(()),
        }
    }

    /// What TLS has agreed on so far.
    pub(super) fn agreed(&self) -> Option<Agreed> {
        match self {
            Self::Clear(_) => None,
            Self::Library(stream) => Some(stream.get_ref().1.into()),
            Self::Stepped(stepped) => Some(stepped.agreed().into()),
            Self::OpenSsl(connection) => Some(Agreed {
                text: connection.summary(),
                resumed: connection.resumed(),
            }),
        }
    }

    /// What the library says of an act that was still waiting when patience ended, where one says anything.
    pub(super) fn waiting(&self) -> Option<String> {
        match self {
            Self::OpenSsl(connection) => connection.waiting().map(|waits| waits.to_string()),
            _ => None,
        }
    }

    /// Whether the 0-RTT data `early` went through: accepted, and at the server also read back.
    pub(super) fn took_early_data(&mut self, early: &[u8]) -> bool {
        let Self::Library(stream) = self else {
            return false;
        };
        match &mut **stream {
            TlsStream::Client(client) => client.get_ref().1.is_early_data_accepted(),
            TlsStream::Server(server) => {
                let Some(mut data) = server.get_mut().1.early_data() else {
                    return false;
                };
                let mut read = vec![0; early.len()];
                data.read_exact(&mut read).is_ok() && read == early
            }
        }
    }

    /// Reads; 0 is the end.
    pub(super) async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(bytes).await,
            Self::Library(stream) => stream.read(bytes).await,
            Self::Stepped(stepped) => stepped.read(bytes).await,
            Self::OpenSsl(connection) => connection.read(bytes).await,
        }
    }

    /// Reads as many bytes as fit.
    pub(super) async fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read(&mut bytes[filled..]).await? {
                0 => {
                    return Err(match self {
                        // It has said how the end came.
                        Self::OpenSsl(connection) => connection.closed().into(),
                        _ => io::ErrorKind::UnexpectedEof.into(),
                    });
                }
                read => filled += read,
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`, and out of every buffer.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.write_all(bytes).await,
            Self::Library(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Stepped(stepped) => stepped.write(bytes).await,
            Self::OpenSsl(connection) => connection.write(bytes).await,
        }
    }

    /// Sends close_notify and leaves TCP open. In the clear it is a plaintext alert record.
    pub(super) async fn close_notify(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(socket) => socket.write_all(&alert_record([1, 0])).await,
            Self::Library(stream) => {
                // Not `shutdown`, which would send FIN as well.
                stream.get_mut().1.send_close_notify();
                stream.flush().await
            }
            Self::Stepped(stepped) => stepped.close_notify().await,
            Self::OpenSsl(connection) => connection.close_notify().await,
        }
    }
}

impl From<&CommonState> for Agreed {
    fn from(tls: &CommonState) -> Self {
        let text = format!(
            "{:?} {:?} {:?} alpn {:?}",
            tls.protocol_version(),
            tls.negotiated_cipher_suite().map(|suite| suite.suite()),
            tls.handshake_kind(),
            tls.alpn_protocol().map(String::from_utf8_lossy),
        );
        Self {
            text,
            resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// A plaintext alert record (RFC 8446 section 6).
pub(super) fn alert_record([level, description]: [u8; 2]) -> [u8; 7] {
    [21, 3, 3, 0, 2, level, description]
}
