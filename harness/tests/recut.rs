//! Recorded cases in other packets, on the host build: what is said stays the same. Needs no root; the
//! same packets go through the programs in the kernel by `gauntlet recut`.

use std::path::Path;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use gauntlet_harness::patience::limit;
use gauntlet_harness::recut::{Case, Conversation, RecutError, Recutter, read};
use gauntlet_probes::load::Settings;
use gauntlet_probes::replay_engine::HostEngine;

/// Ways for each case: enough that every kind of cut meets every kind of failure. `gauntlet recut` does more.
const WAYS: u64 = 8;
const SEED: u64 = 1;

fn recorded() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../probes/tests/recordings");
    read(Path::new(folder)).expect("the recordings are there, and whole")
}

#[test]
fn no_cut_changes_what_is_said() {
    let mut recutter = Recutter::new(HostEngine::new(&Settings::default()));
    let cases = recorded();
    for case in &cases {
        if let Err(error) = recutter.check(case, SEED, WAYS) {
            panic!("{error}");
        }
    }
    let failures = cases.iter().filter(|case| !case.classes.is_empty()).count();
    assert!(failures > 200, "{failures} cases with an event");
    println!(
        "{} cases in {WAYS} ways from seed {SEED}, {} packets",
        cases.len(),
        recutter.packets
    );
}

#[test]
fn a_case_that_says_something_else_is_told() {
    let mut recutter = Recutter::new(HostEngine::new(&Settings::default()));
    let mut cases = recorded();
    let case = cases
        .iter_mut()
        .find(|case| case.classes.len() == 1)
        .expect("a failure");
    case.classes = vec!["SSL_ERROR_SYSCALL, not what it was".into()];
    let error = recutter.check(case, SEED, 1).expect_err("it differs");
    assert!(
        matches!(error, RecutError::Differs { seed: 0, .. }),
        "{error}"
    );
}

/// What fuzzing has found: each segment was compared with all before it, and an input took half a minute.
#[test]
fn reading_a_long_connection_takes_no_time_that_grows_with_its_square() {
    const SEGMENTS: u32 = 100_000;
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let frame = |from, to, ports: (u16, u16), number, syn: Option<bool>| {
        let ether = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64);
        let tcp = ether.tcp(ports.0, ports.1, number, 64_000);
        let (tcp, payload) = match syn {
            Some(false) => (tcp.syn(), Vec::new()),
            Some(true) => (tcp.syn().ack(1), Vec::new()),
            None => (tcp.ack(1), number.to_be_bytes().to_vec()),
        };
        let mut bytes = Vec::new();
        tcp.write(&mut bytes, &payload).unwrap();
        bytes
    };
    let mut frames = vec![
        frame(client, server, (40_000, 443), 0, Some(false)),
        frame(server, client, (443, 40_000), 0, Some(true)),
    ];
    frames.extend((1..=SEGMENTS).map(|at| frame(client, server, (40_000, 443), at, None)));
    let began = Instant::now();
    let read = Conversation::read((0..).zip(frames.iter().map(Vec::as_slice)));
    let took = began.elapsed();
    // As they are: two SYNs, and all of them.
    let all = read[0].recut(0).len();
    assert_eq!((read.len(), all), (1, 2 + SEGMENTS as usize));
    assert!(took < limit(Duration::from_secs(5)), "{took:?}");
    println!("{SEGMENTS} segments in {took:?}");
}
