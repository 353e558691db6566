//! Ctrl-C and SIGTERM: the first asks the run to end, the second ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has come, and which.
#[derive(Debug, Clone, Default)]
pub(super) struct Signals {
    interrupted: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
}

impl Signals {
    /// From now on, signals are noted instead of ending the process.
    pub(super) fn listen() -> io::Result<Self> {
        let signals = Self::default();
        for (signal, noted) in [
            (SIGINT, &signals.interrupted),
            (SIGTERM, &signals.terminated),
        ] {
            // Registered first, so that it sees the flag only from the second signal on.
            flag::register_conditional_shutdown(signal, 2, Arc::clone(noted))?;
            flag::register(signal, Arc::clone(noted))?;
        }
        Ok(signals)
    }

    /// The signal's name, once one has come.
    pub(super) fn caught(&self) -> Option<&'static str> {
        if self.interrupted.load(Ordering::Relaxed) {
            Some("SIGINT")
        } else if self.terminated.load(Ordering::Relaxed) {
            Some("SIGTERM")
        } else {
            None
        }
    }
}
