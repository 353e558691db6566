//! bpf-linker, built against the very LLVM that rustc uses.
//!
//! A linker with an older LLVM cannot read rustc's bitcode, and Debian's LLVM is
//! older. So the linker uses the library in rustc's sysroot, through links in a
//! folder that it keeps as its rpath; it never takes an LLVM of the system.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{CargoTool, Step, say};
use crate::{paths, toolchain::Toolchain};

pub(super) fn ensure(toolchain: &Toolchain, cache: &Path) -> Result<Step> {
    let dir = paths::bpf_linker_dir(cache, &toolchain.release);
    let tool = CargoTool::BPF_LINKER;
    if tool.works_in(&dir) {
        return Ok(Step::Present);
    }
    let llvm = toolchain.llvm()?;
    let feature = llvm.bpf_linker_feature()?;
    // A toolchain that was moved only breaks the links.
    let lib = dir.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("cannot create {}", lib.display()))?;
    for name in ["libLLVM.so", &llvm.soname] {
        point(&lib.join(name), &llvm.file)?;
    }
    if tool.works_in(&dir) {
        say(format!(
            "bpf-linker: linked again to LLVM {} of rustc {}",
            llvm.major, toolchain.release
        ));
        return Ok(Step::Installed);
    }
    say(format!(
        "building bpf-linker {} against LLVM {} of rustc {} (about a minute)",
        paths::BPF_LINKER_VERSION,
        llvm.major,
        toolchain.release
    ));
    tool.install(&dir, |install| {
        install
            .env("LLVM_PREFIX", &dir)
            .args(["--no-default-features", "--features", feature]);
    })?;
    Ok(Step::Installed)
}

/// Makes `link` point at `target`, whatever it was before.
fn point(link: &PathBuf, target: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|now| now == target) {
        return Ok(());
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => symlink(target, link),
    }
    .with_context(|| format!("cannot link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_is_replaced_and_made_again() {
        let dir = std::env::temp_dir().join(format!("xtask-link-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let link = dir.join("libLLVM.so");
        for target in ["/one", "/two", "/two"] {
            point(&link, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
