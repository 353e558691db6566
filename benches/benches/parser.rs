//! What the wire crate costs on the host, per segment: a real ClientHello (made by rustls) and an
//! alert, against `tls-parser` reading the same bytes. `tls-parser` builds lists of what it finds,
//! the flow machine keeps only what a report needs; read the ratio with that in mind.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::flow::Flow;
use gauntlet_wire::segment::Segment;
use gauntlet_wire::walk::Walked;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use zerocopy::FromZeros;

const STEPS: u32 = 64;

/// The first flight of a rustls client: one record with a ClientHello.
fn client_hello() -> Vec<u8> {
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

fn walk(flow: &mut Flow, payload: &[u8], sequence: u32, role: u8) -> Walked {
    let mut segment = Segment::new_zeroed();
    segment.end = u32::try_from(payload.len()).expect("a packet");
    segment.sequence = sequence;
    segment.role = role;
    let _ = flow.place(&mut segment);
    flow.walk::<STEPS>(&Bytes::new(payload), &mut segment)
}

fn parser(criterion: &mut Criterion) {
    let hello = client_hello();
    let alert = [21, 3, 3, 0, 2, 2, 48];
    let fresh = Flow::new_zeroed();
    assert_eq!(walk(&mut fresh.clone(), &hello, 1, 0), Walked::On);

    let mut group = criterion.benchmark_group("client_hello");
    group.bench_function("flow", |bench| {
        bench.iter_batched_ref(
            || fresh,
            |flow| walk(flow, black_box(&hello), 1, 0),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("tls-parser", |bench| {
        bench.iter(|| {
            let (_, record) = tls_parser::parse_tls_plaintext(black_box(&hello)).expect("TLS");
            for message in record.msg {
                if let tls_parser::TlsMessage::Handshake(
                    tls_parser::TlsMessageHandshake::ClientHello(hello),
                ) = message
                {
                    let extensions = hello.ext.unwrap_or_default();
                    black_box(tls_parser::parse_tls_client_hello_extensions(extensions))
                        .expect("extensions");
                }
            }
        });
    });
    group.finish();

    let mut begun = fresh;
    assert_eq!(walk(&mut begun, &hello, 1, 0), Walked::On);
    let mut group = criterion.benchmark_group("alert");
    group.bench_function("flow", |bench| {
        bench.iter_batched_ref(
            || begun,
            |flow| walk(flow, black_box(&alert), 1, 1),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("tls-parser", |bench| {
        bench.iter(|| {
            tls_parser::parse_tls_plaintext(black_box(&alert))
                .expect("TLS")
                .0
                .len()
        });
    });
    group.finish();
}

criterion_group!(benches, parser);
criterion_main!(benches);
