//! The wire witness: what really went over the cable, read by parsers that are not ours.
//!
//! A probe is judged by comparing it with this, so nothing here may share code with a probe: packets come
//! from libpcap, headers from `etherparse`, TLS from `tls-parser`, certificates from `x509-parser`. What
//! is ours is bookkeeping: which bytes come in which order, and how to say it in a line. It refuses to
//! classify; that a handshake failed, or why, is for others to conclude.
//!
//! - `capture`: from an interface to [`Packet`]s, or an admission that some were lost
//! - `segment`, `stream`: from packets to the bytes of each direction
//! - `records`, `hello`, `alert`: from bytes to lines and facts
//! - `wire`: from packets to a [`Transcript`] for each connection

mod alert;
mod capture;
mod hello;
mod records;
mod segment;
mod stream;
pub mod wire;

pub use capture::{Capture, CaptureError, Captured, Packet};
pub use hello::{Chosen, Hello};
pub use wire::{Transcript, transcripts};
