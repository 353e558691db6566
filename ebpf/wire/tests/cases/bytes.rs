//! What peers say, as bytes. Sizes of encrypted records are those seen on the wire.

use gauntlet_wire::record::{self, TLS1_2, TLS1_3};

/// `TLS_AES_128_GCM_SHA256`.
pub(crate) const AES_128: u16 = 0x1301;
/// `TLS_AES_128_CCM_8_SHA256`.
pub(crate) const CCM_8: u16 = 0x1305;
/// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`, up to TLS 1.2.
pub(crate) const ECDSA: u16 = 0xc02b;

/// A record, version 1.2 in its header as all stacks write.
pub(crate) fn record(content_type: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![content_type, 3, 3];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A handshake message.
pub(crate) fn message(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes[0] = message_type;
    bytes.extend(body);
    bytes
}

/// A handshake message in a record of its own.
pub(crate) fn handshake(message_type: u8, body: &[u8]) -> Vec<u8> {
    record(record::HANDSHAKE, &message(message_type, body))
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut with_length = (bytes.len() as u16).to_be_bytes().to_vec();
    with_length.extend(bytes);
    with_length
}

/// What a ClientHello says.
#[derive(Debug, Clone)]
pub(crate) struct ClientHello {
    pub(crate) suites: Vec<u16>,
    pub(crate) versions: Vec<u16>,
    pub(crate) server_name: &'static str,
    pub(crate) alpn: Vec<&'static str>,
    pub(crate) early_data: bool,
}

impl Default for ClientHello {
    fn default() -> Self {
        Self {
            suites: vec![AES_128, CCM_8, ECDSA],
            versions: vec![TLS1_3, TLS1_2],
            server_name: "api.internal",
            alpn: vec!["h2", "http/1.1"],
            early_data: false,
        }
    }
}

impl ClientHello {
    /// The message, without a record around it.
    pub(crate) fn message(&self) -> Vec<u8> {
        let pairs =
            |list: &[u16]| -> Vec<u8> { list.iter().flat_map(|n| n.to_be_bytes()).collect() };
        let mut body = TLS1_2.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.push(32);
        body.extend([9; 32]);
        body.extend(prefixed(&pairs(&self.suites)));
        body.extend([1, 0]);
        let mut extensions = Vec::new();
        if !self.server_name.is_empty() {
            let mut name = vec![0];
            name.extend(prefixed(self.server_name.as_bytes()));
            extensions.extend(extension(0, &prefixed(&name)));
        }
        // supported_groups: passed over.
        extensions.extend(extension(10, &[0, 2, 0, 29]));
        if !self.alpn.is_empty() {
            let names: Vec<u8> = (self.alpn.iter())
                .flat_map(|name| [&[name.len() as u8], name.as_bytes()].concat())
                .collect();
            extensions.extend(extension(16, &prefixed(&names)));
        }
        if self.early_data {
            extensions.extend(extension(42, &[]));
        }
        if !self.versions.is_empty() {
            let mut list = vec![self.versions.len() as u8 * 2];
            list.extend(pairs(&self.versions));
            extensions.extend(extension(43, &list));
        }
        body.extend(prefixed(&extensions));
        message(1, &body)
    }

    /// The message in one record.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        record(record::HANDSHAKE, &self.message())
    }

    /// The message in records of at most so many bytes.
    pub(crate) fn fragmented(&self, most: usize) -> Vec<u8> {
        (self.message().chunks(most))
            .flat_map(|piece| record(record::HANDSHAKE, piece))
            .collect()
    }
}

pub(crate) fn client_hello() -> Vec<u8> {
    ClientHello::default().bytes()
}

pub(crate) fn early_client_hello() -> Vec<u8> {
    let early_data = true;
    ClientHello {
        early_data,
        ..ClientHello::default()
    }
    .bytes()
}

fn hello_of_server(random: [u8; 8], suite: u16, extensions: &[u8]) -> Vec<u8> {
    let mut body = TLS1_2.to_be_bytes().to_vec();
    body.extend(random);
    body.extend([5; 24]);
    body.push(32);
    body.extend([9; 32]);
    body.extend(suite.to_be_bytes());
    body.push(0);
    if !extensions.is_empty() {
        body.extend(prefixed(extensions));
    }
    handshake(2, &body)
}

/// TLS 1.2: no supported_versions; the protocol chosen is `h2`.
pub(crate) fn server_hello_12() -> Vec<u8> {
    let renegotiation = extension(0xff01, &[0]);
    let alpn = extension(16, &prefixed(b"\x02h2"));
    hello_of_server([5; 8], ECDSA, &[renegotiation, alpn].concat())
}

/// TLS 1.3 with a cipher suite.
pub(crate) fn server_hello_13(suite: u16) -> Vec<u8> {
    let key_share = extension(51, &[6; 36]);
    let version = extension(43, &TLS1_3.to_be_bytes());
    hello_of_server([5; 8], suite, &[key_share, version].concat())
}

pub(crate) fn hello_retry_request() -> Vec<u8> {
    let random = [0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11];
    let version = extension(43, &TLS1_3.to_be_bytes());
    let group = extension(51, &[0, 23]);
    hello_of_server(random, AES_128, &[version, group].concat())
}

/// A leaf of so many bytes, each of them its offset, and an issuer after it.
pub(crate) fn certificate(length: usize) -> Vec<u8> {
    let leaf = leaf(length);
    let long = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[1..], bytes].concat();
    let list = [long(&leaf), long(&[0x30; 40])].concat();
    handshake(11, &long(&list))
}

/// What [`certificate`] carries.
pub(crate) fn leaf(length: usize) -> Vec<u8> {
    (0..length).map(|at| at as u8).collect()
}

pub(crate) fn empty_certificate() -> Vec<u8> {
    handshake(11, &[0, 0, 0])
}

pub(crate) fn server_key_exchange() -> Vec<u8> {
    handshake(12, &[1; 110])
}

pub(crate) fn certificate_request() -> Vec<u8> {
    handshake(13, &[1; 30])
}

pub(crate) fn server_hello_done() -> Vec<u8> {
    handshake(14, &[])
}

pub(crate) fn client_key_exchange() -> Vec<u8> {
    handshake(16, &[1; 66])
}

pub(crate) fn certificate_verify() -> Vec<u8> {
    handshake(15, &[1; 76])
}

/// TLS 1.2: NewSessionTicket, in the clear.
pub(crate) fn ticket_12() -> Vec<u8> {
    handshake(4, &[1; 180])
}

pub(crate) fn change_cipher_spec() -> Vec<u8> {
    record(record::CHANGE_CIPHER_SPEC, &[1])
}

/// TLS 1.2: Finished, encrypted.
pub(crate) fn finished_12() -> Vec<u8> {
    record(record::HANDSHAKE, &[0xee; 40])
}

/// In the clear.
pub(crate) fn alert(level: u8, description: u8) -> Vec<u8> {
    record(record::ALERT, &[level, description])
}

/// TLS 1.2: encrypted with AES-GCM.
pub(crate) fn sealed_alert() -> Vec<u8> {
    record(record::ALERT, &[0xee; 26])
}

/// A record of type 23 with this in its length field.
pub(crate) fn sealed(length: usize) -> Vec<u8> {
    record(record::APPLICATION_DATA, &vec![0xee; length])
}
