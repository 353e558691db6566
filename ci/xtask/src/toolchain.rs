//! What rustc says about itself, and which LLVM it carries. Asks, never changes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::child;

/// The Rust toolchain that `cargo` uses here.
pub(crate) struct Toolchain {
    /// As in `rustc --version`: `1.95.0`, or `1.97.0-nightly`.
    pub(crate) release: String,
    /// What `rustc --print sysroot` prints.
    pub(crate) sysroot: PathBuf,
}

impl Toolchain {
    /// Asks the `rustc` that cargo would use.
    ///
    /// # Errors
    /// When there is no rustc or it does not name its version.
    pub(crate) fn detect() -> Result<Self> {
        let rustc = |flag: &[&str]| child::quiet(child::command("rustc").args(flag));
        let version = rustc(&["--version"])?;
        let release = version.split_whitespace().nth(1);
        Ok(Self {
            release: release
                .with_context(|| format!("no version in `{}`", version.trim()))?
                .into(),
            sysroot: PathBuf::from(rustc(&["--print", "sysroot"])?.trim_end()),
        })
    }

    /// The folder where `-Z build-std` looks for the sources of `core`.
    pub(crate) fn source_dir(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// The LLVM library that this rustc was linked against.
    ///
    /// # Errors
    /// When the sysroot holds none, as with a distribution's rustc.
    pub(crate) fn llvm(&self) -> Result<Llvm> {
        let lib = self.sysroot.join("lib");
        let entries =
            fs::read_dir(&lib).with_context(|| format!("cannot list {}", lib.display()))?;
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if let Some(major) = llvm_major(&name) {
                return Ok(Llvm {
                    major,
                    file: lib.join(&name),
                    soname: name,
                });
            }
        }
        bail!(
            "{} has no libLLVM.so.*: bpf-linker needs rustc's own LLVM, as in a toolchain from rustup",
            lib.display()
        )
    }
}

/// A shared LLVM.
pub(crate) struct Llvm {
    /// `22`
    pub(crate) major: u32,
    /// `libLLVM.so.22.1-rust-1.95.0-stable`, which is also the name of the file.
    pub(crate) soname: String,
    /// Where it is.
    pub(crate) file: PathBuf,
}

impl Llvm {
    /// The feature of bpf-linker that links against this LLVM.
    ///
    /// # Errors
    /// When that version of bpf-linker has no such feature.
    pub(crate) fn bpf_linker_feature(&self) -> Result<&'static str> {
        bpf_linker_feature(self.major).with_context(|| {
            format!(
                "bpf-linker {} supports LLVM 21 to 23, this rustc has LLVM {} ({})",
                crate::paths::BPF_LINKER_VERSION,
                self.major,
                Path::new(&self.soname).display()
            )
        })
    }
}

/// The sysroot also has `libLLVM-22-rust-*.so`, a linker script that names the
/// library proper; only the latter has its version after `.so.`.
fn llvm_major(file_name: &str) -> Option<u32> {
    let version = file_name.strip_prefix("libLLVM.so.")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn bpf_linker_feature(llvm_major: u32) -> Option<&'static str> {
    match llvm_major {
        21 => Some("llvm-21"),
        22 => Some("llvm-22"),
        23 => Some("llvm-23"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soname_gives_the_major_version() {
        assert_eq!(llvm_major("libLLVM.so.22.1-rust-1.95.0-stable"), Some(22));
        assert_eq!(llvm_major("libLLVM.so.23-rust-1.99.0-nightly"), Some(23));
    }

    #[test]
    fn linker_script_and_strangers_are_no_llvm() {
        assert_eq!(llvm_major("libLLVM-22-rust-1.95.0-stable.so"), None);
        assert_eq!(llvm_major("libLLVM.so"), None);
        assert_eq!(llvm_major("libLLVM.so.rust"), None);
        assert_eq!(llvm_major("librustc_driver-1f6f34fd.so"), None);
    }

    #[test]
    fn only_features_that_bpf_linker_has_are_chosen() {
        assert_eq!(bpf_linker_feature(22), Some("llvm-22"));
        assert_eq!(bpf_linker_feature(20), None);
        assert_eq!(bpf_linker_feature(24), None);
    }

    #[test]
    fn unsupported_llvm_is_one_clear_line() {
        let llvm = Llvm {
            major: 19,
            soname: "libLLVM.so.19.1-rust-x".into(),
            file: "/x".into(),
        };
        let text = llvm.bpf_linker_feature().unwrap_err().to_string();
        assert!(text.contains("LLVM 19") && !text.contains('\n'), "{text}");
    }
}
