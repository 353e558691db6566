//! `mtls-probe watch`: from the options to probes, and one loop that waits for events, for the time
//! to look for stalls, and for the signal to end.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anstream::AutoStream;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use gauntlet_probes::attach::Hook;
use gauntlet_probes::delivery::{self, Delivery, Found, Pace, SLEEP, Wait};
use gauntlet_probes::failure::Failure;
use gauntlet_probes::hidden::Look;
use gauntlet_probes::interfaces::Selection;
use gauntlet_probes::library::join::{Join, Joined, PATIENCE, Seen};
use gauntlet_probes::library::ruling::{Revealed, Ruling, rule};
use gauntlet_probes::library::symbols::{Depth, points};
use gauntlet_probes::library::{self, Libraries};
use gauntlet_probes::load::{DEFAULT_FLOWS, DEFAULT_RING_KIB, Settings, ring_bytes};
use gauntlet_probes::probe::{Correction, Counts};
use gauntlet_probes::report::{human, ndjson};
use gauntlet_probes::transport::Transport;
use gauntlet_probes::{clock, privileges};
use gauntlet_wire::Role;
use gauntlet_wire::event::Event;
use gauntlet_wire::library::Standing;
use jiff::SignedDuration;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::hidden_wait::HiddenWait;
use crate::watched::{Origin, Watched, is_pattern};

