//! What the kernel hands to user space when a handshake has failed: the flow as it was at that
//! moment, and the verdict. The one definition of these bytes, however they come.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::flow::{Flow, RANDOM_AT, RANDOM_BYTES, SEALED_AT, SEALED_BYTES};
use crate::packet::{Endpoint, FlowKey};
use crate::rules::{self, Cause, Failure, Outcome};
use crate::side::{Framing, Side, Stage};
use crate::{Role, record};

/// Changes with any layout or number in this crate that crosses the kernel boundary.
pub const ABI: u32 = 4;

/// A failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// Everything both sides were seen to say.
    pub flow: Flow,
    /// When it failed. Nanoseconds, CLOCK_MONOTONIC.
    pub time: u64,
    /// [`ABI`].
    pub abi: u32,
    /// The interface whose packet decided.
    pub ifindex: u32,
    /// The connection.
    pub key: FlowKey,
    /// The verdict.
    pub verdict: Verdict,
    /// 1 where the handshake may have been closed in the ordinary way right after it was done
    /// ([`crate::rules::Outcome::Undecided`]): no failure, unless somebody else knows that it was.
    pub undecided: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// A [`Failure`] as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Verdict {
    /// [`crate::class::Class`] as a number.
    pub class: u8,
    /// [`Cause`] as a number.
    pub cause: u8,
    /// [`Role`] as a number.
    pub by: u8,
    /// Alert level, or 0.
    pub level: u8,
    /// Alert description, or 0.
    pub description: u8,
    /// 1 where the alert answered the ClientHello.
    pub answers_hello: u8,
}

impl From<Failure> for Verdict {
    #[inline(always)]
    fn from(failure: Failure) -> Self {
        Self {
            class: failure.class() as u8,
            cause: failure.cause as u8,
            by: failure.by as u8,
            level: failure.level,
            description: failure.description,
            answers_hello: u8::from(failure.answers_hello),
        }
    }
}

impl Verdict {
    /// The failure; `None` where a number is none that this version knows.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        Some(Failure {
            cause: Cause::from_number(self.cause)?,
            by: Role::from_bit(self.by),
            level: self.level,
            description: self.description,
            answers_hello: self.answers_hello != 0,
        })
    }
}

/// How far a handshake had come: what the side that ended it was answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandshakeStage {
    /// No ClientHello.
    Connected,
    /// The ClientHello, or part of it.
    ClientHello,
    /// A HelloRetryRequest.
    HelloRetryRequest,
    /// The ServerHello, and nothing after it that says more.
    ServerHello,
    /// TLS 1.2: the server's flight, with its certificate.
    ServerCertificate,
    /// The server's flight: encrypted (TLS 1.3), or without a certificate.
    ServerFlight,
    /// TLS 1.2: the client's flight, with its certificate.
    ClientCertificate,
    /// The client's flight: encrypted (TLS 1.3), or without a certificate.
    ClientFlight,
}

impl HandshakeStage {
    /// The value of `handshake.stage`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::ClientHello => "client_hello",
            Self::HelloRetryRequest => "hello_retry_request",
            Self::ServerHello => "server_hello",
            Self::ServerCertificate => "server_certificate",
            Self::ServerFlight => "server_flight",
            Self::ClientCertificate => "client_certificate",
            Self::ClientFlight => "client_flight",
        }
    }
}

impl Event {
    /// What is to be told of a flow of which nothing came until `time` (nanoseconds, CLOCK_MONOTONIC), and
    /// what that means ([`Flow::overdue`]).
    #[must_use]
    pub fn of_silence(flow: Flow, key: FlowKey, time: u64, outcome: Outcome) -> Option<Self> {
        let (failure, undecided) = match outcome {
            Outcome::Failed(failure) => (failure, 0),
            Outcome::Undecided => (rules::UNDECIDED, 1),
            _ => return None,
        };
        Some(Self {
            flow,
            time,
            abi: ABI,
            ifindex: flow.ifindex,
            key,
            verdict: failure.into(),
            undecided,
            reserved: [0; 5],
        })
    }

    /// Address and port of one side.
    #[must_use]
    pub const fn endpoint(&self, role: Role) -> Endpoint {
        let client = if self.flow.client_first == 1 { 0 } else { 1 };
        self.key.endpoint(client ^ role as usize)
    }

    /// The random of the client's last ClientHello, which is what a key log knows the connection by;
    /// `None` where the hello did not come that far.
    #[must_use]
    pub fn client_random(&self) -> Option<[u8; RANDOM_BYTES]> {
        if self.flow.client().stage < Stage::HELLO {
            return None;
        }
        let at = usize::from(RANDOM_AT);
        self.flow.bytes[at..].first_chunk().copied()
    }

    /// A side's first encrypted TLS 1.3 record that is as long as an alert: its fragment, tag included,
    /// without the header. `None` where it sent none, or not all of it.
    #[must_use]
    pub fn sealed(&self, role: Role) -> Option<&[u8]> {
        let side = &self.flow.sides[role as usize];
        let length = usize::from(side.sealed_len).min(SEALED_BYTES);
        let whole = side.framing != Framing::SEALED;
        let at = usize::from(SEALED_AT[role as usize]);
        (length > 0 && whole).then(|| &self.flow.bytes[at..at + length])
    }

    /// How far the handshake had come.
    #[must_use]
    pub fn stage(&self) -> HandshakeStage {
        let (client, server) = (self.flow.client(), self.flow.server());
        if client.stage >= Stage::FLIGHT {
            return if client.is(Side::SENT_CERTIFICATE) {
                HandshakeStage::ClientCertificate
            } else {
                HandshakeStage::ClientFlight
            };
        }
        match server.stage {
            Stage::RETRY => HandshakeStage::HelloRetryRequest,
            Stage::HELLO => HandshakeStage::ServerHello,
            stage if stage > Stage::HELLO => {
                if server.version <= record::TLS1_2 && server.is(Side::SENT_CERTIFICATE) {
                    HandshakeStage::ServerCertificate
                } else {
                    HandshakeStage::ServerFlight
                }
            }
            _ if client.stage >= Stage::GREETING => HandshakeStage::ClientHello,
            _ => HandshakeStage::Connected,
        }
    }

    /// Both histories in one order, the client's letters in upper case: `CsxknL`. Both arrays of
    /// letters say how many the peer had when each was written, which orders them.
    pub fn history(&self) -> impl Iterator<Item = char> + '_ {
        let [client, server] = &self.flow.sides;
        let mut taken = [0_usize; 2];
        core::iter::from_fn(move || {
            let next = |side: &Side, at: usize| {
                let known = usize::from(side.history_len).min(side.history.len());
                (at < known).then(|| (side.history[at], usize::from(side.history_peer[at])))
            };
            let (theirs, ours) = (next(client, taken[0]), next(server, taken[1]));
            let client_first = match (theirs, ours) {
                (None, None) => return None,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((_, seen_by_client)), Some(_)) => seen_by_client <= taken[1],
            };
            let letter = if client_first {
                taken[0] += 1;
                theirs?.0.to_ascii_uppercase()
            } else {
                taken[1] += 1;
                ours?.0
            };
            Some(char::from(letter))
        })
    }
}
