//! Plaintext handshake messages inside a flow's records: which field comes next, what it says, and what of
//! it is kept for the report.
//!
//! Refuses to know records ([`crate::walk`] does) and to judge.

use crate::Role;
use crate::flow::{
    CAPTURE_LABEL, CAPTURE_STEP, CAPTURED_SUITES, CERTIFICATE_AT, CERTIFICATE_BYTES, Flow,
    HELLO_AT, HELLO_SPACE, RANDOM_AT, RANDOM_BYTES,
};
use crate::handshake;
use crate::record;
use crate::rules::Input;
use crate::segment::{Payload, Segment};
use crate::side::{Field, Side, Stage};

/// Bytes of a handshake message's header (RFC 8446 section 4).
const MESSAGE_HEADER_LEN: u32 = 4;
/// Bytes of a ClientHello's version.
const CLIENT_HELLO_START_LEN: u8 = 2;
/// Bytes of a ServerHello's version and the part of its random that tells a HelloRetryRequest.
const SERVER_HELLO_START_LEN: u8 = 10;
/// Bytes of a hello's random after that part.
const RANDOM_REST: u32 = 24;

impl Flow {
    /// One step inside a plaintext handshake record. `None`: the packet lacks bytes that its
    /// headers promise.
    #[inline(always)]
    pub(crate) fn message(
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
            let at = u32::from(side.capture_at);
            if !payload.capture(segment.at, &mut self.bytes, at, count) {
                return None;
            }
            side.capture_at += count as u16;
            side.capture_left -= count as u16;
            if side.message_type == handshake::CERTIFICATE {
                side.certificate_len = side.capture_at - CERTIFICATE_AT[role];
            } else if side.capture_at <= CERTIFICATE_AT[0] {
                side.hello_len = side.capture_at - HELLO_AT[role];
            }
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
                side.expect(Field::HELLO_START, CLIENT_HELLO_START_LEN);
                Some(Input::ClientHello)
            }
            handshake::SERVER_HELLO if role == Role::Server as usize => {
                side.hello_len = 0;
                side.expect(Field::HELLO_START, SERVER_HELLO_START_LEN);
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
            // From a server it means nothing.
            handshake::CLIENT_HELLO => return Some(Input::ClientHelloRead),
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
                    side.skip = RANDOM_REST;
                } else {
                    side.capture_at = RANDOM_AT;
                    side.capture_left = RANDOM_BYTES as u16;
                }
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
            Field::EXTENSIONS => {
                side.expect(Field::EXTENSION, 4);
                // Bytes behind the list are no extensions. A list that goes on behind the message shows so
                // where it breaks off.
                if u32::from(short) < side.message_left {
                    side.skip = u32::MAX;
                }
            }
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
                side.capture_at = CERTIFICATE_AT[role];
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
        side.capture_at = HELLO_AT[role] + side.hello_len;
        let label = [(what >> 8) as u8, what as u8, (kept >> 8) as u8, kept as u8];
        payload.label(&mut self.bytes, u32::from(HELLO_AT[role] + used), label);
    }
}
