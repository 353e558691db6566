//! From the bytes of one direction to lines: TLS records and handshake messages by `tls-parser`, and
//! whatever is not TLS by its first line.

use tls_parser::{
    TlsMessage, TlsMessageHandshake, TlsRecordType, parse_tls_message_handshake,
    parse_tls_raw_record,
};
use x509_parser::parse_x509_certificate;

use super::alert;
use super::hello::{Chosen, Hello, is_retry};

/// TLS 1.3 as a version number.
const TLS13: u16 = 0x0304;
/// The longest record: RFC 5246 section 6.2.3.
const RECORD_LIMIT: u16 = (1 << 14) + 2048;
/// How much of a line that is not TLS is shown.
const SHOWN: usize = 60;

/// One direction of a connection as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Bytes of a record that is not whole yet.
    pending: Vec<u8>,
    /// Bytes of a handshake message that is not whole yet.
    handshake: Vec<u8>,
    /// How many records the first message in `handshake` has taken so far.
    spanned: usize,
    /// Whether this side has sent ChangeCipherSpec.
    changed_cipher: bool,
}

/// What both directions of a connection have shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The version in use, from ServerHello or HelloRetryRequest on.
    pub(super) version: Option<u16>,
    pub(super) client_hello: Option<Hello>,
    pub(super) server_hello: Option<Chosen>,
}

/// One thing on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Something TLS, as a line says it.
    Tls(String),
    /// A Certificate message, and the common name of its leaf.
    Certificate(Option<String>),
    /// Bytes that are no TLS, the first line of them.
    Clear(String),
}

impl Records {
    /// Takes the next bytes of this direction; tells what they completed.
    pub(super) fn read(&mut self, bytes: &[u8], shown: &mut Shown) -> Vec<Seen> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = &pending[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            if !may_be_record(rest) {
                seen.push(Seen::Clear(first_line(rest)));
                rest = &[];
                break;
            }
            // It fails only for want of bytes: what else could be wrong has been looked at.
            let Ok((after, record)) = parse_tls_raw_record(rest) else {
                break;
            };
            self.record(record.hdr.record_type, record.data, shown, &mut seen);
            rest = after;
        }
        self.pending = rest.to_vec();
        seen
    }

    fn record(
        &mut self,
        kind: TlsRecordType,
        body: &[u8],
        shown: &mut Shown,
        seen: &mut Vec<Seen>,
    ) {
        let line = match (kind, body) {
            (TlsRecordType::ChangeCipherSpec, _) => {
                self.changed_cipher = true;
                "ChangeCipherSpec".into()
            }
            // No cipher makes a record this short (18 is the shortest seen), so it is in the clear.
            (TlsRecordType::Alert, [level, description]) => {
                format!("alert {}", alert::name(*level, *description))
            }
            (TlsRecordType::Alert, _) => format!("encrypted alert {}", body.len()),
            // In TLS 1.3 ChangeCipherSpec means nothing (RFC 8446 appendix D.4).
            (TlsRecordType::Handshake, _)
                if self.changed_cipher && shown.version != Some(TLS13) =>
            {
                "encrypted handshake".into()
            }
            (TlsRecordType::Handshake, _) => {
                self.handshake.extend_from_slice(body);
                self.spanned += 1;
                return self.messages(shown, seen);
            }
            (TlsRecordType::ApplicationData, _) => format!("application data {}", body.len()),
            (other, _) => format!("record {} {}", other.0, body.len()),
        };
        seen.push(Seen::Tls(line));
    }

    fn messages(&mut self, shown: &mut Shown, seen: &mut Vec<Seen>) {
        let bytes = std::mem::take(&mut self.handshake);
        let mut rest = &bytes[..];
        while let [kind, high, middle, low, ..] = *rest {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let Some((message, after)) = rest.split_at_checked(4 + length) else {
                break;
            };
            seen.push(match parse_tls_message_handshake(message) {
                Ok((_, TlsMessage::Handshake(parsed))) => name(&parsed, self.spanned, shown),
                _ => Seen::Tls(format!("handshake message {kind} that does not parse")),
            });
            rest = after;
            self.spanned = usize::from(!rest.is_empty());
        }
        self.handshake = rest.to_vec();
    }
}

fn name(message: &TlsMessageHandshake<'_>, records: usize, shown: &mut Shown) -> Seen {
    use TlsMessageHandshake as Message;
    let name = match message {
        Message::ClientHello(hello) => {
            // The one after a HelloRetryRequest offers the same.
            shown.client_hello.get_or_insert_with(|| Hello {
                records,
                ..hello.into()
            });
            "ClientHello"
        }
        Message::ServerHello(hello) => {
            let chosen = Chosen::from(hello);
            shown.version = Some(chosen.version);
            if is_retry(hello) {
                "HelloRetryRequest"
            } else {
                shown.server_hello = Some(chosen);
                "ServerHello"
            }
        }
        Message::Certificate(certificates) => {
            let leaf = certificates.cert_chain.first();
            return Seen::Certificate(leaf.and_then(|leaf| common_name(leaf.data)));
        }
        Message::HelloRequest => "HelloRequest",
        Message::ServerKeyExchange(_) => "ServerKeyExchange",
        Message::CertificateRequest(_) => "CertificateRequest",
        Message::ServerDone(_) => "ServerHelloDone",
        Message::CertificateVerify(_) => "CertificateVerify",
        Message::ClientKeyExchange(_) => "ClientKeyExchange",
        Message::Finished(_) => "Finished",
        Message::NewSessionTicket(_) => "NewSessionTicket",
        Message::CertificateStatus(_) => "CertificateStatus",
        Message::EndOfEarlyData => "EndOfEarlyData",
        Message::KeyUpdate(_) => "KeyUpdate",
        // Drafts of TLS 1.3, and NPN.
        Message::ServerHelloV13Draft18(_)
        | Message::HelloRetryRequest(_)
        | Message::NextProtocol(_) => "obsolete handshake message",
    };
    Seen::Tls(name.into())
}

fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    Some(name.into())
}

/// Whether `bytes` could begin a TLS record, as far as they go.
fn may_be_record(bytes: &[u8]) -> bool {
    let header_fits = match *bytes {
        [_, _, minor, high, low, ..] => {
            minor <= 4 && u16::from_be_bytes([high, low]) <= RECORD_LIMIT
        }
        _ => true,
    };
    matches!(bytes, [20..=24] | [20..=24, 3, ..]) && header_fits
}

/// The first line of bytes that are not TLS, escaped, and cut where it gets long.
fn first_line(bytes: &[u8]) -> String {
    let line = bytes
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    match line.get(..SHOWN) {
        Some(start) if line.len() > SHOWN => format!("{}..", start.escape_ascii()),
        _ => line.escape_ascii().to_string(),
    }
}
