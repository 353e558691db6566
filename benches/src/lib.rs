//! The messages that are measured, and the one way in which our parser is called for them: the same for
//! criterion (`benches/parser.rs`) and for the driver's ratios (`bin/parser_cost.rs`).
//!
//! Refuses to measure.

use std::sync::Arc;

use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::flow::Flow;
use gauntlet_wire::segment::Segment;
use gauntlet_wire::walk::Walked;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use zerocopy::FromZeros;

/// A fatal alert, unknown_ca, as a record.
pub const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 48];

/// Fields that are walked over in one call; more than any message here has.
const STEPS: u32 = 64;

/// The first flight of a rustls client: one record with a ClientHello.
///
/// # Panics
/// When rustls does not make one.
#[must_use]
pub fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has suites for both versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = "api.internal".try_into().expect("a DNS name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a valid config");
    let mut bytes = Vec::new();
    connection
        .write_tls(&mut bytes)
        .expect("a Vec takes everything");
    bytes
}

/// A ServerHello, as a record: of TLS 1.2 with ALPN, which is what our parser keeps of one.
#[must_use]
pub fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([9; 32]); // random
    body.push(0); // no session
    body.extend([0xc0, 0x2f, 0]); // ECDHE_RSA_WITH_AES_128_GCM_SHA256, no compression
    let extensions: [&[u8]; 3] = [
        &[0, 16, 0, 5, 0, 3, 2, b'h', b'2'],
        &[0, 23, 0, 0],
        &[0xff, 1, 0, 1, 0],
    ];
    let extensions = extensions.concat();
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 3];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([2, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// Walks a flow over one segment. `role`: 0 for the client's, 1 for the server's.
///
/// # Panics
/// When the payload is longer than a packet.
pub fn walk(flow: &mut Flow, payload: &[u8], sequence: u32, role: u8) -> Walked {
    let mut segment = Segment::new_zeroed();
    segment.end = u32::try_from(payload.len()).expect("a packet");
    segment.sequence = sequence;
    segment.role = role;
    let _ = flow.place(&mut segment);
    flow.walk::<STEPS>(&Bytes::new(payload), &mut segment)
}
