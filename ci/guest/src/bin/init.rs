//! Process 1 of the initramfs: from a stock kernel to vmtest's init.
//!
//! Whatever goes wrong is said on the console, and ends the machine: the host then sees a boot that
//! failed, never a guest that lacks something.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gauntlet_guest::protocol::{ALIVE, PROBE_ARGUMENT, ROOT_TAG, SYSTEM_PROGRAMS};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{chdir, chroot, execv};

fn main() {
    let Err(error) = boot();
    eprintln!("gauntlet-init: {error:#}");
    power_off();
}

fn boot() -> Result<Infallible> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount_new(kind, kind, target, MsFlags::empty(), "")?;
    }
    let line = fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    if line.split_whitespace().any(|word| word == PROBE_ARGUMENT) {
        println!("{ALIVE}");
        power_off();
    }
    load_modules(Path::new("/modules"))?;
    mount_root()?;
    let init = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("init="))
        .context("the kernel's command line names no init=")?;
    switch_root(init)
}

/// Loads what is there, in the order of the names: xtask put dependencies first.
fn load_modules(folder: &Path) -> Result<()> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    let mut modules = list().with_context(|| format!("cannot list {}", folder.display()))?;
    modules.sort();
    for path in modules {
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("module {}", path.display()))?;
    }
    Ok(())
}

/// The host's root, as it is, under a layer of memory: everything can be written in the guest, and
/// nothing of it reaches the host. QEMU exports the share read-only besides.
fn mount_root() -> Result<()> {
    let options = "trans=virtio,version=9p2000.L,cache=loose,msize=512000";
    mount_new("9p", ROOT_TAG, "/host", MsFlags::MS_RDONLY, options)?;
    mount_new("tmpfs", "tmpfs", "/memory", MsFlags::empty(), "mode=0755")?;
    for folder in ["/memory/upper", "/memory/work"] {
        fs::create_dir(folder).context(folder)?;
    }
    let layers = "lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work";
    mount_new("overlay", "overlay", "/root", MsFlags::empty(), layers)
}

fn mount_new(kind: &str, source: &str, target: &str, flags: MsFlags, options: &str) -> Result<()> {
    match fs::create_dir(target) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).context(target.to_owned())?
        }
        _ => {}
    }
    mount(Some(source), target, Some(kind), flags, Some(options))
        .with_context(|| format!("mount {kind} at {target}"))
}

fn switch_root(init: &str) -> Result<Infallible> {
    let no = None::<&str>;
    // vmtest's init mounts the others itself, and ends when they are there already.
    mount(Some("/dev"), "/root/dev", no, MsFlags::MS_MOVE, no).context("move /dev")?;
    chdir("/root")?;
    mount(Some("."), "/", no, MsFlags::MS_MOVE, no).context("move the root")?;
    chroot(".")?;
    chdir("/")?;
    find_system_programs(init)?;
    let init = CString::new(init)?;
    execv(&init, &[&init]).with_context(|| format!("start {}", init.to_string_lossy()))
}

/// Without them vmtest's init finds no agent. It sets `PATH` in its script.
fn find_system_programs(init: &str) -> Result<()> {
    let script = fs::read_to_string(init).with_context(|| init.to_owned())?;
    let path = "export PATH=";
    let script = script.replace(path, &format!("{path}{SYSTEM_PROGRAMS}:"));
    // Into the layer of memory: the host's stays as it is.
    fs::write(init, script).with_context(|| init.to_owned())
}

fn power_off() -> ! {
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    panic!("cannot power off: {error}");
}
