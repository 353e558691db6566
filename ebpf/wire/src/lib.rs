//! TLS as it is on the wire, and the rules that name why a handshake failed.
//!
//! This crate is compiled unchanged for the kernel (`bpfel-unknown-none`), for the host, for tests,
//! fuzzers and benchmarks: no `std`, no allocation, no `unsafe`. It is everything that crosses the
//! kernel boundary, defined once.
//!
//! Data flows down this list, but for the rows at its end, which only describe:
//!
//! | module | holds |
//! |---|---|
//! | [`alert`] | alert descriptions and levels (RFC 8446 section 6) |
//! | [`class`] | the eleven failure classes, layers, confidence |
//! | [`record`] | the record header (RFC 8446 section 5.1) and what the first bytes of a stream are |
//! | [`handshake`] | handshake message types, sizes of encrypted messages |
//! | [`side`] | [`Side`](side::Side): one direction of a connection, as far as it was read |
//! | [`rules`] | [`decide`](rules::decide): state x input -> outcome; the only place that judges |
//! | [`segment`] | one TCP segment, and how its bytes are read |
//! | [`flow`] | [`Flow`](flow::Flow): both sides, and a segment's place in them |
//! | [`walk`] | the walk over a segment's bytes: records, and the messages in them |
//! | [`held`] | which connections may be in the table, told without asking it |
//! | [`window`] | segments that came before the ones they follow |
//! | [`machine`] | a packet's way through the tables, in the kernel and on a host |
//! | [`event`] | [`Event`](event::Event): what the kernel hands to user space |
//! | [`reader`] | what a reader of events says of itself |
//! | [`capture`] | reading names, suites and certificates' beginnings back from an event |
//! | [`packet`] | Ethernet, IP and TCP headers, and the flow key |
//! | [`bytes`] | a packet in a slice, for hosts |
//! | [`counters`] | what is counted, by cause |
//! | [`library`] | what probes inside TLS libraries hand to user space |
//!
//! # Concurrency
//! The two directions of a connection may be processed at the same time on two CPUs. A packet writes
//! only the [`Side`](side::Side) of its own sender and reads the other, so no field has two writers.
//! One failure is one event since whoever removes the flow from the table, and only who succeeds,
//! may report it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod alert;
pub mod bytes;
pub mod capture;
pub mod class;
pub mod counters;
pub mod event;
pub mod flow;
pub mod handshake;
pub mod held;
pub mod library;
pub mod machine;
mod message;
mod number;
pub mod packet;
pub mod reader;
pub mod record;
pub mod rules;
pub mod segment;
pub mod side;
pub mod walk;
pub mod window;

/// Which end of a connection, by its TLS role: the client is who sent the SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Who opened the connection.
    Client = 0,
    /// Who accepted it.
    Server = 1,
}

impl Role {
    /// Both, client first.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// The role of a number that crossed the kernel boundary; any odd number is the server.
    #[must_use]
    #[inline(always)]
    pub const fn from_bit(bit: u8) -> Self {
        if bit & 1 == 0 {
            Self::Client
        } else {
            Self::Server
        }
    }

    /// The other end.
    #[must_use]
    #[inline(always)]
    pub const fn peer(self) -> Self {
        Self::from_bit(self as u8 ^ 1)
    }

    /// `client` or `server`, as in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}
