//! One connection that may become a TLS handshake: the walk over a packet's bytes, from record
//! header to record header, and how what is found becomes an input to the rules.
//!
//! The walk goes in steps. One step takes what one field needs, or as much of it as the packet
//! still has, so any cut of the stream into packets and of messages into records is followed by the
//! same code. Steps are short and their state is in memory, not in registers, because the verifier
//! explores every step of a loop: where two paths leave the same memory behind, it stops early.
//!
//! Refuses to judge ([`crate::rules`] does) and to touch a packet other than through [`Payload`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Role;
use crate::handshake::{self, Sealed};
use crate::record::{self, Opening, RecordHeader};
use crate::rules::{self, Input, Outcome, State};
use crate::side::{Field, Framing, GATHER, Side, Stage};

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
/// All bytes kept for the report.
pub const CAPTURE: usize = CLIENT_HELLO_BYTES + SERVER_HELLO_BYTES + 2 * CERTIFICATE_BYTES;
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

/// A packet's bytes, however they are kept.
pub trait Payload {
    /// Copies `count` (1 to [`GATHER`]) bytes at `from` to `into[at..]`; `at` is below [`GATHER`].
    /// `false`: the packet does not have them.
    fn gather(&self, from: u32, into: &mut [u8; 2 * GATHER], at: u32, count: u32) -> bool;

    /// Copies `count` (1 to [`CAPTURE_STEP`]) bytes at `from` to `into[at..]`; `at` is at most [`CAPTURE`].
    fn capture(&self, from: u32, into: &mut [u8; CAPTURE_SPACE], at: u32, count: u32) -> bool;

    /// Writes what is about to be captured to `into[at..]`; `at` is at most [`CAPTURE`]. No byte of a
    /// packet is involved, but memory that the kernel's verifier watches is.
    fn label(&self, into: &mut [u8; CAPTURE_SPACE], at: u32, label: [u8; CAPTURE_LABEL as usize]);
}

/// A connection between its SYN and the end, good or bad, of its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// Client and server, in that order.
    pub sides: [Side; 2],
    /// When the SYN was seen. Nanoseconds, CLOCK_MONOTONIC.
    pub opened: u64,
    /// The interface the SYN was seen on.
    pub ifindex: u32,
    /// 1 where the server's port was known to speak TLS when the SYN was seen.
    pub known: u8,
    /// 1 where the client's address is the first of the flow's key.
    pub client_first: u8,
    /// 1 inside an HTTP CONNECT tunnel. Written by the client's packets.
    pub tunnel: u8,
    /// Zero.
    pub reserved: u8,
    /// What the report needs of hellos and certificates; read back by [`crate::capture`].
    pub bytes: [u8; CAPTURE_SPACE],
}

/// One TCP segment of a flow, and how far the walk has come in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// When it was seen. Nanoseconds, CLOCK_MONOTONIC.
    pub time: u64,
    /// Offset of the next payload byte in the packet.
    pub at: u32,
    /// Offset past the last payload byte.
    pub end: u32,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// TCP flags, as in the header: the `Segment::*` constants.
    pub flags: u8,
    /// Who sent it: [`Role`] as a number.
    pub role: u8,
    /// Zero.
    pub reserved: [u8; 6],
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

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// It may have more bytes: the steps allowed are used up.
    More,
    /// All of it was read, and the connection goes on.
    On,
    /// The packet does not have the bytes that its headers promise.
    Unreadable,
    /// The flow is over.
    Over(Outcome),
}

/// What one step did.
enum Step {
    More,
    End,
    Unreadable,
    Over(Outcome),
}

impl Segment {
    /// TCP FIN.
    pub const FIN: u8 = 1;
    /// TCP SYN.
    pub const SYN: u8 = 2;
    /// TCP RST.
    pub const RST: u8 = 4;
    /// TCP ACK.
    pub const ACK: u8 = 16;

    /// Who sent it.
    #[must_use]
    #[inline(always)]
    pub const fn from(&self) -> Role {
        Role::from_bit(self.role)
    }
}

