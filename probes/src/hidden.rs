//! TLS 1.3 alerts that the wire hides, opened with a key log's secrets.
//!
//! A record that is as long as an alert may be one, or two bytes of data, or a piece of a message; which
//! secret and which sequence number it was sealed with is not to be seen either. All that are plausible are
//! tried, and the AEAD's tag proves the right one (RFC 8446 section 5.2): nothing here is guessed.
//!
//! Refuses TLS 1.2: its alerts are hidden only after change_cipher_spec.

use aes::Aes128;
use aes_gcm::aead::array::Array;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ccm::Ccm;
use ccm::consts::{U8, U12, U16};
use chacha20poly1305::ChaCha20Poly1305;
use gauntlet_wire::class::Class;
use gauntlet_wire::event::Event;
use gauntlet_wire::rules::{Cause, Failure};
use gauntlet_wire::{Role, alert, record};
use hkdf::Hkdf;
use sha2::{Sha256, Sha384};

use crate::keylog::{KeyLog, Label, Secret, Secrets};

type Aes128Ccm = Ccm<Aes128, U16, U12>;
type Aes128Ccm8 = Ccm<Aes128, U8, U12>;

/// Sequence numbers that are tried with each secret. An alert is the first record of a direction as a rule;
/// the last of a finely fragmented flight, or a close_notify after tickets and data, is some later one.
const SEQUENCES: u64 = 256;
/// Plaintext of an alert-sized record: two bytes, and the content type or padding.
const PLAINTEXT: usize = 3;
/// The longest tag.
const TAG: usize = 16;

/// An alert-sized record, opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The secret that it was sealed with.
    pub label: Label,
    /// What it held.
    pub content: Content,
}

/// What an alert-sized record held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An alert: level, description.
    Alert(u8, u8),
    /// Data, or a piece of a handshake message.
    NoAlert,
}

/// What the wire took for a hidden alert, once it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The handshake failed.
    Failed(Alert),
    /// It is not shown to have failed: there is nothing to report.
    NoFailure,
    /// The record is not the one that it failed by.
    Unknown,
}

/// What is to be told of an event, once a key log was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// All of it, as the wire had it: it is not about a hidden TLS 1.3 alert, or there is no key log.
    Plain,
    /// The alert was this.
    Named(Alert),
    /// Nothing: the handshake is not shown to have failed.
    NoFailure,
    /// As the wire had it: the key log has no secrets of this connection.
    NoKeys,
    /// As the wire had it: the key log's secrets do not open the record.
    Locked,
    /// Nothing: the wire could not decide whether the handshake failed ([`Event::undecided`]), and no key log
    /// could.
    Undecided,
}

/// The alert that a handshake failed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert {
    /// What its receiver is told.
    pub class: Class,
    /// `AlertLevel`; means nothing in TLS 1.3.
    pub level: u8,
    /// `AlertDescription`.
    pub description: u8,
}

/// Opens a record of `sender`: the payload of its only record that is as long as an alert, tag included,
/// header not. `None`: none of the secrets is the right one, or the cipher suite is not one of TLS 1.3's.
#[must_use]
pub fn open(suite: u16, secrets: &Secrets, sender: Role, sealed: &[u8]) -> Option<Opened> {
    let labels = match sender {
        Role::Client => [Label::ClientHandshake, Label::ClientTraffic],
        Role::Server => [Label::ServerHandshake, Label::ServerTraffic],
    };
    labels.into_iter().find_map(|label| {
        let plaintext = with(suite, secrets.secret(label)?, sealed)?;
        Some(Opened {
            label,
            content: content(plaintext),
        })
    })
}

/// What it means for the handshake that this was in the record that `cause` is about.
///
/// * A close_notify of the server after the client's flight is the ordinary end of a handshake that was
///   good: whoever rejects says why. Before that, whoever closes leaves a handshake that is not done.
/// * user_canceled announces a close_notify (RFC 8446 section 6.1) and means the same.
/// * What is no alert proves nothing. But a piece of the server's own flight is not what it answered the
///   client's with: then another record is meant, which nobody kept.
#[must_use]
pub fn meaning(cause: Cause, by: Role, opened: Opened) -> Meaning {
    let Content::Alert(level, description) = opened.content else {
        let of_flight = opened.label == Label::ServerHandshake;
        return if of_flight && cause == Cause::LateHiddenAlert {
            Meaning::Unknown
        } else {
            Meaning::NoFailure
        };
    };
    let closing = matches!(description, alert::CLOSE_NOTIFY | alert::USER_CANCELED);
    if closing && cause == Cause::LateHiddenAlert {
        return Meaning::NoFailure;
    }
    let failure = Failure {
        cause: Cause::Alert,
        by,
        level,
        description,
        // The ServerHello came before it.
        answers_hello: false,
    };
    Meaning::Failed(Alert {
        class: match description {
            alert::USER_CANCELED => Class::ZeroReturn,
            _ => failure.class(),
        },
        level,
        description,
    })
}

