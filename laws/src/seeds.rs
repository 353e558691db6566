//! Seeds for the fuzz targets, made of the recorded cases and the scenario files: what was seen on a wire, not
//! what somebody thought of. The same files always give the same seeds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use gauntlet_probes::capture_file::{CaptureFile, Item};
use gauntlet_probes::host::Host;
use gauntlet_probes::load::Settings;
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::packet::{self, FlowKey, Parsed};
use gauntlet_wire::segment::Segment;
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::conversation::heard;
use crate::script::{Op, play};

/// A seed: its target and its bytes.
pub type Seed = (&'static str, Vec<u8>);

/// Seeds of every target, from a repository's files.
///
/// # Errors
/// When a file cannot be read, or a recording is damaged.
pub fn all(repository: &Path) -> io::Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for path in files(&repository.join("probes/tests/recordings"), "gz")? {
        recording(&path, &mut seeds)?;
    }
    for path in files(&repository.join("scenarios"), "toml")? {
        seeds.push(("scenario", fs::read(path)?));
    }
    seeds.push(("planted", planted()));
    // Each once.
    seeds.sort();
    seeds.dedup();
    Ok(seeds)
}

/// Seeds of one target.
///
/// # Errors
/// As [`all`].
pub fn of(wanted: &str, repository: &Path) -> io::Result<Vec<Vec<u8>>> {
    let all = all(repository)?.into_iter();
    let of_it = all.filter(|(target, _)| *target == wanted);
    Ok(of_it.map(|(_, bytes)| bytes).collect())
}

/// Where the search for what [`crate::planted`] denies begins: a ClientHello, answered by handshake_failure.
fn planted() -> Vec<u8> {
    let (server, client) = (1, 0);
    vec![
        3,
        0,
        Op::Hello.byte(client),
        5,
        6,
        0,
        1,
        Op::Alert.byte(server),
        2,
        40,
    ]
}

fn files(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|ext| ext == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A conversation as a script, so far.
struct Talk {
    script: Vec<u8>,
    /// The client's address is the first of the key.
    client_first: u8,
    last: u64,
    hello: Vec<u8>,
    answered: bool,
}

fn recording(path: &Path, seeds: &mut Vec<Seed>) -> io::Result<()> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path)?).read_to_end(&mut bytes)?;
    // The beginning of the file itself: blocks, a key log, some packets.
    seeds.push(("capture", bytes[..bytes.len().min(4_096)].to_vec()));
    let mut file = CaptureFile::read(&bytes[..]).map_err(io::Error::other)?;
    let mut talks: BTreeMap<([[u8; 16]; 2], [u16; 2]), Talk> = BTreeMap::new();
    loop {
        match file.next().map_err(io::Error::other)? {
            Item::End => break,
            Item::KeyLog(lines) => seeds.push(("keylog", lines[..lines.len().min(2_048)].to_vec())),
            Item::Packet(packet) => note(packet.frame, packet.time, &mut talks),
            Item::UnknownLink(_) => {}
        }
    }
    for talk in talks.into_values() {
        let (events, _) = heard(
            &mut Host::new(&Settings::default()),
            &play(&talk.script, false, 1),
        );
        seeds.extend(
            events
                .iter()
                .map(|event| ("event", event.as_bytes().to_vec())),
        );
        let mut cut = vec![0, 0, 0, 0, 0, 0, 0, 9];
        cut.extend(&talk.script);
        let mut stream = vec![0];
        stream.extend(&talk.hello);
        seeds.push(("hello", stream));
        if let Some(body) = talk.hello.get(9..) {
            let mut whole = vec![255];
            whole.extend(body);
            seeds.push(("hello", whole));
        }
        seeds.push(("recut", cut));
        seeds.push(("kernel", talk.script.clone()));
        seeds.push(("conversation", talk.script));
    }
    Ok(())
}

fn note(frame: &[u8], time: u64, talks: &mut BTreeMap<([[u8; 16]; 2], [u16; 2]), Talk>) {
    let mut parsed = Parsed::new_zeroed();
    if packet::parse(&Bytes::new(frame), &mut parsed).is_err() {
        return;
    }
    let FlowKey {
        addresses, ports, ..
    } = parsed.key;
    let segment = &parsed.segment;
    if segment.flags & Segment::SYN != 0 {
        if segment.flags & Segment::ACK == 0 {
            let is_ipv6 = u8::from(frame[12..14] == [0x86, 0xdd]);
            talks.entry((addresses, ports)).or_insert_with(|| Talk {
                script: vec![3, is_ipv6],
                client_first: parsed.sender_first & 1,
                last: time,
                hello: Vec::new(),
                answered: false,
            });
        }
        return;
    }
    let Some(talk) = talks.get_mut(&(addresses, ports)) else {
        return;
    };
    let who = u8::from(parsed.sender_first & 1 != talk.client_first);
    let bytes = &frame[segment.at as usize..segment.end as usize];
    let ends = segment.flags & (Segment::FIN | Segment::RST);
    if bytes.is_empty() && ends == 0 {
        return;
    }
    if time.saturating_sub(talk.last) > 400_000_000 {
        talk.script.extend([Op::Pause.byte(0), 5, Op::Look.byte(0)]);
    }
    talk.last = time;
    if !bytes.is_empty() {
        talk.script.push(Op::Say.byte(who));
        talk.script.extend((bytes.len() as u16).to_be_bytes());
        talk.script.extend(bytes);
        talk.answered |= who == 1;
        if !talk.answered {
            talk.hello.extend(bytes);
        }
    }
    if ends & Segment::FIN != 0 {
        talk.script.push(Op::Fin.byte(who));
    }
    if ends & Segment::RST != 0 {
        talk.script.push(Op::Reset.byte(who));
    }
}
