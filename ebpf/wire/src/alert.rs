//! Alert levels and descriptions. Names are those of RFC 8446 section 6 and of the RFCs that added
//! to it; numbers without a name stay numbers.

/// `AlertLevel` of a warning.
pub const WARNING: u8 = 1;
/// `AlertLevel` of a fatal alert.
pub const FATAL: u8 = 2;

/// The sender is done; an error only before the handshake is.
pub const CLOSE_NOTIFY: u8 = 0;
/// The handshake could not be negotiated.
pub const HANDSHAKE_FAILURE: u8 = 40;
/// A certificate was corrupt, or its signature did not verify.
pub const BAD_CERTIFICATE: u8 = 42;
/// A certificate is not valid now.
pub const CERTIFICATE_EXPIRED: u8 = 45;
/// No trusted CA was found for a certificate chain.
pub const UNKNOWN_CA: u8 = 48;
/// A valid certificate was refused by access control.
pub const ACCESS_DENIED: u8 = 49;
/// No common protocol version.
pub const PROTOCOL_VERSION: u8 = 70;
/// The user gave up; a close_notify follows (RFC 8446 section 6.1).
pub const USER_CANCELED: u8 = 90;

/// The RFC's name of an alert description.
#[must_use]
pub const fn name(description: u8) -> Option<&'static str> {
    Some(match description {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        117 => "general_error",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => return None,
    })
}

/// `warning` or `fatal`; any other number has no name.
#[must_use]
pub const fn level_name(level: u8) -> Option<&'static str> {
    match level {
        WARNING => Some("warning"),
        FATAL => Some("fatal"),
        _ => None,
    }
}
