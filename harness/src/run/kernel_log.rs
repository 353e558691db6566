//! What the kernel said during a case: a splat in the verifier or in a driver is no accident of the
//! case it happened in.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;

/// A place in the kernel's log.
#[derive(Debug)]
pub(super) struct KernelLog(io::Result<File>);

impl KernelLog {
    /// The log's end, now.
    pub(super) fn now() -> Self {
        let open = || {
            let mut file = OpenOptions::new()
                .read(true)
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        Self(open())
    }

    /// Everything logged since, or why that is not known.
    pub(super) fn since(self) -> String {
        let mut file = match self.0 {
            Ok(file) => file,
            Err(error) => return format!("the kernel's log cannot be read: /dev/kmsg: {error}\n"),
        };
        let mut text = String::new();
        let mut record = [0; 8192];
        // Each read gives one record; the end is EAGAIN.
        loop {
            match file.read(&mut record) {
                Ok(length) => text.push_str(&String::from_utf8_lossy(&record[..length])),
                // Overwritten before it was read: the next read goes on with the oldest one left.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => text.push_str("(gap)\n"),
                Err(_) => return text,
            }
        }
    }
}
