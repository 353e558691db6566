//! The eleven classes of a failed handshake, and what each says about cause and cure.
//!
//! A class is what an OpenSSL-speaking receiver of the failure would be told. The numbers cross the
//! kernel boundary (events, counter keys) and never change.

/// What a failed handshake is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Every failure that no other class names; also an encrypted alert that nobody could read.
    Ssl = 1,
    /// Silence past the threshold, the connection open, the handshake not done.
    WantRead = 2,
    /// RST, or FIN with no alert before it, before the handshake was done.
    Syscall = 3,
    /// close_notify before the handshake was done.
    ZeroReturn = 4,
    /// Alert protocol_version(70), or first bytes that are neither TLS nor an HTTP CONNECT.
    UnknownProtocol = 5,
    /// The server's alert handshake_failure(40) in answer to the ClientHello.
    NoSharedCipher = 6,
    /// Fatal alert unknown_ca(48).
    UnknownCa = 7,
    /// Fatal alert certificate_expired(45).
    CertificateExpired = 8,
    /// Fatal alert bad_certificate(42).
    BadCertificate = 9,
    /// Fatal alert access_denied(49).
    AccessDenied = 10,
    /// The client's first bytes are an HTTP CONNECT, sent where TLS is meant.
    HttpsProxyRequest = 11,
}

/// Where the root of a failure lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The connection, or whoever holds its other end.
    Network,
    /// A certificate, or the trust in it.
    Certificate,
    /// What the two ends can speak.
    Protocol,
    /// A decision about a peer that is known.
    Policy,
}

/// How sure a report is of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Read from the wire.
    Certain,
    /// The wire's shape allows one cause only, by a documented rule.
    Inferred,
    /// Several causes look alike on the wire.
    Ambiguous,
}

impl Class {
    /// All eleven, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Ssl,
        Self::WantRead,
        Self::Syscall,
        Self::ZeroReturn,
        Self::UnknownProtocol,
        Self::NoSharedCipher,
        Self::UnknownCa,
        Self::CertificateExpired,
        Self::BadCertificate,
        Self::AccessDenied,
        Self::HttpsProxyRequest,
    ];

    /// The class with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == number)
    }

    /// The class with this OpenSSL name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// The OpenSSL name, the value of `error.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssl => "SSL_ERROR_SSL",
            Self::WantRead => "SSL_ERROR_WANT_READ",
            Self::Syscall => "SSL_ERROR_SYSCALL",
            Self::ZeroReturn => "SSL_ERROR_ZERO_RETURN",
            Self::UnknownProtocol => "SSL_R_UNKNOWN_PROTOCOL",
            Self::NoSharedCipher => "SSL_R_NO_SHARED_CIPHER",
            Self::UnknownCa => "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
            Self::CertificateExpired => "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED",
            Self::BadCertificate => "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE",
            Self::AccessDenied => "SSL_R_TLSV1_ALERT_ACCESS_DENIED",
            Self::HttpsProxyRequest => "SSL_R_HTTPS_PROXY_REQUEST",
        }
    }

    /// Where the root of such a failure lies.
    #[must_use]
    pub const fn layer(self) -> Layer {
        match self {
            Self::WantRead | Self::Syscall | Self::ZeroReturn => Layer::Network,
            Self::UnknownCa | Self::CertificateExpired | Self::BadCertificate => Layer::Certificate,
            Self::AccessDenied => Layer::Policy,
            Self::Ssl | Self::UnknownProtocol | Self::NoSharedCipher | Self::HttpsProxyRequest => {
                Layer::Protocol
            }
        }
    }

    /// Whether the same handshake, tried again with nothing changed, may succeed.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self.layer(), Layer::Network)
    }
}

impl Layer {
    /// The value of `root_cause.layer`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Certificate => "certificate",
            Self::Protocol => "protocol",
            Self::Policy => "policy",
        }
    }
}

impl Confidence {
    /// The value of `confidence`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Inferred => "inferred",
            Self::Ambiguous => "ambiguous",
        }
    }
}
