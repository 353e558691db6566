//! What our parser costs for a message, `tls-parser` for the same, and reading every byte once: in one run,
//! one after the other in each round, so that a ratio is of neighbours in time. Prints a JSON object a line.
//! `tls-parser` builds lists of what it finds, ours keeps what a report needs; read the ratio with that in mind.
//!
//! The first argument is how many rounds. Judges nothing: the driver does.

use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use gauntlet_benches::{ALERT, client_hello, server_hello, walk};
use gauntlet_wire::flow::Flow;
use gauntlet_wire::walk::Walked;
use tls_parser::{TlsMessage, TlsMessageHandshake};
use zerocopy::FromZeros;

/// Messages read in a row between two looks at the clock: each takes a flow of its own, and together they stay
/// in the second cache.
const BATCH: usize = 64;
/// Batches of a round.
const BATCHES: usize = 24;

/// A message, and the flow as it is before it.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    before: Flow,
    role: u8,
}

fn main() -> ExitCode {
    let Some(rounds) = env::args().nth(1).and_then(|word| word.parse().ok()) else {
        eprintln!("parser_cost: how many rounds?");
        return ExitCode::from(64);
    };
    for case in cases() {
        let mut samples = [const { Vec::new() }; 4];
        // Once unmeasured: caches and the processor's clock.
        for round in 0..=rounds {
            let took = [
                ours(&case),
                tls_parser(&case.bytes),
                touch(&case.bytes),
                ours(&case),
            ];
            if round > 0 {
                for (samples, took) in samples.iter_mut().zip(took) {
                    samples.push(took);
                }
            }
        }
        let [ours, theirs, touch, again] = samples;
        println!(
            r#"{{"name":"{}","bytes":{},"ours":{ours:?},"again":{again:?},"tls_parser":{theirs:?},"touch":{touch:?}}}"#,
            case.name,
            case.bytes.len(),
        );
    }
    ExitCode::SUCCESS
}

fn cases() -> [Case; 3] {
    let hello = client_hello();
    let fresh = Flow::new_zeroed();
    let mut greeted = fresh;
    assert_eq!(walk(&mut greeted, &hello, 1, 0), Walked::On);
    let answer = server_hello();
    assert_eq!(walk(&mut greeted.clone(), &answer, 1, 1), Walked::On);
    assert_ne!(walk(&mut greeted.clone(), &ALERT, 1, 1), Walked::On);
    let case = |name, bytes, before, role| Case {
        name,
        bytes,
        before,
        role,
    };
    [
        case("client_hello", hello, fresh, 0),
        case("server_hello", answer, greeted, 1),
        case("alert", ALERT.to_vec(), greeted, 1),
    ]
}

/// Nanoseconds for one message by our parser; making the flows is not measured.
fn ours(case: &Case) -> f64 {
    let mut flows = vec![case.before; BATCH];
    median((0..BATCHES).map(|_| {
        flows.fill(case.before);
        timed(|| {
            for flow in &mut flows {
                black_box(walk(black_box(flow), black_box(&case.bytes), 1, case.role));
            }
        })
    }))
}

fn tls_parser(bytes: &[u8]) -> f64 {
    repeated(|| {
        let (_, record) = tls_parser::parse_tls_plaintext(black_box(bytes)).expect("TLS");
        for message in &record.msg {
            match message {
                TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) => {
                    let extensions = hello.ext.unwrap_or_default();
                    black_box(tls_parser::parse_tls_client_hello_extensions(extensions))
                        .expect("extensions");
                }
                TlsMessage::Handshake(TlsMessageHandshake::ServerHello(hello)) => {
                    let extensions = hello.ext.unwrap_or_default();
                    black_box(tls_parser::parse_tls_server_hello_extensions(extensions))
                        .expect("extensions");
                }
                _ => {}
            }
        }
        black_box(&record);
    })
}

/// Eight bytes at a time.
fn touch(bytes: &[u8]) -> f64 {
    repeated(|| {
        let (words, rest) = black_box(bytes).as_chunks::<8>();
        let sum = words.iter().fold(0_u64, |sum, word| {
            sum.wrapping_add(u64::from_le_bytes(*word))
        });
        black_box(rest.iter().fold(sum, |sum, byte| sum ^ u64::from(*byte)));
    })
}

fn repeated(mut one: impl FnMut()) -> f64 {
    median((0..BATCHES).map(|_| {
        timed(|| {
            for _ in 0..BATCH {
                one();
            }
        })
    }))
}

/// Nanoseconds of one of a batch.
fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / BATCH as f64
}

/// Of the batches: one in which somebody else had the processor does not count for more than one.
fn median(batches: impl Iterator<Item = f64>) -> f64 {
    let mut batches: Vec<f64> = batches.collect();
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}
