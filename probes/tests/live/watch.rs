//! A running `mtls-probe watch --format ndjson`, ready when it says so, and held to what its counters
//! promise whenever it ends.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use gauntlet_probes::netns::NetNs;
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

/// The binary under test.
pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_mtls-probe");

/// Longer than anything takes on a busy machine; only a failure waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The line that says that every packet from now on is seen.
const READY: &str = "mtls-probe: watching ";

/// A running probe. Killed when dropped.
pub(crate) struct Watch {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
    events: Vec<Value>,
}

/// A probe that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) events: Vec<Value>,
    pub(crate) counters: Value,
}

impl Watch {
    /// Starts it in a namespace, with these arguments after `watch`, and waits until it is ready.
    pub(crate) fn start(namespace: &NetNs, arguments: &[&str]) -> Result<Self, Failed> {
        Self::start_as(namespace, Command::new(PROBE).arg("watch"), arguments)
    }

    /// The same, by another command that becomes `mtls-probe watch`.
    pub(crate) fn start_as(
        namespace: &NetNs,
        command: &mut Command,
        arguments: &[&str],
    ) -> Result<Self, Failed> {
        command
            .args(["--format", "ndjson"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = namespace.run(|| command.spawn())??;
        let lines = lines(child.stdout.take());
        let errors = lines_of_errors(&mut child);
        let watch = Self {
            child,
            lines,
            errors,
            events: Vec::new(),
        };
        let first = watch.errors.recv_timeout(PATIENCE);
        match first {
            Ok(line) if line.starts_with(READY) => Ok(watch),
            other => Err(format!("the probe is not ready: {other:?}").into()),
        }
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Result<Value, Failed> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let event: Value = serde_json::from_str(&line)?;
                if event.get("type").is_some() {
                    return Err(format!("not an event: {line}").into());
                }
                self.events.push(event.clone());
                Ok(event)
            }
            Err(RecvTimeoutError::Timeout) => Err("no event".into()),
            Err(RecvTimeoutError::Disconnected) => Err("the probe ended".into()),
        }
    }

    /// The next event, which must be about this name.
    pub(crate) fn event_of(&mut self, name: &str) -> Result<Value, Failed> {
        let event = self.event()?;
        if event["server.address"] == name {
            Ok(event)
        } else {
            Err(format!("expected an event of {name}, not {event}").into())
        }
    }

