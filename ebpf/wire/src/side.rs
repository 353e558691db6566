//! One direction of a connection, as far as it was read: plain memory that lives in the flow table
//! and travels inside an event. Only packets of this side's sender write it.

use crate::record::{self, RecordHeader};
use crate::segment::Segment;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes gathered for one field: more than a status line up to its status (10) or
/// [`Field::HELLO_START`] (10), and a power of two, which makes a bound that the verifier sees.
pub const GATHER: usize = 16;

/// Letters of history kept for each side.
pub const HISTORY: usize = 16;

/// How far one side got. Ordered: a later one implies what an earlier one says, where both occur.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Stage(pub u8);

impl Stage {
    /// Nothing sent yet.
    pub const SILENT: Self = Self(0);
    /// First bytes that are neither TLS nor an HTTP CONNECT.
    pub const FOREIGN: Self = Self(1);
    /// Speaks a protocol in the clear that may agree on TLS: STARTTLS and its like.
    pub const PREAMBLE: Self = Self(2);
    /// Client: an HTTP CONNECT, not answered yet.
    pub const CONNECT: Self = Self(3);
    /// Server: granted an HTTP CONNECT; TLS may follow inside.
    pub const GRANTED: Self = Self(4);
    /// Server: HelloRetryRequest.
    pub const RETRY: Self = Self(5);
    /// Client: ClientHello begun.
    pub const GREETING: Self = Self(6);
    /// ClientHello or ServerHello read.
    pub const HELLO: Self = Self(7);
    /// More of the handshake after its hello: in TLS 1.3 encrypted, in TLS 1.2 in the clear.
    pub const FLIGHT: Self = Self(8);
    /// TLS 1.2: change_cipher_spec.
    pub const SECURED: Self = Self(9);
    /// TLS 1.2: Finished.
    pub const FINISHED: Self = Self(10);
    /// Sent one record that may be an encrypted alert; what follows will tell.
    pub const SUSPECT: Self = Self(11);

    /// All, in order.
    pub const ALL: [Self; 12] = [
        Self::SILENT,
        Self::FOREIGN,
        Self::PREAMBLE,
        Self::CONNECT,
        Self::GRANTED,
        Self::RETRY,
        Self::GREETING,
        Self::HELLO,
        Self::FLIGHT,
        Self::SECURED,
        Self::FINISHED,
        Self::SUSPECT,
    ];

    /// A word for tables and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SILENT => "silent",
            Self::FOREIGN => "foreign",
            Self::PREAMBLE => "preamble",
            Self::CONNECT => "connect",
            Self::GRANTED => "granted",
            Self::RETRY => "retry",
            Self::GREETING => "greeting",
            Self::HELLO => "hello",
            Self::FLIGHT => "flight",
            Self::SECURED => "secured",
            Self::FINISHED => "finished",
            Self::SUSPECT => "suspect",
            _ => "unknown",
        }
    }
}

/// What the next handshake bytes of a side are; how the walk in [`crate::flow`] keeps its place
/// between packets and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Field(pub u8);

impl Field {
    /// Handshake header: type and 24-bit length.
    pub const MESSAGE: Self = Self(0);
    /// A hello's version; a server's with the first eight bytes of its random.
    pub const HELLO_START: Self = Self(1);
    /// The length of a hello's session id.
    pub const SESSION_ID: Self = Self(2);
    /// The length of a ClientHello's cipher suites.
    pub const SUITES: Self = Self(3);
    /// The length of a ClientHello's compression methods.
    pub const COMPRESSIONS: Self = Self(4);
    /// A ServerHello's cipher suite and compression method.
    pub const SUITE: Self = Self(5);
    /// The length of a hello's extensions.
    pub const EXTENSIONS: Self = Self(6);
    /// An extension's type and length.
    pub const EXTENSION: Self = Self(7);
    /// The version in a ServerHello's supported_versions.
    pub const VERSION: Self = Self(8);
    /// The length of a certificate list, up to TLS 1.2.
    pub const CERTIFICATES: Self = Self(9);
    /// The length of the first certificate of a list.
    pub const CERTIFICATE: Self = Self(10);
}

/// Where in its records a side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Framing(pub u8);

