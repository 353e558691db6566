//! `--transport perf`: the same failures, the same events byte by byte, and no memory for what is not used. (What is
//! lost is counted: `losses`.)

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use gauntlet_probes::capture_file::{CaptureFile, Item};
use gauntlet_probes::interfaces::Selection;
use gauntlet_probes::load::Settings;
use gauntlet_probes::probe::Probe;
use gauntlet_probes::replay_engine::{Both, HostEngine, Kernel, Replay};
use gauntlet_probes::transport::Transport;
use gauntlet_wire::event::Event;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::clsact::same;
use crate::flood::{Order, flood};
use crate::raw::{BAD_CERTIFICATE, Connection, UNKNOWN_CA, client_hello, fail};
use crate::recorded::{STALL_AFTER_MS, cases, files};
use crate::stand::{SERVER, Stand, server_addresses};
use crate::watch::{PROBE, Watch};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("perf::the_same_failures_are_told", same_failures),
        Trial::test("perf::the_same_bytes_are_told", same_bytes),
        Trial::test("perf::whichever_cpu_the_earlier_is_told_first", in_order),
        Trial::test("perf::what_is_not_used_takes_no_memory", memory),
        Trial::test(
            "perf::libraries_keep_their_ring_buffer_and_that_is_told",
            libraries,
        ),
    ]
}

const BOTH: [&str; 2] = ["ring", "perf"];

/// Two probes on one interface.
fn same_failures() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let start = |transport| {
        let arguments = [
            "-i",
            SERVER,
            "--stall-after",
            "200ms",
            "--transport",
            transport,
        ];
        Watch::start(&stand.server, &arguments)
    };
    let mut watches = [start("ring")?, start("perf")?];
    let mut told = |name: &str| -> Result<(), Failed> {
        let [ring, perf] = &mut watches;
        let mut events = [ring.event_of(name)?, perf.event_of(name)?];
        for event in &mut events {
            // Each probe takes the time by itself.
            let event = event.as_object_mut().ok_or("no object")?;
            event.remove("time_unix_nano").ok_or("no time")?;
        }
        same(&events[0], &events[1])
    };
    for round in 0..20 {
        for address in server_addresses() {
            let name = format!("{round}.{}.test", if address.is_ipv4() { 4 } else { 6 });
            let alert = [UNKNOWN_CA, BAD_CERTIFICATE][round % 2];
            fail(&stand, address, &name, alert)?;
            told(&name)?;
        }
    }
    // What no packet tells.
    let mut stalled = Connection::open(&stand, (server_addresses()[0], 0).into())?;
    stalled.say(&client_hello("stalled.test"))?;
    told("stalled.test")?;
    for watch in watches {
        let ended = watch.finish()?;
        same((ended.events.len(), ended.lost()), (41, 0))?;
    }
    Ok(())
}

/// Every recorded case through the programs and the host build, which are compared.
fn same_bytes() -> Result<(), Failed> {
    let settings = Settings {
        capture_time: true,
        transport: Transport::Perf,
        ..Settings::default()
    };
    let mut told = 0;
    for file in files() {
        let engines = Both::new(Kernel::load(&settings)?, HostEngine::new(&settings));
        let mut replay = Replay::new(engines, Duration::from_millis(STALL_AFTER_MS));
        let mut capture = CaptureFile::open(&file)?;
        let mut events = Vec::new();
        loop {
            match capture.next()? {
                Item::Packet(packet) => replay.packet(&packet, &mut events)?,
                Item::End => break,
                _ => {}
            }
        }
        let ended = replay.end(&mut events)?;
        same(ended.difference, None)?;
        let expected: usize = cases(&file).iter().map(|case| case.events.len()).sum();
        if events.len() < expected {
            let few = events.len();
            return Err(format!("{}: {few} events, of {expected}", file.display()).into());
        }
        told += events.len();
    }
    same(told > 300, true)
}

fn in_order() -> Result<(), Failed> {
    const ROUNDS: usize = 5;
    const OF_EACH: u32 = 10;
    let stand = Stand::new()?;
    let selection = Selection {
        interfaces: vec![SERVER.into()],
        ..Selection::default()
    };
    let settings = Settings {
        transport: Transport::Perf,
        ..Settings::default()
    };
    let mut probe = Probe::start(&stand.server, &selection, &settings)?;
    let cpus = u32::try_from(std::thread::available_parallelism()?.get())?.min(2);
    for _ in 0..ROUNDS {
        flood(&stand, cpus * OF_EACH, cpus, Order::Each)?;
    }
    let mut times = Vec::new();
    probe.drain(|event| times.push(event.time));
    same(times.len(), ROUNDS * (cpus * OF_EACH) as usize)?;
    same(times.is_sorted(), true)
}

/// The kernel's own account of a probe's maps.
fn memory() -> Result<(), Failed> {
    // include/uapi/linux/bpf.h
    const PERF_EVENT_ARRAY: u64 = 4;
    const PERCPU_ARRAY: u64 = 6;
    const RINGBUF: u64 = 27;
    let stand = Stand::new()?;
    let mut found = Vec::new();
    for transport in BOTH {
        let arguments = [
            "-i",
            SERVER,
            "--library",
            "off",
            "--ring",
            "64",
            "--transport",
            transport,
        ];
        let watch = Watch::start(&stand.server, &arguments)?;
        let mut maps = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", watch.pid()))? {
            let text = fs::read_to_string(entry?.path())?;
            let number = |name: &str| -> Option<u64> {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse().ok()
            };
            if let (Some(kind), Some(size), Some(room)) = (
                number("map_type:"),
                number("value_size:"),
                number("max_entries:"),
            ) {
                maps.push((kind, size, room));
            }
        }
        watch.finish()?;
        let room = |kind, size: Option<u64>| {
            let mut these = maps
                .iter()
                .filter(|map| map.0 == kind && size.is_none_or(|size| map.1 == size));
            these.next().map(|map| map.2)
        };
        found.push([
            room(RINGBUF, None),
            room(PERF_EVENT_ARRAY, None),
            room(PERCPU_ARRAY, Some(size_of::<Event>() as u64)),
        ]);
    }
    let page = 4_096;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)? as u64;
    same(found[0], [Some(64 << 10), Some(1), Some(1)])?;
    same(found[1], [Some(page), Some(cpus), Some(4)])
}

fn libraries() -> Result<(), Failed> {
    let stand = Stand::new()?;
    for transport in BOTH {
        let mut command = Command::new(PROBE);
        command
            .args([
                "watch",
                "-i",
                SERVER,
                "--library",
                "auto",
                "--transport",
                transport,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = stand.server.run(|| command.spawn())??;
        let mut errors = BufReader::new(child.stderr.take().ok_or("no pipe")?).lines();
        let ready = errors.next().ok_or("not ready")??;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().cast_signed()),
            Signal::SIGTERM,
        )?;
        same(child.wait()?.code(), Some(0))?;
        let said = ready.contains("whose words come by ring buffer all the same");
        same((said, errors.next().is_none()), (transport == "perf", true))?;
    }
    Ok(())
}