    /// The next line on standard error.
    pub(crate) fn complaint(&self) -> Result<String, Failed> {
        Ok(self.errors.recv_timeout(PATIENCE)?)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill(self.pid(), signal)?)
    }

    /// Stops it, for [`Signal::SIGCONT`] to go on.
    pub(crate) fn stop(&self) -> Result<(), Failed> {
        self.signal(Signal::SIGSTOP)?;
        match waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Kills it, and waits until the kernel has freed what it held: the lines that it still wrote.
    pub(crate) fn kill(mut self) -> Result<Vec<String>, Failed> {
        self.child.kill()?;
        let (lines, _, _) = self.rest()?;
        Ok(lines)
    }

    /// Ends it by a signal: exit code 0, every line valid, the counters last and true.
    pub(crate) fn end(mut self, signal: Signal) -> Result<Ended, Failed> {
        self.signal(signal)?;
        let (lines, errors, status) = self.rest()?;
        if !status.success() || !errors.is_empty() {
            return Err(format!("{status}: {errors:?}").into());
        }
        let mut objects = lines
            .iter()
            .map(|line| serde_json::from_str(line))
            .collect::<Result<Vec<Value>, _>>()?;
        let counters = objects.pop().ok_or("no counters")?;
        let mut events = std::mem::take(&mut self.events);
        events.append(&mut objects);
        let ended = Ended { events, counters };
        ended.check()?;
        Ok(ended)
    }

    /// The same by SIGTERM.
    pub(crate) fn finish(self) -> Result<Ended, Failed> {
        self.end(Signal::SIGTERM)
    }

    /// Everything it still says, and how it ended.
    fn rest(&mut self) -> Result<(Vec<String>, Vec<String>, ExitStatus), Failed> {
        let mut all = [Vec::new(), Vec::new()];
        for (into, from) in all.iter_mut().zip([&self.lines, &self.errors]) {
            loop {
                match from.recv_timeout(PATIENCE) {
                    Ok(line) => into.push(line),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => return Err("it does not end".into()),
                }
            }
        }
        let [lines, errors] = all;
        Ok((lines, errors, self.child.wait()?))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// A counter, whichever group it is in.
    pub(crate) fn count(&self, name: &str) -> u64 {
        ["lost", "seen"]
            .into_iter()
            .find_map(|group| self.counters[group][name].as_u64())
            .unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// All that may have hidden a failed handshake.
    pub(crate) fn lost(&self) -> u64 {
        let lost = self.counters["lost"].as_object();
        lost.into_iter()
            .flatten()
            .filter_map(|(_, count)| count.as_u64())
            .sum()
    }

    /// Each failed handshake is one event or one of `ring_full`, and the classes' counts are theirs.
    fn check(&self) -> Result<(), Failed> {
        if self.counters["type"] != "counters" {
            return Err(format!("the last line is not the counters: {}", self.counters).into());
        }
        if let Some(odd) = self.events.iter().find(|event| event.get("type").is_some()) {
            return Err(format!("not an event: {odd}").into());
        }
        let (failed, full) = (self.count("handshake_failed"), self.count("ring_full"));
        if failed != self.events.len() as u64 + full {
            let events = self.events.len();
            return Err(format!("{failed} failed, {events} events, {full} lost").into());
        }
        let counted: BTreeMap<String, u64> = self.counters["events"]
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(class, versions)| {
                let versions = versions.as_object().into_iter().flatten();
                versions.map(move |(version, count)| {
                    (format!("{class} {version}"), count.as_u64().unwrap_or(0))
                })
            })
            .collect();
        if counted.values().sum::<u64>() != failed {
            return Err(format!("{failed} failed, by class: {counted:?}").into());
        }
        let mut reported = BTreeMap::new();
        for event in &self.events {
            let version = event["tls.protocol.version"].as_str().unwrap_or("unknown");
            let class = event["error.type"].as_str().unwrap_or_default();
            *reported.entry(format!("{class} {version}")).or_insert(0) += 1;
        }
        if full == 0 && counted != reported {
            return Err(format!("counted {counted:?}, reported {reported:?}").into());
        }
        Ok(())
    }
}

/// Runs the probe to its end, which comes by itself: exit code, standard output, standard error.
pub(crate) fn refused(
    namespace: &NetNs,
    command: &mut Command,
) -> Result<(Option<i32>, String, String), Failed> {
    let output = namespace.run(|| command.stdin(Stdio::null()).output())??;
    let [out, err] = [output.stdout, output.stderr].map(String::from_utf8);
    Ok((output.status.code(), out?, err?))
}

/// A copy of the probe that any user may run; it lives as long as the folder.
pub(crate) fn public_copy(folder: &tempfile::TempDir) -> Result<std::path::PathBuf, Failed> {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open.clone())?;
    let copy = folder.path().join("mtls-probe");
    // By another process: a child of this one, started by another trial at that moment, would have it open for writing
    // for as long as it takes to become what it is, and nobody could run it (ETXTBSY).
    let copied = Command::new("cp").arg(PROBE).arg(&copy).status()?;
    if !copied.success() {
        return Err("cp failed".into());
    }
    std::fs::set_permissions(&copy, open)?;
    Ok(copy)
}

fn lines_of_errors(child: &mut Child) -> Receiver<String> {
    lines(child.stderr.take())
}

/// The lines of a pipe, as they come.
pub(crate) fn lines(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || {
            let whole = BufReader::new(pipe).lines().map_while(Result::ok);
            for line in whole {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}
