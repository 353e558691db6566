//! Whether the machine stood still: a thread on each CPU sleeps a little, again and again, and remembers
//! when it woke up much too late.
//!
//! A case that is about time means nothing on a machine that was not there for some of it: an emulated
//! processor whose host was busy, a paused guest. Refuses to say what a case is worth; it only saw the clock.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::probe::stall_after;

/// How long each sleep is.
const TICK: Duration = Duration::from_millis(20);
/// How many standstills are remembered; whoever asks, asks about the last few seconds.
const KEPT: usize = 64;

/// When each ended, and how long it was.
type Seen = Mutex<Vec<(Instant, Duration)>>;

/// Begins to watch, once for the whole process.
pub(super) fn watch() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        for cpu in 0..cpus {
            thread::spawn(move || {
                let mut only = CpuSet::new();
                // A CPU that is not ours leaves the thread wherever it is put.
                let _anywhere = only
                    .set(cpu)
                    .and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
                look(seen());
            });
        }
    });
}

/// The longest standstill that ended since then, if there was one worth the name: long enough to turn a
/// handshake that goes on into one that stalls.
pub(super) fn since(began: Instant) -> Option<Duration> {
    let seen = seen().lock().unwrap_or_else(PoisonError::into_inner);
    let later = seen.iter().filter(|(ended, _)| *ended >= began);
    later.map(|(_, length)| *length).max()
}

fn seen() -> &'static Seen {
    static SEEN: OnceLock<Seen> = OnceLock::new();
    SEEN.get_or_init(Seen::default)
}

fn look(seen: &Seen) -> ! {
    let worth_the_name = stall_after() / 3;
    loop {
        let slept = Instant::now();
        thread::sleep(TICK);
        let late = slept.elapsed().saturating_sub(TICK);
        if late >= worth_the_name {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() == KEPT {
                seen.remove(0);
            }
            seen.push((Instant::now(), late));
        }
    }
}
