//! Whether KVM works here, found by booting with it: `/dev/kvm` may be there, and be writable, and
//! still run no guest.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use gauntlet_guest::{
    protocol,
    qemu::{Accelerator, PROGRAM},
};

use super::folder::Folder;
use crate::child;

/// With KVM a kernel is up in a second.
const LIMIT: Duration = Duration::from_secs(15);

/// Looks, and writes down what was found where `gauntlet-qemu` reads it.
///
/// # Errors
/// When QEMU cannot be started at all, or nothing can be written.
pub(crate) fn find(folder: &Folder) -> Result<Accelerator> {
    let usable = File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let found = if usable && boots(folder, Accelerator::Kvm)? {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    };
    let path = super::folder::root().join("accelerator");
    fs::write(&path, found.name()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(found)
}

fn boots(folder: &Folder, accelerator: Accelerator) -> Result<bool> {
    let console = folder.path().join("probe.log");
    let mut qemu = child::command(PROGRAM);
    qemu.args([
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-m",
        "512M",
        "-serial",
    ])
    .arg(format!("file:{}", console.display()))
    .args(accelerator.arguments())
    .arg("-kernel")
    .arg(folder.path().join("vmlinuz"))
    .arg("-initrd")
    .arg(folder.path().join("initramfs"))
    .arg("-append")
    .arg(format!(
        "console=ttyS0 panic=-1 {}",
        protocol::PROBE_ARGUMENT
    ))
    .stdin(Stdio::null())
    .stdout(Stdio::null())
    .stderr(Stdio::null());
    let mut running = qemu
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM}"))?;
    let start = Instant::now();
    while running.try_wait()?.is_none() && start.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(50));
    }
    // An error means that it has ended by itself.
    let _ = running.kill();
    running.wait()?;
    Ok(says_alive(&console))
}

fn says_alive(console: &Path) -> bool {
    fs::read(console).is_ok_and(|log| String::from_utf8_lossy(&log).contains(protocol::ALIVE))
}
