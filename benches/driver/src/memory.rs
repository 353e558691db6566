//! What the probe keeps in memory: its maps, by the kernel's own count, and the process of `mtls-probe watch`.
//!
//! A map's count is `memlock` of its descriptor (`/proc/self/fdinfo`): since Linux 6.4 what it takes, before that
//! an estimate by its description. Full: as many connections under way as are followed, and segments kept of as
//! many as there is room for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use gauntlet_benches::client_hello;
use gauntlet_probes::load::{self, Settings, descriptor};
use gauntlet_probes::netns::NetNs;
use gauntlet_probes::object;
use serde::Serialize;

use crate::frames::{ACK, Client, SYN};
use crate::packet_socket::{self, send};
use crate::pair::ip;
use crate::progress;
use crate::stand::Stand;

/// Bytes by a map's name.
pub(crate) type Maps = BTreeMap<String, u64>;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// How many connections may be under way.
    pub flows: u32,
    /// Each map.
    pub maps: Vec<OfMap>,
    /// What one connection more takes, bytes: the difference that twice as many make, for each.
    pub per_flow: f64,
    /// The process, where it was measured.
    pub process: Option<OfProcess>,
}

/// What a map takes, bytes.
#[derive(Debug, Clone, Serialize)]
pub struct OfMap {
    /// Which.
    pub name: String,
    /// Before any packet.
    pub at_rest: u64,
    /// Full.
    pub full: u64,
}

/// What `mtls-probe watch` takes, bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OfProcess {
    /// Resident, before any packet.
    pub at_rest: u64,
    /// What of that no other process could share: without its program's file.
    pub own_at_rest: u64,
    /// The most that was resident, while as many handshakes as there may be stalled at once.
    pub most: u64,
    /// And what of the end's was its own.
    pub own_then: u64,
}

impl Memory {
    /// Measures. `watch`: the shipped command, if its process is wanted too.
    ///
    /// # Errors
    /// When something cannot be loaded, counted or filled.
    pub fn measure(object: &[u8], settings: &Settings, watch: Option<&Path>) -> Result<Self> {
        let flows = settings.flows;
        let shipped = load::load_object(object, settings, object::INTERFACE)?;
        let maps = descriptors(&shipped)?;
        let at_rest = taken(&maps)?;
        let mut stand = Stand::of(shipped)?;
        stand.beside(0..flows.get())?;
        stand.early(0..settings.windows().get())?;
        let full = taken(&maps)?;
        let twice = Settings {
            flows: flows.saturating_mul(NonZeroU32::MIN.saturating_add(1)),
            ..settings.clone()
        };
        let sum = |maps: &Maps| maps.values().sum::<u64>();
        let more = sum(&maps_at_rest(object, &twice)?) - sum(&at_rest);
        let of_map = |(name, bytes): (&String, &u64)| OfMap {
            name: name.clone(),
            at_rest: *bytes,
            full: full.get(name).copied().unwrap_or(0),
        };
        Ok(Self {
            flows: flows.get(),
            maps: at_rest.iter().map(of_map).collect(),
            per_flow: more as f64 / f64::from(twice.flows.get() - flows.get()),
            process: watch
                .map(|program| OfProcess::measure(program, flows.get()))
                .transpose()?,
        })
    }

    /// All maps: before any packet, and full.
    #[must_use]
    pub fn sums(&self) -> (u64, u64) {
        let maps = self.maps.iter();
        maps.fold((0, 0), |(at_rest, full), one| {
            (at_rest + one.at_rest, full + one.full)
        })
    }
}

/// What the maps of an object take, before it has seen a packet.
///
/// # Errors
/// When it cannot be loaded, or the kernel does not count.
pub(crate) fn maps_at_rest(object: &[u8], settings: &Settings) -> Result<Maps> {
    let loaded = load::load_object(object, settings, object::INTERFACE)?;
    taken(&descriptors(&loaded)?)
}

/// The maps, whoever takes them over.
fn descriptors(ebpf: &Ebpf) -> Result<Vec<(String, OwnedFd)>> {
    let named = ebpf.maps().map(|(name, map)| {
        let found = descriptor(map).with_context(|| format!("{name}: an unknown kind of map"))?;
        Ok((name.to_owned(), found.try_clone_to_owned()?))
    });
    named.collect()
}

