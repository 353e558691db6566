//! One connection that may become a TLS handshake: what is remembered of it, and where a segment stands
//! in its two streams.
//!
//! Refuses to read bytes ([`crate::walk`] does) and to judge ([`crate::rules`] does).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Role;
use crate::record;
use crate::rules::{self, Input, Outcome, State};
use crate::segment::{Segment, reached};
use crate::side::{Framing, Side, Stage};

/// Bytes kept of a ClientHello: cipher suites, server_name, ALPN, supported_versions.
pub const CLIENT_HELLO_BYTES: usize = 512;
/// Bytes kept of a ServerHello: ALPN.
pub const SERVER_HELLO_BYTES: usize = 128;
/// Bytes kept of the beginning of a leaf certificate, enough for its subject as a rule.
pub const CERTIFICATE_BYTES: usize = 640;
/// Most bytes captured in one step.
pub const CAPTURE_STEP: usize = 64;
/// Bytes before each captured part of a hello that say what it is (2), and how long (2).
pub const CAPTURE_LABEL: u16 = 4;
/// Bytes of a ClientHello's random (RFC 8446 section 4.1.2), which is what a key log knows a connection by.
pub const RANDOM_BYTES: usize = 32;
/// Bytes kept of an encrypted record that may be an alert: more than any alert-sized one has.
pub const SEALED_BYTES: usize = 32;
/// All bytes kept for the report.
pub const CAPTURE: usize = CLIENT_HELLO_BYTES
    + SERVER_HELLO_BYTES
    + 2 * CERTIFICATE_BYTES
    + RANDOM_BYTES
    + 2 * SEALED_BYTES;
/// [`CAPTURE`], and room for one step, so that the verifier can see that none goes beyond.
pub const CAPTURE_SPACE: usize = CAPTURE + CAPTURE_STEP;

/// The type that a captured list of cipher suites has beside captured extensions; private use
/// range, never an extension on the wire here.
pub const CAPTURED_SUITES: u16 = 0xfffe;

/// Where each side's captured hello begins in [`Flow::bytes`].
pub const HELLO_AT: [u16; 2] = [0, CLIENT_HELLO_BYTES as u16];
/// How much each side's captured hello may take.
pub const HELLO_SPACE: [u16; 2] = [CLIENT_HELLO_BYTES as u16, SERVER_HELLO_BYTES as u16];
/// Where each side's captured certificate begins in [`Flow::bytes`].
pub const CERTIFICATE_AT: [u16; 2] = [
    (CLIENT_HELLO_BYTES + SERVER_HELLO_BYTES) as u16,
    (CLIENT_HELLO_BYTES + SERVER_HELLO_BYTES + CERTIFICATE_BYTES) as u16,
];
/// Where the client's random begins in [`Flow::bytes`].
pub const RANDOM_AT: u16 = CERTIFICATE_AT[1] + CERTIFICATE_BYTES as u16;
/// Where each side's record that may be an encrypted alert begins in [`Flow::bytes`].
pub const SEALED_AT: [u16; 2] = [
    RANDOM_AT + RANDOM_BYTES as u16,
    RANDOM_AT + (RANDOM_BYTES + SEALED_BYTES) as u16,
];

/// A connection between its SYN and the end, good or bad, of its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// Client and server, in that order.
    pub sides: [Side; 2],
    /// When the SYN was seen. Nanoseconds, CLOCK_MONOTONIC.
    pub opened: u64,
    /// The cgroup v2 of either end's socket, client and server, as the kernel numbers them
    /// (`bpf_skb_cgroup_id`); 0: not of this machine, or not known.
    pub cgroups: [u64; 2],
    /// The interface the SYN was seen on.
    pub ifindex: u32,
    /// 1 where the server's port was known to speak TLS when the SYN was seen.
    pub known: u8,
    /// 1 where the client's address is the first of the flow's key.
    pub client_first: u8,
    /// 1 where the client's TLS began after a preamble that both sides had a part in: a granted HTTP
    /// CONNECT, STARTTLS. Written by the client's packets.
    pub preamble: u8,
    /// Zero.
    pub reserved: u8,
    /// What the report needs of hellos and certificates; read back by [`crate::capture`].
    pub bytes: [u8; CAPTURE_SPACE],
}

