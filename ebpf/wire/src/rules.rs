//! The rules: given how far both sides are, what does this input mean? The only place that judges.
//!
//! Refuses to read bytes ([`crate::flow`] does) and to know about packets, time or tables. The first
//! abnormal event decides; after it, and after a finished handshake, a flow is forgotten, so that
//! nothing that follows can be a second one.
//!
//! "The contract" is the classes' definition in the README; RFC sections are RFC 8446's unless said
//! otherwise.

use crate::Role;
use crate::alert;
use crate::class::{Class, Confidence};
use crate::handshake::Sealed;
use crate::number::Decision;
use crate::record;
use crate::side::{Side, Stage};

/// All that a rule may look at. Facts are numbers as they stand in the flow, and are asked one by one:
/// the kernel's verifier would walk a rule once for every combination of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// How far the client is.
    pub client: Stage,
    /// How far the server is.
    pub server: Stage,
    /// The negotiated version; 0 before the ServerHello.
    pub version: u16,
    /// The [`Side`] flags of both sides.
    pub flags: u16,
    /// Not 0: the server's address and port are known to speak TLS.
    pub known: u8,
    /// Not 0: the client's TLS began after a preamble ([`crate::flow::Flow::preamble`]).
    pub preamble: u8,
}

impl State {
    /// The server's address and port are known to speak TLS.
    #[inline(always)]
    const fn known(self) -> bool {
        self.known != 0
    }

    /// The client offered early_data.
    #[inline(always)]
    const fn early_data(self) -> bool {
        self.flags & Side::EARLY_DATA != 0
    }

    /// Part of either direction could not be read: silence and closing prove nothing.
    #[inline(always)]
    const fn lost(self) -> bool {
        self.flags & Side::LOST != 0
    }

    /// The server said something that is not TLS, and not in a preamble.
    #[inline(always)]
    fn foreign_server(self) -> bool {
        let said = self.server == Stage::FOREIGN || self.server == Stage::PREAMBLE;
        said && (self.preamble == 0 || self.flags & Side::ANEW != 0)
    }
}

/// What a side did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Its first bytes are neither TLS nor HTTP CONNECT (nor, in answer to one, an HTTP status line).
    Foreign,
    /// Its first bytes are of a protocol that may agree on TLS: a server's greeting, a client's request.
    Preamble,
    /// A preamble has gone on for longer than any that leads to TLS.
    Chatter,
    /// Its first bytes are an HTTP CONNECT.
    Connect,
    /// It answered an HTTP CONNECT with a status line; `true`: 2xx, the tunnel stands.
    Status(bool),
    /// Its first bytes are a TLS record.
    Tls,
    /// ClientHello begun.
    ClientHello,
    /// A whole ClientHello.
    ClientHelloRead,
    /// A whole HelloRetryRequest.
    HelloRetryRequest,
    /// A whole ServerHello; [`State::version`] is already the new one.
    ServerHello,
    /// Another handshake message in the clear.
    Handshake,
    /// change_cipher_spec.
    ChangeCipherSpec,
    /// TLS 1.2: a handshake record after change_cipher_spec, which can only be Finished.
    Finished,
    /// A plaintext alert: level, description.
    Alert(u8, u8),
    /// A record of type alert that is not two bytes long: encrypted, TLS 1.2.
    SealedAlert,
    /// A record of type application_data, by its length; `true`: sent by someone who had received
    /// the record at the peer's [`crate::side::Side::mark`].
    Sealed(Sealed, bool),
    /// FIN, everything before it read.
    Fin,
    /// RST.
    Reset,
    /// Nothing for longer than the threshold.
    Silence,
}

/// What an input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The handshake goes on; the sender is at this stage now.
    On(Stage),
    /// The handshake is done: whatever follows is no handshake failure. Forget the flow.
    Done,
    /// No TLS here, or nothing that can be judged. Forget the flow.
    Ignore,
    /// A handshake that may have been rejected, or closed in the ordinary way right after it was
    /// done: both look the same. Forget the flow.
    Undecided,
    /// The handshake failed.
    Failed(Failure),
}

/// Why a handshake failed, and by whose act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The kind of act.
    pub cause: Cause,
    /// Whose act it was.
    pub by: Role,
    /// Alert level, where a plaintext alert was the act; else 0.
    pub level: u8,
    /// Alert description, where a plaintext alert was the act; else 0.
    pub description: u8,
    /// The server's alert came in answer to the ClientHello.
    pub answers_hello: bool,
}

