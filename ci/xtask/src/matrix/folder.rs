//! `target/matrix`: everything a boot needs and leaves, one folder for each kernel.
//!
//! `vmtest.toml` names the same places, so this is in `target/` whatever `CARGO_TARGET_DIR` says.
//!
//! | place | is |
//! |---|---|
//! | `bin/` | the programs under test, as copies: a build must not change them under a guest |
//! | `bin/refused/` | the same with a program that old kernels refuse, for `--faults` |
//! | `accelerator` | `kvm` or `tcg`, whichever was seen to work |
//! | `KERNEL/vmlinuz`, `KERNEL/initramfs` | what is booted |
//! | `KERNEL/console.log` | what the guest's kernel said; written by QEMU |
//! | `KERNEL/vmtest.log` | what vmtest said |
//! | `KERNEL/results/` | the only place the guest can write |
//! | `KERNEL/*.no-boot.log`, `*.breakpoint.log`, `results.*/` | the same of a guest that was not the last (`attempt.rs`) |

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use gauntlet_guest::protocol::{self, Request};

use super::{cpio::Archive, kernel::Kernel, say};
use crate::paths;

/// The programs that lie in `bin/`, and what builds them.
pub(crate) const UNDER_TEST: [&str; 3] = ["conformance", "gauntlet", "mtls-probe"];
/// A program under test that is there only where somebody built it.
pub(crate) const OPTIONAL: &str = "gauntlet-boring-peer";
pub(crate) const GUEST: [&str; 3] = ["gauntlet-init", "gauntlet-qemu", "gauntlet-suite"];

pub(crate) fn root() -> PathBuf {
    paths::repo_root().join("target/matrix")
}

/// Held until dropped: two runs would boot from one another's folders.
///
/// # Errors
/// When the folder cannot be made.
pub(crate) fn lock() -> Result<File> {
    let root = root();
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    let path = root.join("lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        say("waiting for another matrix to end");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// One kernel's folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn of(name: &str) -> Self {
        Self {
            path: root().join(name),
        }
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    pub(crate) fn vmtest(&self) -> PathBuf {
        self.path.join("vmtest.log")
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.path.join("results")
    }

    /// Puts what is to be booted in its place.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn fill(&self, kernel: &Kernel, init: &Path) -> Result<()> {
        fs::create_dir_all(self.results())
            .with_context(|| format!("cannot create {}", self.path.display()))?;
        let image = self.path.join("vmlinuz");
        match fs::remove_file(&image) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => symlink(&kernel.image, &image),
        }
        .with_context(|| format!("cannot link {}", image.display()))?;
        let initramfs = self.path.join("initramfs");
        fs::write(&initramfs, initramfs_of(kernel, init)?)
            .with_context(|| format!("cannot write {}", initramfs.display()))
    }

    /// Empties the results folder and leaves the request in it, and what more the guest is told: a file's name and text.
    ///
    /// # Errors
    /// When something in it cannot be removed or written.
    pub(crate) fn ask(&self, request: &Request, more: Option<(&str, &str)>) -> Result<()> {
        super::kernel::remove(&self.results())?;
        fs::create_dir_all(self.results())?;
        let _ = fs::remove_file(self.console());
        let request = request.to_text();
        for (name, text) in [Some((protocol::REQUEST, &*request)), more]
            .into_iter()
            .flatten()
        {
            let path = self.results().join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

fn initramfs_of(kernel: &Kernel, init: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["dev", "modules"] {
        archive.folder(folder);
    }
    archive.console();
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    archive.program("init", &read(init)?);
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.program(&format!("modules/{name}"), &read(module)?);
    }
    Ok(archive.finish())
}