impl Framing {
    /// The first bytes of the stream decide what it is.
    pub const OPENING: Self = Self(0);
    /// The status line that answers an HTTP CONNECT.
    pub const STATUS: Self = Self(1);
    /// A record header is next, or part of it was read.
    pub const HEADER: Self = Self(2);
    /// In a record of plaintext handshake messages.
    pub const HANDSHAKE: Self = Self(3);
    /// In a plaintext alert.
    pub const ALERT: Self = Self(4);
    /// In a record whose content does not matter.
    pub const OPAQUE: Self = Self(5);
    /// Bytes are followed by number only: not TLS, or no longer readable.
    pub const DRAIN: Self = Self(6);
    /// In an encrypted record that may be an alert.
    pub const SEALED: Self = Self(7);
    /// In the line of the PROXY protocol version 1, after `PROXY`.
    pub const PROXY_LINE: Self = Self(8);
    /// In the header of the PROXY protocol version 2.
    pub const PROXY_HEADER: Self = Self(9);
    /// After that header, in the addresses and whatever else it announced.
    pub const PROXY_BODY: Self = Self(10);
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Side {
    /// When the last new byte came. Nanoseconds, CLOCK_MONOTONIC; 0: none yet.
    pub progress: u64,
    /// Sequence number of the next byte expected.
    pub next: u32,
    /// Bytes of the current handshake message not read yet.
    pub message_left: u32,
    /// Bytes to pass over before the current field.
    pub skip: u32,
    /// Sequence number that ends the record which made this side [`Stage::FLIGHT`]: what the peer
    /// sends counts as an answer to it once it acknowledges this. Means nothing before that stage.
    pub mark: u32,
    /// Sequence number past the last byte that came before those it follows: there is a hole until `next`
    /// is here. Means nothing without [`Self::GAP`].
    pub ahead: u32,
    /// What its last segment with new bytes acknowledged: what it had heard when it spoke.
    pub heard: u32,
    /// Bytes of the current record not read yet.
    pub record_left: u16,
    /// Bytes of the current extension or list still to be captured.
    pub capture_left: u16,
    /// Where in [`crate::flow::Flow::bytes`] the next of them goes.
    pub capture_at: u16,
    /// Bytes of [`crate::flow::Flow::bytes`] used by this side's hello.
    pub hello_len: u16,
    /// Bytes of [`crate::flow::Flow::bytes`] used by this side's certificate.
    pub certificate_len: u16,
    /// Server: the version of its ServerHello, supported_versions included. 0: not known yet.
    pub version: u16,
    /// Server: the cipher suite of its ServerHello.
    pub suite: u16,
    /// Server: the version of a ServerHello that is not whole yet; [`Self::RETRY`] in a HelloRetryRequest.
    pub pending_version: u16,
    /// Facts, one bit each: the `Side::*` flags.
    pub flags: u16,
    /// How far this side got.
    pub stage: Stage,
    /// Where in its records it is.
    pub framing: Framing,
    /// The handshake field it is at.
    pub field: Field,
    /// Type of the current handshake message.
    pub message_type: u8,
    /// Bytes in `header`.
    pub header_have: u8,
    /// Bytes in `gathered`.
    pub have: u8,
    /// Bytes `gathered` must hold before the field can be read.
    pub need: u8,
    /// Letters in `history`.
    pub history_len: u8,
    /// A record header, an alert, or the first bytes of the stream, as far as they have come. Twice
    /// the size, so that the verifier can see that `have + n` stays inside.
    pub header: [u8; 2 * GATHER],
    /// A field of a handshake message, as far as it has come.
    pub gathered: [u8; 2 * GATHER],
    /// What this side sent, one letter each ([`crate::handshake::letter`]).
    pub history: [u8; HISTORY],
    /// How many letters the peer had at that time: puts both histories in one order.
    pub history_peer: [u8; HISTORY],
    /// Bytes of the first encrypted record that may be an alert; 0: there was none.
    pub sealed_len: u8,
    /// Turns it took in a preamble, after its first.
    pub turns: u8,
    /// Its FIN or RST ([`Segment::FIN`], [`Segment::RST`]) that waits for bytes of its peer which were sent before.
    pub waits: u8,
    /// Those of its peer's that it has let take effect since.
    pub settled: u8,
    /// Bytes passed over in [`Framing::DRAIN`], or as many as fit.
    pub drained: u16,
}

impl Side {
    /// SYN or SYN-ACK was seen: `next` is true.
    pub const SYNCED: u16 = 1;
    /// Bytes are missing: a segment ahead of `next` was seen. They may still come.
    pub const GAP: u16 = 1 << 1;
    /// Bytes that cannot be TLS came where a record header was due.
    pub const BROKEN: u16 = 1 << 2;
    /// Part of what a report needs did not fit.
    pub const TRUNCATED: u16 = 1 << 3;
    /// Client: early_data was offered.
    pub const EARLY_DATA: u16 = 1 << 4;
    /// Its first bytes were a TLS record.
    pub const SPOKE_TLS: u16 = 1 << 5;
    /// Certificate was sent in the clear.
    pub const SENT_CERTIFICATE: u16 = 1 << 6;
    /// Server: ServerHelloDone was sent. Client: the ClientHello after a HelloRetryRequest was.
    pub const FLIGHT_DONE: u16 = 1 << 7;
    /// A handshake message contradicts its own lengths.
    pub const MALFORMED: u16 = 1 << 8;
    /// Its FIN was seen.
    pub const CLOSED: u16 = 1 << 9;
    /// The end of the flow was told, by a packet of this side, but the flow could not be removed.
    pub const TOLD: u16 = 1 << 10;
    /// With its last segment it acknowledged bytes of its peer that were never seen here.
    pub const HEARD_MORE: u16 = 1 << 11;
    /// Server: after a preamble it has begun anew ([`crate::flow::Flow::preamble`]).
    pub const ANEW: u16 = 1 << 12;
    /// Segments that came early may be kept ([`crate::window::Window`]).
    pub const KEPT: u16 = 1 << 13;

