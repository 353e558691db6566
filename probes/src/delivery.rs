//! When to look for events, and when to sleep until the kernel says that there are some: what that costs whoever
//! sends the packets, this process, and an event in time.
//!
//! | delivery | while events come | at rest | for |
//! |---|---|---|---|
//! | latency | looks without a pause, [`SPIN`] after the last one | asleep, woken by the first | microseconds; a whole processor meanwhile |
//! | balanced | looks every [`SHORT`], [`LINGER`] after the last one | the same | tens of microseconds; under half a processor |
//! | quiet | looks every [`LONG`] | the same | least work for everybody; a few milliseconds |
//!
//! Who took in one turn as many events as the buffers hold looks again at once, whatever the delivery: a flood of
//! failures has a whole processor.
//!
//! The rules are plain ([`Pace::next`]), and touch neither clock nor ring.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use aya::maps::{Map, MapError};
use gauntlet_wire::reader::{ASLEEP, AWAKE, SILENT, TOLD, WORD, WORDS};
use nix::libc;

use crate::shared::Shared;

/// How long [`Delivery::Latency`] goes on looking.
pub const SPIN: Duration = Duration::from_micros(100);
/// How often [`Delivery::Balanced`] looks.
pub const SHORT: Duration = Duration::from_micros(25);
/// How long it goes on with it.
pub const LINGER: Duration = Duration::from_millis(1);
/// How often [`Delivery::Quiet`] looks.
pub const LONG: Duration = Duration::from_millis(2);
/// How long the longest sleep may be: nothing is stuck for longer, whatever went wrong.
pub const SLEEP: Duration = Duration::from_millis(250);

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As soon as can be.
    Latency,
    /// Soon, and at a bounded cost.
    Balanced,
    /// At the least cost.
    Quiet,
}

/// This thread's timers end when they are to, and not up to 50 us later, as is usual.
pub fn punctual() {
    // SAFETY: takes numbers only. It cannot fail.
    let _always = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// This thread runs before all that have no such priority (SCHED_FIFO).
///
/// # Errors
/// When the process may not (CAP_SYS_NICE, RLIMIT_RTPRIO).
pub fn real_time(priority: u8) -> io::Result<()> {
    let parameter = libc::sched_param {
        sched_priority: priority.into(),
    };
    // SAFETY: `parameter` outlives the call.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a look for events came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There was none.
    Nothing,
    /// All there was.
    All,
    /// As many as the buffer holds, which is as much as is taken in one turn: there may be more.
    Part,
}

/// What to do before looking for events again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    Not,
    /// Let so much time pass: nobody will wake us.
    Pause(Duration),
    /// Sleep until woken: say so first ([`Reader::sleeps`]), then poll the ring.
    Sleep,
}

/// Where a reader stands.
#[derive(Debug)]
pub struct Pace {
    delivery: Delivery,
    last: Option<Instant>,
}

impl Pace {
    /// A reader that has seen nothing yet.
    #[must_use]
    pub const fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            last: None,
        }
    }

    /// What to do, having just looked.
    #[must_use]
    pub fn next(&mut self, found: Found, now: Instant) -> Wait {
        if found != Found::Nothing {
            self.last = Some(now);
        }
        if found == Found::Part {
            return Wait::Not;
        }
        let since = self.last.map(|last| now.saturating_duration_since(last));
        match (self.delivery, since) {
            (Delivery::Latency, Some(since)) if since < SPIN => Wait::Not,
            (Delivery::Balanced, Some(since)) if since < LINGER => Wait::Pause(SHORT),
            (Delivery::Quiet, Some(_)) if found == Found::All => Wait::Pause(LONG),
            _ => Wait::Sleep,
        }
    }
}

/// The reader's word to the programs ([`gauntlet_wire::reader`]). Until it says anything, the kernel wakes it
/// whenever it has read all there was.
pub struct Reader(Shared<[AtomicU64; WORDS]>);

impl Reader {
    /// That of a map.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn new(map: &Map) -> Result<Self, MapError> {
        Shared::new(map).map(Self)
    }

    /// It is about to sleep. What was told before is seen by polling the ring after this; what is told later
    /// wakes it.
    pub fn sleeps(&self) {
        self.0[WORD].store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// It says nothing any more.
    pub fn silent(&self) {
        self.0[WORD].store(SILENT, Ordering::Relaxed);
    }

    /// It looks by itself.
    pub fn wakes(&self) {
        self.0[WORD].store(AWAKE, Ordering::Relaxed);
    }

    /// How many events were told.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.0[TOLD].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(delivery: Delivery, quiet: Duration) -> Wait {
        let start = Instant::now();
        let mut pace = Pace::new(delivery);
        let _first = pace.next(Found::All, start);
        pace.next(Found::Nothing, start + quiet)
    }

    #[test]
    fn who_has_seen_nothing_sleeps() {
        for delivery in [Delivery::Latency, Delivery::Balanced, Delivery::Quiet] {
            assert_eq!(
                Pace::new(delivery).next(Found::Nothing, Instant::now()),
                Wait::Sleep
            );
        }
    }

    #[test]
    fn each_goes_on_looking_as_long_as_it_says() {
        let moment = Duration::from_nanos(1);
        assert_eq!(after(Delivery::Latency, SPIN - moment), Wait::Not);
        assert_eq!(after(Delivery::Latency, SPIN), Wait::Sleep);
        assert_eq!(
            after(Delivery::Balanced, LINGER - moment),
            Wait::Pause(SHORT)
        );
        assert_eq!(after(Delivery::Balanced, LINGER), Wait::Sleep);
        assert_eq!(
            Pace::new(Delivery::Quiet).next(Found::All, Instant::now()),
            Wait::Pause(LONG)
        );
        assert_eq!(after(Delivery::Quiet, LONG), Wait::Sleep);
    }
    #[test]
    fn nobody_waits_while_there_may_be_more() {
        for delivery in [Delivery::Latency, Delivery::Balanced, Delivery::Quiet] {
            let mut pace = Pace::new(delivery);
            assert_eq!(pace.next(Found::Part, Instant::now()), Wait::Not);
        }
    }
}
