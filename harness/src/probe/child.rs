//! A probe that is a process, or a pipeline of them: started, read line by line, and ended with whatever
//! ends this one.
//!
//! Readiness and silence are both shown by beacons: what came out before a beacon's event is all
//! there was.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gauntlet_probes::netns::NetNs;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::event::{Counters, Event};
use super::{Beacon, stall_after};
use crate::scenario::Beside;

/// Lines of the probe's stderr that are kept for the report.
const KEPT_LINES: usize = 40;
/// Lines of it that go into a reason.
const QUOTED_LINES: usize = 3;
/// How long a probe may take to end once asked.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why nothing can be said about what the probe reported.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProbeError {
    /// It did not start.
    #[error("the probe cannot be started: {program}: {message}")]
    Start {
        /// What was run.
        program: String,
        /// Why it did not.
        message: String,
    },
    /// It ended by itself.
    #[error("the probe ended, {how}{stderr}")]
    Ended {
        /// With which status.
        how: String,
        /// The last it said.
        stderr: String,
    },
    /// It printed something else than events.
    #[error("the probe printed a line that is no event ({why}): {line}")]
    NoEvent {
        /// What is missing.
        why: String,
        /// The line, cut.
        line: String,
    },
    /// A connection that it must report was not reported in time.
    #[error("the probe did not report the beacon within {}s{stderr}", .patience.as_secs())]
    Silent {
        /// How long it was waited for.
        patience: Duration,
        /// The last it said.
        stderr: String,
    },
    /// It does not end.
    #[error("the probe did not end within {}s of SIGTERM, and was killed", FAREWELL.as_secs())]
    Stuck,
}

impl ProbeError {
    /// Whether the probe may only be slow.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }
}

/// What a probe is started for.
pub(super) struct Watched<'a> {
    pub(super) netns: &'a NetNs,
    pub(super) interface: &'a str,
    pub(super) beside: Beside,
    pub(super) key_log: Option<&'a Path>,
}

#[derive(Debug)]
enum Line {
    Event(Event),
    Counters(Counters),
    Wrong(ProbeError),
}

/// A running probe.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    /// Ends the probe's whole group, if this process cannot.
    guard: std::process::Child,
    lines: Receiver<Line>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: Option<thread::JoinHandle<()>>,
    counters: Counters,
    /// Events it has printed.
    told: u64,
    /// The first thing that went wrong: nothing it says later can be trusted to be all.
    broken: Option<ProbeError>,
}

