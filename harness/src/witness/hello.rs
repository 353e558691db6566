//! What the two hellos say, by `tls-parser`.

use tls_parser::{
    TlsClientHelloContents, TlsExtension, TlsServerHelloContents,
    parse_tls_client_hello_extensions, parse_tls_server_hello_extensions,
};

/// The random that marks a ServerHello as HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a client offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// server_name.
    pub server_name: Option<String>,
    /// ALPN protocols, in the order offered.
    pub alpn: Vec<String>,
    /// Cipher suites, in the order offered.
    pub suites: Vec<u16>,
    /// supported_versions, or the one of the hello itself where there is no such extension.
    pub versions: Vec<u16>,
    /// How many TLS records it took.
    pub records: usize,
}

/// What a server chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The cipher suite.
    pub suite: u16,
    /// The version: that of supported_versions, or of the hello where there is no such extension.
    pub version: u16,
    /// The ALPN protocol, where it is in the clear (TLS 1.2).
    pub alpn: Option<String>,
}

impl From<&TlsClientHelloContents<'_>> for Hello {
    fn from(hello: &TlsClientHelloContents<'_>) -> Self {
        let mut read = Self {
            suites: hello.ciphers.iter().map(|suite| suite.0).collect(),
            versions: vec![hello.version.0],
            ..Self::default()
        };
        let extensions = hello.ext.map(parse_tls_client_hello_extensions);
        for extension in extensions
            .and_then(Result::ok)
            .map(|(_, all)| all)
            .unwrap_or_default()
        {
            match extension {
                TlsExtension::SNI(names) => {
                    read.server_name = names.first().map(|(_, name)| text(name));
                }
                TlsExtension::ALPN(protocols) => {
                    read.alpn = protocols.into_iter().map(text).collect();
                }
                TlsExtension::SupportedVersions(versions) => {
                    read.versions = versions.iter().map(|version| version.0).collect();
                }
                _ => {}
            }
        }
        read
    }
}

impl From<&TlsServerHelloContents<'_>> for Chosen {
    fn from(hello: &TlsServerHelloContents<'_>) -> Self {
        let mut read = Self {
            suite: hello.cipher.0,
            version: hello.version.0,
            ..Self::default()
        };
        let extensions = hello.ext.map(parse_tls_server_hello_extensions);
        for extension in extensions
            .and_then(Result::ok)
            .map(|(_, all)| all)
            .unwrap_or_default()
        {
            match extension {
                TlsExtension::ALPN(protocols) => {
                    read.alpn = protocols.first().map(|protocol| text(protocol));
                }
                TlsExtension::SupportedVersions(versions) => {
                    if let Some(version) = versions.first() {
                        read.version = version.0;
                    }
                }
                _ => {}
            }
        }
        read
    }
}

/// Whether a ServerHello only asks for another ClientHello.
pub(super) fn is_retry(hello: &TlsServerHelloContents<'_>) -> bool {
    hello.random == RETRY
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
