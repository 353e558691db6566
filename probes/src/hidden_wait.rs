//! Events on their way out, in the order in which they came: one about a hidden alert may wait a little for
//! the application to write down the secrets that open it, and those behind it wait with it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use gauntlet_probes::hidden::{Look, look};
use gauntlet_probes::hidden_count::HiddenCount;
use gauntlet_probes::keylog_follow::{FollowError, Follower};
use gauntlet_probes::probe::Counts;
use gauntlet_wire::event::Event;

use crate::watched::Origin;

/// How long an event waits for its secrets. Applications write them down before they use them, so only
/// a buffer on their side can make it take longer than no time.
const PATIENCE: Duration = Duration::from_millis(500);

/// An event on its way out.
pub(crate) struct Held {
    /// Where it was seen.
    pub(crate) origin: Origin,
    /// The event.
    pub(crate) event: Event,
    since: Instant,
}

/// Events on their way out, and the key log that they may wait for.
#[derive(Default)]
pub(crate) struct HiddenWait {
    log: Option<Follower>,
    count: HiddenCount,
    held: VecDeque<Held>,
    /// Why the key log cannot be read, once that was said.
    unreadable: Option<String>,
}

impl HiddenWait {
    /// With the key log at a path, where there is to be one.
    ///
    /// # Errors
    /// [`FollowError`].
    pub(crate) fn new(log: Option<&Path>) -> Result<Self, FollowError> {
        Ok(Self {
            log: log.map(Follower::start).transpose()?,
            ..Self::default()
        })
    }

    /// Takes an event.
    pub(crate) fn push(&mut self, origin: Origin, event: Event) {
        self.held.push_back(Held {
            origin,
            event,
            since: Instant::now(),
        });
    }

    /// Gives those that need not wait any longer to `each`, with what is known of their alerts; `ended`:
    /// none need.
    pub(crate) fn release<E>(
        &mut self,
        ended: bool,
        mut each: impl FnMut(Held, Look) -> Result<(), E>,
    ) -> Result<(), E> {
        self.read_on();
        while let Some(first) = self.held.front() {
            let look = look(&first.event, self.log.as_ref().map(Follower::log));
            let waits = !ended && first.since.elapsed() < PATIENCE;
            if waits && matches!(look, Look::NoKeys | Look::Locked) {
                break;
            }
            self.count.add(&first.event, look);
            if let Some(first) = self.held.pop_front() {
                each(first, look)?;
            }
        }
        Ok(())
    }

    /// When the first that waits will have waited long enough.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.held.front().map(|first| first.since + PATIENCE)
    }

    /// Readable when the wait may be over; none where nothing waits.
    pub(crate) fn wakes(&self) -> Option<BorrowedFd<'_>> {
        self.log
            .as_ref()
            .filter(|_| !self.held.is_empty())
            .map(|log| log.as_fd())
    }

    /// Counts as it was told.
    pub(crate) fn apply(&self, counts: &mut Counts) {
        if let Some(log) = &self.log {
            self.count.apply(log.log(), counts);
        }
    }

    /// Reads the key log as far as it was written, if anything waits for it.
    fn read_on(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let read = self.log.as_mut().map_or(Ok(()), Follower::update);
        let failed = read.err().as_ref().map(io::Error::to_string);
        if failed.is_some() && failed != self.unreadable {
            let why = failed.as_deref().unwrap_or_default();
            eprintln!("mtls-probe: the key log cannot be read: {why}");
        }
        self.unreadable = failed;
    }
}