    /// Bytes of the side, or of its peer as it says, are missing or unreadable.
    pub const LOST: u16 = Self::GAP | Self::BROKEN | Self::HEARD_MORE;

    /// What stands in [`Self::pending_version`] while a HelloRetryRequest is read.
    pub const RETRY: u16 = u16::MAX;

    /// Whether all of a set of flags is on.
    #[must_use]
    #[inline(always)]
    pub const fn is(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Whether bytes of this side, or of its peer as it says, are missing or unreadable, so that
    /// what is not seen proves nothing.
    #[must_use]
    #[inline(always)]
    pub const fn lost(&self) -> bool {
        self.flags & Self::LOST != 0
    }

    /// Whether a record or message was begun and not ended.
    #[must_use]
    pub const fn unfinished(&self) -> bool {
        self.record_left > 0 || self.message_left > 0 || self.have > 0 || self.header_have > 0
    }

    /// Adds a letter to the history, once for a run of the same letter without the peer between.
    #[inline(always)]
    pub fn remember(&mut self, letter: u8, peer_letters: u8) {
        let at = usize::from(self.history_len);
        if at > 0 {
            let last = (at - 1) & (HISTORY - 1);
            if self.history[last] == letter && self.history_peer[last] == peer_letters {
                return;
            }
        }
        if at < HISTORY {
            self.history[at] = letter;
            self.history_peer[at] = peer_letters;
            self.history_len += 1;
        }
    }

    /// Begins a record; its header has just been read. `tls12`: the negotiated version is at most that.
    #[inline(always)]
    pub(crate) fn enter(&mut self, header: RecordHeader, tls12: bool) {
        self.record_left = header.length;
        self.header_have = 0;
        let sealed = tls12 && self.stage >= Stage::SECURED;
        self.framing = if header.length == 0 {
            Framing::HEADER
        } else if header.content_type == record::HANDSHAKE && !sealed {
            Framing::HANDSHAKE
        } else if header.content_type == record::ALERT && header.length == 2 {
            Framing::ALERT
        } else {
            Framing::OPAQUE
        };
    }

    /// Ends a record: a header is next.
    #[inline(always)]
    pub(crate) fn end_record(&mut self) {
        self.framing = Framing::HEADER;
        self.header_have = 0;
        self.record_left = 0;
    }

    /// Moves past bytes of a record.
    #[inline(always)]
    pub(crate) fn pass(&mut self, segment: &mut Segment, count: u32) {
        segment.at = segment.at.wrapping_add(count);
        self.next = self.next.wrapping_add(count);
        self.record_left = self.record_left.saturating_sub(count as u16);
        if self.record_left == 0 {
            self.end_record();
        }
    }

    /// Moves past bytes of a record's handshake message.
    #[inline(always)]
    pub(crate) fn pass_body(&mut self, segment: &mut Segment, count: u32) {
        self.message_left = self.message_left.saturating_sub(count);
        self.pass(segment, count);
    }

    /// Says which field is next and how long it is.
    #[inline(always)]
    pub(crate) fn expect(&mut self, field: Field, need: u8) {
        self.field = field;
        self.need = need;
    }

    /// Passes over what is left of the message, after what is being captured of it.
    #[inline(always)]
    pub(crate) fn pass_message(&mut self) {
        self.field = Field::MESSAGE;
        self.skip = self
            .message_left
            .saturating_sub(u32::from(self.capture_left));
    }

    /// What is to be captured, passed over and read next must lie within the message. A field that
    /// would begin at its very end is not there, which optional parts may be.
    #[inline(always)]
    pub(crate) fn contain(&mut self) {
        let before = self.skip.saturating_add(u32::from(self.capture_left));
        let reading = self.field != Field::MESSAGE && before != self.message_left;
        let wanted = if reading {
            before.saturating_add(u32::from(self.need))
        } else {
            before
        };
        if wanted > self.message_left {
            self.flags |= Self::MALFORMED;
            self.capture_left = 0;
            self.pass_message();
        }
    }
}
