//! The secrets of a case's connections, kept in memory as lines in the format of NSS (`SSLKEYLOGFILE`),
//! so that a failing case can be handed over with a capture that others can decrypt.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;

use rustls::KeyLog;

/// Collects key log lines.
#[derive(Debug, Default)]
pub(super) struct MemoryKeyLog {
    lines: Mutex<Vec<String>>,
    /// Where they are written, too, each as soon as the library says it.
    file: Option<File>,
}

impl MemoryKeyLog {
    /// Which also writes to the file at a path, as an application with `SSLKEYLOGFILE` does.
    pub(super) fn new(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| File::options().append(true).create(true).open(path);
        Ok(Self {
            lines: Mutex::default(),
            file: path.map(open).transpose()?,
        })
    }

    /// The lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        // A panic elsewhere cannot leave a half-written line.
        self.lines
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Adds a line that is one already, as OpenSSL makes them.
    pub(super) fn push(&self, line: String) {
        if let Some(mut file) = self.file.as_ref() {
            // What is not there the probe cannot name, and the case is red.
            let _missing = file.write_all(format!("{line}\n").as_bytes());
        }
        self.lines
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
