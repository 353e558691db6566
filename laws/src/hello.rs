//! A ClientHello, read by three: this project's machine, `tls-parser`, and rustls's `Acceptor`. Where the other
//! two read a whole one, the machine must have read the same, or one of [`Explained`] says why not.

use std::io::Cursor;

use gauntlet_probes::host::Host;
use gauntlet_probes::load::Settings;
use gauntlet_wire::Role;
use gauntlet_wire::capture::Hello;
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::record::{HANDSHAKE, RecordHeader};
use tls_parser::{TlsExtension, TlsMessage, TlsMessageHandshake, TlsRecordType};

use crate::conversation::{BEGINS, adds_up, heard};
use crate::frames::Frames;
use crate::script::Next;

/// What a ClientHello offers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
    suites: Vec<u16>,
    server_name: Option<Vec<u8>>,
    alpn: Vec<Vec<u8>>,
}

/// Why the machine need not have read what another parser read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Explained {
    /// `tls-parser` takes any version in a record header, rustls any minor one; to us they are no TLS.
    RecordVersion,
    /// RFC 8446 section 5.1 forbids handshake records without bytes; a stream that begins with one is no TLS to us.
    EmptyRecord,
    /// Of hellos only so much is kept, and the event is counted as `capture_truncated`.
    Truncated,
    /// The message contradicts its own lengths and is counted as `malformed_message`; `tls-parser` does not
    /// look at what stands behind the extensions, or in a name's list.
    Malformed,
    /// More fields than are walked over in one packet, which is counted as `steps_exhausted`.
    Steps,
}

/// The first byte says how the rest is a client's stream: 0, as it is; otherwise as the body of a ClientHello, in
/// records of so many bytes (1 to 254), or in one (255).
pub fn hello(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else {
        return;
    };
    let stream = match how {
        0 => rest.to_vec(),
        255 => records(rest, 1 << 14),
        size => records(rest, usize::from(*size)),
    };
    let (ours, lack) = machine(&stream);
    if let Some(theirs) = tls_parser_reads(&stream) {
        compare("tls-parser", &stream, theirs, ours.as_ref(), lack);
    }
    if let Some(mut theirs) = rustls_reads(&stream) {
        // rustls tells names that are host names only, in lower case.
        if let Some(ours) = &ours
            && theirs.server_name.as_ref().is_none_or(|theirs| {
                ours.server_name
                    .as_ref()
                    .is_some_and(|ours| ours.eq_ignore_ascii_case(theirs))
            })
        {
            theirs.server_name.clone_from(&ours.server_name);
        }
        let lack = lack.filter(|lack| *lack != Explained::Malformed);
        compare("rustls", &stream, theirs, ours.as_ref(), lack);
    }
}

fn compare(who: &str, stream: &[u8], theirs: Offer, ours: Option<&Offer>, lack: Option<Explained>) {
    if lack.or_else(|| of_records(stream)).is_none() {
        assert_eq!(
            ours,
            Some(&theirs),
            "the machine's reading and that of {who}"
        );
    }
}

fn records(body: &[u8], size: usize) -> Vec<u8> {
    let body = &body[..body.len().min(60_000)];
    let mut message = (0x0100_0000 + body.len() as u32).to_be_bytes().to_vec();
    message.extend(body);
    let mut stream = Vec::new();
    for piece in message.chunks(size) {
        stream.extend([HANDSHAKE, 3, 1]);
        stream.extend((piece.len() as u16).to_be_bytes());
        stream.extend(piece);
    }
    stream
}

/// What is explained by the records alone.
fn of_records(mut stream: &[u8]) -> Option<Explained> {
    while let Some((header, rest)) = stream.split_first_chunk() {
        match RecordHeader::parse(*header) {
            None => return Some(Explained::RecordVersion),
            Some(header) if header.length == 0 => return Some(Explained::EmptyRecord),
            Some(header) => stream = rest.get(usize::from(header.length)..)?,
        }
    }
    None
}

