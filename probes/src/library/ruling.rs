//! What the libraries' words mean for a failure that the wire showed. Pure.
//!
//! The wire decides whether a handshake failed, when, and by whose act, with one exception: where a hidden
//! alert after the client's flight may have been a good server's goodbye, the libraries know. The
//! class stays what the *receiver* of the failure is told: a library's own reason stands beside it.

use gauntlet_wire::Role;
use gauntlet_wire::alert;
use gauntlet_wire::class::Class;
use gauntlet_wire::library::{Facts, Kind, Stack, Standing, Word};
use gauntlet_wire::rules::{Cause, Failure};
use serde::Serialize;

use super::join::{Heard, Seen, Words};
use super::names::{self, Alert};

/// What a library said, as the contract has it. Unknown values are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// `openssl`, `boringssl` or `gnutls`.
    #[serde(rename = "tls.library.name")]
    pub library: &'static str,
    /// Whose library: `client` or `server`.
    #[serde(rename = "tls.library.side")]
    pub side: &'static str,
    /// Its own text for why it gave up.
    #[serde(rename = "tls.library.reason", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What `SSL_get_error` said, where it was asked or can say one thing only.
    #[serde(rename = "tls.library.error", skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// Why it did not accept its peer's certificate, where that is the reason.
    #[serde(
        rename = "tls.library.x509.verify_error",
        skip_serializing_if = "Option::is_none"
    )]
    pub verify_error: Option<String>,
    /// The process, as the initial PID namespace numbers it.
    #[serde(rename = "process.pid")]
    pub process: u32,
    /// File name of its executable.
    #[serde(rename = "process.executable.name")]
    pub executable: String,
}

/// What is known beyond what the wire showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revealed {
    /// The failure is of this class, for certain.
    pub class: Option<Class>,
    /// The alert that was sent, where the wire could not read it.
    pub alert: Option<u8>,
    /// What a library said: the side's that ended it, if it said anything.
    pub said: Option<Said>,
}

/// What becomes of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It is one.
    Failed(Revealed),
    /// The handshake was good, or nobody says that it was not: what looked like an alert was a goodbye.
    Good,
}

/// What is known of both ends, by [`Role`], where their libraries have not failed; only of this connection
/// ([`Seen::is_at`]).
pub type Standings = [Option<(Standing, String)>; 2];

/// Rules.
#[must_use]
pub fn rule(seen: &Seen, words: &Words, standings: &Standings) -> Ruling {
    let failure = &seen.failure;
    if failure.cause == Cause::LateHiddenAlert && good(words, standings) {
        return Ruling::Good;
    }
    let mut revealed = Revealed {
        said: speaker(seen, words, standings),
        ..Revealed::default()
    };
    if failure.cause.hidden_alert() {
        revealed.alert = hidden_alert(seen, words);
        revealed.class = revealed
            .alert
            .map(|description| class(failure, description));
        let rejected = revealed.class.is_some() || rejected(seen, words);
        if seen.undecided && !rejected {
            return Ruling::Good;
        }
    } else if failure.cause == Cause::Alert && failure.class() == Class::NoSharedCipher {
        let server = words[Role::Server as usize].iter();
        let why = server
            .filter_map(|heard| names::no_shared_cipher(&heard.word))
            .next();
        revealed.class = why.map(|shared_none| {
            if shared_none {
                Class::NoSharedCipher
            } else {
                Class::Ssl
            }
        });
    }
    Ruling::Failed(revealed)
}

/// Whether the server took the client's flight, by its own library, or by what the client then received.
fn good(words: &Words, standings: &Standings) -> bool {
    let [client, server] = standings.each_ref().map(|known| {
        known
            .as_ref()
            .map_or(Facts(0), |(standing, _)| standing.facts)
    });
    let said = |role: Role| words[role as usize].iter().map(|heard| &heard.word);
    let served =
        server.has(Facts::DONE) || said(Role::Server).any(|word| word.facts.has(Facts::DONE));
    let goodbye = said(Role::Client).any(|word| word.facts.has(Facts::DONE) && closed(word));
    served || client.has(Facts::READ) || goodbye
}

/// Whether the side that may have rejected the other says that it did.
fn rejected(seen: &Seen, words: &Words) -> bool {
    let mut words = words[seen.failure.by as usize]
        .iter()
        .map(|heard| &heard.word);
    words.any(|word| !word.facts.has(Facts::DONE) && names::reason(word).is_some())
}

/// SSL_ERROR_ZERO_RETURN: close_notify was received.
fn closed(word: &Word) -> bool {
    word.kind == Kind::Result as u8 && names::result(word) == Some("SSL_ERROR_ZERO_RETURN")
}

/// The alert that the wire could not read, as its receiver was told, or as its sender's failure implies.
fn hidden_alert(seen: &Seen, words: &Words) -> Option<u8> {
    let by = seen.failure.by;
    let about = |role: Role| {
        let words = words[role as usize].iter().map(|heard| &heard.word);
        words.filter_map(move |word| names::alert(word, seen.version))
    };
    let received = about(by.peer()).find_map(|alert| match alert {
        Alert::Received(description) => Some(description),
        Alert::Sent(_) => None,
    });
    let sent = about(by).find_map(|alert| match alert {
        Alert::Sent(description) => Some(description),
        Alert::Received(_) => None,
    });
    let closed = words[by.peer() as usize]
        .iter()
        .any(|heard| closed(&heard.word));
    received
        .or(sent)
        .or_else(|| closed.then_some(alert::CLOSE_NOTIFY))
}

/// The class of a hidden alert, once it is known: the wire's rule for one in the clear.
fn class(failure: &Failure, description: u8) -> Class {
    let level = if description == alert::CLOSE_NOTIFY {
        alert::WARNING
    } else {
        alert::FATAL
    };
    Failure {
        cause: Cause::Alert,
        level,
        description,
        ..*failure
    }
    .class()
}

/// Who is quoted: the side that ended it, since it knows why; its peer, where that is all there is. Of a
/// stalled handshake, whoever waits.
fn speaker(seen: &Seen, words: &Words, standings: &Standings) -> Option<Said> {
    let by = seen.failure.by;
    [by, by.peer()]
        .into_iter()
        .find_map(|role| quote(role, &words[role as usize]))
        .or_else(|| {
            let waiting = by.peer();
            let (standing, executable) = standings[waiting as usize].as_ref()?;
            let waits = standing.facts.has(Facts::WAITS) && !standing.facts.has(Facts::DONE);
            (seen.failure.cause == Cause::Stall && waits).then_some(())?;
            let stack = Stack::from_number(standing.stack)?;
            Some(Said {
                library: names::stack(stack),
                side: waiting.name(),
                reason: None,
                error: (stack != Stack::GnuTls).then_some("SSL_ERROR_WANT_READ"),
                verify_error: None,
                process: standing.process,
                executable: executable.clone(),
            })
        })
}

/// What one side said: its first reason, or else whatever it said first.
fn quote(role: Role, words: &[Heard]) -> Option<Said> {
    let heard = words
        .iter()
        .find(|heard| names::reason(&heard.word).is_some())
        .or_else(|| words.first())?;
    let word = &heard.word;
    Some(Said {
        library: names::stack(Stack::from_number(word.stack)?),
        side: role.name(),
        reason: names::reason(word),
        error: names::result(word),
        verify_error: names::verify_failed(word).then(|| names::verify_error(word.verify_error)),
        process: word.process,
        executable: heard.executable.clone(),
    })
}
