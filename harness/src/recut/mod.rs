//! The law of the wire: what a probe says of a connection does not depend on how its bytes were cut into
//! packets. Recorded cases are sent again in other packets ([`Conversation::recut`]), and the events compared.
//!
//! Deterministic: a case, a seed and a number name one list of packets.

mod conversation;
mod live;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gauntlet_probes::capture_file::{CaptureFile, CaptureFileError, Item};
use gauntlet_probes::failure::Failure;
use gauntlet_probes::probe::ProbeError;
use gauntlet_probes::replay_engine::Engine;
use gauntlet_probes::report::ndjson;
use gauntlet_wire::event::Event;

pub use conversation::Conversation;
pub use live::{Live, LiveError};

use crate::recording::Recorded;

/// Time between two packets, nanoseconds.
const APART: u64 = 1_000;
/// Silence that counts as a stall, and the time after the last packet at which it is looked for: nothing is
/// left of a conversation then.
const PATIENCE: Duration = Duration::from_millis(600);
const AFTER: u64 = 300_000_000_000;

/// A recorded case, as conversations.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its id.
    pub id: String,
    /// Classes of the events that it made when it was recorded.
    pub classes: Vec<String>,
    conversations: Vec<Conversation>,
}

/// Why recorded cases cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the NDJSON is none of a recording's.
    #[error("{}: line {line}: {source}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A capture file is damaged.
    #[error("{}: {source}", path.display())]
    Capture {
        /// Which.
        path: PathBuf,
        /// Why.
        source: CaptureFileError,
    },
    /// There is nothing recorded here.
    #[error("{}: no recordings (*.pcapng.gz, made by `gauntlet record`)", .0.display())]
    Empty(PathBuf),
}

/// Why a case's ways could not be compared, or were not the same.
#[derive(Debug, thiserror::Error)]
pub enum RecutError {
    /// The kernel refused.
    #[error(transparent)]
    Engine(#[from] ProbeError),
    /// What is said depends on the cut.
    #[error("{id}, way {seed}: {said}; uncut: {due}")]
    Differs {
        /// The case.
        id: String,
        /// What [`Conversation::recut`] was given.
        seed: u64,
        /// What was said.
        said: String,
        /// What is said of the packets as they were.
        due: String,
    },
    /// Two engines said different things of one list of packets.
    #[error("{id}, way {seed}: {difference}")]
    Engines {
        /// The case.
        id: String,
        /// What [`Conversation::recut`] was given.
        seed: u64,
        /// How they differ.
        difference: String,
    },
}

/// Reads the cases that `gauntlet record` wrote to `folder`, sorted by id.
///
/// # Errors
/// [`RecordingError`]; half a recording is none.
pub fn read(folder: &Path) -> Result<Vec<Case>, RecordingError> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        move |source| RecordingError::Unreadable { path, source }
    };
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        if path.to_string_lossy().ends_with(".pcapng.gz") {
            one_file(&path, &mut cases)?;
        }
    }
    if cases.is_empty() {
        return Err(RecordingError::Empty(folder.into()));
    }
    cases.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(cases)
}

fn one_file(path: &Path, cases: &mut Vec<Case>) -> Result<(), RecordingError> {
    let captured = |source| RecordingError::Capture {
        path: path.into(),
        source,
    };
    let lines = path.with_extension("").with_extension("ndjson");
    let text = fs::read_to_string(&lines).map_err(|source| RecordingError::Unreadable {
        path: lines.clone(),
        source,
    })?;
    let mut packets: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut capture = CaptureFile::open(path).map_err(captured)?;
    loop {
        match capture.next().map_err(captured)? {
            Item::Packet(packet) => packets.push((packet.time, packet.frame.to_vec())),
            Item::End => break,
            _ => {}
        }
    }
    for (number, line) in (1..).zip(text.lines()) {
        let case: Recorded = serde_json::from_str(line).map_err(|source| RecordingError::Line {
            path: lines.clone(),
            line: number,
            source,
        })?;
        let own = packets
            .iter()
            .filter(|(time, _)| (case.begins..=case.ends).contains(time))
            .map(|(time, frame)| (*time, &frame[..]));
        let class = |event: &crate::probe::Event| event.class().unwrap_or_default().to_owned();
        cases.push(Case {
            classes: case.events.iter().map(class).collect(),
            conversations: Conversation::read(own),
            id: case.id,
        });
    }
    Ok(())
}

