//! The recorded cases (`gauntlet record`), and as many of their connections at once as are wanted.

use std::fs;
use std::path::{Path, PathBuf};

use gauntlet_probes::capture_file::{CaptureFile, Item};
use serde_json::{Map, Value};

/// Silence that the probe was told to call a stall when the cases were recorded, milliseconds.
pub(crate) const STALL_AFTER_MS: u64 = 600;

/// One recorded case.
pub(crate) struct Case {
    /// Its id.
    pub(crate) id: String,
    /// The server's port, by which its events are known.
    pub(crate) port: u16,
    /// When its first and its last packet were captured, Unix time, nanoseconds.
    pub(crate) lasts: [u64; 2],
    /// The outcomes of client and server.
    pub(crate) outcomes: [String; 2],
    /// What the probe said of it.
    pub(crate) events: Vec<Value>,
}

/// The recorded capture files, in order.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the recordings are there")
        .map(|entry| entry.expect("a folder can be read").path())
        .filter(|path| path.to_string_lossy().ends_with(".pcapng.gz"))
        .collect();
    files.sort();
    assert_eq!(
        files.len(),
        12,
        "a file for each class, and one for silence"
    );
    files
}

/// The cases in one of them.
pub(crate) fn cases(file: &Path) -> Vec<Case> {
    let lines = file.with_extension("").with_extension("ndjson");
    let text = fs::read_to_string(&lines).expect("beside its capture");
    text.lines()
        .map(|line| {
            let case: Map<String, Value> = serde_json::from_str(line).expect("JSON");
            let text = |name: &str| case[name].as_str().expect("text").to_owned();
            let number = |name: &str| case[name].as_u64().expect("a number");
            Case {
                id: text("id"),
                port: number("port") as u16,
                lasts: ["begins", "ends"].map(number),
                outcomes: ["client", "server"].map(text),
                events: case["events"].as_array().expect("a list").clone(),
            }
        })
        .collect()
}

/// Packets of every recorded case, `copies` times, each copy with addresses of its own, all at the same
/// time: a pcap file. Also how many connections there are in it, and how many events of each class are due.
pub(crate) fn many(copies: u16) -> (Vec<u8>, usize, Vec<String>) {
    let mut packets: Vec<(u64, Vec<u8>)> = Vec::new();
    let (mut connections, mut classes) = (0, Vec::new());
    for (number, file) in (0_u8..).zip(files()) {
        let cases = cases(&file);
        let mut capture = CaptureFile::open(&file).expect("a capture");
        let mut at = 0;
        loop {
            let packet = match capture.next().expect("it is whole") {
                Item::Packet(packet) => packet,
                Item::End => break,
                _ => continue,
            };
            while packet.time > cases[at].lasts[1] {
                at += 1;
            }
            let since = packet.time - cases[at].lasts[0];
            for copy in 0..copies {
                let mut frame = packet.frame.to_vec();
                move_to(&mut frame, number, copy);
                // A new connection every 50 microseconds, whatever the case.
                let begins = (at as u64 * u64::from(copies) + u64::from(copy)) * 50_000;
                packets.push((1_700_000_000_000_000_000 + begins + since, frame));
                let [syn, ack] = [2, 16].map(|flag| tcp_flags(packet.frame) & flag != 0);
                connections += usize::from(syn && !ack);
            }
        }
        let events = cases.iter().flat_map(|case| &case.events);
        for event in events {
            let class = event["error.type"].as_str().expect("a class");
            classes.extend((0..copies).map(|_| class.to_owned()));
        }
    }
    packets.sort_by_key(|(time, _)| *time);
    classes.sort();
    (pcap(&packets), connections, classes)
}

/// Gives both ends addresses that no other file and copy has.
fn move_to(frame: &mut [u8], file: u8, copy: u16) {
    let [high, low] = copy.to_be_bytes();
    if frame[12..14] == [0x08, 0x00] {
        for at in [26, 30] {
            // 10.file+high.low.x
            frame[at..at + 3].copy_from_slice(&[10, file << 4 | high, low]);
        }
    } else {
        for at in [22, 38] {
            frame[at + 4..at + 7].copy_from_slice(&[file, high, low]);
        }
    }
}

fn tcp_flags(frame: &[u8]) -> u8 {
    let ipv4 = frame[12..14] == [0x08, 0x00];
    frame[if ipv4 { 14 + 20 } else { 14 + 40 } + 13]
}

/// A pcap file with nanoseconds.
pub(crate) fn pcap(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for number in [0xa1b2_3c4d_u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
        file.extend(number.to_le_bytes());
    }
    for (time, frame) in packets {
        let length = frame.len() as u32;
        let [seconds, rest] = [time / 1_000_000_000, time % 1_000_000_000];
        for number in [seconds as u32, rest as u32, length, length] {
            file.extend(number.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}
