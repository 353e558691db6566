//! The record header, and what the first bytes of a stream are.

/// Bytes of a record header: type, version, length (RFC 8446 section 5.1).
pub const HEADER_LEN: usize = 5;

/// `ContentType` change_cipher_spec.
pub const CHANGE_CIPHER_SPEC: u8 = 20;
/// `ContentType` alert.
pub const ALERT: u8 = 21;
/// `ContentType` handshake.
pub const HANDSHAKE: u8 = 22;
/// `ContentType` application_data; in TLS 1.3 also every encrypted handshake message and alert.
pub const APPLICATION_DATA: u8 = 23;
/// `ContentType` heartbeat (RFC 6520).
pub const HEARTBEAT: u8 = 24;

/// SSL 3.0 on the wire, the first version with this record layer.
pub const SSL3_0: u16 = 0x0300;
/// TLS 1.2 on the wire.
pub const TLS1_2: u16 = 0x0303;
/// TLS 1.3 on the wire, in supported_versions only.
pub const TLS1_3: u16 = 0x0304;

/// The longest record any version allows: `2^14 + 2048` (RFC 5246 section 6.2.3).
pub const MAX_LEN: u16 = (1 << 14) + 2048;

/// A record header that can be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// `ContentType`, 20 to 24.
    pub content_type: u8,
    /// Bytes that follow.
    pub length: u16,
}

impl RecordHeader {
    /// Reads five bytes; `None` where they cannot be a record header: an unknown content type, a
    /// major version that is not 3, or a length beyond [`MAX_LEN`].
    #[must_use]
    #[inline(always)]
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Option<Self> {
        let [content_type, major, minor, high, low] = bytes;
        let length = u16::from_be_bytes([high, low]);
        let plausible = content_type.wrapping_sub(CHANGE_CIPHER_SPEC)
            <= HEARTBEAT - CHANGE_CIPHER_SPEC
            && major == 3
            && minor <= 4
            && length <= MAX_LEN;
        if plausible {
            Some(Self {
                content_type,
                length,
            })
        } else {
            None
        }
    }
}

/// Bytes of the PROXY protocol's version 2 header: signature, version and command, family, length.
pub const PROXY_HEADER_LEN: usize = 16;

/// How many bytes follow the header of the PROXY protocol version 2; `None` where it is none.
#[must_use]
#[inline(always)]
pub fn proxy_header(bytes: &[u8; 2 * crate::side::GATHER]) -> Option<u16> {
    const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
    let signed = SIGNATURE.iter().zip(bytes).all(|(said, byte)| said == byte);
    let version = bytes[12] >> 4;
    (signed && version == 2).then(|| u16::from_be_bytes([bytes[14], bytes[15]]))
}

/// What the first five bytes of one direction are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A TLS record that a conversation may begin with: handshake or alert.
    Tls(RecordHeader),
    /// `CONNE`, of an HTTP CONNECT (RFC 9110 section 9.3.6).
    Connect,
    /// `HTTP/`, of a status line.
    Http,
    /// `PROXY`, of the PROXY protocol version 1 (its section 2.1): one line before anything else.
    ProxyLine,
    /// The first bytes of the PROXY protocol version 2 (its section 2.2): a binary header before
    /// anything else.
    ProxyHeader,
    /// A message of eight bytes that asks a PostgreSQL server for TLS, or for GSSAPI encryption
    /// (PostgreSQL's documentation, "Message Formats": SSLRequest, GSSENCRequest).
    TlsRequest,
    /// A server that speaks first, in one of the protocols that have STARTTLS: SMTP (RFC 3207) and FTP
    /// (RFC 4217) say `220`, IMAP `* OK`, POP3 (RFC 2595) `+OK`.
    Greeting,
    /// Anything else.
    Foreign,
}

impl Opening {
    /// Tells what a direction begins with.
    #[must_use]
    #[inline(always)]
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        match &bytes {
            b"CONNE" => return Self::Connect,
            b"HTTP/" => return Self::Http,
            b"PROXY" => return Self::ProxyLine,
            b"\r\n\r\n\0" => return Self::ProxyHeader,
            b"\0\0\0\x08\x04" => return Self::TlsRequest,
            [b'2', b'2', b'0', b' ' | b'-', _]
            | [b'*', b' ', b'O', b'K', _]
            | [b'+', b'O', b'K', ..] => return Self::Greeting,
            _ => {}
        }
        match RecordHeader::parse(bytes) {
            Some(header)
                if header.length > 0
                    && (header.content_type == HANDSHAKE || header.content_type == ALERT) =>
            {
                Self::Tls(header)
            }
            _ => Self::Foreign,
        }
    }
}

/// A version as `tls.protocol.version` has it: the numeric part, `1.2`; `3` for SSL 3.0.
#[must_use]
pub const fn version_name(version: u16) -> Option<&'static str> {
    match version {
        SSL3_0 => Some("3"),
        0x0301 => Some("1.0"),
        0x0302 => Some("1.1"),
        TLS1_2 => Some("1.2"),
        TLS1_3 => Some("1.3"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_header_is_a_known_type_of_version_3_and_not_too_long() {
        for content_type in 0..=255 {
            let header = RecordHeader::parse([content_type, 3, 1, 0, 2]);
            assert_eq!(header.is_some(), (20..=24).contains(&content_type));
        }
        for (major, minor) in [(3, 0), (3, 1), (3, 4)] {
            assert!(RecordHeader::parse([22, major, minor, 0, 2]).is_some());
        }
        for (major, minor) in [(2, 3), (4, 3), (3, 5), (0, 0), (255, 255)] {
            assert_eq!(RecordHeader::parse([22, major, minor, 0, 2]), None);
        }
        let length = |length: u16| {
            let [high, low] = length.to_be_bytes();
            RecordHeader::parse([23, 3, 3, high, low]).map(|header| header.length)
        };
        assert_eq!(length(0), Some(0));
        assert_eq!(length(18_432), Some(18_432));
        assert_eq!(length(18_433), None);
        assert_eq!(length(u16::MAX), None);
    }

    #[test]
    fn a_stream_begins_with_a_handshake_or_an_alert_that_is_not_empty_or_is_no_tls() {
        for (bytes, tls) in [
            (*b"\x16\x03\x01\x00\x01", true),
            (*b"\x15\x03\x03\x00\x02", true),
            (*b"\x16\x03\x01\x00\x00", false),
            (*b"\x14\x03\x03\x00\x01", false),
            (*b"\x17\x03\x03\x00\x13", false),
            (*b"\x80\x2e\x01\x00\x02", false),
        ] {
            let opening = Opening::parse(bytes);
            assert_eq!(matches!(opening, Opening::Tls(_)), tls, "{bytes:?}");
            assert_eq!(opening == Opening::Foreign, !tls, "{bytes:?}");
        }
        assert_eq!(Opening::parse(*b"CONNE"), Opening::Connect);
        assert_eq!(Opening::parse(*b"HTTP/"), Opening::Http);
        assert_eq!(Opening::parse(*b"conne"), Opening::Foreign);
        assert_eq!(Opening::parse(*b"GET /"), Opening::Foreign);
    }
}