fn taken(maps: &[(String, OwnedFd)]) -> Result<Maps> {
    let named = maps.iter().map(|(name, map)| {
        let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
        let said = fs::read_to_string(&path).with_context(|| path.clone())?;
        let bytes = field(&said, "memlock:");
        Ok((
            name.clone(),
            bytes.with_context(|| format!("{path} has no memlock"))?,
        ))
    });
    named.collect()
}

/// The number behind a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

impl OfProcess {
    fn measure(program: &Path, handshakes: u32) -> Result<Self> {
        const HERE: &str = "m0";
        const THERE: &str = "m1";
        let namespace = NetNs::anonymous("of the probe")?;
        ip(
            &namespace,
            &format!("link add {HERE} type veth peer name {THERE}"),
        )?;
        for interface in [HERE, THERE] {
            ip(&namespace, &format!("link set {interface} up"))?;
        }
        let watch = Watch::start(program, &namespace, HERE)?;
        let (at_rest, own_at_rest) = watch.resident()?;
        watch.forget_most()?;
        let wire = namespace.run(|| packet_socket::open(THERE))??;
        let hello = client_hello();
        for number in 0..handshakes {
            let client = Client {
                address: [10, 2, (number >> 14) as u8, 1],
                port: 20_000 + (number & 0x3fff) as u16,
            };
            send(&wire, &client.says(SYN, 0, &[]))?;
            send(&wire, &client.says(ACK, 1, &hello))?;
        }
        for told in 0..handshakes {
            progress::ongoing()?;
            let line = watch.lines.recv_timeout(PATIENCE);
            let line = line.with_context(|| format!("{told} of {handshakes} stalls were told"))?;
            ensure!(line.contains("SSL_ERROR_WANT_READ"), "no stall: {line}");
        }
        let (_, own_then) = watch.resident()?;
        Ok(Self {
            at_rest,
            own_at_rest,
            most: watch.most()?,
            own_then,
        })
    }
}

/// `mtls-probe watch`, while it runs.
struct Watch {
    child: Child,
    lines: Receiver<String>,
    /// Who has nowhere to complain to would end of it.
    said: BufReader<ChildStderr>,
}

impl Watch {
    fn start(program: &Path, namespace: &NetNs, interface: &str) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .args(["watch", "--interface", interface, "--library", "off"])
            .args(["--stall-after", "1s", "--format", "ndjson"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = namespace
            .run(|| command.spawn())?
            .with_context(|| program.display().to_string())?;
        let (said, told) = (child.stderr.take(), child.stdout.take());
        let (send, lines) = channel();
        let mut watch = Self {
            child,
            lines,
            said: BufReader::new(said.context("no standard error")?),
        };
        let mut line = String::new();
        while !line.contains("watching") {
            line.clear();
            if watch.said.read_line(&mut line)? == 0 {
                bail!("{} ended before it watched", program.display());
            }
        }
        let told = BufReader::new(told.context("no standard output")?);
        thread::spawn(move || {
            for line in told.lines().map_while(Result::ok) {
                let _nobody_waits = send.send(line);
            }
        });
        Ok(watch)
    }

    /// What is resident, and what of it is its own.
    fn resident(&self) -> Result<(u64, u64)> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let said = fs::read_to_string(&path).with_context(|| path.clone())?;
        let of = |name| field(&said, name).map(|kib| kib * 1_024);
        let both = of("Rss:").zip(of("Anonymous:"));
        both.with_context(|| format!("{path} lacks a number"))
    }

    /// From now on, that is: what the loading of the programs took is given back.
    fn forget_most(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        // proc(5): 5 resets the peak.
        fs::write(&path, "5").with_context(|| path)
    }

    /// The most that was resident.
    fn most(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let said = fs::read_to_string(&path).with_context(|| path.clone())?;
        let kib = field(&said, "VmHWM:").with_context(|| format!("{path} has no VmHWM"))?;
        Ok(kib * 1_024)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It has nothing to tidy up: what it attached goes with it.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        let text = "map_type:\t1\nmemlock:\t20447232\nRss:               12340 kB\n";
        assert_eq!(field(text, "memlock:"), Some(20_447_232));
        assert_eq!(field(text, "Rss:"), Some(12_340));
        assert_eq!(field(text, "Anonymous:"), None);
    }
}
