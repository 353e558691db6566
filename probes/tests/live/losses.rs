//! What is not reported is counted, to the last one.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::clsact::same;
use crate::raw::{BAD_CERTIFICATE, Connection, UNKNOWN_CA, alert, client_hello, fail};
use crate::stand::{SERVER, Stand, server_addresses};
use crate::watch::Watch;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("losses::a_full_ring_is_counted_exactly", full_ring),
        Trial::test("losses::a_full_flow_table_is_counted_exactly", full_table),
        Trial::test("losses::a_stall_is_told_once", stall),
        Trial::test("losses::classes_are_counted_by_version", || {
            let stand = Stand::new()?;
            let watch = Watch::start(&stand.server, &["-i", SERVER])?;
            for round in 0..6 {
                let alert = if round % 3 == 0 {
                    BAD_CERTIFICATE
                } else {
                    UNKNOWN_CA
                };
                fail(&stand, server_addresses()[round % 2], "n.test", alert)?;
            }
            let ended = watch.finish()?;
            let events = &ended.counters["events"];
            let counted = [BAD, UNKNOWN].map(|class| events[class]["unknown"].as_u64());
            same(counted, [Some(2), Some(4)])?;
            same((ended.count("flow_opened"), ended.lost()), (6, 0))
        }),
    ]
}

const BAD: &str = "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE";
const UNKNOWN: &str = "SSL_R_TLSV1_ALERT_UNKNOWN_CA";

/// Nobody reads while handshakes fail.
fn full_ring() -> Result<(), Failed> {
    const ROUNDS: u64 = 60;
    let stand = Stand::new()?;
    for hook in ["tcx", "clsact"] {
        let watch = Watch::start(
            &stand.server,
            &["-i", SERVER, "--ring", "4", "--hook", hook],
        )?;
        watch.stop()?;
        for round in 0..ROUNDS {
            fail(
                &stand,
                server_addresses()[round as usize % 2],
                "full.test",
                UNKNOWN_CA,
            )?;
        }
        watch.signal(Signal::SIGCONT)?;
        // `finish` compares events, `ring_full`, and the classes' counts.
        let ended = watch.finish()?;
        same(ended.count("handshake_failed"), ROUNDS)?;
        same(
            ended.counters["events"][UNKNOWN]["unknown"].as_u64(),
            Some(ROUNDS),
        )?;
        let (events, full) = (ended.events.len() as u64, ended.count("ring_full"));
        same((events > 0, full > 0, events + full), (true, true, ROUNDS))?;
        same(ended.lost(), full)?;
    }
    Ok(())
}

fn full_table() -> Result<(), Failed> {
    const ROOM: u64 = 8;
    const OPEN: u64 = 30;
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--max-handshakes", "8"])?;
    let mut connections = (0..OPEN)
        .map(|_| Connection::open(&stand, (server_addresses()[0], 0).into()))
        .collect::<Result<Vec<_>, _>>()?;
    // The first of them are followed, the others not.
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.say(&client_hello(&format!("{number}.test")))?;
        connection.say(&alert(UNKNOWN_CA))?;
    }
    for number in 0..ROOM {
        watch.event_of(&format!("{number}.test"))?;
    }
    for connection in connections {
        connection.close()?;
    }
    // Room again.
    fail(&stand, server_addresses()[1], "room.test", UNKNOWN_CA)?;
    watch.event_of("room.test")?;
    let ended = watch.finish()?;
    same(ended.count("flow_opened"), ROOM + 1)?;
    // For each connection once, or for its SYN and its SYN-ACK.
    let full = ended.count("flow_table_full");
    same(full, OPEN - ROOM)?;
    same(ended.lost(), full)?;
    same(ended.events.len() as u64, ROOM + 1)
}

fn stall() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--stall-after", "200ms"])?;
    // Connected, and never said a word: no handshake.
    let idle = Connection::open(&stand, (server_addresses()[0], 0).into())?;
    for (address, name) in server_addresses().into_iter().zip(["v4.test", "v6.test"]) {
        let mut connection = Connection::open(&stand, (address, 0).into())?;
        let said = std::time::Instant::now();
        connection.say(&client_hello(name))?;
        let event = watch.event_of(name)?;
        let waited = said.elapsed();
        same(event["error.type"].as_str(), Some("SSL_ERROR_WANT_READ"))?;
        same(event["handshake.ended_by"].as_str(), Some("server"))?;
        same(event["retryable"].as_bool(), Some(true))?;
        if waited < Duration::from_millis(200) {
            return Err(format!("told after {waited:?}").into());
        }
        // What comes later is no second failure.
        connection.say(&alert(UNKNOWN_CA))?;
        connection.close()?;
    }
    // Long enough for more, if there were any: another stall passes by.
    let mut last = Connection::open(&stand, (server_addresses()[0], 0).into())?;
    last.say(&client_hello("last.test"))?;
    watch.event_of("last.test")?;
    drop(idle);
    let ended = watch.finish()?;
    same((ended.events.len(), ended.lost()), (3, 0))
}