/// Looks into what the wire took for a hidden alert, or could not decide about.
#[must_use]
pub fn look(event: &Event, log: Option<&KeyLog>) -> Look {
    let look = log.map_or(Look::Plain, |log| open_event(event, log));
    match look {
        Look::Plain | Look::NoKeys | Look::Locked if event.undecided != 0 => Look::Undecided,
        look => look,
    }
}

fn open_event(event: &Event, log: &KeyLog) -> Look {
    let Some(failure) = event
        .verdict
        .failure()
        .filter(|failure| HIDDEN.contains(&failure.cause))
    else {
        return Look::Plain;
    };
    let Some(secrets) = event
        .client_random()
        .and_then(|random| log.secrets(&random))
    else {
        return Look::NoKeys;
    };
    let suite = event.flow.server().suite;
    let sealed = event.sealed(failure.by).unwrap_or_default();
    match open(suite, secrets, failure.by, sealed) {
        Some(opened) => match meaning(failure.cause, failure.by, opened) {
            Meaning::Failed(alert) => Look::Named(alert),
            Meaning::NoFailure => Look::NoFailure,
            Meaning::Unknown => Look::Locked,
        },
        None => Look::Locked,
    }
}

/// TLS 1.3 alerts that the wire hides.
const HIDDEN: [Cause; 3] = [
    Cause::ClientHiddenAlert,
    Cause::ServerHiddenAlert,
    Cause::LateHiddenAlert,
];

/// Tries one secret.
fn with(suite: u16, secret: &Secret, sealed: &[u8]) -> Option<[u8; PLAINTEXT]> {
    // RFC 8446 appendix B.4, RFC 6655 section 3.
    match suite {
        0x1301 => sequences::<Aes128Gcm, 16>(secret, sealed, TAG),
        0x1302 => sequences::<Aes256Gcm, 32>(secret, sealed, TAG),
        0x1303 => sequences::<ChaCha20Poly1305, 32>(secret, sealed, TAG),
        0x1304 => sequences::<Aes128Ccm, 16>(secret, sealed, TAG),
        0x1305 => sequences::<Aes128Ccm8, 16>(secret, sealed, TAG / 2),
        _ => None,
    }
}

/// Tries every plausible sequence number.
fn sequences<A, const KEY: usize>(
    secret: &Secret,
    sealed: &[u8],
    tag: usize,
) -> Option<[u8; PLAINTEXT]>
where
    A: KeyInit + AeadInOut,
{
    let (ciphertext, tag_bytes) = sealed.split_at_checked(PLAINTEXT)?;
    if tag_bytes.len() != tag {
        return None;
    }
    let ciphertext: [u8; PLAINTEXT] = ciphertext.try_into().ok()?;
    let (mut key, mut iv) = ([0; KEY], [0; 12]);
    expand(secret, "key", &mut key)?;
    expand(secret, "iv", &mut iv)?;
    let cipher = A::new_from_slice(&key).ok()?;
    let length = (sealed.len() as u16).to_be_bytes();
    // Section 5.2: the header of the record, whose version says TLS 1.2.
    let header = [record::APPLICATION_DATA, 3, 3, length[0], length[1]];
    (0..SEQUENCES).find_map(|sequence| {
        // Section 5.3.
        let mut nonce = iv;
        for (byte, number) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= number;
        }
        let mut plaintext = ciphertext;
        cipher
            .decrypt_inout_detached(
                &Array::try_from(&nonce[..]).ok()?,
                &header,
                plaintext.as_mut_slice().into(),
                &Array::try_from(tag_bytes).ok()?,
            )
            .ok()?;
        Some(plaintext)
    })
}