/// Sends cases in other packets, and compares what is said.
pub struct Recutter<E> {
    engine: E,
    now: u64,
    /// Conversations so far: each gets addresses of its own, since servers are remembered.
    sent: u32,
    /// Packets so far.
    pub packets: u64,
}

impl<E: Engine> Recutter<E> {
    /// Takes an engine that has seen nothing yet.
    pub fn new(engine: E) -> Self {
        Self {
            engine,
            now: 1_000_000_000,
            sent: 0,
            packets: 0,
        }
    }

    /// Sends a case as it was and in `ways` other ways, numbered from `seed` on.
    ///
    /// # Errors
    /// With the first way in which something else is said, or other classes than when it was recorded.
    pub fn check(&mut self, case: &Case, seed: u64, ways: u64) -> Result<(), RecutError> {
        let due = self.say(case, 0)?;
        let classes: Vec<&str> = due.iter().map(|event| class(event)).collect();
        if classes != case.classes {
            return Err(RecutError::Differs {
                id: case.id.clone(),
                seed: 0,
                said: classes.join(", "),
                due: format!("recorded: {}", case.classes.join(", ")),
            });
        }
        for way in 0..ways {
            // 0 stands for the packets as they were.
            let seed = seed.wrapping_add(way).max(1);
            let said = self.say(case, seed)?;
            if said != due {
                return Err(RecutError::Differs {
                    id: case.id.clone(),
                    seed,
                    said: told(&said),
                    due: told(&due),
                });
            }
        }
        Ok(())
    }

    /// What is said of a case in one way: its events as lines, without what differs from way to way.
    fn say(&mut self, case: &Case, seed: u64) -> Result<Vec<String>, RecutError> {
        self.sent = self.sent.wrapping_add(1);
        let mut events = Vec::new();
        for (at, conversation) in (0..).zip(&case.conversations) {
            let mut conversation = conversation.clone();
            conversation
                .client
                .set_ip(elsewhere(conversation.client, self.sent, 1));
            conversation
                .server
                .set_ip(elsewhere(conversation.server, self.sent, 2));
            let seed = if seed == 0 {
                0
            } else {
                seed.wrapping_mul(31).wrapping_add(at)
            };
            for (after, frame) in conversation.recut(seed) {
                if after >= PATIENCE.as_nanos() as u64 {
                    self.engine.drain(&mut events);
                    events.extend(self.engine.sweep(self.now + after, PATIENCE)?);
                }
                self.now += after.max(APART);
                self.packets += 1;
                self.engine.packet(&frame, self.now, 1)?;
            }
            self.engine.drain(&mut events);
        }
        self.now += AFTER;
        events.extend(self.engine.sweep(self.now, PATIENCE)?);
        if let Some(difference) = self.engine.difference() {
            return Err(RecutError::Engines {
                id: case.id.clone(),
                seed,
                difference: difference.into(),
            });
        }
        Ok(events
            .into_iter()
            .filter(|event| event.undecided == 0)
            .map(line)
            .collect())
    }
}

/// An address that no other conversation has.
fn elsewhere(address: SocketAddr, number: u32, end: u8) -> IpAddr {
    let [high, middle, low, lowest] = number.to_be_bytes();
    match address {
        // 10.0.0.0/8 for one end, 11.0.0.0/8 for the other; no packet goes anywhere.
        SocketAddr::V4(_) => Ipv4Addr::new(9 + end + high % 8 * 2, middle, low, lowest).into(),
        SocketAddr::V6(_) => {
            let [one, two] = [high, middle].map(u16::from);
            let rest = u16::from_be_bytes([low, lowest]);
            Ipv6Addr::new(0x2001, 0xdb8, one, two, rest, 0, 0, end.into()).into()
        }
    }
}

/// An event without its time and addresses.
fn line(mut event: Event) -> String {
    event.time = 0;
    for (at, address) in event.key.addresses.iter_mut().enumerate() {
        // Whether it is IPv4 stays.
        address[12..].copy_from_slice(&[192, 0, 2, at as u8]);
        if address[..12] != [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] {
            address[4..12].fill(0);
        }
    }
    match Failure::new(&event, 0, None) {
        Ok(failure) => ndjson::failure(&failure),
        Err(error) => error.to_string(),
    }
}

fn class(line: &str) -> &str {
    line.split_once(r#""error.type":""#)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or(line, |(class, _)| class)
}

fn told(events: &[String]) -> String {
    if events.is_empty() {
        "nothing".into()
    } else {
        events.join(" and ")
    }
}
