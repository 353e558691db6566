//! Handshake message types, the letters they have in a history, and the sizes that encrypted
//! messages cannot hide.

/// `HandshakeType` hello_request.
pub const HELLO_REQUEST: u8 = 0;
/// `HandshakeType` client_hello.
pub const CLIENT_HELLO: u8 = 1;
/// `HandshakeType` server_hello; a HelloRetryRequest too, told apart by its random.
pub const SERVER_HELLO: u8 = 2;
/// `HandshakeType` certificate.
pub const CERTIFICATE: u8 = 11;
/// `HandshakeType` server_hello_done.
pub const SERVER_HELLO_DONE: u8 = 14;

/// Extension server_name (RFC 6066).
pub const EXT_SERVER_NAME: u16 = 0;
/// Extension application_layer_protocol_negotiation (RFC 7301).
pub const EXT_ALPN: u16 = 16;
/// Extension early_data (RFC 8446 section 4.2.10).
pub const EXT_EARLY_DATA: u16 = 42;
/// Extension supported_versions (RFC 8446 section 4.2.1).
pub const EXT_SUPPORTED_VERSIONS: u16 = 43;

/// The first eight bytes of the random that makes a ServerHello a HelloRetryRequest
/// (RFC 8446 section 4.1.3); the chance that a real random begins so is 2^-64.
pub const RETRY_RANDOM: [u8; 8] = [0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11];

/// The letter of a message in `handshake.history`, lower case; the client's are written in upper
/// case. The letters are Zeek's (`ssl_history`).
#[must_use]
#[inline(always)]
pub const fn letter(message_type: u8) -> u8 {
    match message_type {
        HELLO_REQUEST => b'h',
        CLIENT_HELLO => b'c',
        SERVER_HELLO => b's',
        4 => b't', // new_session_ticket
        5 => b'e', // end_of_early_data
        8 => b'o', // encrypted_extensions
        CERTIFICATE => b'x',
        12 => b'k', // server_key_exchange
        13 => b'r', // certificate_request
        SERVER_HELLO_DONE => b'n',
        15 => b'y', // certificate_verify
        16 => b'g', // client_key_exchange
        20 => b'f', // finished
        22 => b'u', // certificate_status
        24 => b'p', // key_update
        _ => b'z',
    }
}

/// What an encrypted TLS 1.3 record can be, judged by its length alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Sealed {
    /// As long as one alert and nothing else. No whole handshake message is that short.
    AlertSized,
    /// As long as one Finished message and nothing else.
    FinishedSized,
    /// Anything else.
    Other,
}

impl Sealed {
    /// Judges a record's length field for a TLS 1.3 cipher suite. An alert is 2 bytes, a Finished
    /// 4 and the hash's; the inner type takes 1, the AEAD tag 16, or 8 with
    /// `TLS_AES_128_CCM_8_SHA256` (RFC 8446 section 5.2, B.4).
    #[must_use]
    #[inline(always)]
    pub const fn of(suite: u16, length: u16) -> Self {
        let (tag, hash) = match suite {
            0x1302 => (16, 48), // TLS_AES_256_GCM_SHA384
            0x1305 => (8, 32),  // TLS_AES_128_CCM_8_SHA256
            _ => (16, 32),
        };
        if length == 2 + 1 + tag {
            Self::AlertSized
        } else if length == 4 + hash + 1 + tag {
            Self::FinishedSized
        } else {
            Self::Other
        }
    }
}
