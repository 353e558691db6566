//! What OpenSSL tells who receives an alert: the name in `openssl/sslerr.h` and its number, which is 1000
//! and the alert's. The numbers are the same in every version since 0.9.8; the texts that programs log
//! are not (`harness/README.md` has what differs).

/// The name and number of the reason that a received alert becomes; none for alerts that OpenSSL 3.0 has no
/// name for, and for close_notify, which is no error.
pub(super) fn reason(alert: u8) -> Option<(&'static str, u16)> {
    let name = match alert {
        10 => "SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE",
        20 => "SSL_R_SSLV3_ALERT_BAD_RECORD_MAC",
        21 => "SSL_R_TLSV1_ALERT_DECRYPTION_FAILED",
        22 => "SSL_R_TLSV1_ALERT_RECORD_OVERFLOW",
        30 => "SSL_R_SSLV3_ALERT_DECOMPRESSION_FAILURE",
        40 => "SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE",
        41 => "SSL_R_SSLV3_ALERT_NO_CERTIFICATE",
        42 => "SSL_R_SSLV3_ALERT_BAD_CERTIFICATE",
        43 => "SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        44 => "SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED",
        45 => "SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED",
        46 => "SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        47 => "SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER",
        48 => "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
        49 => "SSL_R_TLSV1_ALERT_ACCESS_DENIED",
        50 => "SSL_R_TLSV1_ALERT_DECODE_ERROR",
        51 => "SSL_R_TLSV1_ALERT_DECRYPT_ERROR",
        60 => "SSL_R_TLSV1_ALERT_EXPORT_RESTRICTION",
        70 => "SSL_R_TLSV1_ALERT_PROTOCOL_VERSION",
        71 => "SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY",
        80 => "SSL_R_TLSV1_ALERT_INTERNAL_ERROR",
        86 => "SSL_R_TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
        90 => "SSL_R_TLSV1_ALERT_USER_CANCELLED",
        100 => "SSL_R_TLSV1_ALERT_NO_RENEGOTIATION",
        109 => "SSL_R_TLSV13_ALERT_MISSING_EXTENSION",
        110 => "SSL_R_TLSV1_UNSUPPORTED_EXTENSION",
        111 => "SSL_R_TLSV1_CERTIFICATE_UNOBTAINABLE",
        112 => "SSL_R_TLSV1_UNRECOGNIZED_NAME",
        113 => "SSL_R_TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE",
        114 => "SSL_R_TLSV1_BAD_CERTIFICATE_HASH_VALUE",
        115 => "SSL_R_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY",
        116 => "SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED",
        120 => "SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => return None,
    };
    Some((name, 1000 + u16::from(alert)))
}

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, c_ulong};

    use super::reason;

    /// What the linked library calls a reason of its SSL part.
    fn text(number: u16) -> Option<String> {
        openssl::init();
        let packed = (c_ulong::from(20_u8) << 23) | c_ulong::from(number);
        // SAFETY: any number may be asked for; the answer is null or a constant of the library.
        let text = unsafe { openssl_sys::ERR_reason_error_string(packed) };
        if text.is_null() {
            return None;
        }
        // SAFETY: it is not null, and OpenSSL's texts end in NUL.
        let text = unsafe { CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    }

    /// A name is its text in capitals, but for the beginning that OpenSSL 3.2 has rewritten in the texts
    /// alone: `SSLV3_` has become `ssl/tls`.
    #[test]
    fn the_names_and_numbers_are_those_of_the_library() {
        for alert in 0..=u8::MAX {
            let said = text(1000 + u16::from(alert));
            let Some((name, number)) = reason(alert) else {
                // A newer library may have names for newer alerts.
                continue;
            };
            assert_eq!(number, 1000 + u16::from(alert));
            let said = said.unwrap_or_else(|| panic!("OpenSSL does not know {name}"));
            let said = said.replace("ssl/tls alert", "sslv3 alert");
            let made = format!("SSL_R_{}", said.to_uppercase().replace(' ', "_"));
            assert_eq!(made, name);
        }
    }
}
