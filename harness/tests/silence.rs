//! Good handshakes, many and several at once, are silence: no event, nothing lost, one last line.
//!
//! rustls and OpenSSL either way, TLS 1.2 and 1.3, full and resumed, over both families. What shows that
//! silence is not deafness: the probe must count exactly the handshakes that both ends made, and report the
//! one failure that follows them, whose alert TLS 1.3 hides: honestly marked by the wire, named by the library.
//! Each trial runs alone: libraries are probed on the whole machine.
//!
//! `GAUNTLET_HANDSHAKES` says how many, for each trial; rounded up to whole rounds.

mod gate;

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gate::Gate;
use gauntlet_cli::exit;
use gauntlet_harness::lab::{Lane, SERVER_INTERFACE};
use gauntlet_harness::patience::limit;
use gauntlet_harness::peer::{Match, drive};
use gauntlet_harness::probe::{Program, Spec};
use gauntlet_harness::scenario::model::{
    Certificate, ClientAuth, Family, Issuer, Peer, Scenario, Stack, Tls, Witness,
};
use libtest_mimic::{Arguments, Failed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const HANDSHAKES: &str = "GAUNTLET_HANDSHAKES";
/// Without that variable: every shape of [`shapes`] twice.
const FEW: u16 = 320;
/// One after another in a round, each but the first resumed.
const CONNECTIONS: u16 = 10;
/// Rounds under way at any time: more than there are cores, so that packets wait for each other.
const AT_ONCE: usize = 8;
/// Each round has a port of its own, below those that clients get.
const FIRST_PORT: u16 = 10_000;
const LAST_PORT: u16 = 9_999;
/// Rounds that there are ports for.
const MOST: u16 = 20_000;
/// How long one round may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the probe asks, and what it can then say of the hidden alert that comes last.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    library: &'static str,
    class: &'static str,
    confidence: &'static str,
    /// Failures that the words of a library were joined to.
    joined: u64,
}