/// How a segment stands to what was already read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has bytes to walk over, or none at all, and nothing is missing before it.
    Next,
    /// All its bytes were read before.
    Again,
    /// Bytes before it are missing.
    Ahead,
}

impl Flow {
    /// A connection whose SYN has just been seen, as zeroed memory plus these facts.
    #[inline(always)]
    pub fn open(&mut self, time: u64, ifindex: u32, known: bool, client_first: bool) {
        self.opened = time;
        self.ifindex = ifindex;
        self.known = u8::from(known);
        self.client_first = u8::from(client_first);
    }

    /// The client's direction.
    #[must_use]
    pub const fn client(&self) -> &Side {
        &self.sides[0]
    }

    /// The server's direction.
    #[must_use]
    pub const fn server(&self) -> &Side {
        &self.sides[1]
    }

    /// Whether its end was told before: then it is only waiting to be removed.
    #[must_use]
    #[inline(always)]
    pub const fn told(&self) -> bool {
        (self.client().flags | self.server().flags) & Side::TOLD != 0
    }

    /// What the rules may look at.
    #[must_use]
    #[inline(always)]
    pub fn state(&self) -> State {
        let [client, server] = &self.sides;
        State {
            client: client.stage,
            server: server.stage,
            version: server.version,
            flags: client.flags | server.flags,
            known: self.known,
            preamble: self.preamble,
        }
    }

    /// Takes note of a SYN or SYN-ACK.
    #[inline(always)]
    pub fn synchronize(&mut self, segment: &Segment) {
        let [client, server] = &mut self.sides;
        let side = match segment.from() {
            Role::Client => client,
            Role::Server => {
                if client.flags & Side::SYNCED == 0 {
                    // The SYN was not seen; this answers it. (No other packet of the client was, either.)
                    client.next = segment.acknowledged;
                    client.flags |= Side::SYNCED;
                }
                server
            }
        };
        side.next = segment.sequence.wrapping_add(1);
        side.flags |= Side::SYNCED;
    }

    /// Finds a segment's place in the stream, and moves past bytes that were read before.
    #[inline(always)]
    pub fn place(&mut self, segment: &mut Segment) -> Place {
        let anew = self.begins_anew(segment);
        let heard_more = self.heard_more(segment);
        let peer = &self.sides[usize::from(segment.role & 1 ^ 1)];
        let (peer_spoke, peer_heard) = (peer.progress != 0, peer.heard);
        let side = &mut self.sides[usize::from(segment.role & 1)];
        side.flags = side.flags & !Side::HEARD_MORE | heard_more;
        let length = segment.end.wrapping_sub(segment.at);
        if side.flags & Side::SYNCED == 0 {
            // The SYN-ACK was not seen; its absence is no gap in the data. What the client has heard of it
            // says where the data begins.
            side.next = if peer_spoke {
                peer_heard
            } else {
                segment.sequence
            };
            side.flags |= Side::SYNCED;
        }
        let read = side.next.wrapping_sub(segment.sequence);
        let end = (segment.sequence.wrapping_add(length))
            .wrapping_add(u32::from(segment.flags & Segment::FIN));
        if read == u32::MAX && length == 0 && side.flags & Side::CLOSED != 0 {
            // A RST after the FIN, which took a number: nothing is missing, and nothing is new.
            return Place::Again;
        }
        if (read as i32) < 0 {
            if side.flags & Side::GAP == 0 || reached(end, side.ahead) {
                side.ahead = end;
            }
            side.flags |= Side::GAP;
            return Place::Ahead;
        }
        // A FIN may come on top of bytes that were read before.
        let fin_is_new = segment.flags & Segment::FIN != 0 && read == length;
        if length > 0 && read >= length && !fin_is_new {
            return Place::Again;
        }
        segment.at += read.min(length);
        // The hole, if there was one, has been filled; or never will be, and nobody received what was in
        // it, since the peer takes a RST only where it is due (RFC 5961 section 3.2).
        let due = segment.flags & Segment::RST != 0 && length == 0 && read == 0;
        if reached(end, side.ahead) || due {
            side.flags &= !Side::GAP;
        }
        if length > read {
            side.progress = segment.time;
            side.heard = segment.acknowledged;
            if anew {
                side.framing = Framing::OPENING;
                side.header_have = 0;
                match (segment.from(), side.stage) {
                    (Role::Client, Stage::CONNECT) => {
                        side.stage = Stage::SILENT;
                        self.preamble = 1;
                    }
                    (Role::Client, _) => {}
                    (Role::Server, _) => {
                        side.stage = Stage::SILENT;
                        side.flags |= Side::ANEW;
                    }
                }
            }
        }
        Place::Next
    }

