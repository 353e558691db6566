//! `gauntlet repro`: one case, with everything that was seen of it; `--keep` leaves the place as it is
//! for a look.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use gauntlet_harness::lab::Role;
use gauntlet_harness::peer::{self, Match};
use gauntlet_harness::report::{CaseReport, Summary};
use gauntlet_harness::run::{Settings, Worker};
use gauntlet_harness::scenario::Case;

use tokio::sync::oneshot;

use super::run::{prepare, shelf};
use super::signals::Signals;
use super::{Failure, any_seed, cannot_print, load};
use crate::cli::Repro;

/// Where the server of a kept lane listens. No case's own port, nor a beacon's.
const STANDING_PORT: u16 = 443;

/// How long a connection to that server may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a kept lane looks for a signal or for the next try.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn repro(arguments: Repro) -> Result<u8, Failure> {
    let Repro {
        case: id,
        probe,
        places,
        ..
    } = &arguments;
    let seed = arguments.seed.unwrap_or_else(any_seed);
    if arguments.shell && !io::stdin().is_terminal() {
        return Err(Failure::infra(
            "--shell opens a shell at this terminal, and standard input is none; --keep needs none",
        ));
    }
    let suite = load(places.scenarios.as_deref())?;
    let Some(case) = suite
        .select(std::slice::from_ref(id), true)
        .into_iter()
        .next()
    else {
        return Err(Failure::nothing(format!(
            "no case is called {id}; see `gauntlet list`"
        )));
    };
    let shelf = shelf(places.artifacts.as_deref())?;
    let settings = prepare(suite, probe, places.scenarios.as_deref(), seed, shelf, true)?;
    let signals = Signals::listen().map_err(Failure::infra)?;
    // This thread starts the probe, and lives as long as it.
    let mut worker = Worker::new(0, &settings);
    let mut summary = Summary::default();
    let report = worker.run(&case, &settings);
    show(&case, &report).map_err(cannot_print)?;
    summary.add(&report);
    if arguments.keep || arguments.shell {
        stay(&mut worker, &case, &settings, &signals, arguments.shell).map_err(cannot_print)?;
    }
    let end = worker.finish();
    summary.lost_events = end.lost_events();
    summary.late_events = end.late.len() as u64;
    for line in &end.late {
        eprintln!("gauntlet: {line}");
    }
    match end.errors.first() {
        Some(error) => Err(Failure::infra(error)),
        None => Ok(summary.exit_code()),
    }
}

fn show(case: &Case, report: &CaseReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let scenario = &case.scenario;
    writeln!(out, "case:      {}", case.id)?;
    writeln!(out, "claim:     {}", scenario.claim)?;
    writeln!(out, "cause:     {}", scenario.cause)?;
    writeln!(out, "why:       {}", scenario.why)?;
    match &scenario.expect {
        None => writeln!(out, "expected:  nothing")?,
        Some(expect) => writeln!(
            out,
            "expected:  {} ({}), ended by the {}",
            expect.class, expect.confidence, expect.ended_by
        )?,
    }
    writeln!(out, "client:    {}", report.witnesses.client)?;
    writeln!(out, "server:    {}", report.witnesses.server)?;
    writeln!(out, "wire:")?;
    for line in report.witnesses.wire.split("; ") {
        writeln!(out, "           {line}")?;
    }
    writeln!(out, "reported:  {} events", report.reported.len())?;
    for event in &report.reported {
        writeln!(out, "{}", serde_json::to_string_pretty(event)?)?;
    }
    if let Some(folder) = &report.artifacts {
        for name in ["client.log", "server.log"] {
            writeln!(out, "{name}:")?;
            for line in fs::read_to_string(folder.join(name))?.lines() {
                writeln!(out, "  {line}")?;
            }
        }
        writeln!(out, "artifacts: {}", folder.display())?;
    }
    writeln!(out, "verdict:   {}", report.verdict.name())?;
    if let Some(reason) = &report.reason {
        writeln!(out, "reason:    {reason}")?;
    }
    writeln!(out, "again:     {}", report.repro)
}

/// Keeps the lane and its server until a signal, while each Enter makes the handshake again; or for as
/// long as a shell lives.
fn stay(
    worker: &mut Worker,
    case: &Case,
    settings: &Settings,
    signals: &Signals,
    shell: bool,
) -> io::Result<()> {
    let Some((lane, probe)) = worker.stand() else {
        return writeln!(
            io::stdout(),
            "nothing was kept: the lane could not be built"
        );
    };
    let standing = Match {
        scenario: &case.scenario,
        tls: case.tls,
        family: case.family,
        lane: &lane,
        port: STANDING_PORT,
        seed: settings.seed,
        deadline: PATIENCE,
        key_log: None,
    };
    thread::scope(|scope| {
        let (stop, stopped) = oneshot::channel();
        let server = scope.spawn(|| peer::serve(&standing, stopped));
        let until = if shell {
            "until this shell ends"
        } else {
            "until Ctrl-C; Enter makes the handshake again"
        };
        let kept = describe(&standing, probe, until).and_then(|()| {
            if shell {
                return shell_at(worker);
            }
            let again = enters();
            while signals.caught().is_none() {
                match again.recv_timeout(LOOK) {
                    Ok(()) => show(case, &worker.run(case, settings))?,
                    // Without a terminal there is no Enter; then only a signal ends it.
                    Err(_) => overhear(worker)?,
                }
            }
            Ok(())
        });
        // It may have ended by itself, with an error that is told below.
        let _gone = stop.send(());
        match server.join() {
            Ok(Ok(())) => kept,
            Ok(Err(error)) => kept.and(Err(io::Error::other(error))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A shell, to its end. Ctrl-C at it is not ours: it has the terminal.
fn shell_at(worker: &mut Worker) -> io::Result<()> {
    let program = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut shell = Command::new(program).spawn()?;
    while shell.try_wait()?.is_none() {
        overhear(worker)?;
    }
    Ok(())
}

/// Shows what the probe says of traffic that somebody else makes here.
fn overhear(worker: &mut Worker) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for event in worker.overhear(LOOK) {
        writeln!(out, "{}", serde_json::to_string(&event)?)?;
    }
    // A probe that is gone says nothing, at once.
    drop(out);
    thread::park_timeout(LOOK);
    Ok(())
}

fn describe(standing: &Match<'_>, probe: Option<u32>, until: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let lane = standing.lane;
    let (client, server) = (lane.client().path(), lane.server().path());
    let (client, server) = (client.display(), server.display());
    let address = SocketAddr::new(lane.address(Role::Server, standing.family), standing.port);
    let name = &standing.scenario.client.server_name;
    writeln!(out)?;
    writeln!(out, "kept, {until}; what the probe reports is shown:")?;
    writeln!(out, "  the client's side:  nsenter --net={client} bash")?;
    writeln!(out, "  the server's side:  nsenter --net={server} bash")?;
    writeln!(
        out,
        "  the case's server:  nsenter --net={client} openssl s_client -connect {address} -servername {name}"
    )?;
    writeln!(
        out,
        "  what goes by:       nsenter --net={server} tcpdump -nXi server0 tcp"
    )?;
    writeln!(
        out,
        "  what is attached:   nsenter --net={server} bpftool net"
    )?;
    if let Some(pid) = probe {
        writeln!(out, "  the probe:          process {pid}")?;
    }
    out.flush()
}

/// One message for each line on standard input.
fn enters() -> Receiver<()> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if line.is_err() || sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}
