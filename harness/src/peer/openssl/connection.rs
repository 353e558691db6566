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
use tokio::io::Interest;

use super::context::Context;
use super::failure::Failure;
use crate::peer::socket::Socket;

// Two functions that openssl-sys does not declare; both are in every libssl and libcrypto since 0.9.
unsafe extern "C" {
    fn SSL_set_fd(ssl: *mut ffi::SSL, fd: c_int) -> c_int;
    fn BIO_number_written(bio: *mut ffi::BIO) -> u64;
}

/// A TLS connection of OpenSSL.
pub(in crate::peer) struct Connection {
    ssl: Ssl,
    // After `ssl`, which holds its file descriptor: fields are dropped in order.
    socket: Socket,
    /// What the call that is waiting was told by `SSL_get_error`.
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
            return Err(io::Error::other(
                "bytes were read before the handshake, where OpenSSL cannot find them",
            ));
        }
        let ssl = context.begin().map_err(io::Error::other)?;
        // SAFETY: `ssl` is a live SSL, and `socket` keeps the descriptor open until it is dropped.
        let set = unsafe { SSL_set_fd(ssl.as_ptr(), socket.fd()) };
        if set != 1 {
            return Err(io::Error::other(ErrorStack::get()));
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

    /// What OpenSSL was told it must wait for, if a call is or was waiting.
    pub(in crate::peer) fn waiting(&self) -> Option<Failure> {
        let code = self.waits?;
        Some(Failure::take(code, 0, self.ssl.verify_result()))
    }

    /// Does the handshake, or what is left of it.
    pub(in crate::peer) async fn handshake(&mut self) -> io::Result<()> {
        self.call(do_handshake, |_| true).await?;
        Ok(())
    }

    /// Reads until OpenSSL has sent something.
    pub(in crate::peer) async fn flight(&mut self) -> io::Result<()> {
        let before = written(&self.ssl);
        self.call(do_handshake, |ssl| written(ssl) == before)
            .await?;
        Ok(())
    }

    /// Reads application data; 0 is the end, as close_notify says it.
    pub(in crate::peer) async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = |ssl: *mut ffi::SSL| {
            let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
            // SAFETY: `bytes` may be written for `length` bytes, and `ssl` is live.
            unsafe { ffi::SSL_read(ssl, bytes.as_mut_ptr().cast::<c_void>(), length) }
        };
        match self.call(read, |_| true).await {
            Ok(read) => Ok(usize::try_from(read).unwrap_or_default()),
            Err(failure) if failure.code == ffi::SSL_ERROR_ZERO_RETURN => Ok(0),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Sends application data. OpenSSL writes all of it or fails, unless it was asked for partial writes.
    pub(in crate::peer) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = |ssl: *mut ffi::SSL| {
            let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
            // SAFETY: `bytes` may be read for `length` bytes, and `ssl` is live.
            unsafe { ffi::SSL_write(ssl, bytes.as_ptr().cast::<c_void>(), length) }
        };
        self.call(write, |_| true).await?;
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
        self.call(shutdown, |_| true).await?;
        Ok(())
    }

    /// Makes a call until it is done, failed, or, once it has to wait, `goes_on` says no.
    async fn call(
        &mut self,
        mut call: impl FnMut(*mut ffi::SSL) -> c_int,
        goes_on: impl Fn(&SslRef) -> bool,
    ) -> Result<c_int, Failure> {
        let socket = self.socket.clone();
        let mut came = self.once(&mut call)?;
        loop {
            let interest = match came {
                Came::Done(returned) => {
                    self.waits = None;
                    return Ok(returned);
                }
                Came::Waits(_) if !goes_on(&self.ssl) => return Ok(0),
                Came::Waits(interest) => interest,
            };
            let ready = socket.when_ready(interest, || match self.once(&mut call) {
                Ok(Came::Waits(still)) if still == interest && goes_on(&self.ssl) => {
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
        self.waits = Some(code);
        match code {
            ffi::SSL_ERROR_NONE => Ok(Came::Done(returned)),
            ffi::SSL_ERROR_WANT_READ => Ok(Came::Waits(Interest::READABLE)),
            ffi::SSL_ERROR_WANT_WRITE => Ok(Came::Waits(Interest::WRITABLE)),
            _ => Err(Failure::take(code, errno, self.ssl.verify_result())),
        }
    }
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