    /// [`Side::HEARD_MORE`] where a segment acknowledges more than was seen of the peer, its FIN included.
    #[inline(always)]
    fn heard_more(&self, segment: &Segment) -> u16 {
        let peer = &self.sides[usize::from(segment.role & 1 ^ 1)];
        let seen = peer.next.wrapping_add(u32::from(peer.is(Side::CLOSED)));
        let told = segment.flags & Segment::ACK != 0 && peer.is(Side::SYNCED);
        if told && !reached(seen, segment.acknowledged) {
            Side::HEARD_MORE
        } else {
            0
        }
    }

    /// Whether the sender's TLS may begin with its next byte: inside a tunnel that has been granted, or
    /// when it is its turn again in a preamble. Who takes a turn has received what the peer said, which
    /// its acknowledgement shows, however the bytes are cut.
    #[inline(always)]
    fn begins_anew(&self, segment: &Segment) -> bool {
        let [client, server] = &self.sides;
        match segment.from() {
            Role::Client => match client.stage {
                Stage::CONNECT => server.stage == Stage::GRANTED,
                Stage::PREAMBLE => segment.acknowledged != client.heard,
                _ => false,
            },
            Role::Server => {
                self.preamble != 0 && !server.is(Side::ANEW) && client.stage >= Stage::GREETING
            }
        }
    }

    /// Notes that the sender's bytes can no longer be followed. What the other side says may still
    /// decide.
    #[inline(always)]
    pub fn lose(&mut self, from: Role) {
        let side = &mut self.sides[from as usize];
        if side.flags & Side::GAP == 0 {
            side.ahead = side.next;
        }
        side.flags |= Side::GAP;
    }

    /// Nothing has come for longer than the threshold: what that means. For the collector, which
    /// looks at flows from time to time.
    #[must_use]
    pub fn silent(&self) -> Outcome {
        rules::decide(self.state(), self.owing(), Input::Silence)
    }

    /// What it means that nothing came until now; `None` while that is nothing yet. `patience`: for a
    /// handshake that is under way; `idle`: for a connection that never began one. All nanoseconds.
    #[must_use]
    pub fn overdue(&self, now: u64, patience: u64, idle: u64) -> Option<Outcome> {
        let begun = self.client().stage >= Stage::GREETING;
        let unanswered = self.client().stage == Stage::CONNECT && self.known != 0;
        let patience = if begun || unanswered {
            patience
        } else {
            patience.max(idle)
        };
        (now.saturating_sub(self.progress()) >= patience).then(|| self.silent())
    }

    /// When either side last sent a new byte, or the SYN. Nanoseconds, CLOCK_MONOTONIC.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.opened
            .max(self.client().progress)
            .max(self.server().progress)
    }

    /// Whose turn it is. A side that has begun a record owes its end; a TLS 1.3 server's flight is
    /// encrypted, and taken for whole once any of it was seen.
    #[must_use]
    pub fn owing(&self) -> Role {
        let (client, server) = (self.client(), self.server());
        if client.unfinished() {
            return Role::Client;
        }
        if server.unfinished() {
            return Role::Server;
        }
        let flight_over = server.version > record::TLS1_2 || server.is(Side::FLIGHT_DONE);
        match server.stage {
            Stage::RETRY if !client.is(Side::FLIGHT_DONE) => Role::Client,
            Stage::FLIGHT if flight_over && client.stage < Stage::FINISHED => Role::Client,
            Stage::FINISHED => Role::Client,
            _ => Role::Server,
        }
    }
}
