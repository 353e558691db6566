//! The terminal of whoever asked, handed to a guest: its keys go to the guest's second serial line, and
//! what comes from there is shown. Knows nothing of what runs at the other end.

use std::{
    env, fs,
    io::{self, IsTerminal, Read, Write, stdin, stdout},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result};
use gauntlet_guest::protocol;

use crate::child;

/// A terminal, as it was found; that is what it is again when this is dropped.
pub(crate) struct Terminal {
    /// What `stty -g` said.
    found: String,
    size: (u16, u16),
    socket: PathBuf,
}

impl Terminal {
    /// `None` where standard input or output is no terminal.
    ///
    /// # Errors
    /// When it cannot be asked about itself.
    pub(crate) fn here() -> Result<Option<Self>> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(None);
        }
        let found = stty(&["-g"])?;
        let size = stty(&["size"])?;
        let mut numbers = size.split_whitespace().map(str::parse);
        // One without a size is as large as they were once.
        let size = match (numbers.next(), numbers.next()) {
            (Some(Ok(rows)), Some(Ok(columns))) if rows > 0 && columns > 0 => (rows, columns),
            _ => (24, 80),
        };
        // Not beside the kernel: a socket's path has 107 bytes.
        let name = format!("gauntlet-terminal-{}", std::process::id());
        Ok(Some(Self {
            found,
            size,
            socket: env::temp_dir().join(name),
        }))
    }

    /// What the guest and its QEMU have to know.
    pub(crate) fn told(&self) -> protocol::Terminal {
        protocol::Terminal {
            socket: self.socket.display().to_string(),
            size: self.size,
            kind: env::var("TERM").unwrap_or_else(|_| "vt100".into()),
        }
    }

    /// The other end, once QEMU offers it.
    pub(crate) fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(&self.socket).ok()
    }

    /// Hands the terminal over until the guest is gone. Every key counts, Ctrl-C too.
    ///
    /// # Errors
    /// When the terminal cannot be made raw.
    pub(crate) fn hand_over(&self, mut guest: UnixStream) -> Result<()> {
        let mut first = [0; 4096];
        // Until the guest says something, Ctrl-C still ends this.
        let length = guest.read(&mut first).unwrap_or(0);
        if length == 0 {
            return Ok(());
        }
        stty(&["raw", "-echo"])?;
        let mut keys = guest.try_clone().context("the guest's terminal")?;
        thread::spawn(move || io::copy(&mut stdin().lock(), &mut keys));
        let show = |bytes: &[u8]| {
            let mut out = stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        };
        // In the place of the line that says how far the boot is.
        show(b"\r\x1b[K")?;
        show(&first[..length])?;
        loop {
            match guest.read(&mut first) {
                // However QEMU ended, it is the end.
                Ok(0) | Err(_) => return Ok(()),
                Ok(length) => show(&first[..length])?,
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody to tell when the terminal or the socket is gone.
        let _ = stty(&[&self.found]);
        let _ = fs::remove_file(&self.socket);
    }
}

fn stty(arguments: &[&str]) -> Result<String> {
    let mut stty: Command = child::command("stty");
    let output = stty
        .args(arguments)
        .stdin(Stdio::inherit())
        .output()
        .context("cannot start stty")?;
    anyhow::ensure!(
        output.status.success(),
        "stty {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
