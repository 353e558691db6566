//! Network namespaces: opening one that exists, making one without a name, and running code inside.
//!
//! A namespace made here has no name on purpose: it lives as long as a descriptor of it is open, so
//! the kernel removes it, with every link and filter in it, however the process ends.
//!
//! Refuses to move the calling thread: code runs inside a namespace on a thread of its own.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{io, thread};

use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns add` keeps its names (iproute2's convention).
const NAMED: &str = "/run/netns";

/// The calling thread's own.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    label: String,
}

/// Why a namespace could not be opened, made or entered.
#[derive(Debug, thiserror::Error)]
#[error("network namespace {label}: {action}: {source}")]
pub struct NetNsError {
    label: String,
    action: &'static str,
    #[source]
    source: io::Error,
}

impl NetNs {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> Result<Self, NetNsError> {
        Self::from_path(Path::new(OWN), "of this process".into())
    }

    /// The namespace called `name` by `ip netns`, or at `name` when that holds a slash
    /// (`/proc/1234/ns/net`).
    ///
    /// # Errors
    /// When there is none.
    pub fn open(name: &str) -> Result<Self, NetNsError> {
        Self::from_path(Path::new(&Self::path_of(name)), name.into())
    }

    /// The path of the namespace that is called so.
    #[must_use]
    pub fn path_of(name: &str) -> String {
        if name.contains('/') {
            name.to_owned()
        } else {
            format!("{NAMED}/{name}")
        }
    }

    /// A new, empty, nameless namespace. Its loopback is down.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn anonymous(label: &str) -> Result<Self, NetNsError> {
        let fail = |action, source| NetNsError {
            label: label.into(),
            action,
            source,
        };
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET)
                        .map_err(|errno| fail("cannot be made", errno.into()))?;
                    Self::from_path(Path::new(OWN), label.into())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn from_path(path: &Path, label: String) -> Result<Self, NetNsError> {
        match File::open(path) {
            Ok(file) => Ok(Self { file, label }),
            Err(source) => Err(NetNsError {
                label,
                action: "cannot be opened",
                source,
            }),
        }
    }

    /// Another handle of the same namespace.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self, NetNsError> {
        let label = self.label.clone();
        match self.file.try_clone() {
            Ok(file) => Ok(Self { file, label }),
            Err(source) => Err(NetNsError {
                label,
                action: "cannot be opened again",
                source,
            }),
        }
    }

    /// What tells namespaces apart: device and inode number of the file that stands for it, by whatever name.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let file = self.file.metadata()?;
        Ok((file.dev(), file.ino()))
    }

    /// What to call it in messages.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A path that opens this namespace from any process of the same user, while this value lives:
    /// for `nsenter --net=PATH` and `mtls-probe watch --netns PATH`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` inside the namespace, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// When the namespace cannot be entered (CAP_SYS_ADMIN, unless the calling thread is in it).
    ///
    /// # Panics
    /// When `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for good: for a thread that was made for it.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, unless the thread is there already.
    pub fn enter(&self) -> Result<(), NetNsError> {
        if self.holds_this_thread() {
            return Ok(());
        }
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| NetNsError {
            label: self.label.clone(),
            action: "cannot be entered",
            source: errno.into(),
        })
    }
}

impl NetNs {
    /// Whether the calling thread is in this namespace. The kernel asks for CAP_SYS_ADMIN even from
    /// whoever goes where they are.
    fn holds_this_thread(&self) -> bool {
        let here = fs::metadata(OWN).map(|own| (own.dev(), own.ino()));
        matches!((here, self.identity()), (Ok(here), Ok(there)) if here == there)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