/// Options of `mtls-probe watch`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Interface to watch; may be given again. Default: all of each namespace, also those that come later.
    #[arg(short, long, value_name = "NAME")]
    interface: Vec<String>,

    /// Network namespace to watch, by its `ip netns` name or a path (/proc/PID/ns/net); may be
    /// given again. With `*`, `?` or `[` it is a pattern ('cni-*', '/run/docker/netns/*'): all that have
    /// such a name, also those that come later. Default: this one.
    #[arg(short, long, value_name = "NAME|PATH|PATTERN", value_parser = netns)]
    netns: Vec<String>,

    /// Port that speaks TLS at any address: what comes there and is not TLS is a failed handshake
    /// too. Other servers are learned from their first answer in TLS. May be given again.
    #[arg(short = 'p', long, value_name = "PORT")]
    tls_port: Vec<u16>,

    /// Key log that an application writes (SSLKEYLOGFILE): names hidden TLS 1.3 alerts. It may come later.
    #[arg(short, long, value_name = "FILE")]
    keylog: Option<PathBuf>,

    /// Silence after which a handshake counts as stalled.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    stall_after: Duration,

    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Format::Human)]
    format: Format,

    /// When to use colour.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,

    /// Folder of a cgroup v2 (/sys/fs/cgroup/...): watch the sockets of its processes and of all below it,
    /// instead of interfaces.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["interface", "netns"], required_if_eq("hook", "cgroup"))]
    cgroup: Option<PathBuf>,

    /// How to attach: tcx is Linux 6.6's, clsact (tc) works from 5.10 on, and so does cgroup, which
    /// --cgroup implies.
    #[arg(long, value_enum, default_value_t = HookName::Auto)]
    hook: HookName,

    /// TLS libraries to probe, for what TLS 1.3 hides: `auto`, the handshakes of every shared OpenSSL,
    /// BoringSSL and GnuTLS that a process of this machine uses or comes to use; `deep`, their reading
    /// and writing too, which costs each call of theirs; FILE, that library, or a program that one is
    /// linked into and that has its symbols, deeply, whatever it is called; `off`, none. May be given again. Default: auto, where it can be had.
    #[arg(long, value_name = "auto|deep|off|FILE", value_parser = library)]
    library: Vec<Library>,

    /// When events are told: `quiet`, within some milliseconds, at the least cost for those who are watched
    /// and for this machine; `balanced`, within some tens of microseconds, while they come for up to half
    /// a processor; `latency`, at once, while they come for a whole one.
    #[arg(long, value_enum, default_value_t = DeliveryName::Quiet)]
    delivery: DeliveryName,

    /// Real-time priority (SCHED_FIFO, 1 to 99): events are told before others' work is done.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    rt_priority: Option<u8>,

    /// Most handshakes under way at once, in each namespace.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_FLOWS)]
    max_handshakes: NonZeroU32,

    /// How events come from the programs: `ring`, a ring buffer; `perf`, a perf event array, whose reader the
    /// kernel wakes for each event, at the sender's cost, whatever --delivery says.
    #[arg(long, value_enum, default_value_t = TransportName::Ring)]
    transport: TransportName,

    /// Size of the ring buffer of each namespace, KiB; a power of two, at least 4. A failed handshake takes 2.5
    /// KB, and `quiet` looks every two milliseconds: to hold 50 ms, 125 KiB for every 1,000 failures a second
    /// that may come. With --transport perf: of the buffers of all processors together, which have a page each
    /// at least.
    #[arg(long, value_name = "KIB", default_value_t = DEFAULT_RING_KIB, value_parser = ring_size)]
    ring: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A line for people.
    Human,
    /// A JSON object a line; the last one, `"type":"counters"`, is no event.
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HookName {
    Auto,
    Tcx,
    #[value(alias = "tc")]
    Clsact,
    Cgroup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeliveryName {
    Latency,
    Balanced,
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportName {
    /// A ring buffer.
    Ring,
    /// A perf event array.
    Perf,
}

impl From<TransportName> for Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Ring => Self::Ring,
            TransportName::Perf => Self::Perf,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Library {
    Auto,
    Deep,
    Off,
    File(PathBuf),
}

/// A probe looks for stalls this often within the threshold, so that one is told at most a quarter
/// of it late.
const LOOKS: u32 = 4;
/// Bounds of the time between two looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Bad usage that clap cannot be told of.
#[derive(Debug, thiserror::Error)]
#[error("--cgroup cannot be watched by --hook tcx or clsact; see `mtls-probe watch --help`")]
pub(crate) struct Contradiction;

/// Watches until SIGINT or SIGTERM.
pub(crate) fn watch(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.cgroup.is_some() && matches!(arguments.hook, HookName::Tcx | HookName::Clsact) {
        return Err(Contradiction.into());
    }
    privileges::check(!arguments.netns.is_empty())?;
    // Blocked before anything is attached, so that every way to end passes by the cleaning up.
    let signals = signals().context("signals")?;
    let selection = Selection {
        interfaces: arguments.interface.clone(),
        hook: match arguments.hook {
            HookName::Auto | HookName::Cgroup => Hook::Auto,
            HookName::Tcx => Hook::Tcx,
            HookName::Clsact => Hook::Clsact,
        },
        later: false,
    };
    let settings = Settings {
        flows: arguments.max_handshakes,
        transport: arguments.transport.into(),
        ring_bytes: ring_bytes(arguments.ring).context("--ring")?,
        tls_ports: arguments.tls_port.clone(),
        capture_time: false,
        glance: true,
    };
    // Before anything is watched: its handshakes' secrets come after this.
    let hidden = HiddenWait::new(arguments.keylog.as_deref())?;
    let mut watched = match &arguments.cgroup {
        Some(path) => Watched::cgroup(path, settings)?,
        None => Watched::namespaces(&arguments.netns, selection, settings)?,
    };
    let (libraries, mut told) = libraries(&arguments.library)?;
    if libraries.is_some() && arguments.transport == TransportName::Perf {
        told.push_str(" (whose words come by ring buffer all the same)");
    }
    let what = match (&arguments.cgroup, watched.interfaces()) {
        (Some(path), _) => format!("cgroup {}", path.display()),
        (None, 1) => "1 interface".into(),
        (None, interfaces) => format!("{interfaces} interfaces"),
    };
    let found = watched.found().map_or_else(String::new, |found| {
        format!(" ({found} namespaces found by pattern)")
    });
    // On standard error in either format: who started it waits for this line, not for a time.
    eprintln!("mtls-probe: watching {what}{found}{told}; Ctrl-C ends it");
    if let Some(priority) = arguments.rt_priority {
        delivery::real_time(priority).context("--rt-priority")?;
    }
    delivery::punctual();
    let delivery = match arguments.delivery {
        DeliveryName::Latency => Delivery::Latency,
        DeliveryName::Balanced => Delivery::Balanced,
        DeliveryName::Quiet => Delivery::Quiet,
    };
    let mut watch = Watching {
        pace: Pace::new(delivery),
        hidden,
        libraries,
        join: Join::new(PATIENCE),
        corrections: BTreeMap::new(),
        format: arguments.format,
        out: output(arguments.color),
    };
    match run(&mut watched, &mut watch, &signals, arguments.stall_after) {
        Ok(()) => Ok(()),
        // Whoever read the lines has seen enough.
        Err(error) if broken_pipe(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Starts to probe libraries as the options say, and what to tell of it. Where nothing was asked for and it
/// cannot be had, the rest works without.
fn libraries(options: &[Library]) -> anyhow::Result<(Option<Libraries>, String)> {
    if options.contains(&Library::Off) {
        return Ok((None, String::new()));
    }
    let file = |option: &Library| match option {
        Library::File(path) => Some(path.clone()),
        _ => None,
    };
    let selection = library::Selection {
        all: options.is_empty()
            || options.contains(&Library::Auto)
            || options.contains(&Library::Deep),
        files: options.iter().filter_map(file).collect(),
        depth: if options.iter().all(|option| *option == Library::Auto) {
            Depth::Handshakes
        } else {
            Depth::Calls
        },
    };
    match Libraries::start(&selection) {
        Ok(libraries) => {
            let probed = libraries.probed();
            let ies = if probed == 1 { "y" } else { "ies" };
            Ok((Some(libraries), format!(" and {probed} TLS librar{ies}")))
        }
        Err(error) if options.is_empty() => {
            let line = error.to_string();
            let first = line.lines().next().unwrap_or_default().to_owned();
            Ok((None, format!(", no TLS library ({first})")))
        }
        Err(error) => Err(error).context("--library"),
    }
}

/// What runs beside the probes, in the order in which an event passes it: the key log, the libraries, and
/// where the lines go.
struct Watching {
    pace: Pace,
    hidden: HiddenWait,
    libraries: Option<Libraries>,
    join: Join<Held>,
    corrections: BTreeMap<Correction, u64>,
    format: Format,
    out: Box<dyn Write>,
}

/// An event that waits for words, where it was seen, and what a key log says of it.
type Held = (Origin, Box<Event>, Look);

fn run(
    watched: &mut Watched,
    watch: &mut Watching,
    signals: &SignalFd,
    stall_after: Duration,
) -> anyhow::Result<()> {
    let pause = (stall_after / LOOKS).clamp(LOOK.0, LOOK.1);
    let mut look = Instant::now() + pause;
    let mut found = Found::Nothing;
    loop {
        let woken = wait(watched, watch, signals, look, found)?;
        let ended = woken.by_signal;
        watched.follow(woken.by_mounts)?;
        if ended {
            // First, so that nothing is counted that is not printed.
            watched.detach();
            if let Some(libraries) = &mut watch.libraries {
                libraries.detach();
            }
        }
        let sweep = (Instant::now() >= look || ended).then_some(stall_after);
        let mut came = false;
        let more = watched.events(sweep, |origin, event| {
            came = true;
            watch.hidden.push(origin, event);
        })?;
        found = match (came, more) {
            (_, true) => Found::Part,
            (true, false) => Found::All,
            (false, false) => Found::Nothing,
        };
        watch.pass(ended)?;
        watch.tell(ended)?;
        if Instant::now() >= look {
            look = Instant::now() + pause;
        }
        watch.out.flush()?;
        if ended {
            break;
        }
    }
    let mut counts = watched.counts()?;
    watch.correct(&mut counts)?;
    let out = &mut watch.out;
    match watch.format {
        Format::Human => write!(out, "{}", human::counters(&counts))?,
        Format::Ndjson => writeln!(out, "{}", ndjson::counters(&counts))?,
    }
    out.flush()?;
    Ok(())
}

impl Watching {
    /// Events that need not wait for a key log any longer go on: told at once where no library could say
    /// more.
    fn pass(&mut self, ended: bool) -> anyhow::Result<()> {
        let mut passed = Vec::new();
        self.hidden.release(ended, |held, look| {
            passed.push((held.origin, Box::new(held.event), look));
            Ok::<_, anyhow::Error>(())
        })?;
        for (origin, event, look) in passed {
            let (netns, interface) = (origin.netns, origin.interface.as_ref());
            let addresses = interface.map_or(&[][..], |interface| &interface.addresses);
            let seen = Seen::of(&event)
                .map(|seen| seen.within(netns, addresses))
                .filter(|_| self.libraries.is_some() && !matches!(look, Look::NoFailure));
            match seen {
                Some(seen) => {
                    // Also of its namesake in another namespace: the table has one place for both.
                    let expected = self.known(&seen).iter().any(Option::is_some);
                    let held = (origin, event, look);
                    self.join.failed(held, seen, expected, clock::monotonic());
                }
                None => self.write(origin, &event, look, Revealed::default())?,
            }
        }
        Ok(())
    }

    /// Tells what need not wait any longer, or, at the end, everything.
    fn tell(&mut self, ended: bool) -> anyhow::Result<()> {
        let Some(libraries) = &mut self.libraries else {
            return Ok(());
        };
        let now = clock::monotonic();
        libraries.drain(|heard| self.join.said(heard, now));
        let due = if ended {
            self.join.finish()
        } else {
            self.join.due(now)
        };
        for Joined { what, seen, words } in due {
            let (origin, event, look) = what;
            let standings = self.standings(&seen).map(|known| {
                let known = known?;
                Some((known, library::executable(known.process, &known.comm)))
            });
            let ruling = rule(&seen, &words, &standings);
            if let Look::Named(_) = look {
                // The key log has read the alert itself, and counted it: the library is quoted only.
                let said = match ruling {
                    Ruling::Failed(revealed) => revealed.said,
                    Ruling::Good => None,
                };
                let quoted = Revealed {
                    said,
                    ..Revealed::default()
                };
                self.write(origin, &event, look, quoted)?;
                continue;
            }
            let counted = (!seen.undecided).then(|| seen.failure.class());
            let mut told = None;
            if let Ruling::Failed(revealed) = ruling {
                told = Some(revealed.class.unwrap_or(seen.failure.class()));
                // Where the wire could not decide, the library has.
                let look = if seen.undecided { Look::Plain } else { look };
                self.write(origin, &event, look, revealed)?;
            }
            if told != counted {
                let version = seen.version;
                let correction = Correction {
                    counted,
                    told,
                    version,
                };
                *self.corrections.entry(correction).or_default() += 1;
            }
        }
        Ok(())
    }

    /// What is known of connections with these ends, last of all of them.
    fn known(&self, seen: &Seen) -> [Option<Standing>; 2] {
        Role::BOTH.map(|role| self.libraries.as_ref()?.standing(&seen.ends(role)))
    }

    /// What is known of the ends of this one.
    fn standings(&self, seen: &Seen) -> [Option<Standing>; 2] {
        let known = self.known(seen);
        Role::BOTH.map(|role| known[role as usize].filter(|known| seen.is_at(role, known)))
    }

    fn write(
        &mut self,
        origin: Origin,
        event: &Event,
        look: Look,
        revealed: Revealed,
    ) -> anyhow::Result<()> {
        let failure = Failure::new(event, clock::unix(event.time), origin.interface.as_ref())?
            .between(origin.workloads);
        // Of a handshake that may well have succeeded there is nothing to say: it is counted.
        let Some(mut failure) = failure.after(look) else {
            return Ok(());
        };
        failure.reveal(revealed);
        let line = match self.format {
            Format::Human => human::failure(&failure),
            Format::Ndjson => ndjson::failure(&failure),
        };
        writeln!(self.out, "{line}")?;
        Ok(())
    }

    /// What was counted, as it was told; and what others than the probes counted.
    fn correct(&self, counts: &mut Counts) -> anyhow::Result<()> {
        self.hidden.apply(counts);
        for (correction, handshakes) in &self.corrections {
            counts.correct(correction, *handshakes);
        }
        let Some(libraries) = &self.libraries else {
            return Ok(());
        };
        let good = self.corrections.iter();
        let good = good.filter(|(correction, _)| correction.told.is_none());
        let good: u64 = good.map(|(_, handshakes)| handshakes).sum();
        let joins = self.join.counts();
        let ours = [
            ("library_joined", joins.joined),
            ("library_unjoined", joins.unjoined),
            ("library_late", joins.late),
            ("library_good", good),
        ];
        for (name, count) in libraries.counts()?.into_iter().chain(ours) {
            counts.add(name, count, false);
        }
        Ok(())
    }
}

/// What ended a wait, beside what is looked at in any case.
struct Woken {
    by_signal: bool,
    /// Mounts have changed.
    by_mounts: bool,
}

/// Waits for events, words, the signal, a key log that grows while it is wanted, mounts that change, or the
/// time to look for stalls or to tell what waits. `found`: what the last look came to.
fn wait(
    watched: &Watched,
    watch: &mut Watching,
    signals: &SignalFd,
    until: Instant,
    found: Found,
) -> anyhow::Result<Woken> {
    let pace = watch.pace.next(found, Instant::now());
    let sleeps = pace == Wait::Sleep;
    let mounts = watched
        .mounts()
        .map(|fd| PollFd::new(fd, PollFlags::POLLPRI));
    let urgent = usize::from(mounts.is_some());
    let readable = watched
        .all()
        .flat_map(|probe| {
            probe
                .changes()
                .into_iter()
                .chain(sleeps.then(|| probe.events()).into_iter().flatten())
        })
        .chain(watch.libraries.as_ref().map(Libraries::as_fd))
        .chain([signals.as_fd()])
        .chain(watch.hidden.wakes())
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let mut waiting: Vec<_> = mounts.into_iter().chain(readable).collect();
    let until = watch
        .hidden
        .until()
        .map_or(until, |hidden| hidden.min(until));
    let mut left = until.saturating_duration_since(Instant::now());
    if let Some(due) = watch.join.next() {
        left = left.min(Duration::from_nanos(due.saturating_sub(clock::monotonic())));
    }
    let left = match pace {
        Wait::Not => Duration::ZERO,
        Wait::Pause(pause) => left.min(pause),
        Wait::Sleep => left.min(SLEEP),
    };
    if sleeps {
        watched.all().for_each(|probe| probe.reader().sleeps());
    }
    let polled = ppoll(&mut waiting, Some(left.into()), None);
    watched.all().for_each(|probe| probe.reader().wakes());
    match polled {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    let by_mounts = waiting[..urgent].iter().any(|mounts| {
        mounts
            .revents()
            .is_some_and(|happened| !happened.is_empty())
    });
    Ok(Woken {
        by_signal: signals.read_signal().context("signalfd")?.is_some(),
        by_mounts,
    })
}

fn signals() -> nix::Result<SignalFd> {
    let mut ending = SigSet::empty();
    ending.add(Signal::SIGINT);
    ending.add(Signal::SIGTERM);
    ending.thread_block()?;
    SignalFd::with_flags(&ending, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

pub(crate) fn output(color: Color) -> Box<dyn Write> {
    let choice = match color {
        Color::Auto => AutoStream::choice(&io::stdout()),
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    Box::new(io::BufWriter::new(AutoStream::new(io::stdout(), choice)))
}

pub(crate) fn broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let signed: SignedDuration = text
        .parse()
        .map_err(|_| "a time such as 5s, 600ms or 2m".to_owned())?;
    match Duration::try_from(signed) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("a time above zero".into()),
    }
}

fn netns(text: &str) -> Result<String, String> {
    if is_pattern(text) {
        glob::Pattern::new(text).map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}

fn library(text: &str) -> Result<Library, String> {
    match text {
        "auto" => Ok(Library::Auto),
        "deep" => Ok(Library::Deep),
        "off" => Ok(Library::Off),
        path => {
            let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
            match points(&bytes, Depth::Calls) {
                Ok(points) if points.is_empty() => {
                    Err("its symbols name no function of a TLS library that is known".into())
                }
                Ok(_) => Ok(Library::File(path.into())),
                Err(error) => Err(format!("not a library: {error}")),
            }
        }
    }
}

fn ring_size(text: &str) -> Result<u32, String> {
    let kib: u32 = text.parse().map_err(|_| "a number of KiB".to_owned())?;
    match ring_bytes(kib) {
        Some(_) => Ok(kib),
        None => Err("a power of two, at least 4".into()),
    }
}
