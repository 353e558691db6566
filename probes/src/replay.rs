//! `mtls-probe replay`: a capture file through an engine, packet by packet, and what came of it.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use gauntlet_probes::capture_file::{CaptureFile, CaptureFileError, Item};
use gauntlet_probes::failure::Failure;
use gauntlet_probes::hidden::look;
use gauntlet_probes::hidden_count::HiddenCount;
use gauntlet_probes::interfaces::Interface;
use gauntlet_probes::keylog::KeyLog;
use gauntlet_probes::load::Settings;
use gauntlet_probes::privileges;
use gauntlet_probes::replay_engine::{Both, Engine, HostEngine, Kernel, Replay};
use gauntlet_probes::report::{human, ndjson};
use gauntlet_wire::event::Event;

use crate::watch::{Color, Format, broken_pipe, duration, output};
use gauntlet_cli::exit::USAGE;

/// Both engines differ.
const DIFFERENT: u8 = 1;
/// Handshakes under way at once, where nothing else is said: some 40 MB of memory in the kernel, and on a
/// host as much as they take.
const DEFAULT_FLOWS: NonZeroU32 = NonZeroU32::new(16_384).unwrap();

/// Options of `mtls-probe replay`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The capture: pcap or pcapng, or either gzip'd; `-` is standard input.
    file: PathBuf,

    /// Key log of an application (SSLKEYLOGFILE), which names hidden TLS 1.3 alerts. One inside a pcapng is
    /// used without asking.
    #[arg(short, long, value_name = "FILE")]
    keylog: Option<PathBuf>,

    /// Port that speaks TLS at any address: what comes there and is not TLS is a failed handshake
    /// too. Other servers are learned from their first answer in TLS. May be given again.
    #[arg(short = 'p', long, value_name = "PORT")]
    tls_port: Vec<u16>,

    /// Silence after which a handshake counts as stalled, by the capture's clock.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    stall_after: Duration,

    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Format::Human)]
    format: Format,

    /// When to use colour.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,

    /// What runs the program.
    #[arg(long, value_enum, default_value_t = EngineName::Auto)]
    engine: EngineName,

    /// Most handshakes under way at once.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_FLOWS)]
    max_handshakes: NonZeroU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineName {
    /// The kernel where it can load BPF, else this program.
    Auto,
    /// The kernel, as `watch` does; the capture's packets are handed to it, none is sent.
    Kernel,
    /// This program, without privileges: the same code, compiled for it.
    Host,
    /// Both, and exit code 1 with the first difference, if they differ.
    Both,
}

/// Replays a file; the exit code.
pub(crate) fn replay(arguments: &Arguments) -> anyhow::Result<u8> {
    // First everything that can be wrong with what was given.
    let mut log = KeyLog::new(usize::MAX);
    if let Some(path) = &arguments.keylog
        && let Err(what) = read_key_log(path, &mut log)
    {
        return Ok(refuse(path, &what));
    }
    let capture = if arguments.file == Path::new("-") {
        CaptureFile::read(io::stdin().lock())
    } else {
        CaptureFile::open(&arguments.file)
    };
    let capture = match capture {
        Ok(capture) => capture,
        Err(error) => return Ok(refuse(&arguments.file, &error.to_string())),
    };
    let replay = Replay::new(engine(arguments)?, arguments.stall_after);
    let mut run = Run {
        arguments,
        log,
        hidden: HiddenCount::default(),
        out: output(arguments.color),
    };
    match run.all(capture, replay) {
        // Whoever read the lines has seen enough.
        Err(error) if broken_pipe(&error) => Ok(0),
        ended => ended,
    }
}

/// One line about an input file; the exit code.
fn refuse(path: &Path, what: &str) -> u8 {
    eprintln!("mtls-probe: {}: {what}", path.display());
    USAGE
}

fn read_key_log(path: &Path, log: &mut KeyLog) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => log.add(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot be read: {error}")),
        }
    }
    log.finish();
    if log.malformed() == 0 {
        return Ok(());
    }
    if log.malformed() == log.lines() {
        return Err("no key log (SSLKEYLOGFILE): not a line of it is one".into());
    }
    eprintln!(
        "mtls-probe: {}: {} of {} lines are none of a key log, and are left out",
        path.display(),
        log.malformed(),
        log.lines()
    );
    Ok(())
}

