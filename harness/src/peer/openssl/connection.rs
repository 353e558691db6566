//! One `SSL` on a socket. Each act is one call of OpenSSL, repeated when the socket is ready for as long
//! as OpenSSL wants to read or write; nothing is retried that failed.
//!
//! The calls are the C functions themselves, because the crate has no `SSL_set_fd` and its stream cannot
//! do without its own BIO.

use std::ffi::{c_int, c_void};
use std::io;

use foreign_types::ForeignTypeRef;
use nix::errno::Errno;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslRef};
use openssl_sys as ffi;
use tokio::io::{AsyncReadExt, Interest};

use super::context::Context;
use super::failure::{Failure, NotAsked};
use crate::peer::socket::Socket;

// What openssl-sys does not declare; all of it is in every libssl and libcrypto since 1.1.0.
unsafe extern "C" {
    fn SSL_set_fd(ssl: *mut ffi::SSL, fd: c_int) -> c_int;
    fn SSL_set_rfd(ssl: *mut ffi::SSL, fd: c_int) -> c_int;
    fn SSL_set0_rbio(ssl: *mut ffi::SSL, bio: *mut ffi::BIO);
    fn BIO_ctrl_pending(bio: *mut ffi::BIO) -> usize;
    fn BIO_number_written(bio: *mut ffi::BIO) -> u64;
}

/// A TLS connection of OpenSSL.
pub(in crate::peer) struct Connection {
    ssl: Ssl,
    // After `ssl`, which holds its file descriptor: fields are dropped in order.
    socket: Socket,
    /// What `SSL_get_error` said of a call that is waiting.
    waits: Option<c_int>,
}

/// What one call came to.
enum Came {
    /// It succeeded and returned this, which is not negative.
    Done(c_int),
    /// It wants the socket to become ready.
    Waits(Interest),
}

impl Connection {
    /// Starts a connection; nothing is sent yet.
    pub(in crate::peer) fn new(context: &Context, socket: Socket) -> io::Result<Self> {
        if socket.has_unread() {
            let why = "bytes were read before the handshake, where OpenSSL cannot find them";
            return Err(NotAsked(why.into()).into());
        }
        let ssl = context.begin().map_err(NotAsked::from)?;
        // SAFETY: `ssl` is a live SSL, and `socket` keeps the descriptor open until it is dropped.
        let set = unsafe { SSL_set_fd(ssl.as_ptr(), socket.fd()) };
        if set != 1 {
            return Err(NotAsked::from(ErrorStack::get()).into());
        }
        Ok(Self {
            ssl,
            socket,
            waits: None,
        })
    }

    /// What the handshake agreed on, for people.
    pub(in crate::peer) fn summary(&self) -> String {
        let ssl = &self.ssl;
        format!(
            "{} {} alpn {:?}",
            ssl.version_str(),
            ssl.current_cipher()
                .map_or("no cipher", |cipher| cipher.name()),
            ssl.selected_alpn_protocol().map(String::from_utf8_lossy),
        )
    }

    /// Whether the handshake resumed a session.
    pub(in crate::peer) fn resumed(&self) -> bool {
        self.ssl.session_reused()
    }

    /// What OpenSSL waits for, if a call was given up while it did.
    pub(in crate::peer) fn waiting(&self) -> Option<Failure> {
        let code = self.waits?;
        Some(Failure::take(code, 0, self.ssl.verify_result()))
    }

    /// Does the handshake, or what is left of it.
    pub(in crate::peer) async fn handshake(&mut self) -> io::Result<()> {
        self.call(do_handshake).await?;
        Ok(())
    }

    /// Reads until OpenSSL has something to answer, and lets it send that.
    ///
    /// `SSL_do_handshake` goes on to read once it has written, and if the answer is quick, to the end of
    /// the handshake. So for as long as a flight takes, OpenSSL reads from memory what it is fed.
    pub(in crate::peer) async fn flight(&mut self) -> io::Result<()> {
        let before = written(&self.ssl);
        let memory = self.read_from_memory()?;
        loop {
            match self.once(&mut do_handshake)? {
                Came::Done(_) => break,
                Came::Waits(_) if written(&self.ssl) > before => break,
                Came::Waits(Interest::READABLE) => {
                    let mut chunk = [0; 1 << 14];
                    let read = self.socket.read(&mut chunk).await?;
                    if read == 0 {
                        // The end of the connection is for OpenSSL to find.
                        self.read_from_socket()?;
                        return self.handshake().await;
                    }
                    feed(memory, &chunk[..read])?;
                }
                Came::Waits(interest) => self.socket.when_ready(interest, || Ok(())).await?,
            }
        }
        self.waits = None;
        // SAFETY: `memory` is the live BIO from which `self.ssl` still reads.
        if unsafe { BIO_ctrl_pending(memory) } > 0 {
            let why = "bytes came that are not of this flight";
            return Err(NotAsked(why.into()).into());
        }
        self.read_from_socket()
    }

    /// Makes OpenSSL read from memory, where there is nothing yet.
    fn read_from_memory(&mut self) -> io::Result<*mut ffi::BIO> {
        // SAFETY: a constant of the library.
        let method = unsafe { ffi::BIO_s_mem() };
        // SAFETY: `method` is the library's own.
        let memory = unsafe { ffi::BIO_new(method) };
        if memory.is_null() {
            return Err(NotAsked::from(ErrorStack::get()).into());
        }
        // SAFETY: both are live, and the SSL takes the BIO over.
        unsafe { SSL_set0_rbio(self.ssl.as_ptr(), memory) };
        Ok(memory)
    }

