//! What the wire crate costs on the host, per segment: a real ClientHello (made by rustls) and an
//! alert, against `tls-parser` reading the same bytes. `tls-parser` builds lists of what it finds,
//! the flow machine keeps only what a report needs; read the ratio with that in mind.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gauntlet_benches::{ALERT, client_hello, walk};
use gauntlet_wire::flow::Flow;
use gauntlet_wire::walk::Walked;
use zerocopy::FromZeros;

fn parser(criterion: &mut Criterion) {
    let hello = client_hello();
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
            |flow| walk(flow, black_box(&ALERT), 1, 1),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("tls-parser", |bench| {
        bench.iter(|| {
            tls_parser::parse_tls_plaintext(black_box(&ALERT))
                .expect("TLS")
                .0
                .len()
        });
    });
    group.finish();
}

criterion_group!(benches, parser);
criterion_main!(benches);
