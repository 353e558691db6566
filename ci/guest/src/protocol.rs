//! The names that host and guest agree on. `ci/xtask/src/matrix/folder.rs` writes and reads the same.

/// The 9p tag of the one folder that the guest may write.
pub const RESULTS_TAG: &str = "gauntlet-results";
/// Where the guest has it.
pub const RESULTS_FOLDER: &str = "/mnt/results";
/// The 9p tag that vmtest gives to the host's root.
pub const ROOT_TAG: &str = "/dev/root";
/// On the kernel's command line: say [`ALIVE`] and power off. Shows whether an accelerator works.
pub const PROBE_ARGUMENT: &str = "gauntlet.probe";
/// What the init says then.
pub const ALIVE: &str = "gauntlet-init: alive";

/// Folders of what only root runs. vmtest gives the guest the `PATH` of whoever started it, and an ordinary user's
/// lacks them; in the guest everybody is root.
pub const SYSTEM_PROGRAMS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// In the results folder, from the host: a [`Request`].
pub const REQUEST: &str = "request";
/// In the results folder, from the host, where a person sits at it: the [`Terminal`].
pub const TERMINAL: &str = "terminal";
/// In the results folder, from the host: the name of a [`Fault`] to make, for the tests of the matrix.
pub const FAULT: &str = "fault";
/// In the folder of the programs: those of [`Fault::Refused`].
pub const REFUSED: &str = "refused";
/// In the results folder, from the guest: `uname -r`, written before anything else is done.
pub const BEGUN: &str = "begun";
/// The run as NDJSON, of [`Task::Test`] and [`Task::Run`].
pub const CASES: &str = "cases.ndjson";
/// Whatever else the suite said.
pub const LOG: &str = "suite.log";
/// The figures of [`Task::Bench`], and a page of them, in a folder.
pub const FIGURES: &str = "bench";
/// What `gauntlet repro`, `gauntlet recut`, `differential` or `gauntlet-bench` showed.
pub const SHOWN: &str = "shown.txt";
/// What the programs cost to load.
pub const PROGRAMS: &str = "programs.ndjson";
/// What loading them said on standard error: the verifier's words, if it refused.
pub const PROGRAMS_LOG: &str = "programs.log";
/// The least memory that was available while the suite ran, KiB, in decimal: what the kernel calls `MemAvailable`.
pub const MEMORY: &str = "memory";
/// The verifier's whole logs of the programs that it refused: `PROGRAM.log`, and beside each the line of
/// the source that it looked at last, where it is known: `PROGRAM.source`.
pub const VERIFIER: &str = "verifier";
/// The end marker, written last: `end CODE`, with the exit code of what was run, by the contract of
/// `gauntlet`.
pub const END: &str = "end";

/// The end marker's text.
#[must_use]
pub fn end_marker(code: i32) -> String {
    format!("end {code}\n")
}

/// What a guest is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The test binary of `cargo test --test conformance`.
    Test,
    /// `gauntlet run`.
    Run,
    /// `gauntlet repro`.
    Repro,
    /// `gauntlet recut`.
    Recut,
    /// `differential`.
    Differential,
    /// `gauntlet-bench`.
    Bench,
}

impl Task {
    const ALL: [Self; 6] = [
        Self::Test,
        Self::Run,
        Self::Repro,
        Self::Recut,
        Self::Differential,
        Self::Bench,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Run => "run",
            Self::Repro => "repro",
            Self::Recut => "recut",
            Self::Differential => "differential",
            Self::Bench => "bench",
        }
    }
}

/// What a guest is to run, and with which arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub task: Task,
    /// None of them has a line break.
    pub arguments: Vec<String>,
}

impl Default for Request {
    /// What plain `vmtest` runs.
    fn default() -> Self {
        Self {
            task: Task::Test,
            arguments: vec!["--seed".into(), "1".into()],
        }
    }
}

impl Request {
    /// The task's name, then one argument a line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.task.name());
        for argument in &self.arguments {
            text.push_str(argument);
            text.push('\n');
        }
        text
    }

    /// Reads it back. `None` when it names no task.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let name = lines.next()?;
        Some(Self {
            task: Task::ALL.into_iter().find(|task| task.name() == name)?,
            arguments: lines.map(String::from).collect(),
        })
    }
}

/// The terminal of whoever asked: QEMU offers the guest's second serial line at a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// The socket, on the host.
    pub socket: String,
    /// Lines and columns.
    pub size: (u16, u16),
    /// `TERM`.
    pub kind: String,
}

impl Terminal {
    /// The second serial line, in the guest.
    pub const DEVICE: &str = "/dev/ttyS1";

    /// One thing a line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { socket, size, kind } = self;
        format!("{socket}\n{}\n{}\n{kind}\n", size.0, size.1)
    }

    /// Reads it back.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        Some(Self {
            socket: lines.next()?.to_owned(),
            size: (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?),
            kind: lines.next()?.to_owned(),
        })
    }
}

/// What a guest does wrong on request, so that tests see it become red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its kernel panics.
    Panic,
    /// It never ends.
    Hang,
    /// It ends well, and its tests never ran.
    NeverRan,
    /// It ends well, and its results are cut in the middle.
    CutShort,
    /// Its probe has a program that the kernel's verifier refuses.
    Refused,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Panic,
        Self::Hang,
        Self::NeverRan,
        Self::CutShort,
        Self::Refused,
    ];

    /// How it is written in the file [`FAULT`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::NeverRan => "never-ran",
            Self::CutShort => "cut-short",
            Self::Refused => "refused",
        }
    }

    /// The fault of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        for task in Task::ALL {
            let request = Request {
                task,
                arguments: vec!["--exact".into(), "a::b".into(), "two words".into()],
            };
            assert_eq!(Request::from_text(&request.to_text()), Some(request));
        }
        let terminal = Terminal {
            socket: "/a b/s".into(),
            size: (50, 132),
            kind: "xterm".into(),
        };
        assert_eq!(Terminal::from_text(&terminal.to_text()), Some(terminal));
        for fault in Fault::ALL {
            assert_eq!(Fault::from_name(fault.name()), Some(fault));
        }
        assert_eq!(Request::from_text(""), None);
        assert_eq!(Request::from_text("unknown\n"), None);
        assert_eq!(Terminal::from_text("/s\n"), None);
    }
}
