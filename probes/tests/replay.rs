//! Every case of the suite, replayed from its recording on the host build, without privileges: what the kernel
//! said when it was live, and with its key log the exact alert where it was hidden. Then files that are
//! damaged, cut and wrong, through the command.

mod recorded;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gauntlet_probes::capture_file::{CaptureFile, Item, Packet};
use gauntlet_probes::failure::Failure;
use gauntlet_probes::hidden::look;
use gauntlet_probes::hidden_count::HiddenCount;
use gauntlet_probes::interfaces::Interface;
use gauntlet_probes::keylog::KeyLog;
use gauntlet_probes::load::Settings;
use gauntlet_probes::probe::Counts;
use gauntlet_probes::replay_engine::{HostEngine, Replay};
use gauntlet_probes::report::ndjson;
use gauntlet_wire::counters::Counter;
use proptest::prelude::*;
use proptest::sample::Index;
use recorded::{Case, STALL_AFTER_MS, cases, files, many};
use serde_json::{Map, Value};

const STALL_AFTER: Duration = Duration::from_millis(STALL_AFTER_MS);

/// What was told of a capture, by the server's port, and counted.
struct Told {
    events: BTreeMap<u16, Vec<Map<String, Value>>>,
    counts: Counts,
    unfinished: u64,
}

fn replay(capture: &mut CaptureFile<'_>, with_keys: bool) -> Told {
    let mut log = KeyLog::new(usize::MAX);
    let mut hidden = HiddenCount::default();
    let settings = Settings {
        flows: NonZeroU32::new(16_384).expect("more than none"),
        ..Settings::default()
    };
    let mut replay = Replay::new(HostEngine::new(&settings), STALL_AFTER);
    let mut events = Vec::new();
    loop {
        match capture.next().expect("a recording is whole") {
            Item::Packet(packet) => replay.packet(&packet, &mut events).expect("no kernel"),
            Item::KeyLog(lines) if with_keys => log.add(lines),
            Item::KeyLog(_) | Item::UnknownLink(_) => {}
            Item::End => break,
        }
    }
    let ended = replay.end(&mut events).expect("no kernel");
    let mut counts = ended.counts;
    let mut told: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for event in &events {
        let interface = capture.interface(event.ifindex).map(|name| Interface {
            name: name.into(),
            addresses: Vec::new(),
        });
        let failure = Failure::new(event, event.time, interface.as_ref()).expect("known");
        let look = look(event, with_keys.then_some(&log));
        hidden.add(event, look);
        let Some(failure) = failure.after(look) else {
            continue;
        };
        let Ok(Value::Object(event)) = serde_json::to_value(&failure) else {
            panic!("an event is an object");
        };
        told.entry(failure.server_port).or_default().push(event);
    }
    hidden.apply(&log, &mut counts);
    Told {
        events: told,
        counts,
        unfinished: ended.unfinished,
    }
}

/// The events of a case, their times checked and taken away.
fn of_case(told: &mut Told, case: &Case) -> Vec<Map<String, Value>> {
    let mut events = told.events.remove(&case.port).unwrap_or_default();
    for event in &mut events {
        let time = event
            .remove("time_unix_nano")
            .and_then(|time| time.as_u64());
        let time = time.expect("a time");
        let [begins, ends] = case.lasts;
        let late = STALL_AFTER_MS * 1_000_000;
        assert!(
            (begins..=ends + late).contains(&time),
            "{}: {time}",
            case.id
        );
    }
    events
}

#[test]
fn every_recorded_case_says_what_it_said_live() {
    let mut replayed = 0;
    for file in files() {
        let mut capture = CaptureFile::open(&file).expect("a capture");
        let mut told = replay(&mut capture, false);
        for case in cases(&file) {
            let events: Vec<Value> = of_case(&mut told, &case)
                .into_iter()
                .map(Value::Object)
                .collect();
            assert_eq!(events, case.events, "{}", case.id);
            replayed += 1;
        }
        assert!(told.events.is_empty(), "{:?}", told.events);
        assert_eq!((told.counts.lost(), told.unfinished), (0, 0));
    }
    assert!(replayed >= 656, "{replayed}");
}

/// What the receiver says of an alert, where it says it: rustls its name (`AlertReceived(UnknownCA)`),
/// OpenSSL its number plus a thousand (`20:1048(tlsv1 alert unknown ca)`).
fn was_received(case: &Case, code: u64, description: &str) -> Option<bool> {
    let plain = description.replace('_', "");
    case.outcomes.iter().find_map(|outcome| {
        if let Some((_, rest)) = outcome.split_once("AlertReceived(") {
            let (name, _) = rest.split_once(')')?;
            return Some(name.to_lowercase() == plain);
        }
        let (_, rest) = outcome.split_once(" 20:1")?;
        let (number, _) = rest.split_once('(')?;
        let number: u64 = number.parse().ok().filter(|_| number.len() == 3)?;
        Some(number == code)
    })
}

