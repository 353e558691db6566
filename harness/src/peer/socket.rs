//! One TCP connection that a TLS library and a script can hold at the same time.
//!
//! A script must still be able to send FIN or RST, or to drain what is left, after the library that was
//! given the connection has failed; tokio's own halves cannot do that. Clones share the connection and
//! the bytes read too far, and must stay on one task.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A shared TCP connection.
#[derive(Clone)]
pub(super) struct Socket {
    tcp: Rc<TcpStream>,
    /// Bytes that were read past what was looked for; the next read gets them first.
    unread: Rc<RefCell<Vec<u8>>>,
}

impl Socket {
    /// Takes a connection over. Small writes go out at once: a script's steps are the segments.
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self {
            tcp: Rc::new(tcp),
            unread: Rc::default(),
        })
    }

    /// Gives bytes back, to be read again.
    pub(super) fn unread(&self, bytes: &[u8]) {
        self.unread.borrow_mut().splice(0..0, bytes.iter().copied());
    }

    /// Whether bytes were given back that nobody has read again.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.borrow().is_empty()
    }

    /// The descriptor, which is open for as long as a clone of this is.
    pub(super) fn fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }

    /// Waits until the socket is ready and calls `act`, again and again while that says `WouldBlock`.
    pub(super) async fn when_ready<T>(
        &self,
        interest: Interest,
        act: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        self.tcp.async_io(interest, act).await
    }

    /// Sends FIN. A connection that is already gone has nothing left to close.
    pub(super) fn fin(&self) {
        let _gone = SockRef::from(&*self.tcp).shutdown(Shutdown::Write);
    }

    /// Makes the drop of the last clone send RST.
    pub(super) fn reset_on_drop(&self) -> io::Result<()> {
        SockRef::from(&*self.tcp).set_linger(Some(Duration::ZERO))
    }

    /// Reads and forgets until the other side has closed, however it does.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while self.read(&mut chunk).await? > 0 {}
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut unread = self.unread.borrow_mut();
        if !unread.is_empty() {
            let taken = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..taken]);
            unread.drain(..taken);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// A flight is many small records; written one by one they would be as many segments, which no
    /// real peer sends.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fin();
        Poll::Ready(Ok(()))
    }
}
