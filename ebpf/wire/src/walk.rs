//! The walk over a segment's bytes, from record header to record header, and how what is found becomes an
//! input to the rules.
//!
//! The walk goes in steps. One step takes what one field needs, or as much of it as the packet
//! still has, so any cut of the stream into packets and of messages into records is followed by the
//! same code. Steps are short and their state is in memory, not in registers, because the verifier
//! explores every step of a loop: where two paths leave the same memory behind, it stops early.
//!
//! Refuses to judge ([`crate::rules`] does) and to touch a packet other than through [`Payload`].

use crate::Role;
use crate::flow::{Flow, SEALED_AT};
use crate::handshake::Sealed;
use crate::number::Ended;
use crate::record::{self, Opening, RecordHeader};
use crate::rules::{self, Input, Outcome};
use crate::segment::{Payload, Segment, reached};
use crate::side::{Framing, Side, Stage};

/// Turns of a client within which its TLS must have begun, where a preamble comes first. SMTP needs
/// three (EHLO, STARTTLS, and the ClientHello), IMAP as many.
const PREAMBLE_TURNS: u8 = 8;
/// Bytes of one side within which the other's or its own TLS must have begun.
const PREAMBLE_BYTES: u16 = 16 * 1024;
/// Bytes that the line of the PROXY protocol version 1 may have after `PROXY` (its section 2.1 allows 107).
const PROXY_LINE_REST: u16 = 102;
/// Bytes of an HTTP status line up to the first digit of its status.
const STATUS_LEN: u32 = 10;

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

/// What one step read, as a number: it waits in memory until it is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Said(u32);

impl Said {
    /// Nothing that has to be judged.
    const NOTHING: Self = Self(0);
    /// The segment is read to its end.
    const END: Self = Self(1);
    /// The packet does not have the bytes that its headers promise.
    const UNREADABLE: Self = Self(2);

    #[inline(always)]
    const fn new(from: Role, input: Input) -> Self {
        Self(input.number() << 1 | from as u32)
    }

    #[inline(always)]
    const fn from(self) -> Role {
        Role::from_bit(self.0 as u8)
    }

    #[inline(always)]
    const fn input(self) -> Input {
        Input::from_number(self.0 >> 1)
    }
}

impl Flow {
    /// Walks over a segment that is [`crate::flow::Place::Next`], at most `STEPS` fields, its RST and FIN included. After [`Walked::More`] call it again.
    pub fn walk<const STEPS: u32>(
        &mut self,
        payload: &impl Payload,
        segment: &mut Segment,
    ) -> Walked {
        self.steps::<STEPS>(payload, segment).walked()
    }

    /// [`Self::walk`], as a number.
    #[inline(always)]
    pub(crate) fn steps<const STEPS: u32>(
        &mut self,
        payload: &impl Payload,
        segment: &mut Segment,
    ) -> Ended {
        let mut ended = Ended::MORE;
        for _ in 0..STEPS {
            let said = self.read(payload, segment);
            ended = match Said(payload.settle(&mut segment.said, said.0)) {
                Said::NOTHING => Ended::MORE,
                Said::END => Ended::ON,
                Said::UNREADABLE => Ended::UNREADABLE,
                said => self.apply(said.from(), said.input()),
            };
            if ended != Ended::MORE {
                break;
            }
        }
        Ended(payload.settle(&mut segment.said, ended.0))
    }