#[test]
fn with_its_key_log_every_hidden_alert_has_its_exact_class() {
    let (mut named, mut heard, mut silent) = (0, 0, 0);
    for file in files() {
        let mut capture = CaptureFile::open(&file).expect("a capture");
        let mut told = replay(&mut capture, true);
        let events_told = told.events.values().map(Vec::len).sum::<usize>() as u64;
        for case in cases(&file) {
            let events = of_case(&mut told, &case);
            let hidden = |event: &&Value| {
                event["tls.alert.encrypted"] == true && event["tls.protocol.version"] == "1.3"
            };
            let Some(before) = case.events.iter().find(hidden) else {
                let events: Vec<Value> = events.into_iter().map(Value::Object).collect();
                assert_eq!(events, case.events, "{}", case.id);
                continue;
            };
            let class = case.id.split("::").next().expect("a class");
            if class == "none" {
                // The wire could not tell it from a rejection; the key log can.
                assert_eq!(events, [], "{}", case.id);
                silent += 1;
                continue;
            }
            let [event] = &events[..] else {
                panic!("{}: {events:?}", case.id);
            };
            let code = event["tls.alert.code"].as_u64().expect("a number");
            let error = event["error.type"].as_str().expect("a class");
            let expected = match class {
                "ssl_error" => "ssl_error_ssl",
                class => class,
            };
            assert!(
                error.to_lowercase().ends_with(expected),
                "{}: {error}",
                case.id
            );
            assert_eq!(event["confidence"], "certain", "{}", case.id);
            assert_eq!(event["tls.alert.encrypted"], true, "{}", case.id);
            assert_eq!(event["tls.alert.sender"], before["tls.alert.sender"]);
            assert!(!event.contains_key("candidates"), "{}", case.id);
            let description = event["tls.alert.description"].as_str().expect("a name");
            let received = was_received(&case, code, description);
            assert!(received != Some(false), "{}: {event:?}", case.id);
            heard += u64::from(received == Some(true));
            named += 1;
        }
        assert!(told.events.is_empty(), "{:?}", told.events);
        let failed = told.counts.counters[&Counter::HandshakeFailed];
        let by_class: u64 = told.counts.classes.values().map(|class| class.count).sum();
        assert_eq!((failed, by_class), (events_told, events_told));
        for name in ["key_log_missing", "key_log_does_not_fit"] {
            assert_eq!(told.counts.others[name].count, 0, "{}", file.display());
        }
    }
    assert!(
        named >= 57 && heard >= 57 && silent >= 3,
        "{named} named, of which {heard} were heard by a peer; {silent} silent"
    );
}

#[test]
fn ten_thousand_mixed_handshakes_at_once_are_told_apart() {
    let (file, connections, expected) = many(15);
    assert!(connections >= 10_000, "{connections}");
    let began = Instant::now();
    let mut capture = CaptureFile::read(&file[..]).expect("a capture");
    let told = replay(&mut capture, false);
    let took = began.elapsed();
    eprintln!(
        "{connections} connections, {} packets in {took:?}",
        capture.packets()
    );
    let mut classes: Vec<&str> = told
        .events
        .values()
        .flatten()
        .map(|event| event["error.type"].as_str().expect("a class"))
        .collect();
    classes.sort_unstable();
    assert_eq!(classes, expected);
    assert_eq!((told.counts.lost(), told.unfinished), (0, 0));
    assert_eq!(
        told.counts.counters[&Counter::FlowOpened],
        connections as u64
    );
    // The goal; a build without optimisation is some ten times slower.
    let limit = if cfg!(debug_assertions) { 40 } else { 2 };
    assert!(took < Duration::from_secs(limit), "{took:?}");
}

/// A packet: time, bytes kept, length on the wire.
type Kept = (u64, Vec<u8>, usize);

/// The class of each event, by the server's port, of packets that were taken off a recording; also what
/// may have hidden a failure.
fn classes_of(packets: &[Kept], longest: usize) -> (BTreeMap<u16, Vec<u8>>, u64) {
    let engine = HostEngine::new(&Settings::default());
    let mut replay = Replay::new(engine, STALL_AFTER).cut_to(longest);
    let mut events = Vec::new();
    for (time, frame, length) in packets {
        let packet = Packet {
            time: *time,
            interface: 1,
            frame,
            length: *length,
        };
        replay.packet(&packet, &mut events).expect("no kernel");
    }
    let ended = replay.end(&mut events).expect("no kernel");
    let mut classes: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.undecided == 0) {
        let port = event.endpoint(gauntlet_wire::Role::Server).port;
        classes.entry(port).or_default().push(event.verdict.class);
    }
    let lost = ended.counts.lost() + ended.unfinished + ended.cut_short + ended.begun_before;
    (classes, lost)
}