/// The stream, then an alert: that is reported, with what was read before it.
fn machine(stream: &[u8]) -> (Option<Offer>, Option<Explained>) {
    let mut frames = Frames::new(3, false, 1);
    let mut steps = vec![frames.syn(0), frames.syn(1)];
    steps.extend(
        stream
            .chunks(1_400)
            .map(|piece| frames.segment(0, piece, 0, 0)),
    );
    steps.push(frames.segment(0, &[21, 3, 3, 0, 2, 2, 48], 0, 0));
    let steps: Vec<Next> = steps
        .into_iter()
        .map(|frame| Next::Frame(BEGINS, frame))
        .collect();
    let mut host = Host::new(&Settings::default());
    let (events, counts) = heard(&mut host, &steps);
    adds_up(&events, &counts);
    let counted = |counter| {
        counts
            .counters
            .get(&counter)
            .is_some_and(|count| *count > 0)
    };
    let lack = if counted(Counter::CaptureTruncated) {
        Some(Explained::Truncated)
    } else if counted(Counter::Malformed) {
        Some(Explained::Malformed)
    } else if counted(Counter::StepsExhausted) {
        Some(Explained::Steps)
    } else {
        None
    };
    let ours = events
        .iter()
        .find(|event| event.verdict.class == Class::UnknownCa as u8)
        .map(|event| {
            let hello = Hello::of(&event.flow, Role::Client);
            Offer {
                suites: hello.suites().collect(),
                server_name: hello.server_name().map(<[u8]>::to_vec),
                alpn: hello.alpn().map(<[u8]>::to_vec).collect(),
            }
        });
    (ours, lack)
}

/// A stream that is one whole ClientHello and nothing else, by `tls-parser`.
fn tls_parser_reads(mut stream: &[u8]) -> Option<Offer> {
    let mut message = Vec::new();
    while !stream.is_empty() {
        let (rest, record) = tls_parser::parse_tls_raw_record(stream).ok()?;
        if record.hdr.record_type != TlsRecordType::Handshake {
            return None;
        }
        message.extend(record.data);
        stream = rest;
    }
    let length = message.len().saturating_sub(4);
    let (rest, message) = tls_parser::parse_tls_message_handshake(&message).ok()?;
    let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = message else {
        return None;
    };
    if !rest.is_empty() {
        return None;
    }
    let mut offer = Offer {
        suites: hello.ciphers.iter().map(|suite| suite.0).collect(),
        ..Offer::default()
    };
    let read =
        38 + hello.session_id.map_or(0, <[u8]>::len) + 2 * hello.ciphers.len() + hello.comp.len();
    if hello.ext.is_none() && read < length {
        // Its list of extensions is longer than the message. `tls-parser` reads none of them then, rustls
        // refuses the hello, and the machine, which judges nobody's hello, reads those that are there.
        return None;
    }
    if let Some(extensions) = hello.ext {
        let (rest, extensions) = tls_parser::parse_tls_client_hello_extensions(extensions).ok()?;
        if !rest.is_empty() {
            return None; // it stopped at one it cannot read
        }
        // Of an extension that is there twice, which RFC 8446 section 4.2 forbids, the first counts.
        for extension in extensions.into_iter().rev() {
            match extension {
                TlsExtension::SNI(names) => {
                    let (kind, name) = names.first()?;
                    if kind.0 != 0 {
                        return None; // names of other kinds nobody has defined
                    }
                    // RFC 6066 section 3 has no empty host name; `tls-parser` does not look.
                    offer.server_name = (!name.is_empty()).then(|| name.to_vec());
                }
                TlsExtension::ALPN(protocols) => {
                    offer.alpn = protocols.into_iter().map(<[u8]>::to_vec).collect();
                }
                _ => {}
            }
        }
    }
    Some(offer)
}

/// The same by rustls, which refuses more.
fn rustls_reads(stream: &[u8]) -> Option<Offer> {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut unread = Cursor::new(stream);
    loop {
        let read = acceptor.read_tls(&mut unread).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let offer = Offer {
                suites: hello
                    .cipher_suites()
                    .iter()
                    .map(|suite| u16::from(*suite))
                    .collect(),
                server_name: hello.server_name().map(|name| name.as_bytes().to_vec()),
                alpn: hello
                    .alpn()
                    .into_iter()
                    .flatten()
                    .map(<[u8]>::to_vec)
                    .collect(),
            };
            // The hello alone: what follows it would come before the alert.
            return (tls_parser_reads(stream).is_some()).then_some(offer);
        }
        if read == 0 {
            return None;
        }
    }
}