fn engine(arguments: &Arguments) -> anyhow::Result<Box<dyn Engine>> {
    let settings = Settings {
        flows: arguments.max_handshakes,
        tls_ports: arguments.tls_port.clone(),
        capture_time: true,
        ..Settings::default()
    };
    let host = || HostEngine::new(&settings);
    let kernel = || {
        privileges::check(false)?;
        anyhow::Ok(Kernel::load(&settings)?)
    };
    Ok(match arguments.engine {
        EngineName::Kernel => Box::new(kernel()?),
        EngineName::Host => Box::new(host()),
        EngineName::Both => Box::new(Both::new(kernel()?, host())),
        EngineName::Auto => match kernel() {
            Ok(kernel) => Box::new(kernel),
            Err(_) => Box::new(host()),
        },
    })
}

struct Run<'a> {
    arguments: &'a Arguments,
    log: KeyLog,
    hidden: HiddenCount,
    out: Box<dyn Write>,
}

impl Run<'_> {
    fn all(
        &mut self,
        mut capture: CaptureFile<'_>,
        mut replay: Replay<Box<dyn Engine>>,
    ) -> anyhow::Result<u8> {
        let mut events = Vec::new();
        let mut unknown_link = 0;
        let damage = loop {
            match capture.next() {
                Ok(Item::Packet(packet)) => replay.packet(&packet, &mut events)?,
                Ok(Item::KeyLog(lines)) => {
                    self.log.add(lines);
                    self.log.finish();
                }
                Ok(Item::UnknownLink(link)) => {
                    if unknown_link == 0 {
                        let error = CaptureFileError::LinkType(link);
                        eprintln!("mtls-probe: {}: {error}", self.arguments.file.display());
                    }
                    unknown_link += 1;
                }
                Ok(Item::End) => break None,
                Err(error) => break Some(error),
            }
            for event in events.drain(..) {
                self.tell(&event, &capture)?;
            }
            if replay.difference().is_some() {
                break None;
            }
        };
        let ended = replay.end(&mut events)?;
        for event in &events {
            self.tell(event, &capture)?;
        }
        if let Some(difference) = ended.difference {
            self.out.flush()?;
            eprintln!(
                "mtls-probe: {}: the engines differ at packet {}: {difference}",
                self.arguments.file.display(),
                capture.packets()
            );
            return Ok(DIFFERENT);
        }
        let mut counts = ended.counts;
        counts.add("handshake_unfinished", ended.unfinished, true);
        counts.add("connection_open_before", ended.begun_before, true);
        counts.add("packet_cut_short", ended.cut_short, true);
        counts.add("packet_too_short", ended.no_packet, true);
        counts.add("unknown_link_type", unknown_link, true);
        if self.asks_log() {
            self.hidden.apply(&self.log, &mut counts);
        }
        match self.arguments.format {
            Format::Human => write!(self.out, "{}", human::counters(&counts))?,
            Format::Ndjson => writeln!(self.out, "{}", ndjson::counters(&counts))?,
        }
        self.out.flush()?;
        Ok(match damage {
            None => 0,
            Some(damage) => refuse(&self.arguments.file, &damage.to_string()),
        })
    }

    /// Whether there is a key log, its own or one inside the capture.
    fn asks_log(&self) -> bool {
        self.arguments.keylog.is_some() || self.log.lines() > 0
    }

    fn tell(&mut self, event: &Event, capture: &CaptureFile<'_>) -> anyhow::Result<()> {
        let interface = capture.interface(event.ifindex).map(|name| Interface {
            name: name.to_owned(),
            addresses: Vec::new(),
        });
        let failure = Failure::new(event, event.time, interface.as_ref()).context("an event")?;
        let look = look(event, self.asks_log().then_some(&self.log));
        self.hidden.add(event, look);
        let Some(failure) = failure.after(look) else {
            return Ok(());
        };
        let line = match self.arguments.format {
            Format::Human => human::failure(&failure),
            Format::Ndjson => ndjson::failure(&failure),
        };
        writeln!(self.out, "{line}")?;
        Ok(())
    }
}
