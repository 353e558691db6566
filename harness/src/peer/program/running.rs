//! A process at one end, read line by line to its end. It never outlives the thread that started it.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ProgramFailure;

/// A program that runs.
pub(super) struct Running {
    name: String,
    process: Child,
    /// Kept open: a client whose input ends says goodbye.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    said: Vec<String>,
    deadline: Instant,
}

/// A program that has ended.
pub(super) struct Ended {
    said: Vec<String>,
    /// How; unknown only where the system lost it.
    pub(super) status: Option<ExitStatus>,
    /// Whether the deadline ended it.
    pub(super) hung: bool,
}

impl Running {
    /// Starts a program that ends with the calling thread, whatever becomes of that.
    pub(super) fn start(command: &[String], deadline: Duration) -> Result<Self, ProgramFailure> {
        let name = command.first().cloned().unwrap_or_default();
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(command)
            // What it says is read by programs.
            .env("LC_ALL", "C")
            .env_remove("SSLKEYLOGFILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| ProgramFailure::Start {
                program: name.clone(),
                source,
            })?;
        let (sender, lines) = channel();
        if let Some(pipe) = process.stdout.take() {
            read(pipe, sender.clone());
        }
        if let Some(pipe) = process.stderr.take() {
            read(pipe, sender);
        }
        Ok(Self {
            name,
            input: process.stdin.take(),
            process,
            lines,
            said: Vec::new(),
            deadline: Instant::now() + deadline,
        })
    }

    /// Gives it something to send.
    pub(super) fn send(&mut self, text: &str) {
        if let Some(input) = &mut self.input {
            // One that has ended already says so itself.
            let _ended = input.write_all(text.as_bytes());
        }
    }

    /// Reads on to a line.
    pub(super) fn until(&mut self, wanted: fn(&str) -> bool) -> Result<(), ProgramFailure> {
        while let Ok(line) = self.next() {
            let found = wanted(&line);
            self.said.push(line);
            if found {
                return Ok(());
            }
        }
        Err(ProgramFailure::Deaf {
            program: self.name.clone(),
            said: self.said.last().cloned().unwrap_or_default(),
        })
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        if let Ok(pid) = self.process.id().try_into() {
            // It is not reaped yet, so the number is still its own.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Reads on to its end.
    pub(super) fn end(mut self) -> Ended {
        let hung = loop {
            match self.next() {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => break true,
            }
        };
        if hung {
            // An error means that it has just ended.
            let _ended = self.process.kill();
        }
        Ended {
            said: std::mem::take(&mut self.said),
            status: self.process.wait().ok(),
            hung,
        }
    }

    fn next(&self) -> Result<String, RecvTimeoutError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(left)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already; then there is nobody to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ended {
    #[cfg(test)]
    pub(super) fn of(said: &[&str], status: Option<ExitStatus>) -> Self {
        Self {
            said: said.iter().map(ToString::to_string).collect(),
            status,
            hung: false,
        }
    }

    /// Every line, of either stream, each stream's in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.said.iter().map(String::as_str)
    }

    /// The rest of the first line that begins so.
    pub(super) fn after(&self, begin: &str) -> Option<&str> {
        self.lines().find_map(|line| line.strip_prefix(begin))
    }

    /// Whether it ended by itself and well.
    pub(super) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// What to say where nothing that was printed explains the end.
    pub(super) fn unknown(&self) -> String {
        let status = self
            .status
            .map_or_else(|| "no status".into(), |status| status.to_string());
        let last = self.said.last().map_or("nothing", String::as_str);
        format!("unknown: {status}, last said: {last}")
    }

    /// What is kept of it.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.said
    }
}

fn read(pipe: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(bytes) = line else { return };
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            // Nobody listens any more: the program is being ended.
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}