/// What an [`Outcome::Undecided`] would be, if it was a failure.
pub const UNDECIDED: Failure = Failure {
    cause: Cause::LateHiddenAlert,
    by: Role::Server,
    level: 0,
    description: 0,
    answers_hello: false,
};

/// The act that ended a handshake. The numbers cross the kernel boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cause {
    /// A plaintext alert.
    Alert = 1,
    /// TLS 1.3: the client's first encrypted record is as long as an alert.
    ClientHiddenAlert = 2,
    /// TLS 1.3: the server's first encrypted record is as long as an alert.
    ServerHiddenAlert = 3,
    /// TLS 1.3: after the client's flight the server sent one alert-sized record, then the
    /// connection ended.
    LateHiddenAlert = 4,
    /// TLS 1.2: an encrypted alert before both Finished.
    SealedAlert = 5,
    /// First bytes that are neither TLS nor an HTTP CONNECT.
    NotTls = 6,
    /// An HTTP CONNECT.
    Connect = 7,
    /// RST.
    Reset = 8,
    /// FIN.
    Fin = 9,
    /// Silence.
    Stall = 10,
}

impl Cause {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Alert,
        Self::ClientHiddenAlert,
        Self::ServerHiddenAlert,
        Self::LateHiddenAlert,
        Self::SealedAlert,
        Self::NotTls,
        Self::Connect,
        Self::Reset,
        Self::Fin,
        Self::Stall,
    ];

    /// The cause with this number; [`Self::Stall`] for what is none.
    #[inline(always)]
    pub(crate) const fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Alert,
            2 => Self::ClientHiddenAlert,
            3 => Self::ServerHiddenAlert,
            4 => Self::LateHiddenAlert,
            5 => Self::SealedAlert,
            6 => Self::NotTls,
            7 => Self::Connect,
            8 => Self::Reset,
            9 => Self::Fin,
            _ => Self::Stall,
        }
    }

    /// The cause with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| *cause as u8 == number)
    }

    /// Whether the act was an alert that cannot be read.
    #[must_use]
    pub const fn hidden_alert(self) -> bool {
        matches!(
            self,
            Self::ClientHiddenAlert
                | Self::ServerHiddenAlert
                | Self::LateHiddenAlert
                | Self::SealedAlert
        )
    }
}

impl Failure {
    /// The class, as the contract maps it.
    #[must_use]
    #[inline(always)]
    pub const fn class(&self) -> Class {
        match self.cause {
            Cause::Alert => match self.description {
                // Fatal, it is an error like any other to OpenSSL.
                alert::CLOSE_NOTIFY if self.level != alert::FATAL => Class::ZeroReturn,
                alert::HANDSHAKE_FAILURE if self.answers_hello => Class::NoSharedCipher,
                alert::BAD_CERTIFICATE => Class::BadCertificate,
                alert::CERTIFICATE_EXPIRED => Class::CertificateExpired,
                alert::UNKNOWN_CA => Class::UnknownCa,
                alert::ACCESS_DENIED => Class::AccessDenied,
                alert::PROTOCOL_VERSION => Class::UnknownProtocol,
                _ => Class::Ssl,
            },
            Cause::ClientHiddenAlert
            | Cause::ServerHiddenAlert
            | Cause::LateHiddenAlert
            | Cause::SealedAlert => Class::Ssl,
            Cause::NotTls => Class::UnknownProtocol,
            Cause::Connect => Class::HttpsProxyRequest,
            Cause::Reset | Cause::Fin => Class::Syscall,
            Cause::Stall => Class::WantRead,
        }
    }

    /// How sure the class is.
    #[must_use]
    pub const fn confidence(&self) -> Confidence {
        if self.candidates().is_empty() {
            Confidence::Certain
        } else {
            Confidence::Ambiguous
        }
    }

    /// What else it may have been: empty where the wire says it all. `None` stands for a handshake
    /// that did not fail.
    #[must_use]
    pub const fn candidates(&self) -> &'static [Option<Class>] {
        match self.cause {
            // Alert 40 is also sent for no common group, no common signature algorithm, and by
            // some for a version they do not speak.
            Cause::Alert => match self.class() {
                Class::NoSharedCipher => &[Some(Class::NoSharedCipher), Some(Class::Ssl)],
                _ => &[],
            },
            // The client has seen the server's certificate and Finished, nothing more.
            Cause::ClientHiddenAlert => &[
                Some(Class::UnknownCa),
                Some(Class::CertificateExpired),
                Some(Class::BadCertificate),
                Some(Class::AccessDenied),
                Some(Class::ZeroReturn),
                Some(Class::Ssl),
            ],
            // The server has seen the ClientHello only.
            Cause::ServerHiddenAlert => &[
                Some(Class::AccessDenied),
                Some(Class::ZeroReturn),
                Some(Class::Ssl),
            ],
            // The server has seen the client's certificate; but a server without tickets that
            // closes at once after a good handshake looks the same.
            Cause::LateHiddenAlert => &[
                Some(Class::UnknownCa),
                Some(Class::CertificateExpired),
                Some(Class::BadCertificate),
                Some(Class::AccessDenied),
                Some(Class::Ssl),
                None,
            ],
            Cause::SealedAlert => &[Some(Class::ZeroReturn), Some(Class::Ssl)],
            _ => &[],
        }
    }
}

