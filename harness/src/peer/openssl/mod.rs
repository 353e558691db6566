//! OpenSSL as a peer: the system's libssl in this process, driven as applications drive it.
//!
//! `SSL_set_fd` on a non-blocking socket, `SSL_do_handshake`, `SSL_read`, `SSL_write`, `SSL_shutdown`, and
//! `SSL_get_error` with the error queue after each: that is what servers and clients in C do, so the wire
//! and the library's calls are theirs too. The `openssl` crate's own stream goes through a BIO of its
//! own, in which neither a file descriptor nor `errno` is to be found.
//!
//! - `context`: from a `Peer` to an `SSL_CTX`
//! - `connection`: one `SSL`, a call at a time
//! - `failure`: what OpenSSL says about a call that failed, in one stable line

mod connection;
mod context;
mod failure;

pub(super) use connection::Connection;
pub(super) use context::Context;
pub(super) use failure::{Failure, NotAsked};