/// RFC 8446 section 7.1: HKDF-Expand-Label with no context, by the hash that the secret is as long as.
fn expand(secret: &Secret, label: &str, into: &mut [u8]) -> Option<()> {
    let mut info = Vec::with_capacity(16);
    info.extend((into.len() as u16).to_be_bytes());
    info.push("tls13 ".len() as u8 + label.len() as u8);
    info.extend(b"tls13 ");
    info.extend(label.as_bytes());
    info.push(0);
    let secret = secret.bytes();
    if secret.len() == 32 {
        Hkdf::<Sha256>::from_prk(secret).ok()?.expand(&info, into)
    } else {
        Hkdf::<Sha384>::from_prk(secret).ok()?.expand(&info, into)
    }
    .ok()
}

/// Section 5.4: the content type is the last byte that is not zero; zeros after it are padding.
fn content(plaintext: [u8; PLAINTEXT]) -> Content {
    match plaintext {
        [level, description, record::ALERT] => Content::Alert(level, description),
        _ => Content::NoAlert,
    }
}

#[cfg(test)]
mod tests {
    use gauntlet_wire::flow::SEALED_AT;
    use gauntlet_wire::side::Stage;
    use zerocopy::FromZeros as _;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
            .collect()
    }

    fn secrets(lines: &[(Label, &[u8])]) -> Secrets {
        let mut log = KeyLog::new(1);
        for (label, secret) in lines {
            let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let line = format!("{} {} {secret}\n", label.name(), "00".repeat(32));
            log.add(line.as_bytes());
        }
        *log.secrets(&[0; 32]).expect("a known label")
    }

    /// RFC 8448 section 3: both close_notify of a handshake with TLS_AES_128_GCM_SHA256.
    const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552 875afa0b06df0087f792ebb7c17504a5";
    const CLIENT_ALERT: &str = "c9872760655666b74d7ff1153efd6db6d0b0e3";
    const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a95032 8204b4f44bfb6b3a4b4f1f3fcb631643";
    const SERVER_ALERT: &str = "b58fd67166ebf599d24720cfbe7efa7a8864a9";

    #[test]
    fn the_alerts_of_rfc_8448_are_opened_by_the_right_secret_and_no_other() {
        let (ours, theirs) = (bytes(CLIENT_SECRET), bytes(SERVER_SECRET));
        let all = secrets(&[
            (Label::ClientTraffic, &ours),
            (Label::ServerTraffic, &theirs),
            (Label::ClientHandshake, &[1; 32]),
            (Label::ServerHandshake, &[2; 32]),
        ]);
        for (role, record) in [(Role::Client, CLIENT_ALERT), (Role::Server, SERVER_ALERT)] {
            let record = bytes(record);
            let opened = open(0x1301, &all, role, &record).map(|opened| opened.content);
            assert_eq!(opened, Some(Content::Alert(1, 0)), "{role:?}");
            assert_eq!(open(0x1301, &all, role.peer(), &record), None);
            for suite in [0, 0x1302, 0x1303, 0x1304, 0x1305, 0xc02f] {
                assert_eq!(open(suite, &all, role, &record), None, "{suite:#06x}");
            }
            for at in 0..record.len() {
                let mut changed = record.clone();
                changed[at] ^= 1;
                assert_eq!(open(0x1301, &all, role, &changed), None, "{at}");
                assert_eq!(open(0x1301, &all, role, &record[..at]), None, "{at}");
            }
        }
    }

    /// Seals `plaintext` as number `sequence`, by the same crates: the vectors above prove the
    /// derivation, this every suite.
    fn seal<A: KeyInit + AeadInOut, const KEY: usize>(
        secret: &[u8],
        sequence: u64,
        plaintext: [u8; 3],
        tag: usize,
    ) -> Vec<u8> {
        let secret = Secret::clone(
            secrets(&[(Label::ClientHandshake, secret)])
                .secret(Label::ClientHandshake)
                .expect("it was put there"),
        );
        let (mut key, mut iv) = ([0; KEY], [0_u8; 12]);
        expand(&secret, "key", &mut key).expect("a key");
        expand(&secret, "iv", &mut iv).expect("an IV");
        let number = u64::from_be_bytes(iv[4..].try_into().expect("8 bytes")) ^ sequence;
        iv[4..].copy_from_slice(&number.to_be_bytes());
        let mut sealed = plaintext.to_vec();
        let header = [23, 3, 3, 0, 3 + tag as u8];
        let nonce = Array::try_from(&iv[..]).expect("12 bytes");
        let tag = A::new_from_slice(&key)
            .expect("a key")
            .encrypt_inout_detached(&nonce, &header, sealed.as_mut_slice().into())
            .expect("short");
        sealed.extend(tag);
        sealed
    }

    type Sealer = fn(&[u8], u64, [u8; 3], usize) -> Vec<u8>;

    #[test]
    fn every_suite_and_plausible_sequence_number_is_opened() {
        let suites: [(u16, usize, usize, Sealer); 5] = [
            (0x1301, 32, 16, seal::<Aes128Gcm, 16>),
            (0x1302, 48, 16, seal::<Aes256Gcm, 32>),
            (0x1303, 32, 16, seal::<ChaCha20Poly1305, 32>),
            (0x1304, 32, 16, seal::<Aes128Ccm, 16>),
            (0x1305, 32, 8, seal::<Aes128Ccm8, 16>),
        ];
        for (suite, hash, tag, seal) in suites {
            let secret = vec![suite as u8; hash];
            for label in Label::ALL {
                let known = secrets(&[(label, &secret)]);
                let role = match label {
                    Label::ClientHandshake | Label::ClientTraffic => Role::Client,
                    Label::ServerHandshake | Label::ServerTraffic => Role::Server,
                };
                for sequence in [0, 1, 2, SEQUENCES - 1] {
                    let record = seal(&secret, sequence, [2, 48, 21], tag);
                    let opened = open(suite, &known, role, &record);
                    let content = Content::Alert(2, 48);
                    let expected = Some(Opened { label, content });
                    assert_eq!(opened, expected, "{suite:#06x} {label:?}");
                    assert_eq!(open(suite, &known, role.peer(), &record), None);
                }
                let late = seal(&secret, SEQUENCES, [2, 48, 21], tag);
                assert_eq!(open(suite, &known, role, &late), None);
            }
        }
    }

    #[test]
    fn two_bytes_of_data_or_of_a_message_and_padding_are_no_alert() {
        for plaintext in [
            [2, 48, 23], // data
            [2, 48, 22], // the end of a message
            [48, 23, 0], // one byte of data, padded
            [21, 0, 0],  // an alert of no byte, padded
            [2, 21, 0],  // an alert of one byte, padded
            [0, 0, 0],   // padding alone
        ] {
            let content = content(plaintext);
            assert_eq!(content, Content::NoAlert, "{plaintext:?}");
            for cause in HIDDEN {
                for label in Label::ALL {
                    let flight = label == Label::ServerHandshake;
                    let expected = if flight && cause == Cause::LateHiddenAlert {
                        Meaning::Unknown
                    } else {
                        Meaning::NoFailure
                    };
                    let opened = Opened { label, content };
                    assert_eq!(meaning(cause, Role::Server, opened), expected);
                }
            }
        }
    }

    #[test]
    fn an_alert_has_the_class_it_would_have_in_the_clear() {
        let class = |cause, level, description| {
            let opened = Opened {
                label: Label::ServerTraffic,
                content: Content::Alert(level, description),
            };
            match meaning(cause, Role::Server, opened) {
                Meaning::Failed(alert) => {
                    assert_eq!((alert.level, alert.description), (level, description));
                    Some(alert.class)
                }
                Meaning::NoFailure => None,
                Meaning::Unknown => panic!("an alert is known"),
            }
        };
        for cause in HIDDEN {
            for (description, expected) in [
                (48, Class::UnknownCa),
                (45, Class::CertificateExpired),
                (42, Class::BadCertificate),
                (49, Class::AccessDenied),
                (70, Class::UnknownProtocol),
                // No longer in answer to the ClientHello.
                (40, Class::Ssl),
                (116, Class::Ssl),
                (200, Class::Ssl),
            ] {
                assert_eq!(
                    class(cause, 2, description),
                    Some(expected),
                    "{description}"
                );
            }
        }
        // Closing is a failure only before the handshake is done.
        for description in [0, 90] {
            let early = Some(Class::ZeroReturn);
            assert_eq!(class(Cause::ClientHiddenAlert, 1, description), early);
            assert_eq!(class(Cause::ServerHiddenAlert, 1, description), early);
            assert_eq!(class(Cause::LateHiddenAlert, 1, description), None);
        }
    }

    /// The event of a server's record after the client's flight, with the random that [`secrets`] uses.
    fn late(undecided: u8, sealed: &[u8]) -> Event {
        let mut event = Event::new_zeroed();
        let failure = gauntlet_wire::rules::UNDECIDED;
        event.verdict = failure.into();
        event.undecided = undecided;
        event.flow.sides[0].stage = Stage::FLIGHT;
        let server = &mut event.flow.sides[1];
        (server.version, server.suite) = (record::TLS1_3, 0x1301);
        server.sealed_len = sealed.len() as u8;
        let at = usize::from(SEALED_AT[1]);
        event.flow.bytes[at..at + sealed.len()].copy_from_slice(sealed);
        event
    }

    fn log(label: Label, secret: &[u8]) -> KeyLog {
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut log = KeyLog::new(1);
        log.add(format!("{} {} {secret}\n", label.name(), "00".repeat(32)).as_bytes());
        log
    }

    #[test]
    fn what_the_wire_could_not_decide_a_key_log_decides() {
        let secret = [9; 32];
        let (log, empty) = (log(Label::ServerTraffic, &secret), KeyLog::new(1));
        let rejection = seal::<Aes128Gcm, 16>(&secret, 0, [2, 48, 21], TAG);
        let alert = Alert {
            class: Class::UnknownCa,
            level: 2,
            description: 48,
        };
        let closing = seal::<Aes128Gcm, 16>(&secret, 2, [1, 0, 21], TAG);
        let strange = seal::<Aes128Gcm, 16>(&[8; 32], 0, [2, 48, 21], TAG);
        for undecided in [0, 1] {
            let told = |known: Look| {
                if undecided == 0 {
                    known
                } else {
                    Look::Undecided
                }
            };
            let look = |sealed: &[u8], log: Option<&_>| look(&late(undecided, sealed), log);
            assert_eq!(look(&rejection, Some(&log)), Look::Named(alert));
            assert_eq!(look(&closing, Some(&log)), Look::NoFailure);
            assert_eq!(look(&strange, Some(&log)), told(Look::Locked));
            assert_eq!(look(&rejection, Some(&empty)), told(Look::NoKeys));
            assert_eq!(look(&rejection, None), told(Look::Plain));
        }
    }

    #[test]
    fn what_is_counted_is_what_was_told() {
        use crate::hidden_count::HiddenCount;
        use crate::probe::Counts;
        use gauntlet_wire::counters::{ClassCount, Counter};

        let secret = [9; 32];
        let log = log(Label::ServerTraffic, &secret);
        let record = |sequence, plaintext| seal::<Aes128Gcm, 16>(&secret, sequence, plaintext, TAG);
        let (rejection, closing) = (record(0, [2, 48, 21]), record(2, [1, 0, 21]));
        // As the kernel counts: four failures, all of them hidden alerts, and three it could not decide.
        let mut counts = Counts::default();
        counts.counters.insert(Counter::HandshakeFailed, 4);
        counts.counters.insert(Counter::Undecided, 3);
        let ssl = ClassCount {
            count: 4,
            last_seen: 1,
        };
        counts.classes.insert((Class::Ssl, record::TLS1_3), ssl);
        let mut hidden = HiddenCount::default();
        for (undecided, sealed) in [
            (0, &rejection[..]),
            (0, &closing),
            (0, &closing),
            (0, &[0; 19]),
            (1, &rejection),
            (1, &closing),
            (1, &[0; 19]),
        ] {
            let event = late(undecided, sealed);
            hidden.add(&event, look(&event, Some(&log)));
        }
        hidden.apply(&log, &mut counts);
        let count = |counter| counts.counters[&counter];
        // One named, one as the wire had it, and one that the wire could not decide.
        assert_eq!(count(Counter::HandshakeFailed), 3);
        assert_eq!(count(Counter::Undecided), 1);
        assert_eq!(count(Counter::HandshakeDone), 1);
        let classes: Vec<_> = counts
            .classes
            .iter()
            .map(|((class, _), how)| (*class, how.count))
            .collect();
        assert_eq!(classes, [(Class::Ssl, 1), (Class::UnknownCa, 2)]);
        let others = [
            "hidden_alert_named",
            "hidden_no_failure",
            "key_log_does_not_fit",
        ];
        assert_eq!(others.map(|name| counts.others[name].count), [2, 3, 1]);
    }
}