/// Decides what `input` from `from` means in `state`.
#[must_use]
pub fn decide(state: State, from: Role, input: Input) -> Outcome {
    decision(state, from, input).outcome()
}

/// [`decide`], as a number.
#[inline(always)]
pub(crate) fn decision(state: State, from: Role, input: Input) -> Decision {
    let stage = match from {
        Role::Client => state.client,
        Role::Server => state.server,
    };
    match input {
        Input::Foreign | Input::Preamble | Input::Connect | Input::Status(_) | Input::Tls => {
            opening(state, from, stage, input)
        }
        Input::Chatter => Decision::IGNORE,
        Input::ClientHello => match from {
            Role::Client => Decision::on(Stage::GREETING),
            Role::Server => Decision::on(stage),
        },
        // A banner before the ClientHello was not meant for TLS. It is told once the hello is read,
        // which has the name that was asked for.
        Input::ClientHelloRead => match from {
            Role::Client if state.foreign_server() => failed(Cause::NotTls, Role::Server),
            Role::Client => Decision::on(Stage::HELLO),
            Role::Server => Decision::on(stage),
        },
        Input::HelloRetryRequest => match from {
            Role::Server => Decision::on(Stage::RETRY),
            Role::Client => Decision::on(stage),
        },
        Input::ServerHello => match from {
            Role::Server => Decision::on(Stage::HELLO),
            Role::Client => Decision::on(stage),
        },
        Input::Handshake => {
            if stage == Stage::HELLO && state.version != 0 {
                Decision::on(Stage::FLIGHT)
            } else {
                Decision::on(stage)
            }
        }
        // In TLS 1.3, and before a version is known, change_cipher_spec is for middleboxes and
        // means nothing (D.4).
        Input::ChangeCipherSpec => {
            if tls12(state) && stage < Stage::SECURED {
                Decision::on(Stage::SECURED)
            } else {
                Decision::on(stage)
            }
        }
        Input::Finished => finished(state, from),
        Input::Alert(level, description) => plaintext_alert(state, from, stage, level, description),
        Input::SealedAlert => sealed_alert(state, from, stage),
        Input::Sealed(size, answers) => {
            if state.version == record::TLS1_3 {
                match from {
                    Role::Client => client_sealed(state, size),
                    Role::Server => server_sealed(state, size, answers),
                }
            } else {
                // TLS 1.2 false start, or 0-RTT before the ServerHello.
                Decision::on(stage)
            }
        }
        Input::Fin => closed(state, from, stage, Cause::Fin),
        Input::Reset => closed(state, from, stage, Cause::Reset),
        Input::Silence => silence(state, from),
    }
}

#[inline(always)]
const fn failed(cause: Cause, by: Role) -> Decision {
    Decision::failed(cause, by)
}

#[inline(always)]
fn tls12(state: State) -> bool {
    state.version != 0 && state.version <= record::TLS1_2
}

