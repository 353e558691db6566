//! What libraries mean by their numbers: the texts that they print for them, and the alert that goes with
//! a failure on the side that found it.
//!
//! The side that rejects its peer never names the alert that it sends: OpenSSL raises `certificate verify
//! failed` and derives the alert from the verification's error. The same derivation is here; the tests with
//! both ends on one machine hold it to what the receiver was told.

use gauntlet_wire::alert;
use gauntlet_wire::library::{Kind, Stack, Word};
use gauntlet_wire::record;

/// OpenSSL and BoringSSL: an alert that was received, and this is added to its description.
const ALERT_OFFSET: u32 = 1000;

/// The library's name, as the field has it.
#[must_use]
pub const fn stack(stack: Stack) -> &'static str {
    match stack {
        Stack::OpenSsl => "openssl",
        Stack::BoringSsl => "boringssl",
        Stack::GnuTls => "gnutls",
    }
}

/// What a word says about an alert: who sent it, seen from the end that spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// This end, its description.
    Sent(u8),
    /// The peer, its description.
    Received(u8),
}

/// Reasons of libssl that are looked at, which OpenSSL and BoringSSL number apart.
struct Reasons {
    verify_failed: u32,
    no_certificate: u32,
    no_shared_cipher: u32,
    no_application_protocol: u32,
}

const OPENSSL: Reasons = Reasons {
    verify_failed: 134,
    no_certificate: 199,
    no_shared_cipher: 193,
    no_application_protocol: 235,
};
const BORINGSSL: Reasons = Reasons {
    verify_failed: 125,
    no_certificate: 192,
    no_shared_cipher: 184,
    no_application_protocol: 307,
};

const GNUTLS_E_NO_CIPHER_SUITES: i32 = -87;
const GNUTLS_E_UNKNOWN_CIPHER_SUITE: i32 = -21;

const fn reasons(stack: Stack) -> Option<&'static Reasons> {
    match stack {
        Stack::OpenSsl => Some(&OPENSSL),
        Stack::BoringSsl => Some(&BORINGSSL),
        Stack::GnuTls => None,
    }
}

/// The alert that a word is about; `None` where it is about none, or may be about several. `version` is
/// the negotiated one.
#[must_use]
pub fn alert(word: &Word, version: u16) -> Option<Alert> {
    let stack = Stack::from_number(word.stack)?;
    match Kind::from_number(word.kind)? {
        Kind::Sent => Some(Alert::Sent(word.code as u8)),
        Kind::Received => u8::try_from(word.code).ok().map(Alert::Received),
        Kind::Reason => {
            let known = reasons(stack)?;
            let received = word.code.checked_sub(ALERT_OFFSET);
            if let Some(received) = received.and_then(|code| u8::try_from(code).ok()) {
                return Some(Alert::Received(received));
            }
            if word.code == known.verify_failed {
                return alert_of_verify_error(stack, word.verify_error).map(Alert::Sent);
            }
            // certificate_required is TLS 1.3's (RFC 8446 section 6.2).
            let no_certificate = if version == record::TLS1_3 {
                CERTIFICATE_REQUIRED
            } else {
                alert::HANDSHAKE_FAILURE
            };
            match word.code {
                code if code == known.no_certificate => Some(Alert::Sent(no_certificate)),
                code if code == known.no_shared_cipher => {
                    Some(Alert::Sent(alert::HANDSHAKE_FAILURE))
                }
                code if code == known.no_application_protocol => {
                    Some(Alert::Sent(NO_APPLICATION_PROTOCOL))
                }
                _ => None,
            }
        }
        Kind::Result | Kind::Returned => None,
    }
}

const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Whether the server's library says that no cipher suite was shared; `None`: it does not say why.
#[must_use]
pub fn no_shared_cipher(word: &Word) -> Option<bool> {
    let stack = Stack::from_number(word.stack)?;
    match Kind::from_number(word.kind)? {
        Kind::Reason => Some(word.code == reasons(stack)?.no_shared_cipher),
        Kind::Returned => Some(matches!(
            word.code.cast_signed(),
            GNUTLS_E_NO_CIPHER_SUITES | GNUTLS_E_UNKNOWN_CIPHER_SUITE
        )),
        Kind::Sent | Kind::Received | Kind::Result => None,
    }
}