/// Whether sequence number `a` is at or past `b` (RFC 9293 section 3.4).
#[inline(always)]
const fn reached(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) >= 0
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
            known: self.known != 0,
            early_data: client.is(Side::EARLY_DATA),
            lost: client.lost() || server.lost(),
        }
    }

    /// Takes note of a SYN or SYN-ACK.
    #[inline(always)]
    pub fn synchronize(&mut self, segment: &Segment) {
        let side = &mut self.sides[usize::from(segment.role & 1)];
        side.next = segment.sequence.wrapping_add(1);
        side.flags |= Side::SYNCED;
    }

    /// Finds a segment's place in the stream, and moves past bytes that were read before.
    #[inline(always)]
    pub fn place(&mut self, segment: &mut Segment) -> Place {
        let tunnelled = self.tunnelled(segment.from());
        let heard_more = self.heard_more(segment);
        let side = &mut self.sides[usize::from(segment.role & 1)];
        side.flags = side.flags & !Side::HEARD_MORE | heard_more;
        let length = segment.end.wrapping_sub(segment.at);
        if side.flags & Side::SYNCED == 0 {
            // The SYN-ACK was not seen; its absence is no gap in the data.
            side.next = segment.sequence;
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
        if reached(end, side.ahead) {
            // The hole, if there was one, has been filled, and all that had come too early came again.
            side.flags &= !Side::GAP;
        }
        if length > read {
            side.progress = segment.time;
            if tunnelled {
                side.framing = Framing::OPENING;
                side.stage = Stage::SILENT;
                side.header_have = 0;
                if segment.role & 1 == 0 {
                    self.tunnel = 1;
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

    /// Whether the sender's TLS begins with its next byte, inside a tunnel that has been granted.
    #[inline(always)]
    fn tunnelled(&self, from: Role) -> bool {
        let [client, server] = &self.sides;
        match from {
            Role::Client => client.stage == Stage::CONNECT && server.stage == Stage::GRANTED,
            Role::Server => {
                self.tunnel != 0
                    && server.stage == Stage::GRANTED
                    && client.stage >= Stage::GREETING
            }
        }
    }

    /// Walks over a segment that is [`Place::Next`], at most `STEPS` fields, and then takes its RST or
    /// FIN. After [`Walked::More`] call it again.
    #[inline(always)]
    pub fn walk<const STEPS: u32>(
        &mut self,
        payload: &impl Payload,
        segment: &mut Segment,
    ) -> Walked {
        for _ in 0..STEPS {
            match self.step(payload, segment) {
                Step::More => {}
                Step::End => return self.close(segment),
                Step::Unreadable => return Walked::Unreadable,
                Step::Over(outcome) => return Walked::Over(outcome),
            }
        }
        Walked::More
    }

    /// Takes one field, or what the packet has of it.
    #[inline(always)]
    fn step(&mut self, payload: &impl Payload, segment: &mut Segment) -> Step {
        let available = segment.end.wrapping_sub(segment.at);
        if available == 0 {
            return Step::End;
        }
        let role = segment.role & 1;
        let side = &mut self.sides[usize::from(role)];
        let input = match side.framing {
            Framing::OPENING | Framing::STATUS | Framing::HEADER => {
                let need = match side.framing {
                    Framing::STATUS => STATUS_LEN,
                    _ => record::HEADER_LEN as u32,
                };
                match side.take_header(payload, segment, need, available) {
                    None => return Step::Unreadable,
                    Some(false) => return Step::More,
                    Some(true) => self.framed(segment),
                }
            }
            Framing::HANDSHAKE => match self.message(payload, segment, available) {
                Some(input) => input,
                None => return Step::Unreadable,
            },
            Framing::ALERT => {
                match side.take_header(payload, segment, 2, available) {
                    None => return Step::Unreadable,
                    Some(false) => return Step::More,
                    Some(true) => {}
                }
                side.end_record();
                Some(Input::Alert(side.header[0], side.header[1]))
            }
            Framing::OPAQUE => {
                let count = available.min(u32::from(side.record_left));
                side.pass(segment, count);
                None
            }
            _ => {
                // Draining: only the numbers are followed.
                side.next = side.next.wrapping_add(available);
                segment.at = segment.end;
                None
            }
        };
        match input {
            Some(input) => self.apply(segment.from(), input),
            None => Step::More,
        }
    }

    /// The FIN or RST of a segment whose bytes have all been walked over.
    #[inline(always)]
    fn close(&mut self, segment: &Segment) -> Walked {
        let input = if segment.flags & Segment::RST != 0 {
            Input::Reset
        } else if segment.flags & Segment::FIN != 0 {
            self.sides[usize::from(segment.role & 1)].flags |= Side::CLOSED;
            Input::Fin
        } else {
            return Walked::On;
        };
        match self.apply(segment.from(), input) {
            Step::Over(outcome) => Walked::Over(outcome),
            _ => Walked::On,
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
        match server.stage {
            Stage::RETRY if client.is(Side::FLIGHT_DONE) => Role::Server,
            Stage::RETRY => Role::Client,
            Stage::HELLO => Role::Server,
            Stage::FLIGHT if server.version <= record::TLS1_2 && !server.is(Side::FLIGHT_DONE) => {
                Role::Server
            }
            Stage::FLIGHT if client.stage < Stage::FINISHED => Role::Client,
            Stage::SECURED => Role::Server,
            Stage::FINISHED => Role::Client,
            _ => Role::Server,
        }
    }

    #[inline(always)]
    fn apply(&mut self, from: Role, input: Input) -> Step {
        match rules::decide(self.state(), from, input) {
            Outcome::On(stage) => {
                let side = &mut self.sides[from as usize];
                if stage != side.stage {
                    if stage == Stage::FLIGHT {
                        side.mark = side.next.wrapping_add(u32::from(side.record_left));
                    }
                    side.stage = stage;
                }
                Step::More
            }
            over => Step::Over(over),
        }
    }

    /// The bytes of a record header, or of a stream's beginning, are there.
    #[inline(always)]
    fn framed(&mut self, segment: &Segment) -> Option<Input> {
        let role = usize::from(segment.role & 1);
        let peer = &self.sides[role ^ 1];
        let (peer_stage, peer_letters, peer_mark) = (peer.stage, peer.history_len, peer.mark);
        let (version, suite) = (self.sides[1].version, self.sides[1].suite);
        let tls12 = version != 0 && version <= record::TLS1_2;
        let side = &mut self.sides[role];
        let bytes = [
            side.header[0],
            side.header[1],
            side.header[2],
            side.header[3],
            side.header[4],
        ];
        let header = match side.framing {
            Framing::OPENING => match Opening::parse(bytes) {
                Opening::Tls(header) => {
                    side.flags |= Side::SPOKE_TLS;
                    side.enter(header, tls12);
                    if header.content_type == record::ALERT {
                        side.remember(b'l', peer_letters);
                    }
                    return Some(Input::Tls);
                }
                Opening::Connect if role == Role::Client as usize => {
                    side.framing = Framing::DRAIN;
                    return Some(Input::Connect);
                }
                Opening::Http if role == Role::Server as usize && peer_stage == Stage::CONNECT => {
                    side.framing = Framing::STATUS;
                    return None;
                }
                _ => {
                    side.framing = Framing::DRAIN;
                    return Some(Input::Foreign);
                }
            },
            Framing::STATUS => {
                side.framing = Framing::DRAIN;
                // `HTTP/1.1 200`: the first digit of the status (RFC 9110 section 15.3).
                return Some(Input::Status(side.header[STATUS_LEN as usize - 1] == b'2'));
            }
            _ => match RecordHeader::parse(bytes) {
                Some(header) => header,
                None => {
                    side.flags |= Side::BROKEN;
                    side.framing = Framing::DRAIN;
                    return None;
                }
            },
        };
        side.enter(header, tls12);
        match header.content_type {
            record::CHANGE_CIPHER_SPEC => {
                side.remember(b'i', peer_letters);
                Some(Input::ChangeCipherSpec)
            }
            record::HANDSHAKE if tls12 && side.stage >= Stage::SECURED => {
                side.remember(b'f', peer_letters);
                Some(Input::Finished)
            }
            record::ALERT => {
                side.remember(b'l', peer_letters);
                if header.length == 2 {
                    None
                } else {
                    Some(Input::SealedAlert)
                }
            }
            record::APPLICATION_DATA => {
                side.remember(b'd', peer_letters);
                let answers = reached(segment.acknowledged, peer_mark);
                Some(Input::Sealed(Sealed::of(suite, header.length), answers))
            }
            _ => None,
        }
    }

    /// One step inside a plaintext handshake record. `None`: the packet lacks bytes that its
    /// headers promise.
    #[inline(always)]
    fn message(
        &mut self,
        payload: &impl Payload,
        segment: &mut Segment,
        available: u32,
    ) -> Option<Option<Input>> {
        let role = usize::from(segment.role & 1);
        let side = &mut self.sides[role];
        let available = available.min(u32::from(side.record_left));
        if side.capture_left > 0 {
            let count = available
                .min(u32::from(side.capture_left))
                .min(CAPTURE_STEP as u32);
            let certificate = side.message_type == handshake::CERTIFICATE;
            let at = if certificate {
                CERTIFICATE_AT[role] + side.certificate_len
            } else {
                HELLO_AT[role] + side.hello_len
            };
            if !payload.capture(segment.at, &mut self.bytes, u32::from(at), count) {
                return None;
            }
            if certificate {
                side.certificate_len += count as u16;
            } else {
                side.hello_len += count as u16;
            }
            side.capture_left -= count as u16;
            side.pass_body(segment, count);
        } else if side.skip > 0 {
            let count = available.min(side.skip);
            side.skip -= count;
            side.pass_body(segment, count);
        } else {
            let heading = side.field == Field::MESSAGE;
            let need = if heading {
                MESSAGE_HEADER_LEN
            } else {
                u32::from(side.need)
            };
            let have = u32::from(side.have);
            let count = available.min(need.saturating_sub(have));
            if !payload.gather(segment.at, &mut side.gathered, have, count) {
                return None;
            }
            side.have += count as u8;
            if heading {
                side.pass(segment, count);
            } else {
                side.pass_body(segment, count);
            }
            if u32::from(side.have) < need {
                return Some(None);
            }
            side.have = 0;
            if heading {
                return Some(self.message_begins(role));
            }
            self.field(payload, role);
        }
        Some(self.message_ends(role))
    }

    /// A handshake message's type and length were read.
    #[inline(always)]
    fn message_begins(&mut self, role: usize) -> Option<Input> {
        let peer_letters = self.sides[role ^ 1].history_len;
        let retried = self.sides[1].stage == Stage::RETRY;
        let in_the_clear = self.sides[1].version <= record::TLS1_2;
        let side = &mut self.sides[role];
        let message_type = side.gathered[0];
        side.message_type = message_type;
        side.message_left =
            u32::from_be_bytes([0, side.gathered[1], side.gathered[2], side.gathered[3]]);
        side.skip = 0;
        side.capture_left = 0;
        let input = match message_type {
            handshake::CLIENT_HELLO if role == Role::Client as usize => {
                side.hello_len = 0;
                if retried {
                    side.flags |= Side::FLIGHT_DONE;
                }
                side.expect(Field::HELLO_START, HELLO_START_LEN);
                Some(Input::ClientHello)
            }
            handshake::SERVER_HELLO if role == Role::Server as usize => {
                side.hello_len = 0;
                side.expect(Field::HELLO_START, HELLO_START_LEN);
                // Told once it is whole: only then is it known what it is. An empty one says nothing.
                if side.message_left == 0 {
                    side.field = Field::MESSAGE;
                }
                side.contain();
                return None;
            }
            handshake::CERTIFICATE if in_the_clear => {
                side.certificate_len = 0;
                side.flags |= Side::SENT_CERTIFICATE;
                side.expect(Field::CERTIFICATES, 3);
                Some(Input::Handshake)
            }
            _ => {
                if message_type == handshake::SERVER_HELLO_DONE {
                    side.flags |= Side::FLIGHT_DONE;
                }
                side.pass_message();
                Some(Input::Handshake)
            }
        };
        side.contain();
        if side.message_left == 0 {
            side.field = Field::MESSAGE;
        }
        side.remember(handshake::letter(message_type), peer_letters);
        input
    }

    /// Whether the message has come to its end, and what that means.
    #[inline(always)]
    fn message_ends(&mut self, role: usize) -> Option<Input> {
        let peer_letters = self.sides[role ^ 1].history_len;
        let side = &mut self.sides[role];
        if side.message_left > 0 {
            return None;
        }
        side.field = Field::MESSAGE;
        match side.message_type {
            handshake::CLIENT_HELLO if role == Role::Client as usize => {
                return Some(Input::ClientHelloRead);
            }
            handshake::SERVER_HELLO if role == Role::Server as usize => {}
            _ => return None,
        }
        if side.pending_version == Side::RETRY {
            side.remember(b'j', peer_letters);
            Some(Input::HelloRetryRequest)
        } else {
            side.version = side.pending_version;
            side.remember(b's', peer_letters);
            Some(Input::ServerHello)
        }
    }

    /// A whole field is in `gathered`: what does it say, and which comes next?
    #[inline(always)]
    fn field(&mut self, payload: &impl Payload, role: usize) {
        let server = role == Role::Server as usize;
        let side = &mut self.sides[role];
        let short = u16::from_be_bytes([side.gathered[0], side.gathered[1]]);
        match side.field {
            Field::HELLO_START => {
                if server {
                    let retry = handshake::RETRY_RANDOM
                        .iter()
                        .zip(&side.gathered[2..])
                        .all(|(expected, byte)| expected == byte);
                    side.pending_version = if retry { Side::RETRY } else { short };
                }
                side.skip = RANDOM_REST;
                side.expect(Field::SESSION_ID, 1);
            }
            Field::SESSION_ID => {
                side.skip = u32::from(side.gathered[0]);
                if server {
                    side.expect(Field::SUITE, 3);
                } else {
                    side.expect(Field::SUITES, 2);
                }
            }
            Field::SUITES => {
                side.expect(Field::COMPRESSIONS, 1);
                self.keep(payload, role, CAPTURED_SUITES, short);
            }
            Field::COMPRESSIONS => {
                side.skip = u32::from(side.gathered[0]);
                side.expect(Field::EXTENSIONS, 2);
            }
            Field::SUITE => {
                side.suite = short;
                side.expect(Field::EXTENSIONS, 2);
            }
            Field::EXTENSIONS => side.expect(Field::EXTENSION, 4),
            Field::EXTENSION => {
                let length = u16::from_be_bytes([side.gathered[2], side.gathered[3]]);
                match short {
                    handshake::EXT_SUPPORTED_VERSIONS if server && length == 2 => {
                        side.expect(Field::VERSION, 2);
                    }
                    handshake::EXT_SERVER_NAME
                    | handshake::EXT_ALPN
                    | handshake::EXT_SUPPORTED_VERSIONS => self.keep(payload, role, short, length),
                    _ => {
                        if short == handshake::EXT_EARLY_DATA && !server {
                            side.flags |= Side::EARLY_DATA;
                        }
                        side.skip = u32::from(length);
                    }
                }
            }
            Field::VERSION => {
                if side.pending_version != Side::RETRY {
                    side.pending_version = short;
                }
                side.expect(Field::EXTENSION, 4);
            }
            Field::CERTIFICATES => side.expect(Field::CERTIFICATE, 3),
            Field::CERTIFICATE => {
                let length =
                    u32::from_be_bytes([0, side.gathered[0], side.gathered[1], side.gathered[2]]);
                side.capture_left = length.min(CERTIFICATE_BYTES as u32) as u16;
                side.pass_message();
            }
            _ => side.pass_message(),
        }
        self.sides[role].contain();
    }

    /// Captures the next `length` bytes of a hello as far as there is room, after a header that says
    /// what they are; passes over the rest.
    #[inline(always)]
    fn keep(&mut self, payload: &impl Payload, role: usize, what: u16, length: u16) {
        let side = &mut self.sides[role];
        let used = side.hello_len;
        let room = HELLO_SPACE[role]
            .saturating_sub(used)
            .saturating_sub(CAPTURE_LABEL);
        let kept = length.min(room);
        side.skip = u32::from(length - kept);
        if kept < length {
            side.flags |= Side::TRUNCATED;
        }
        if kept == 0 {
            return;
        }
        side.capture_left = kept;
        side.hello_len = used + CAPTURE_LABEL;
        let label = [(what >> 8) as u8, what as u8, (kept >> 8) as u8, kept as u8];
        payload.label(&mut self.bytes, u32::from(HELLO_AT[role] + used), label);
    }
}

impl Side {
    /// Gathers up to `need` bytes of a header. `Some(true)`: they are all there. `None`: the packet
    /// lacks bytes that its headers promise.
    #[inline(always)]
    fn take_header(
        &mut self,
        payload: &impl Payload,
        segment: &mut Segment,
        need: u32,
        available: u32,
    ) -> Option<bool> {
        let have = u32::from(self.header_have);
        let count = need.saturating_sub(have).min(available);
        if !payload.gather(segment.at, &mut self.header, have, count) {
            return None;
        }
        self.header_have += count as u8;
        segment.at = segment.at.wrapping_add(count);
        self.next = self.next.wrapping_add(count);
        Some(u32::from(self.header_have) >= need)
    }
}

/// Bytes of an HTTP status line up to the first digit of its status.
const STATUS_LEN: u32 = 10;
/// Bytes of a handshake message's header (RFC 8446 section 4).
const MESSAGE_HEADER_LEN: u32 = 4;
/// Bytes of a hello's version and the part of its random that tells a HelloRetryRequest.
const HELLO_START_LEN: u8 = 10;
/// Bytes of a hello's random after that part.
const RANDOM_REST: u32 = 24;