/// The first bytes of a side. Judged only where TLS is meant: the port is known, or one side spoke TLS.
#[inline(always)]
fn opening(state: State, from: Role, stage: Stage, input: Input) -> Decision {
    match (from, input) {
        (Role::Client, Input::Connect) => Decision::on(Stage::CONNECT),
        (Role::Client, Input::Tls) => Decision::on(stage),
        // It asks for TLS in a way that servers understand which answer a ClientHello too.
        (Role::Client, Input::Preamble) => Decision::on(Stage::PREAMBLE),
        (Role::Client, _) if state.server == Stage::PREAMBLE => Decision::on(Stage::PREAMBLE),
        (Role::Client, _) => {
            if state.known() {
                failed(Cause::NotTls, Role::Client)
            } else if state.server == Stage::FOREIGN {
                Decision::IGNORE
            } else {
                Decision::on(Stage::FOREIGN)
            }
        }
        (Role::Server, Input::Tls) => match state.client {
            Stage::FOREIGN => failed(Cause::NotTls, Role::Client),
            Stage::CONNECT => failed(Cause::Connect, Role::Client),
            _ => Decision::on(stage),
        },
        (Role::Server, Input::Preamble) if state.client == Stage::SILENT && !state.known() => {
            Decision::on(Stage::PREAMBLE)
        }
        (Role::Server, Input::Status(true)) => Decision::on(Stage::GRANTED),
        (Role::Server, _) => match state.client {
            Stage::SILENT if !state.known() => Decision::on(Stage::FOREIGN),
            // Told once the ClientHello is read, perhaps on another CPU at this very moment.
            Stage::GREETING => Decision::on(Stage::FOREIGN),
            Stage::PREAMBLE => Decision::on(Stage::PREAMBLE),
            Stage::FOREIGN => Decision::IGNORE,
            // Refused, or answered by something that is no proxy.
            Stage::CONNECT if state.known() => failed(Cause::Connect, Role::Client),
            Stage::CONNECT => Decision::IGNORE,
            _ => failed(Cause::NotTls, Role::Server),
        },
    }
}

/// RFC 5246 section 7.3: both Finished make the handshake.
#[inline(always)]
fn finished(state: State, from: Role) -> Decision {
    let peer = match from {
        Role::Client => state.server,
        Role::Server => state.client,
    };
    // A peer that is SUSPECT had sent its Finished: its encrypted alert was a close_notify.
    if peer == Stage::FINISHED || peer == Stage::SUSPECT {
        Decision::DONE
    } else {
        Decision::on(Stage::FINISHED)
    }
}

#[inline(always)]
fn plaintext_alert(state: State, from: Role, stage: Stage, level: u8, description: u8) -> Decision {
    // Section 6: in TLS 1.3 the level means nothing, every alert but close_notify and user_canceled
    // is fatal.
    let fatal = level == alert::FATAL || state.version == record::TLS1_3;
    if description == alert::CLOSE_NOTIFY || (fatal && description != alert::USER_CANCELED) {
        let answers_hello = from == Role::Server
            && state.version == 0
            && (state.client >= Stage::GREETING || state.lost());
        Decision::alert(from, level, description, answers_hello)
    } else {
        Decision::on(stage)
    }
}

/// After its own Finished a side may close early and yet have succeeded: wait for the peer's.
#[inline(always)]
fn sealed_alert(state: State, from: Role, stage: Stage) -> Decision {
    if !tls12(state) {
        return Decision::on(stage);
    }
    match stage {
        Stage::SECURED => failed(Cause::SealedAlert, from),
        Stage::FINISHED => Decision::on(Stage::SUSPECT),
        _ => Decision::on(stage),
    }
}

/// An encrypted TLS 1.3 record of the client.
#[inline(always)]
fn client_sealed(state: State, size: Sealed) -> Decision {
    if state.early_data() {
        // 0-RTT data can have any size, so size proves no alert.
        return match size {
            Sealed::FinishedSized => Decision::DONE,
            _ => Decision::on(Stage::FLIGHT),
        };
    }
    match (state.client, size) {
        (Stage::HELLO, Sealed::AlertSized) => failed(Cause::ClientHiddenAlert, Role::Client),
        // Without a client certificate the server has nothing left to reject.
        (Stage::HELLO, Sealed::FinishedSized) => Decision::DONE,
        // Most likely a close_notify. Not an answer to anything: that the client acknowledged the
        // server's record does not mean that it has read it.
        (Stage::FLIGHT, Sealed::AlertSized) => Decision::on(Stage::SUSPECT),
        (Stage::SUSPECT, _) => Decision::on(Stage::SUSPECT),
        _ => Decision::on(Stage::FLIGHT),
    }
}

/// Whether the client has sent its TLS 1.3 flight, of which nothing but the size can be seen.
#[inline(always)]
fn sealed_flight(state: State) -> bool {
    state.version == record::TLS1_3
        && (state.client == Stage::FLIGHT || state.client == Stage::SUSPECT)
}