/// Whether a word is about a certificate that did not verify, so that its verification error is the cause.
#[must_use]
pub fn verify_failed(word: &Word) -> bool {
    let known = Stack::from_number(word.stack).and_then(reasons);
    word.kind == Kind::Reason as u8
        && word.verify_error != 0
        && known.is_some_and(|known| word.code == known.verify_failed)
}

/// The alert that a stack sends for an X509_V_ERR of its verification; `None` for no error. A verification
/// callback of the application may have chosen the error, never the alert.
fn alert_of_verify_error(stack: Stack, error: u32) -> Option<u8> {
    // Where BoringSSL (SSL_alert_from_verify_result) differs from OpenSSL.
    if stack == Stack::BoringSsl {
        match error {
            // not yet valid
            9 | 11 => return Some(alert::CERTIFICATE_EXPIRED),
            // an invalid CA
            24 => return Some(alert::UNKNOWN_CA),
            // invalid call, store lookup
            65 | 66 => return Some(80),
            // numbers that it does not have
            67.. => return Some(46),
            _ => {}
        }
    }
    Some(match error {
        0 => return None,
        // unspecified, out of memory, invalid call, store lookup
        1 | 17 | 69 | 70 => 80,
        // issuers and CRLs that were not found, chains that do not end in trust
        2 | 3 | 18..=22 | 25 | 33 | 79 => alert::UNKNOWN_CA,
        // An invalid CA in OpenSSL 1.1 (unknown_ca), an issuer without a key in 3 (certificate_unknown).
        24 => return None,
        // what cannot be decrypted or decoded, dates in the wrong form, not yet valid, not trusted,
        // names that do not match, keys and digests that are too weak, DANE
        4..=6 | 9 | 11 | 13..=16 | 27 | 28 | 62..=68 | 94 => alert::BAD_CERTIFICATE,
        // a signature that is wrong
        7 | 8 => 51,
        10 | 12 => alert::CERTIFICATE_EXPIRED,
        23 => 44,
        26 => 43,
        // the application's own decision
        50 => alert::HANDSHAKE_FAILURE,
        _ => 46,
    })
}

/// A reason as its library prints it.
#[must_use]
pub fn reason(word: &Word) -> Option<String> {
    let stack = Stack::from_number(word.stack)?;
    let text = match (Kind::from_number(word.kind)?, stack) {
        (Kind::Reason, Stack::OpenSsl) => openssl_reason(word.code),
        (Kind::Reason, Stack::BoringSsl) => boringssl_reason(word.code),
        (Kind::Returned, _) => {
            let code = word.code.cast_signed();
            let text = gnutls_error(code);
            return Some(text.map_or_else(|| format!("error {code}"), str::to_owned));
        }
        (Kind::Sent | Kind::Received | Kind::Result, _) | (Kind::Reason, Stack::GnuTls) => {
            return None;
        }
    };
    Some(match (text, word.code.checked_sub(ALERT_OFFSET)) {
        (Some(text), _) => text.to_owned(),
        (None, Some(received @ 0..=255)) => match alert::name(received as u8) {
            Some(name) => format!("alert {}", name.replace('_', " ")),
            None => format!("alert number {received}"),
        },
        (None, _) => format!("reason({})", word.code),
    })
}

/// `SSL_get_error`'s name for what a word says.
#[must_use]
pub fn result(word: &Word) -> Option<&'static str> {
    match (Kind::from_number(word.kind)?, word.code) {
        (Kind::Result, 5) => Some("SSL_ERROR_SYSCALL"),
        (Kind::Result, 6) => Some("SSL_ERROR_ZERO_RETURN"),
        (Kind::Reason, _) => Some("SSL_ERROR_SSL"),
        _ => None,
    }
}

/// SSL_R_* of OpenSSL 1.1 and 3, those that handshakes fail with.
fn openssl_reason(code: u32) -> Option<&'static str> {
    Some(match code {
        101 => "no suitable key share",
        110 => "bad extension",
        118 => "no suitable signature algorithm",
        123 => "bad signature",
        134 => "certificate verify failed",
        150 => "encrypted length too long",
        151 => "error in received cipher list",
        155 => "https proxy request",
        156 => "http request",
        159 => "length mismatch",
        162 => "illegal point compression",
        166 => "version too high",
        178 => "unexpected end of early data",
        182 => "not on record boundary",
        193 => "no shared cipher",
        199 => "peer did not return a certificate",
        207 => "protocol is shutdown",
        235 => "no application protocol",
        244 => "unexpected message",
        245 => "unexpected record",
        252 => "unknown protocol",
        258 => "unsupported protocol",
        259 => "unsupported ssl version",
        261 => "wrong cipher returned",
        262 => "unexpected ccs message",
        267 => "wrong version number",
        274 => "library bug",
        281 => "decryption failed or bad record mac",
        290 => "missing parameters",
        294 => "unexpected eof while reading",
        298 => "record too small",
        324 => "no required digest",
        339 => "no renegotiation",
        368 => "unknown digest",
        370 => "wrong signature type",
        376 => "no shared signature algorithms",
        377 => "cert cb error",
        396 => "version too low",
        397 => "ca key too small",
        398 => "ca md too weak",
        399 => "ee key too small",
        410 => "no shared groups",
        443 => "bad record type",
        _ => return None,
    })
}

