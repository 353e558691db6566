//! How far a run is, told on standard error; and its end, when somebody asks for that or it takes too long.
//!
//! Whatever measures says [`at`] again and again. A signal makes it an error there, so that all that was made is
//! taken back on the way out: processes, cgroups, namespaces. What is stuck then is ended as it stands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{process, thread};

use anyhow::{Result, bail};
use gauntlet_cli::exit;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Somebody asked for the end.
static END: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// When something was told last.
static TOLD: Mutex<Option<Instant>> = Mutex::new(None);

/// How often it is told.
const OFTEN: Duration = Duration::from_secs(20);
/// What has not ended after this time is stuck: longer than whatever waits for another process.
const STUCK: Duration = Duration::from_secs(60);

/// Listens to signals, and to the end of whoever started this process; and ends what takes longer than `longest`.
///
/// # Errors
/// When the kernel refuses.
pub fn listen(longest: Duration) -> Result<()> {
    let end = Arc::clone(END.get_or_init(Arc::default));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register(signal, Arc::clone(&end))?;
    }
    set_pdeathsig(Signal::SIGTERM)?;
    thread::spawn(move || {
        let begin = Instant::now();
        while !end.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(200));
            if begin.elapsed() > longest {
                eprintln!("bench: {} minutes are over", longest.as_secs() / 60);
                end.store(true, Ordering::SeqCst);
            }
        }
        thread::sleep(STUCK);
        eprintln!("bench: stuck");
        process::exit(exit::NO_VERDICT.into());
    });
    Ok(())
}

/// Whether the end was asked for.
#[must_use]
pub fn is_over() -> bool {
    END.get().is_some_and(|end| end.load(Ordering::SeqCst))
}

/// Nothing but that it goes on.
///
/// # Errors
/// When there is to be an end.
pub fn ongoing() -> Result<()> {
    if is_over() {
        bail!("asked to end before all was measured");
    }
    Ok(())
}

/// So many of so many are done.
///
/// # Errors
/// As [`ongoing`].
pub fn at(done: usize, of: usize) -> Result<()> {
    ongoing()?;
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if END.get().is_some() && told.is_none_or(|told| told.elapsed() >= OFTEN) {
        *told = Some(Instant::now());
        if let Some(percent) = percent(done, of) {
            eprintln!("bench:   {percent} %");
        }
    }
    Ok(())
}

fn percent(done: usize, of: usize) -> Option<usize> {
    (done * 100).checked_div(of).filter(|percent| *percent > 0)
}

/// A part of a run, and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Which.
    pub what: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// The parts of a run, as they are done.
#[derive(Debug)]
pub struct Parts {
    of: usize,
    done: Vec<Part>,
}

impl Parts {
    /// None yet, of so many.
    #[must_use]
    pub fn new(of: usize) -> Self {
        Self {
            of,
            done: Vec::new(),
        }
    }

    /// Does the next.
    ///
    /// # Errors
    /// Its own.
    pub fn next<T>(&mut self, what: &'static str, part: impl FnOnce() -> Result<T>) -> Result<T> {
        let (number, of) = (self.done.len() + 1, self.of);
        eprintln!("bench: [{number}/{of}] {what}");
        *TOLD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let start = Instant::now();
        let result = part();
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("bench: [{number}/{of}] {what}: {seconds:.0} s");
        self.done.push(Part { what, seconds });
        result
    }

    /// What took how long.
    #[must_use]
    pub fn took(self) -> Vec<Part> {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_in_whole_percents_once_there_is_one() {
        assert_eq!(percent(0, 10), None);
        assert_eq!(percent(1, 3), Some(33));
        assert_eq!(percent(10, 10), Some(100));
        assert_eq!(percent(0, 0), None);
    }

    #[test]
    fn a_part_that_fails_is_over_all_the_same() {
        let mut parts = Parts::new(2);
        assert!(parts.next("one", || Ok(1)).is_ok());
        assert!(parts.next::<()>("two", || bail!("no")).is_err());
        let took: Vec<_> = parts.took().into_iter().map(|part| part.what).collect();
        assert_eq!(took, ["one", "two"]);
    }
}