impl Child {
    pub(super) fn spawn(command: &[String], watched: &Watched<'_>) -> Result<Self, ProbeError> {
        let Watched {
            netns,
            interface,
            beside,
            key_log,
        } = *watched;
        let path = netns.path().display().to_string();
        let key_log = key_log.map_or_else(String::new, |path| path.display().to_string());
        let fill = |text: &String| {
            text.replace("{netns}", &path)
                .replace("{interface}", interface)
                .replace("{key_log}", &key_log)
        };
        let guard = guard()?;
        // setpriv (util-linux) asks the kernel to end the probe with the thread that started it, then
        // becomes the probe: no other way works when this process gets a SIGKILL.
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(command.iter().map(fill))
            .env("GAUNTLET_NETNS", &path)
            .env("GAUNTLET_INTERFACE", interface)
            .env("GAUNTLET_KEY_LOG", &key_log)
            .env("GAUNTLET_LIBRARY", libraries(beside))
            .env("GAUNTLET_STALL_MS", stall_after().as_millis().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C at the terminal is ours, and we end the probe.
            .process_group(0)
            .spawn()
            .map_err(|error| ProbeError::Start {
                program: "setpriv".into(),
                message: error.to_string(),
            })?;
        if let Some(mut orders) = guard.stdin.as_ref() {
            // A guard that is gone protects nothing, and harms nothing.
            let _ = writeln!(orders, "{}", process.id());
        }
        let (sender, lines) = channel();
        if let Some(stdout) = process.stdout.take() {
            thread::spawn(move || read_events(stdout, &sender));
        }
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let stderr_reader = process.stderr.take().map(|pipe| {
            let kept = Arc::clone(&stderr);
            thread::spawn(move || keep_lines(pipe, &kept))
        });
        let counters = Counters::default();
        Ok(Self {
            process,
            guard,
            lines,
            stderr,
            stderr_reader,
            counters,
            told: 0,
            broken: None,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn until(
        &mut self,
        beacons: &[Beacon],
        patience: Duration,
    ) -> Result<Vec<Event>, ProbeError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let read = self.read_until(beacons, patience);
        // A probe that is only slow to become ready is asked again.
        if let Err(error) = &read
            && !error.is_silence()
        {
            self.broken = Some(error.clone());
        }
        read
    }

    fn read_until(
        &mut self,
        beacons: &[Beacon],
        patience: Duration,
    ) -> Result<Vec<Event>, ProbeError> {
        let deadline = Instant::now() + patience;
        let mut events = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Line::Event(event)) => {
                    self.told += 1;
                    if beacons.iter().any(|beacon| beacon.is_told_by(&event)) {
                        return Ok(events);
                    }
                    events.push(event);
                }
                Ok(Line::Counters(counters)) => self.counters = counters,
                Ok(Line::Wrong(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(ProbeError::Silent {
                        patience,
                        stderr: self.quote(),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// Everything it says within `patience`.
    pub(super) fn linger(&mut self, patience: Duration) -> Vec<Event> {
        let deadline = Instant::now() + patience;
        let mut events = Vec::new();
        while let Ok(line) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            match line {
                Line::Event(event) => {
                    self.told += 1;
                    events.push(event);
                }
                Line::Counters(counters) => self.counters = counters,
                Line::Wrong(error) => {
                    self.broken.get_or_insert(error);
                }
            }
        }
        events
    }

    pub(super) fn stop(mut self) -> Result<Counters, ProbeError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        if self.process.try_wait().ok().flatten().is_some() {
            return Err(self.ended());
        }
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + FAREWELL;
        // Its stdout is closed when it has ended; until then it may still say something.
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Line::Counters(counters)) => self.counters = counters,
                Ok(Line::Event(_)) => self.told += 1,
                Ok(Line::Wrong(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => return Err(ProbeError::Stuck),
                Err(RecvTimeoutError::Disconnected) => {
                    let told = self.told;
                    return Ok(Counters {
                        told,
                        ..std::mem::take(&mut self.counters)
                    });
                }
            }
        }
    }

    fn ended(&mut self) -> ProbeError {
        let how = match self.process.wait() {
            Ok(status) => describe(status),
            Err(error) => format!("status unknown ({error})"),
        };
        // What it left behind may hold its stderr open, and we want to read that to its end.
        self.signal(Signal::SIGKILL);
        if let Some(reader) = self.stderr_reader.take() {
            let _ = reader.join();
        }
        ProbeError::Ended {
            how,
            stderr: self.quote(),
        }
    }

    fn quote(&self) -> String {
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let last: Vec<&str> = lines
            .iter()
            .rev()
            .take(QUOTED_LINES)
            .rev()
            .map(String::as_str)
            .collect();
        if last.is_empty() {
            String::new()
        } else {
            format!(": {}", last.join(" | "))
        }
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = self.process.id().try_into() {
            // It may be gone already; then there is nobody to tell.
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }
}

/// A shell that waits for the end of its standard input, which comes when this process is gone, however
/// that went, and then ends the group that it was told of. The kernel's own signal (setpriv, below)
/// reaches one process only, and of a pipeline that is the shell around it.
fn guard() -> Result<std::process::Child, ProbeError> {
    Command::new("sh")
        .args([
            "-c",
            "read -r group || exit; read -r _; kill -s KILL -- \"-$group\"",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not in the group that Ctrl-C ends, nor in the probe's.
        .process_group(0)
        .spawn()
        .map_err(|error| ProbeError::Start {
            program: "sh".into(),
            message: error.to_string(),
        })
}

impl Drop for Child {
    fn drop(&mut self) {
        // First: once the probe is reaped, its group's number may be somebody else's.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        self.signal(Signal::SIGKILL);
        // Reaps it. An error means that there is nothing to reap.
        let _ = self.process.wait();
    }
}

/// What a probe that is not ours is told of libraries.
fn libraries(beside: Beside) -> &'static str {
    match beside {
        Beside::Nothing | Beside::KeyLog => "off",
        Beside::Library => "handshakes",
        Beside::LibraryDeep => "deep",
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(127) => "exit status 127 (no such command)".into(),
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

fn read_events(stdout: impl Read, lines: &Sender<Line>) {
    for line in BufReader::new(stdout).split(b'\n') {
        let Ok(bytes) = line else { return };
        // Nobody listens any more: the probe is being stopped.
        if lines.send(parse(&bytes)).is_err() {
            return;
        }
    }
}

fn parse(bytes: &[u8]) -> Line {
    let wrong = |why: String| {
        let text = String::from_utf8_lossy(bytes);
        let line = text
            .chars()
            .take(120)
            .flat_map(char::escape_default)
            .collect();
        Line::Wrong(ProbeError::NoEvent { why, line })
    };
    match serde_json::from_slice::<Value>(bytes) {
        Err(error) => wrong(format!("not JSON: {error}")),
        Ok(Value::Object(object)) => {
            if object.get("type").and_then(Value::as_str) == Some("counters") {
                return match serde_json::from_value(Value::Object(object)) {
                    Ok(counters) => Line::Counters(counters),
                    Err(error) => wrong(error.to_string()),
                };
            }
            match Event::from_object(object) {
                Ok(event) => Line::Event(event),
                Err(why) => wrong(why.into()),
            }
        }
        Ok(_) => wrong("not a JSON object".into()),
    }
}

fn keep_lines(pipe: impl Read, kept: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(bytes) = line else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(&bytes).trim_end().to_string());
    }
}
