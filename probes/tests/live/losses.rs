//! What is not reported is counted, to the last one.

use std::time::Duration;

use gauntlet_probes::attach::Hook;
use gauntlet_probes::delivery::SLEEP;
use gauntlet_probes::interfaces::Selection;
use gauntlet_probes::load::Settings;
use gauntlet_probes::probe::Probe;
use gauntlet_wire::counters::Counter;
use gauntlet_wire::event::Event;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::clsact::same;
use crate::flood::{Order, SYN, flood, flood_from, frame};
use crate::orphans::Orphans;
use crate::raw::{BAD_CERTIFICATE, Connection, UNKNOWN_CA, alert, client_hello, fail};
use crate::stand::{SERVER, Stand, server_addresses};
use crate::watch::Watch;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("losses::a_full_ring_is_counted_exactly", full_ring),
        Trial::test("losses::a_full_flow_table_is_counted_exactly", full_table),
        Trial::test("losses::a_stall_is_told_once", stall),
        Trial::test("losses::however_delivered_all_are_told", delivered),
        Trial::test(
            "losses::connections_are_held_as_long_as_they_are_in_the_table",
            held,
        ),
        Trial::test(
            "losses::offered_is_delivered_and_lost_while_nobody_reads",
            || equation(&["--ring", "64"], Reader::Stopped),
        ),
        Trial::test(
            "losses::offered_is_delivered_and_lost_from_every_cpu",
            || equation(&["--ring", "64"], Reader::Reads),
        ),
        Trial::test(
            "losses::offered_is_delivered_and_lost_with_a_full_table",
            || {
                equation(
                    &["--ring", "64", "--max-handshakes", "1000"],
                    Reader::Overtaken,
                )
            },
        ),
        Trial::test(
            "losses::offered_is_delivered_and_lost_by_perf_while_nobody_reads",
            || equation(&["--transport", "perf", "--ring", "64"], Reader::Stopped),
        ),
        Trial::test(
            "losses::offered_is_delivered_and_lost_by_perf_from_every_cpu",
            || equation(&["--transport", "perf", "--ring", "64"], Reader::Reads),
        ),
        Trial::test(
            "losses::offered_is_delivered_and_lost_when_the_reader_is_killed",
            killed,
        ),
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
    for (hook, transport) in [("tcx", "ring"), ("clsact", "ring"), ("tcx", "perf")] {
        let how = ["--hook", hook, "--transport", transport, "--ring", "4"];
        let watch = Watch::start(&stand.server, &[&["-i", SERVER], &how[..]].concat())?;
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

/// By each way of delivery: one at a time, so that the reader sleeps in between, and many at once.
fn delivered() -> Result<(), Failed> {
    const ALONE: usize = 20;
    const AT_ONCE: u32 = 1_000;
    let stand = Stand::new()?;
    for (delivery, transport) in [
        ("quiet", "ring"),
        ("balanced", "ring"),
        ("latency", "ring"),
        ("quiet", "perf"),
        ("balanced", "perf"),
        ("latency", "perf"),
    ] {
        let how = ["--delivery", delivery, "--transport", transport];
        let mut watch = Watch::start(&stand.server, &[&["-i", SERVER], &how[..]].concat())?;
        let mut slow = 0;
        for number in 0..ALONE {
            let name = format!("{number}.test");
            let said = std::time::Instant::now();
            fail(&stand, server_addresses()[0], &name, UNKNOWN_CA)?;
            watch.event_of(&name)?;
            // A reader that nobody wakes would see most of them at the end of its longest sleep.
            slow += usize::from(said.elapsed() > SLEEP / 4);
        }
        if slow > ALONE / 2 {
            return Err(format!("{how:?}: {slow} of {ALONE} events came late").into());
        }
        flood(&stand, AT_ONCE, 1, Order::Each)?;
        let ended = watch.finish()?;
        let told = ended.events.len() as u64 + ended.count("ring_full");
        same(told, ALONE as u64 + u64::from(AT_ONCE))?;
    }
    Ok(())
}

/// What lets packets leave at once must count each connection in the table, and no other: whoever opens, replaces
/// or removes it, from every CPU, also where there is no room.
fn held() -> Result<(), Failed> {
    const ROOM: u32 = 1_000;
    let stand = Stand::new()?;
    let selection = Selection {
        interfaces: vec![SERVER.into()],
        hook: Hook::Auto,
        ..Selection::default()
    };
    let settings = Settings {
        flows: ROOM.try_into()?,
        ..Settings::default()
    };
    let mut probe = Probe::start(&stand.server, &selection, &settings)?;
    let cpus = u32::try_from(std::thread::available_parallelism()?.get())?;
    flood(&stand, 10 * ROOM, cpus, Order::AllOpen)?;
    probe.drain(|_| ());
    let (counted, there) = probe.held()?;
    same(counted, there as u64)?;
    // Opened, opened again, and with other numbers: another connection in its place.
    for number in 0..10 {
        for at in [0, 0, 5_000] {
            probe.run(&frame(number, true, SYN, at, &[]), 0)?;
        }
    }
    let opened = there as u64 + 10;
    same(probe.held()?, (opened, opened as usize))?;
    // Nobody said anything for a day.
    probe.sweep(u64::MAX, Duration::from_secs(1))?;
    same(probe.held()?, (0, 0))
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

/// What whoever reads events does meanwhile.
#[derive(PartialEq)]
enum Reader {
    Reads,
    Stopped,
    /// It reads, but there are more connections open at once than there is room for.
    Overtaken,
}

/// Handshakes that are offered: `GAUNTLET_FLOOD` says how many, in place of what is quick.
fn offered() -> Result<u32, Failed> {
    match std::env::var("GAUNTLET_FLOOD") {
        // Addresses have three bytes for it.
        Ok(count) => Ok(count.parse::<u32>()?.min(1 << 24) / 2 * 2),
        Err(_) => Ok(20_000),
    }
}

/// Offered = delivered + lost, and every loss has its cause.
fn equation(arguments: &[&str], reader: Reader) -> Result<(), Failed> {
    let offered = offered()?;
    let stand = Stand::new()?;
    let watch = Watch::start(&stand.server, &[&["-i", SERVER], arguments].concat())?;
    if reader == Reader::Stopped {
        watch.stop()?;
    }
    let cpus = std::thread::available_parallelism()?.get() as u32;
    let (cpus, order) = match reader {
        Reader::Overtaken => (1, Order::AllOpen),
        _ => (cpus.min(2), Order::Each),
    };
    flood(&stand, offered, cpus, order)?;
    if reader == Reader::Stopped {
        watch.signal(Signal::SIGCONT)?;
    }
    let ended = watch.finish()?;
    let (events, offered) = (ended.events.len() as u64, u64::from(offered));
    let (full, no_room) = (ended.count("ring_full"), ended.count("flow_table_full"));
    println!("{offered} offered, {events} delivered, {full} ring_full, {no_room} flow_table_full");
    same(events + full + no_room, offered)?;
    // No other cause.
    same(ended.lost(), full + no_room)?;
    same(ended.count("handshake_failed"), events + full)?;
    same(ended.count("flow_opened"), offered - no_room)?;
    match reader {
        Reader::Stopped => same((events > 0, full > 0, no_room), (true, true, 0)),
        Reader::Reads => same((events > 0, no_room), (true, 0)),
        Reader::Overtaken => same((events > 0, no_room), (true, offered - 1_000)),
    }
}

/// With the reader its counters are gone, so the test holds the maps: each failure was lost because the ring was full,
/// or is in the ring, or was taken out of it by the reader, which told it, or died with it in hand. What was told is
/// told once.
fn killed() -> Result<(), Failed> {
    /// A part of the flood, after which it is known whether anybody still sees it.
    const PART: u32 = 10_000;
    /// What a ring buffer of 64 KiB holds, with the kernel's eight bytes before each.
    const A_TURN: u64 = (64_u64 << 10).div_ceil(size_of::<Event>() as u64 + 8);
    let enough = u64::from(offered()?);
    let stand = Stand::new()?;
    let watch = Watch::start(&stand.server, &["-i", SERVER, "--ring", "64"])?;
    let orphans = Orphans::of(watch.pid())?;
    let opened = || orphans.count(Counter::FlowOpened);
    let (lines, offered) = std::thread::scope(|scope| {
        // The programs outlive their process for a moment: on until a whole part passes by unseen.
        let flood = scope.spawn(|| {
            for first in (0..1 << 24).step_by(PART as usize) {
                let before = opened()?;
                flood_from(&stand, first, PART, 1, Order::Each)?;
                if opened()? == before {
                    return Ok(first + PART);
                }
            }
            Err(Failed::from("its programs are still there"))
        });
        // In the middle of it all.
        while opened()? < enough && !flood.is_finished() {
            std::thread::yield_now();
        }
        let lines = watch.kill()?;
        let offered = flood.join().map_err(|_| "the flood panicked")??;
        Ok::<_, Failed>((lines, offered))
    })?;
    // The last line may be half of one.
    let (last, whole) = lines.split_last().ok_or("nothing was said")?;
    let mut told = whole
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect::<Result<Vec<serde_json::Value>, _>>()?;
    told.extend(serde_json::from_str::<serde_json::Value>(last));
    let mut clients = std::collections::BTreeSet::new();
    for event in &told {
        let client = event["client.address"].as_str().ok_or("whose?")?;
        same(
            (clients.insert(client), event["error.type"].as_str()),
            (true, Some(UNKNOWN)),
        )?;
    }
    let (opened, failed) = (
        orphans.count(Counter::FlowOpened)?,
        orphans.count(Counter::HandshakeFailed)?,
    );
    let (full, ring) = (orphans.count(Counter::RingFull)?, orphans.ring()?);
    let in_hand = ring.taken.checked_sub(told.len() as u64);
    let in_hand = in_hand.ok_or_else(|| format!("{ring:?}, but {} told", told.len()))?;
    println!(
        "{opened} of {offered} seen: {} told, {in_hand} in the reader's hands, {} in the ring, {full} ring_full",
        told.len(),
        ring.left,
    );
    // The one under way when the programs went has no end.
    same(
        (failed <= opened, opened - failed.min(opened) <= 1),
        (true, true),
    )?;
    same(ring.taken + ring.left + full, failed)?;
    // What it takes in one turn, it prints before the next.
    same(in_hand <= A_TURN, true)?;
    if opened < enough {
        return Err(format!("{opened} of {enough} seen before it was killed").into());
    }
    // The next one counts from nothing.
    let watch = Watch::start(&stand.server, &["-i", SERVER])?;
    flood(&stand, 1_000, 1, Order::Each)?;
    let ended = watch.finish()?;
    same(ended.events.len() as u64 + ended.count("ring_full"), 1_000)?;
    same(ended.lost(), ended.count("ring_full"))
}