const BY_THE_WIRE: Mode = Mode {
    name: "by_the_wire",
    library: "off",
    class: "SSL_ERROR_SSL",
    confidence: "ambiguous",
    joined: 0,
};
const BY_LIBRARIES_TOO: Mode = Mode {
    name: "by_libraries_too",
    library: "deep",
    class: "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
    confidence: "certain",
    joined: 1,
};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let rounds = match rounds() {
        Ok(rounds) => rounds,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let obstacle = gate::no_lane().or_else(|| Some(Spec::Shipped.program().err()?.to_string()));
    let mut gate = Gate::default();
    let trials = [BY_THE_WIRE, BY_LIBRARIES_TOO].map(|mode| {
        gate.trial(mode.name, obstacle.as_deref(), move || {
            silent(&mode, rounds)
        })
    });
    if !arguments.list {
        gate.tell();
    }
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn rounds() -> Result<u16, String> {
    let handshakes = match env::var(HANDSHAKES) {
        Ok(text) => text.parse().ok(),
        Err(_) => Some(u32::from(FEW)),
    };
    handshakes
        .map(|count| count.div_ceil(CONNECTIONS.into()))
        .and_then(|rounds| u16::try_from(rounds).ok())
        .filter(|rounds| (1..=MOST).contains(rounds))
        .ok_or_else(|| {
            let most = u32::from(MOST) * u32::from(CONNECTIONS);
            format!("{HANDSHAKES} is no number from 1 to {most}")
        })
}

fn silent(mode: &Mode, rounds: u16) -> Result<(), Failed> {
    let lane = Lane::new(0)?;
    let watch = Watch::start(&lane, mode.library)?;
    let began = Instant::now();
    load(&lane, rounds)?;
    let took = began.elapsed();
    let last = rejected(&lane)?;
    let said = watch.end()?;
    let made = u64::from(rounds) * u64::from(CONNECTIONS);

    let lines: Vec<Value> = said
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let [event, counters] = &lines[..] else {
        return Err(
            format!("not one event, of the last handshake, and one last line:\n{said}").into(),
        );
    };
    for (field, meant) in [
        ("client.port", json!(last.port())),
        ("error.type", json!(mode.class)),
        ("confidence", json!(mode.confidence)),
    ] {
        same(field, &event[field], &meant)?;
    }
    same("the last line", &counters["type"], &json!("counters"))?;
    for kind in ["lost", "seen"] {
        let counted = counters[kind].as_object().ok_or("no counters")?;
        for (name, count) in counted {
            let meant = match (kind, name.as_str()) {
                ("lost", _) => 0,
                (_, "flow_opened") => made + 1,
                (_, "handshake_done") => made,
                (_, "handshake_failed") => 1,
                (_, "handshake_undecided" | "not_tls" | "malformed_message") => 0,
                (_, "library_joined") => mode.joined,
                // Every word and socket of a library had room, and no failure was made up from them.
                (_, library) if library.starts_with("library_") => 0,
                // How the network happened to cut and repeat it.
                _ => continue,
            };
            same(name, count, &json!(meant))?;
        }
    }
    println!(
        "{made} handshakes, {AT_ONCE} at once, in {:.1} s: silence",
        took.as_secs_f64()
    );
    Ok(())
}

fn same(what: &str, said: &Value, meant: &Value) -> Result<(), Failed> {
    if said == meant {
        return Ok(());
    }
    Err(format!("{what}: {said}, true was {meant}").into())
}

/// Makes all handshakes; the first that is not good ends it.
fn load(lane: &Lane, rounds: u16) -> Result<(), Failed> {
    let shapes = shapes();
    let next = AtomicU16::new(0);
    let work = || -> Result<(), Failed> {
        loop {
            let round = next.fetch_add(1, Ordering::Relaxed);
            if round >= rounds {
                return Ok(());
            }
            let (scenario, tls, family) = &shapes[usize::from(round) % shapes.len()];
            let ends = drive(&Match {
                scenario,
                tls: *tls,
                family: *family,
                lane,
                port: FIRST_PORT + round,
                seed: 1,
                deadline: limit(DEADLINE),
                key_log: None,
            });
            let ended = match &ends {
                Ok(ends) if ends.client.text == "ok" && ends.server.text == "ok" => continue,
                Ok(ends) => format!("client {}, server {}", ends.client.text, ends.server.text),
                Err(error) => error.to_string(),
            };
            // Nobody needs to begin another.
            next.store(rounds, Ordering::Relaxed);
            return Err(format!("round {round} was meant to be good: {ended}").into());
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

/// One that OpenSSL's server rejects, since it does not know the client's CA. The client's address.
fn rejected(lane: &Lane) -> Result<SocketAddr, Failed> {
    let mut scenario = good((Stack::Rustls, Stack::OpenSsl));
    scenario.client.connections = 1;
    scenario.client.certificate = Some(Certificate {
        issuer: Issuer::Other,
        ..Certificate::default()
    });
    scenario.server.client_auth = ClientAuth::Required;
    let ends = drive(&Match {
        scenario: &scenario,
        tls: Tls::V1_3,
        family: Family::Ipv4,
        lane,
        port: LAST_PORT,
        seed: 1,
        deadline: limit(DEADLINE),
        key_log: None,
    })?;
    if ends.client.text != "AlertReceived(UnknownCA)" {
        return Err(format!("the last was meant to be rejected: {}", ends.client.text).into());
    }
    ends.flows.first().copied().ok_or_else(|| "no flow".into())
}

/// Every pair of stacks, version and family.
fn shapes() -> Vec<(Scenario, Tls, Family)> {
    let stacks = [Stack::Rustls, Stack::OpenSsl];
    let pairs = stacks
        .into_iter()
        .flat_map(|client| stacks.map(|server| (client, server)));
    pairs
        .flat_map(|pair| [Tls::V1_2, Tls::V1_3].map(|tls| (pair, tls)))
        .flat_map(|(pair, tls)| {
            [Family::Ipv4, Family::Ipv6].map(|family| (good(pair), tls, family))
        })
        .collect()
}

fn good((client, server): (Stack, Stack)) -> Scenario {
    Scenario {
        claim: String::new(),
        cause: String::new(),
        why: String::new(),
        class: "none".into(),
        side: "nobody_fails".into(),
        variant: None,
        tls: Vec::new(),
        family: Vec::new(),
        network: Vec::new(),
        known_tls_server: false,
        client: Peer {
            stack: client,
            connections: CONNECTIONS.into(),
            // Nothing here is about time.
            patience_ms: u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX),
            ..Peer::default()
        },
        server: Peer {
            stack: server,
            patience_ms: u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX),
            ..Peer::default()
        },
        witness: Witness {
            client: "ok".into(),
            server: "ok".into(),
            wire: Vec::new(),
        },
        expect: None,
    }
}

/// The shipped probe, and all that it prints: lines, not events, so that one too many is seen.
struct Watch {
    process: Child,
    said: Option<JoinHandle<std::io::Result<String>>>,
}

impl Watch {
    /// Returns when it watches, which it says.
    fn start(lane: &Lane, library: &str) -> Result<Self, Failed> {
        let Program::Command { command, .. } = Spec::Shipped.program()? else {
            return Err("the shipped probe is a program".into());
        };
        let program = command.first().ok_or("the shipped probe has a path")?;
        let mut process = Command::new(program)
            .args([
                "watch",
                "--format",
                "ndjson",
                "--interface",
                SERVER_INTERFACE,
            ])
            .args(["--library", library, "--netns"])
            .arg(lane.server().path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = process.stdout.take().map(all_of);
        let stderr = process.stderr.take();
        let watch = Self { process, said };
        let mut lines = BufReader::new(stderr.ok_or("no stderr")?);
        let mut told = String::new();
        while lines.read_line(&mut told)? > 0 {
            if told.contains("watching 1 interface") {
                // What it says later must not find a closed pipe.
                thread::spawn(move || lines.read_to_end(&mut Vec::new()));
                return Ok(watch);
            }
        }
        Err(format!("the probe does not watch: {told}").into())
    }

    /// Ends it in order; everything it printed.
    fn end(mut self) -> Result<String, Failed> {
        kill(
            Pid::from_raw(self.process.id().try_into()?),
            Signal::SIGTERM,
        )?;
        let said = self.said.take().ok_or("no stdout")?;
        let said = said.join().map_err(|_| "reading it panicked")??;
        let status = self.process.wait()?;
        if !status.success() {
            return Err(format!("the probe ended, {status}:\n{said}").into());
        }
        Ok(said)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may be gone already; then there is nobody to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn all_of(mut pipe: ChildStdout) -> JoinHandle<std::io::Result<String>> {
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text)?;
        Ok(text)
    })
}