/// SSL_R_* of BoringSSL, those that handshakes fail with.
fn boringssl_reason(code: u32) -> Option<&'static str> {
    Some(match code {
        125 => "CERTIFICATE_VERIFY_FAILED",
        155 => "HTTPS_PROXY_REQUEST",
        156 => "HTTP_REQUEST",
        184 => "NO_SHARED_CIPHER",
        192 => "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        240 => "UNSUPPORTED_PROTOCOL",
        247 => "WRONG_VERSION_NUMBER",
        266 => "NO_SHARED_GROUP",
        307 => "NO_APPLICATION_PROTOCOL",
        _ => return None,
    })
}

/// `gnutls_strerror`, for what handshakes fail with.
fn gnutls_error(code: i32) -> Option<&'static str> {
    Some(match code {
        -8 => "A packet with illegal or unsupported version was received",
        -9 => "Error decoding the received TLS packet",
        -15 => "An unexpected TLS packet was received",
        GNUTLS_E_UNKNOWN_CIPHER_SUITE => "Could not negotiate a supported cipher suite",
        -24 => "Decryption has failed",
        -43 => "Error in the certificate",
        -49 => "No certificate was found",
        -53 => "Error in the push function",
        -54 => "Error in the pull function",
        -60 => "The certificate and the given key do not match",
        GNUTLS_E_NO_CIPHER_SUITES => "No supported cipher suites have been found",
        -110 => "The TLS connection was non-properly terminated",
        -112 => "Certificate is required",
        -344 => "No common application protocol could be negotiated",
        -348 => "Error in the certificate verification",
        -416 => "Error in the time fields of certificate",
        -423 => "No common key share with peer",
        _ => return None,
    })
}

/// `X509_verify_cert_error_string`, as OpenSSL 3 has it.
#[must_use]
pub fn verify_error(error: u32) -> String {
    let text = match error {
        1 => "unspecified certificate verification error",
        2 => "unable to get issuer certificate",
        3 => "unable to get certificate CRL",
        4 => "unable to decrypt certificate's signature",
        5 => "unable to decrypt CRL's signature",
        6 => "unable to decode issuer public key",
        7 => "certificate signature failure",
        8 => "CRL signature failure",
        9 => "certificate is not yet valid",
        10 => "certificate has expired",
        11 => "CRL is not yet valid",
        12 => "CRL has expired",
        13 => "format error in certificate's notBefore field",
        14 => "format error in certificate's notAfter field",
        15 => "format error in CRL's lastUpdate field",
        16 => "format error in CRL's nextUpdate field",
        17 => "out of memory",
        18 => "self-signed certificate",
        19 => "self-signed certificate in certificate chain",
        20 => "unable to get local issuer certificate",
        21 => "unable to verify the first certificate",
        22 => "certificate chain too long",
        23 => "certificate revoked",
        25 => "path length constraint exceeded",
        26 => "unsuitable certificate purpose",
        27 => "certificate not trusted",
        28 => "certificate rejected",
        33 => "unable to get CRL issuer certificate",
        34 => "unhandled critical extension",
        37 => "invalid non-CA certificate (has CA markings)",
        47 => "permitted subtree violation",
        48 => "excluded subtree violation",
        50 => "application verification failure",
        62 => "hostname mismatch",
        63 => "email address mismatch",
        64 => "IP address mismatch",
        65 => "no matching DANE TLSA records",
        66 => "EE certificate key too weak",
        67 => "CA certificate key too weak",
        68 => "CA signature digest algorithm too weak",
        69 => "invalid certificate verification context",
        70 => "issuer certificate lookup error",
        79 => "invalid CA certificate",
        94 => "Certificate public key has explicit ECC parameters",
        _ => return format!("error number {error}"),
    };
    text.to_owned()
}
