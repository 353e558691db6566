//! The secrets of a case's connections, kept in memory as lines in the format of NSS (`SSLKEYLOGFILE`),
//! so that a failing case can be handed over with a capture that others can decrypt.

use std::fmt::Write;
use std::sync::Mutex;

use rustls::KeyLog;

/// Collects key log lines.
#[derive(Debug, Default)]
pub(super) struct MemoryKeyLog(Mutex<Vec<String>>);

impl MemoryKeyLog {
    /// The lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        // A panic elsewhere cannot leave a half-written line.
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Adds a line that is one already, as OpenSSL makes them.
    pub(super) fn push(&self, line: String) {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(line);
    }
}

impl KeyLog for MemoryKeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.push(format!("{label} {} {}", hex(client_random), hex(secret)));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