/// An encrypted TLS 1.3 record of the server. `answers`: it had received the client's flight.
#[inline(always)]
fn server_sealed(state: State, size: Sealed, answers: bool) -> Decision {
    let answers = answers && sealed_flight(state);
    if state.server == Stage::HELLO && !sealed_flight(state) {
        // EncryptedExtensions is longer than an alert even when it is empty.
        return match size {
            Sealed::AlertSized => failed(Cause::ServerHiddenAlert, Role::Server),
            _ => Decision::on(Stage::FLIGHT),
        };
    }
    if state.early_data() && sealed_flight(state) {
        // A resumption asks for no certificate: there is nothing left to reject.
        return if answers {
            Decision::DONE
        } else {
            Decision::on(Stage::FLIGHT)
        };
    }
    match size {
        // GnuTLS sends two alerts: still suspect.
        Sealed::AlertSized => Decision::on(Stage::SUSPECT),
        // Tickets or data after the client's flight: it was accepted.
        _ if answers => Decision::DONE,
        _ => Decision::on(Stage::FLIGHT),
    }
}

/// FIN or RST. Counts only after a ClientHello, and only where every byte before it was read.
#[inline(always)]
fn closed(state: State, from: Role, stage: Stage, cause: Cause) -> Decision {
    if state.client < Stage::GREETING {
        return match state.client {
            // Unless the proxy's answer is what was not seen.
            Stage::CONNECT if state.known() && !state.lost() => {
                failed(Cause::Connect, Role::Client)
            }
            // The server may still answer a client that closed its sending direction.
            Stage::FOREIGN | Stage::CONNECT if from == Role::Client && cause == Cause::Fin => {
                Decision::on(stage)
            }
            _ => Decision::IGNORE,
        };
    }
    if state.foreign_server() {
        return failed(Cause::NotTls, Role::Server);
    }
    match suspicion(state) {
        Suspicion::None => {}
        // What would have cleared the suspect may be among the bytes that were not seen.
        _ if state.lost() => return Decision::IGNORE,
        Suspicion::Sealed(by) => return failed(Cause::SealedAlert, by),
        Suspicion::Server => {
            return match (from, cause) {
                // What the client does next says more.
                (Role::Server, Cause::Fin) => Decision::on(stage),
                _ => hidden_by_server(state),
            };
        }
        Suspicion::Both => {
            return match (from, cause) {
                // The server closed on what the client had sent, instead of reading it.
                (Role::Server, Cause::Reset) => hidden_by_server(state),
                _ => Decision::on(stage),
            };
        }
    }
    if sealed_flight(state) {
        // The client's flight ends with its Finished: done as far as can be seen.
        return Decision::DONE;
    }
    if state.lost() {
        Decision::IGNORE
    } else {
        failed(cause, from)
    }
}

/// Time ran out; `owed_by` is whose turn it was.
#[inline(always)]
fn silence(state: State, owed_by: Role) -> Decision {
    if state.client < Stage::GREETING {
        return match state.client {
            // Unless the proxy's answer is what was not seen.
            Stage::CONNECT if state.known() && !state.lost() => {
                failed(Cause::Connect, Role::Client)
            }
            _ => Decision::IGNORE,
        };
    }
    if state.foreign_server() {
        return failed(Cause::NotTls, Role::Server);
    }
    match suspicion(state) {
        Suspicion::None => {}
        // What would have cleared the suspect may be among the bytes that were not seen.
        _ if state.lost() => return Decision::IGNORE,
        Suspicion::Sealed(by) => return failed(Cause::SealedAlert, by),
        Suspicion::Server => return hidden_by_server(state),
        Suspicion::Both => return Decision::UNDECIDED,
    }
    if sealed_flight(state) {
        return Decision::DONE;
    }
    if state.lost() {
        Decision::IGNORE
    } else {
        failed(Cause::Stall, owed_by)
    }
}

/// Who has sent a record that may be an alert, when the connection ends.
enum Suspicion {
    /// Nobody.
    None,
    /// TLS 1.2: an encrypted alert, and the peer's Finished never came.
    Sealed(Role),
    /// TLS 1.3: the server, after which the client said nothing.
    Server,
    /// TLS 1.3: both. An ordinary end of a connection looks so; a rejection of a client that closes
    /// at once too.
    Both,
}

#[inline(always)]
fn suspicion(state: State) -> Suspicion {
    let (client, server) = (
        state.client == Stage::SUSPECT,
        state.server == Stage::SUSPECT,
    );
    match (client, server) {
        (true, _) if tls12(state) => Suspicion::Sealed(Role::Client),
        (_, true) if tls12(state) => Suspicion::Sealed(Role::Server),
        (false, true) => Suspicion::Server,
        (true, true) => Suspicion::Both,
        (_, false) => Suspicion::None,
    }
}

#[inline(always)]
fn hidden_by_server(state: State) -> Decision {
    let cause = if sealed_flight(state) {
        Cause::LateHiddenAlert
    } else {
        Cause::ServerHiddenAlert
    };
    failed(cause, Role::Server)
}
