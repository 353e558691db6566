//! A rustls connection moved by hand, one flight at a time, for scripts that act in the middle of a
//! handshake. tokio-rustls only knows handshakes that run to their end.

use std::io::{self, Read, Write};

use rustls::{CommonState, Connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::socket::Socket;

/// A TLS connection that moves only when told.
pub(super) struct Stepped {
    tls: Connection,
    socket: Socket,
}

impl Stepped {
    /// Starts a connection; nothing is sent yet.
    pub(super) fn new(tls: Connection, socket: Socket) -> Self {
        Self { tls, socket }
    }

    /// What TLS has agreed on so far.
    pub(super) fn agreed(&self) -> &CommonState {
        &self.tls
    }

    /// Reads until rustls has something to say, and sends that.
    pub(super) async fn flight(&mut self) -> io::Result<()> {
        while !self.tls.wants_write() {
            self.fill().await?;
        }
        self.flush().await
    }

    /// Goes on to the end of the handshake.
    pub(super) async fn handshake(&mut self) -> io::Result<()> {
        self.flush().await?;
        while self.tls.is_handshaking() {
            self.fill().await?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends close_notify, under whatever keys are in use.
    pub(super) async fn close_notify(&mut self) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush().await
    }

    /// Reads application data; 0 is the end. Answers nothing but a fatal alert.
    pub(super) async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.fill().await?,
                done => return done,
            }
        }
    }

    /// Sends application data.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        self.flush().await
    }

    /// Reads once from the connection and lets rustls see it. An error it finds is answered with its
    /// alert before it is returned.
    async fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        let read = self.socket.read(&mut chunk).await?;
        let mut fresh = &chunk[..read];
        loop {
            self.tls.read_tls(&mut fresh)?;
            if let Err(error) = self.tls.process_new_packets() {
                // The connection may be gone already; the cause is the error found, not that.
                let _unsent = self.flush().await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if fresh.is_empty() {
                break;
            }
        }
        if read == 0 && self.tls.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let mut flight = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut flight)?;
        }
        self.socket.write_all(&flight).await
    }
}
