//! A thread that keeps the probes where the processes are: attaching takes milliseconds a library, which
//! whoever reads events cannot wait for.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::attach::Attacher;
use super::find::{self, Found, Inode};
use super::mapped::Mappings;
use super::{LibraryError, Selection};

/// How often it looks for libraries that nobody uses any more, and for whatever else was missed.
const ROUND: Duration = Duration::from_secs(60);

/// The thread, and what it says of its work.
pub(crate) struct Keeper {
    thread: Option<JoinHandle<()>>,
    end: Arc<EventFd>,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    probed: AtomicUsize,
    refused: Mutex<Vec<String>>,
}

impl Keeper {
    /// Attaches to what is there, then starts the thread.
    pub(crate) fn start(
        mut attacher: Attacher,
        selection: &Selection,
    ) -> Result<Self, LibraryError> {
        let end = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let end = Arc::new(end.map_err(|errno| LibraryError::Mappings(errno.into()))?);
        let said = Arc::new(Said::default());
        for path in &selection.files {
            let none = || LibraryError::File(format!("{}: no such file", path.display()));
            attacher.add(&Found::at(path).ok_or_else(none)?, true);
            if let Some((_, refused)) = attacher.refused.pop_first() {
                return Err(LibraryError::File(refused));
            }
        }
        let mut mappings = None;
        if selection.all {
            // Before looking, so that nothing is mapped between the two.
            mappings = Some(Mappings::watch().map_err(LibraryError::Mappings)?);
            for found in find::installed() {
                attacher.add(&found, true);
            }
            for found in find::mapped() {
                attacher.add(&found, false);
            }
        }
        said.update(&attacher);
        let thread = {
            let (end, said) = (end.clone(), said.clone());
            thread::Builder::new()
                .name("libraries".into())
                .spawn(move || keep(attacher, mappings, &end, &said))
                .map_err(LibraryError::Mappings)?
        };
        Ok(Self {
            thread: Some(thread),
            end,
            said,
        })
    }

    pub(crate) fn probed(&self) -> usize {
        self.said.probed.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> Vec<String> {
        let refused = self.said.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the thread, which detaches everything.
    pub(crate) fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.end.write(1);
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Said {
    fn update(&self, attacher: &Attacher) {
        self.probed.store(attacher.probed(), Ordering::Relaxed);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = attacher.refused.values().cloned().collect();
    }
}

fn keep(mut attacher: Attacher, mut mappings: Option<Mappings>, end: &EventFd, said: &Said) {
    let mut round = Instant::now() + ROUND;
    loop {
        let mut waiting = vec![PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        for descriptor in mappings.iter().flat_map(Mappings::descriptors) {
            waiting.push(PollFd::new(descriptor, PollFlags::POLLIN));
        }
        let left = round.saturating_duration_since(Instant::now());
        let timeout = if mappings.is_some() {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        } else {
            PollTimeout::NONE
        };
        let woken = poll(&mut waiting, timeout);
        let ended = waiting[0].any().unwrap_or(false);
        if ended || matches!(woken, Err(errno) if errno != nix::errno::Errno::EINTR) {
            return;
        }
        let Some(mappings) = &mut mappings else {
            continue;
        };
        let news = mappings.take();
        for process in news.processes {
            for found in find::mapped_by(process) {
                attacher.add(&found, false);
            }
        }
        if news.lost || Instant::now() >= round {
            let mapped = find::mapped();
            for found in &mapped {
                attacher.add(found, false);
            }
            let used: BTreeSet<Inode> = mapped.iter().map(|found| found.inode).collect();
            attacher.keep_only(&used);
            round = Instant::now() + ROUND;
        }
        said.update(&attacher);
    }
}
