//! `mtls-probe watch`: from the options to probes, and one loop that waits for events, for the time
//! to look for stalls, and for the signal to end.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anstream::AutoStream;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use gauntlet_probes::attach::Hook;
use gauntlet_probes::failure::Failure;
use gauntlet_probes::hidden::Look;
use gauntlet_probes::load::{DEFAULT_FLOWS, DEFAULT_RING_KIB, Settings, ring_bytes};
use gauntlet_probes::netns::NetNs;
use gauntlet_probes::probe::{Counts, Probe, Selection};
use gauntlet_probes::report::{human, ndjson};
use gauntlet_probes::{clock, privileges};
use gauntlet_wire::event::Event;
use jiff::SignedDuration;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::hidden_wait::HiddenWait;

/// Options of `mtls-probe watch`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Interface to watch; may be given again. Default: all of each namespace.
    #[arg(short, long, value_name = "NAME")]
    interface: Vec<String>,

    /// Network namespace to watch, by its `ip netns` name or a path (/proc/PID/ns/net); may be
    /// given again. Default: this one.
    #[arg(short, long, value_name = "NAME|PATH")]
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

    /// How to attach: tcx is Linux 6.6's, clsact works from 5.10 on.
    #[arg(long, value_enum, default_value_t = HookName::Auto)]
    hook: HookName,

    /// Most handshakes under way at once, in each namespace.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_FLOWS)]
    max_handshakes: NonZeroU32,

    /// Size of the ring buffer of each namespace, KiB; a power of two, at least 4.
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
    Clsact,
}

/// A probe looks for stalls this often within the threshold, so that one is told at most a quarter
/// of it late.
const LOOKS: u32 = 4;
/// Bounds of the time between two looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Watches until SIGINT or SIGTERM.
pub(crate) fn watch(arguments: &Arguments) -> anyhow::Result<()> {
    privileges::check(!arguments.netns.is_empty())?;
    // Blocked before anything is attached, so that every way to end passes by the cleaning up.
    let signals = signals().context("signals")?;
    let namespaces = if arguments.netns.is_empty() {
        vec![NetNs::current()?]
    } else {
        arguments
            .netns
            .iter()
            .map(|name| NetNs::open(name))
            .collect::<Result<_, _>>()?
    };
    let selection = Selection {
        interfaces: arguments.interface.clone(),
        hook: match arguments.hook {
            HookName::Auto => Hook::Auto,
            HookName::Tcx => Hook::Tcx,
            HookName::Clsact => Hook::Clsact,
        },
    };
    let settings = Settings {
        flows: arguments.max_handshakes,
        ring_bytes: ring_bytes(arguments.ring).context("--ring")?,
        tls_ports: arguments.tls_port.clone(),
        capture_time: false,
    };
    // Before anything is watched: its handshakes' secrets come after this.
    let mut hidden = HiddenWait::new(arguments.keylog.as_deref())?;
    let mut probes = namespaces
        .iter()
        .map(|namespace| Probe::start(namespace, &selection, &settings))
        .collect::<Result<Vec<_>, _>>()?;
    for error in probes.iter().flat_map(Probe::skipped) {
        eprintln!("mtls-probe: not watched: {error}");
    }
    let watched: usize = probes.iter().map(Probe::watched).sum();
    let plural = if watched == 1 { "" } else { "s" };
    // On standard error in either format: who started it waits for this line, not for a time.
    eprintln!("mtls-probe: watching {watched} interface{plural}; Ctrl-C ends it");
    let mut out = output(arguments.color);
    match run(&mut probes, &mut hidden, &signals, arguments, &mut out) {
        Ok(()) => Ok(()),
        // Whoever read the lines has seen enough.
        Err(error) if broken_pipe(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn run(
    probes: &mut [Probe],
    hidden: &mut HiddenWait,
    signals: &SignalFd,
    arguments: &Arguments,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let pause = (arguments.stall_after / LOOKS).clamp(LOOK.0, LOOK.1);
    let mut look = Instant::now() + pause;
    loop {
        let until = hidden.until().map_or(look, |until| until.min(look));
        let ended = wait(probes, hidden, signals, until)?;
        for (number, probe) in probes.iter_mut().enumerate() {
            if ended {
                // First, so that nothing is counted that is not printed.
                probe.detach();
            }
            probe.drain(|event| hidden.push(number, *event));
            if Instant::now() >= look || ended {
                for event in probe.sweep(clock::monotonic(), arguments.stall_after)? {
                    hidden.push(number, event);
                }
            }
        }
        hidden.release(ended, |held, look| {
            write_event(
                out,
                &probes[held.probe],
                &held.event,
                look,
                arguments.format,
            )
        })?;
        if Instant::now() >= look {
            look = Instant::now() + pause;
        }
        out.flush()?;
        if ended {
            break;
        }
    }
    let mut counts = Counts::default();
    for probe in probes {
        counts.merge(&probe.counts()?);
    }
    hidden.apply(&mut counts);
    match arguments.format {
        Format::Human => write!(out, "{}", human::counters(&counts))?,
        Format::Ndjson => writeln!(out, "{}", ndjson::counters(&counts))?,
    }
    out.flush()?;
    Ok(())
}

fn write_event(
    out: &mut dyn Write,
    probe: &Probe,
    event: &Event,
    look: Look,
    format: Format,
) -> anyhow::Result<()> {
    let failure = Failure::new(
        event,
        clock::unix(event.time),
        probe.interface(event.ifindex),
    )?;
    // Of a handshake that may well have succeeded there is nothing to say: it is counted.
    let Some(failure) = failure.after(look) else {
        return Ok(());
    };
    let line = match format {
        Format::Human => human::failure(&failure),
        Format::Ndjson => ndjson::failure(&failure),
    };
    writeln!(out, "{line}")?;
    Ok(())
}

/// Waits for events, the signal (`true`), a key log that grows while it is wanted, or the time to look
/// for stalls.
fn wait(
    probes: &[Probe],
    hidden: &HiddenWait,
    signals: &SignalFd,
    until: Instant,
) -> anyhow::Result<bool> {
    let mut waiting: Vec<_> = probes
        .iter()
        .map(Probe::as_fd)
        .chain([signals.as_fd()])
        .chain(hidden.wakes())
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up: waking early would only mean waking twice.
    let timeout = PollTimeout::try_from(left + Duration::from_millis(1))?;
    match poll(&mut waiting, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    Ok(signals.read_signal().context("signalfd")?.is_some())
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

fn ring_size(text: &str) -> Result<u32, String> {
    let kib: u32 = text.parse().map_err(|_| "a number of KiB".to_owned())?;
    match ring_bytes(kib) {
        Some(_) => Ok(kib),
        None => Err("a power of two, at least 4".into()),
    }
}