/// The packets of every recording, whole.
fn all_packets() -> Vec<Vec<Kept>> {
    let of_file = |file: &std::path::PathBuf| {
        let mut capture = CaptureFile::open(file).expect("a capture");
        let mut packets = Vec::new();
        loop {
            match capture.next().expect("it is whole") {
                Item::Packet(packet) => {
                    packets.push((packet.time, packet.frame.to_vec(), packet.length));
                }
                Item::End => break packets,
                _ => {}
            }
        }
    };
    files().iter().map(of_file).collect()
}

#[test]
fn however_small_the_pieces_the_events_are_the_same() {
    for packets in all_packets() {
        let whole = classes_of(&packets, usize::MAX);
        for longest in [100, 107, 131, 500] {
            assert_eq!(classes_of(&packets, longest), whole, "{longest}");
        }
    }
}

/// What is told of a part of a recording must be what is told of the whole; what is not told must be
/// counted.
fn nothing_is_made_up(what: &str, part: &[Kept], whole: &BTreeMap<u16, Vec<u8>>) {
    let (found, lost) = classes_of(part, usize::MAX);
    for (port, classes) in &found {
        let due = whole.get(port).map_or(&[][..], Vec::as_slice);
        assert_eq!(classes, due, "{what}: {port}");
    }
    assert!(
        found == *whole || lost > 0,
        "{what}: something is missing unsaid"
    );
}

#[test]
fn of_packets_that_were_not_kept_whole_nothing_is_made_up() {
    for packets in all_packets() {
        let (whole, _) = classes_of(&packets, usize::MAX);
        for snaplen in [54, 66, 74, 86, 100, 130, 200, 300, 600, 1_200] {
            let cut: Vec<Kept> = packets
                .iter()
                .map(|(time, frame, length)| {
                    (*time, frame[..frame.len().min(snaplen)].to_vec(), *length)
                })
                .collect();
            nothing_is_made_up(&format!("snapshot length {snaplen}"), &cut, &whole);
        }
    }
}