    /// Takes one field, or what the packet has of it.
    #[inline(always)]
    fn read(&mut self, payload: &impl Payload, segment: &mut Segment) -> Said {
        let available = segment.end.wrapping_sub(segment.at);
        let role = segment.role & 1;
        let side = &mut self.sides[usize::from(role)];
        let mut from = segment.from();
        let input = match side.framing {
            _ if available == 0 => {
                let Some((who, input)) = self.ending(segment) else {
                    return Said::END;
                };
                from = who;
                Some(input)
            }
            Framing::OPENING | Framing::STATUS | Framing::HEADER | Framing::PROXY_HEADER => {
                let need = match side.framing {
                    Framing::STATUS => STATUS_LEN,
                    Framing::PROXY_HEADER => record::PROXY_HEADER_LEN as u32,
                    _ => record::HEADER_LEN as u32,
                };
                match side.take_header(payload, segment, need, available) {
                    None => return Said::UNREADABLE,
                    Some(false) => return Said::NOTHING,
                    Some(true) => self.framed(segment),
                }
            }
            Framing::HANDSHAKE => match self.message(payload, segment, available) {
                Some(input) => input,
                None => return Said::UNREADABLE,
            },
            Framing::ALERT => {
                match side.take_header(payload, segment, 2, available) {
                    None => return Said::UNREADABLE,
                    Some(false) => return Said::NOTHING,
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
            Framing::SEALED => {
                let left = side.record_left;
                let count = available.min(u32::from(left));
                let at = SEALED_AT[usize::from(role)] + u16::from(side.sealed_len) - left;
                if !payload.capture(segment.at, &mut self.bytes, u32::from(at), count) {
                    return Said::UNREADABLE;
                }
                side.pass(segment, count);
                if side.record_left > 0 {
                    return Said::NOTHING;
                }
                Some(self.sealed(segment, Sealed::AlertSized))
            }
            Framing::PROXY_LINE => match self.proxy_line(payload, segment) {
                Some(input) => input,
                None => return Said::UNREADABLE,
            },
            Framing::PROXY_BODY => {
                let count = available.min(u32::from(side.record_left));
                side.pass(segment, count);
                if side.record_left == 0 {
                    side.framing = Framing::OPENING;
                }
                None
            }
            _ => {
                // Draining: only the numbers are followed, and for how long.
                side.next = side.next.wrapping_add(available);
                segment.at = segment.end;
                let drained = available.min(u32::from(u16::MAX)) as u16;
                side.drained = side.drained.saturating_add(drained);
                if side.stage != Stage::PREAMBLE || side.drained <= PREAMBLE_BYTES {
                    return Said::NOTHING;
                }
                Some(Input::Chatter)
            }
        };
        match input {
            Some(input) => Said::new(from, input),
            None => Said::NOTHING,
        }
    }

    /// The next end that takes effect once a segment's bytes have all been walked over: first one of the
    /// peer's that had to wait for these bytes, then the segment's own, FIN before RST. Each is given once.
    #[inline(always)]
    fn ending(&mut self, segment: &mut Segment) -> Option<(Role, Input)> {
        let role = usize::from(segment.role & 1);
        let peer = &self.sides[role ^ 1];
        let (waits, peer_gap) = (peer.waits, peer.is(Side::GAP));
        let side = &mut self.sides[role];
        let due = if side.is(Side::GAP) {
            0
        } else {
            waits & !side.settled
        };
        let own = segment.flags & (Segment::FIN | Segment::RST);
        if own & Segment::FIN != 0 {
            side.flags |= Side::CLOSED;
        }
        if due == 0 && peer_gap {
            // What the peer had said before is still on its way, and may say why.
            side.waits |= own;
            return None;
        }
        let (who, ends) = if due != 0 {
            (segment.role ^ 1, due)
        } else {
            (segment.role, own)
        };
        let first = if ends & Segment::FIN != 0 {
            Segment::FIN
        } else {
            Segment::RST
        };
        if due != 0 {
            side.settled |= first;
        } else {
            segment.flags &= !first;
        }
        let input = if first == Segment::FIN {
            Input::Fin
        } else {
            Input::Reset
        };
        (ends != 0).then_some((Role::from_bit(who), input))
    }

    /// Judges an input.
    #[inline(always)]
    fn apply(&mut self, from: Role, input: Input) -> Ended {
        let decision = rules::decision(self.state(), from, input);
        let Some(stage) = decision.stage() else {
            return Ended(decision.0);
        };
        let side = &mut self.sides[from as usize];
        if stage != side.stage {
            if side.stage == Stage::SUSPECT {
                // It was no alert; the next one may be.
                side.sealed_len = 0;
            }
            if stage == Stage::FLIGHT {
                side.mark = side.next.wrapping_add(u32::from(side.record_left));
            }
            side.stage = stage;
        }
        Ended::MORE
    }

    /// The bytes of a record header, or of a stream's beginning, are there.
    #[inline(always)]
    fn framed(&mut self, segment: &Segment) -> Option<Input> {
        let role = usize::from(segment.role & 1);
        let peer = &self.sides[role ^ 1];
        let (peer_stage, peer_letters) = (peer.stage, peer.history_len);
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
                    if side.stage == Stage::PREAMBLE && role == Role::Client as usize {
                        self.preamble = 1;
                    }
                    side.flags |= Side::SPOKE_TLS;
                    side.skip = 0;
                    side.enter(header, tls12);
                    if header.content_type == record::ALERT {
                        side.remember(b'l', peer_letters);
                    }
                    return Some(Input::Tls);
                }
                _ if side.stage == Stage::PREAMBLE => {
                    side.framing = Framing::DRAIN;
                    side.turns = side.turns.saturating_add(1);
                    return (side.turns > PREAMBLE_TURNS).then_some(Input::Chatter);
                }
                Opening::Connect if role == Role::Client as usize => {
                    side.framing = Framing::DRAIN;
                    return Some(Input::Connect);
                }
                Opening::ProxyLine if role == Role::Client as usize => {
                    side.framing = Framing::PROXY_LINE;
                    side.header_have = 0;
                    side.record_left = PROXY_LINE_REST;
                    return None;
                }
                Opening::ProxyHeader if role == Role::Client as usize => {
                    side.framing = Framing::PROXY_HEADER;
                    return None;
                }
                Opening::TlsRequest if role == Role::Client as usize => {
                    side.framing = Framing::DRAIN;
                    return Some(Input::Preamble);
                }
                Opening::Greeting if role == Role::Server as usize => {
                    side.framing = Framing::DRAIN;
                    return Some(Input::Preamble);
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
            Framing::PROXY_HEADER => {
                side.header_have = 0;
                let Some(length) = record::proxy_header(&side.header) else {
                    side.framing = Framing::DRAIN;
                    return Some(Input::Foreign);
                };
                side.record_left = length;
                side.framing = if length == 0 {
                    Framing::OPENING
                } else {
                    Framing::PROXY_BODY
                };
                return None;
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
                let size = Sealed::of(suite, header.length);
                let first = version == record::TLS1_3 && side.sealed_len == 0;
                if size == Sealed::AlertSized && first {
                    // Judged once it is whole, and its bytes are kept: a key log may open it.
                    side.sealed_len = header.length as u8;
                    side.framing = Framing::SEALED;
                    return None;
                }
                Some(self.sealed(segment, size))
            }
            _ => None,
        }
    }

    /// An encrypted record, or the header of one.
    #[inline(always)]
    fn sealed(&self, segment: &Segment, size: Sealed) -> Input {
        let peer = &self.sides[segment.from().peer() as usize];
        Input::Sealed(size, reached(segment.acknowledged, peer.mark))
    }

    /// One byte of the line of the PROXY protocol version 1, which ends with the first line feed. A byte a
    /// step, since the verifier walks a search once for every place where it may end. `None`: the packet
    /// lacks bytes that its headers promise.
    #[inline(always)]
    fn proxy_line(
        &mut self,
        payload: &impl Payload,
        segment: &mut Segment,
    ) -> Option<Option<Input>> {
        let side = &mut self.sides[usize::from(segment.role & 1)];
        side.header_have = 0;
        side.take_header(payload, segment, 1, 1)?;
        side.header_have = 0;
        side.record_left = side.record_left.saturating_sub(1);
        if side.header[0] == b'\n' {
            side.framing = Framing::OPENING;
        } else if side.record_left == 0 {
            side.framing = Framing::DRAIN;
            return Some(Some(Input::Foreign));
        }
        Some(None)
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
