//! The names that host and guest agree on. `ci/xtask/src/matrix/folder.rs` writes and reads the same.

/// The 9p tag of the one folder that the guest may write.
pub const RESULTS_TAG: &str = "gauntlet-results";
/// The 9p tag that vmtest gives to the host's root.
pub const ROOT_TAG: &str = "/dev/root";
/// On the kernel's command line: say [`ALIVE`] and power off. Shows whether an accelerator works.
pub const PROBE_ARGUMENT: &str = "gauntlet.probe";
/// What the init says then.
pub const ALIVE: &str = "gauntlet-init: alive";

/// In the results folder, from the host: one argument of `gauntlet run` a line.
pub const REQUEST: &str = "request";
/// In the results folder, from the host: the name of a [`Fault`] to make, for the tests of the matrix.
pub const FAULT: &str = "fault";
/// In the results folder, from the guest: `uname -r`, written before anything else is done.
pub const BEGUN: &str = "begun";
/// What `gauntlet run` printed.
pub const CASES: &str = "cases.ndjson";
/// What `gauntlet run` said on standard error.
pub const LOG: &str = "suite.log";
/// What the programs cost to load.
pub const PROGRAMS: &str = "programs.ndjson";
/// What loading them said on standard error: the verifier's words, if it refused.
pub const PROGRAMS_LOG: &str = "programs.log";
/// The verifier's whole logs of the programs that it refused: `PROGRAM.log`.
pub const VERIFIER: &str = "verifier";
/// The end marker, written last: `end CODE`, with the exit code of `gauntlet run`.
pub const END: &str = "end";

/// The end marker's text.
#[must_use]
pub fn end_marker(code: i32) -> String {
    format!("end {code}\n")
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
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Panic, Self::Hang, Self::NeverRan, Self::CutShort];

    /// How it is written in the file [`FAULT`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::NeverRan => "never-ran",
            Self::CutShort => "cut-short",
        }
    }

    /// The fault of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}