#[test]
fn of_connections_that_were_open_before_the_capture_nothing_is_made_up() {
    for packets in all_packets() {
        let (whole, _) = classes_of(&packets, usize::MAX);
        for skipped in 1..=6 {
            let mut seen: BTreeMap<[u8; 4], usize> = BTreeMap::new();
            let late: Vec<Kept> = packets
                .iter()
                .filter(|(_, frame, _)| {
                    let at = if frame[12..14] == [8, 0] { 34 } else { 54 };
                    let mut ports = [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
                    // Both directions are one connection.
                    if ports[..2] > ports[2..] {
                        ports.rotate_left(2);
                    }
                    let number = seen.entry(ports).or_default();
                    *number += 1;
                    *number > skipped
                })
                .cloned()
                .collect();
            nothing_is_made_up(
                &format!("the first {skipped} packets are missing"),
                &late,
                &whole,
            );
        }
    }
}

/// The packets of a recorded class, uncompressed.
fn packets() -> &'static [(u64, Vec<u8>)] {
    static PACKETS: OnceLock<Vec<(u64, Vec<u8>)>> = OnceLock::new();
    PACKETS.get_or_init(|| {
        let file = files()
            .into_iter()
            .find(|file| file.ends_with("access_denied.pcapng.gz"));
        let mut capture = CaptureFile::open(&file.expect("it was recorded")).expect("a capture");
        let mut packets = Vec::new();
        loop {
            match capture.next().expect("it is whole") {
                Item::Packet(packet) => packets.push((packet.time, packet.frame.to_vec())),
                Item::End => break packets,
                _ => {}
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_damage_to_packets_or_their_times_is_a_panic(
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 0..200),
        lengths in prop::collection::vec((any::<Index>(), any::<Index>()), 0..50),
        times in prop::collection::vec((any::<Index>(), any::<u64>()), 0..10),
    ) {
        let mut packets = packets().to_vec();
        for (packet, at, byte) in changes {
            let packet = packet.index(packets.len());
            let frame = &mut packets[packet].1;
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        let mut lost = vec![0; packets.len()];
        for (packet, length) in lengths {
            let packet = packet.index(packets.len());
            let (_, frame) = &mut packets[packet];
            let length = length.index(frame.len());
            lost[packet] += frame.len() - length;
            frame.truncate(length);
            frame.push(0); // an Index needs something to choose from
        }
        for (packet, time) in times {
            packets[packet.index(lost.len())].0 = time;
        }
        let mut replay = Replay::new(HostEngine::new(&Settings::default()), STALL_AFTER);
        let mut events = Vec::new();
        for ((time, frame), lost) in packets.iter().zip(lost) {
            let packet = Packet { time: *time, interface: 1, frame, length: frame.len() + lost };
            replay.packet(&packet, &mut events).expect("no kernel");
        }
        let ended = replay.end(&mut events).expect("no kernel");
        let told = events.iter().filter(|event| event.undecided == 0).count() as u64;
        prop_assert_eq!(ended.counts.counters[&Counter::HandshakeFailed], told);
        for event in &events {
            let line = Failure::new(event, event.time, None).map(|failure| ndjson::failure(&failure));
            prop_assert!(line.is_ok());
        }
    }
}

fn mtls_probe(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mtls-probe"))
        .args(["replay", "--engine", "host"])
        .args(arguments)
        .output()
        .expect("it can be started")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Exit code, lines on standard output, and the one line on standard error.
fn ends(arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let output = mtls_probe(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let error = text(&output.stderr);
    assert!(error.lines().count() <= 1, "{error}");
    let lines = text(&output.stdout).lines().map(str::to_owned).collect();
    (output.status.code(), lines, error.trim_end().into())
}

#[test]
fn the_command_prints_events_and_counters() {
    let file = files()
        .into_iter()
        .find(|file| file.ends_with("unknown_ca.pcapng.gz"));
    let file = file.expect("it was recorded");
    let arguments = [path(&file), "--format", "ndjson", "--stall-after", "600ms"];
    let (code, lines, error) = ends(&arguments);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let (counters, events) = lines.split_last().expect("counters at least");
    let expected: usize = cases(&file).iter().map(|case| case.events.len()).sum();
    assert_eq!(events.len(), expected);
    for event in events {
        let event: Value = serde_json::from_str(event).expect("JSON");
        assert_eq!(event["error.type"], "SSL_R_TLSV1_ALERT_UNKNOWN_CA");
    }
    let counters: Value = serde_json::from_str(counters).expect("JSON");
    assert_eq!(counters["type"], "counters");
    assert_eq!(counters["seen"]["handshake_failed"], expected);
    let classes = counters["events"].as_object().expect("classes");
    assert_eq!(
        classes.keys().collect::<Vec<_>>(),
        ["SSL_R_TLSV1_ALERT_UNKNOWN_CA"]
    );

    let (code, lines, _) = ends(&[path(&file), "--stall-after", "600ms"]);
    assert_eq!(code, Some(0));
    let human = lines.join("\n");
    assert!(
        human.contains("with alert unknown_ca(48), encrypted at"),
        "{human}"
    );
    assert!(human.contains(&format!(
        "\n{expected} failed handshakes, 0 possibly unseen\n"
    )));
}

#[test]
fn a_file_that_breaks_off_gives_what_came_before_and_exit_code_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cut.pcap");
    let (whole, ..) = many(1);
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("room");
    let (code, lines, error) = ends(&[path(&file), "--format", "ndjson"]);
    assert_eq!(code, Some(64));
    assert!(error.starts_with("mtls-probe: ") && error.contains("cut.pcap: damaged at byte"));
    assert!(error.contains("it breaks off, "), "{error}");
    assert!(lines.len() > 10, "{lines:?}");
    assert!(
        lines
            .last()
            .expect("counters")
            .starts_with(r#"{"type":"counters""#)
    );
}

#[test]
fn what_cannot_be_replayed_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).expect("room");
        file
    };
    let (whole, ..) = many(1);
    let good = write("good.pcap", &whole[..24]);
    let text = write("text", b"no capture");
    let mut radio = whole[..24].to_vec();
    radio[20] = 105;
    let radio = write("radio.pcap", &radio);
    let missing = folder.path().join("missing");
    for (arguments, code, expected) in [
        (
            vec![path(&text)],
            64,
            "neither pcap nor pcapng: it begins with no c",
        ),
        (vec![path(&missing)], 64, "cannot be opened: No such file"),
        (vec![path(folder.path())], 64, "Is a directory"),
        (
            vec![path(&radio)],
            64,
            "link type 105 is not known here; known are Ethernet",
        ),
        (
            vec![path(&good), "--keylog", path(&missing)],
            64,
            "cannot be opened",
        ),
        (
            vec![path(&good), "--keylog", path(&text)],
            64,
            "no key log (SSLKEYLOGFILE)",
        ),
        (vec![path(&good)], 0, ""),
    ] {
        let (ended, lines, error) = ends(&arguments);
        assert_eq!(ended, Some(code), "{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(lines.is_empty(), code != 0, "{lines:?}");
    }
    let usage = mtls_probe(&[]);
    assert_eq!(usage.status.code(), Some(64));
}