    /// Makes OpenSSL read from the socket, as it does but for flights. Frees the memory.
    fn read_from_socket(&mut self) -> io::Result<()> {
        // SAFETY: `self.ssl` is live, and so is the socket's descriptor for as long as it.
        if unsafe { SSL_set_rfd(self.ssl.as_ptr(), self.socket.fd()) } != 1 {
            return Err(NotAsked::from(ErrorStack::get()).into());
        }
        Ok(())
    }

    /// Reads application data; 0 is the end, as close_notify says it.
    pub(in crate::peer) async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = |ssl: *mut ffi::SSL| {
            let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
            // SAFETY: `bytes` may be written for `length` bytes, and `ssl` is live.
            unsafe { ffi::SSL_read(ssl, bytes.as_mut_ptr().cast::<c_void>(), length) }
        };
        match self.call(read).await {
            Ok(read) => Ok(usize::try_from(read).unwrap_or_default()),
            Err(failure) if failure.code == ffi::SSL_ERROR_ZERO_RETURN => Ok(0),
            Err(failure) => Err(failure.into()),
        }
    }

    /// What OpenSSL says of the close_notify that was [read](Self::read).
    pub(in crate::peer) fn closed(&self) -> Failure {
        Failure::take(ffi::SSL_ERROR_ZERO_RETURN, 0, self.ssl.verify_result())
    }

    /// Sends application data. OpenSSL writes all of it or fails, unless it was asked for partial writes.
    pub(in crate::peer) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = |ssl: *mut ffi::SSL| {
            let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
            // SAFETY: `bytes` may be read for `length` bytes, and `ssl` is live.
            unsafe { ffi::SSL_write(ssl, bytes.as_ptr().cast::<c_void>(), length) }
        };
        self.call(write).await?;
        Ok(())
    }

    /// Sends close_notify, and waits for none. In the middle of a handshake OpenSSL refuses to.
    pub(in crate::peer) async fn close_notify(&mut self) -> io::Result<()> {
        let shutdown = |ssl: *mut ffi::SSL| {
            // SAFETY: `ssl` is live.
            match unsafe { ffi::SSL_shutdown(ssl) } {
                // Sent, and the other side's has not come: all that is asked for here.
                0 => 1,
                returned => returned,
            }
        };
        self.call(shutdown).await?;
        Ok(())
    }

    /// Makes a call until it is done or has failed.
    async fn call(
        &mut self,
        mut call: impl FnMut(*mut ffi::SSL) -> c_int,
    ) -> Result<c_int, Failure> {
        let socket = self.socket.clone();
        let mut came = self.once(&mut call)?;
        loop {
            let interest = match came {
                Came::Done(returned) => return Ok(returned),
                Came::Waits(interest) => interest,
            };
            let ready = socket.when_ready(interest, || match self.once(&mut call) {
                Ok(Came::Waits(still)) if still == interest => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                other => Ok(other),
            });
            came = match ready.await {
                Ok(came) => came?,
                // The runtime has no readiness to offer any more; no call was made.
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or_default();
                    let verified = self.ssl.verify_result();
                    return Err(Failure::take(ffi::SSL_ERROR_SYSCALL, errno, verified));
                }
            };
        }
    }

    /// Makes a call once. The error queue is empty before it, as `SSL_get_error` requires.
    fn once(&mut self, call: &mut impl FnMut(*mut ffi::SSL) -> c_int) -> Result<Came, Failure> {
        let _stale = ErrorStack::get();
        Errno::clear();
        let ssl = self.ssl.as_ptr();
        let returned = call(ssl);
        let errno = Errno::last_raw();
        // SAFETY: `ssl` is live, and `returned` is what the call on it just returned on this thread.
        let code = unsafe { ffi::SSL_get_error(ssl, returned) };
        let waits = match code {
            ffi::SSL_ERROR_WANT_READ => Some(Interest::READABLE),
            ffi::SSL_ERROR_WANT_WRITE => Some(Interest::WRITABLE),
            _ => None,
        };
        self.waits = waits.map(|_| code);
        match (code, waits) {
            (ffi::SSL_ERROR_NONE, _) => Ok(Came::Done(returned)),
            (_, Some(interest)) => Ok(Came::Waits(interest)),
            _ => Err(Failure::take(code, errno, self.ssl.verify_result())),
        }
    }
}

/// Puts bytes where OpenSSL reads them; `memory` is a live BIO of [`Connection::read_from_memory`].
fn feed(memory: *mut ffi::BIO, bytes: &[u8]) -> io::Result<()> {
    let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
    // SAFETY: `memory` is live, and `bytes` may be read for `length` bytes.
    let fed = unsafe { ffi::BIO_write(memory, bytes.as_ptr().cast::<c_void>(), length) };
    if fed != length {
        return Err(NotAsked::from(ErrorStack::get()).into());
    }
    Ok(())
}

fn do_handshake(ssl: *mut ffi::SSL) -> c_int {
    // SAFETY: called by `once` only, with a live SSL.
    unsafe { ffi::SSL_do_handshake(ssl) }
}

/// The bytes that have gone to the socket so far.
fn written(ssl: &SslRef) -> u64 {
    // SAFETY: `ssl` is live.
    let bio = unsafe { ffi::SSL_get_wbio(ssl.as_ptr()) };
    // SAFETY: `SSL_set_fd` has given every SSL here a BIO, which lives as long as it does.
    unsafe { BIO_number_written(bio) }
}
