//! Where a thread runs, and before whom.

use anyhow::Result;
use gauntlet_probes::delivery::{punctual, real_time};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// A scheduling class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Class {
    /// SCHED_FIFO: before whatever else wants the processor. Else others' work is measured.
    #[serde(rename = "SCHED_FIFO")]
    Fifo,
    /// SCHED_OTHER: like everybody.
    #[serde(rename = "SCHED_OTHER")]
    Other,
}

impl Class {
    /// The highest that this process may have.
    #[must_use]
    pub fn highest() -> Self {
        let tried = std::thread::spawn(|| set(Self::Fifo)).join();
        if tried.unwrap_or(false) {
            Self::Fifo
        } else {
            Self::Other
        }
    }

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fifo => "SCHED_FIFO",
            Self::Other => "SCHED_OTHER",
        }
    }
}

/// This thread runs on one processor from now on, in that class.
///
/// # Errors
/// When there is no such processor.
pub fn run_on(processor: usize, class: Class) -> Result<()> {
    let mut set_of = CpuSet::new();
    set_of.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set_of)?;
    punctual();
    let _seen_before = set(class);
    Ok(())
}

fn set(class: Class) -> bool {
    match class {
        Class::Fifo => real_time(10).is_ok(),
        Class::Other => true,
    }
}
