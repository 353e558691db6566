//! Where things are: the repository, our cache, the BPF linker. Computes paths
//! and creates nothing.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The version of bpf-linker that `setup` builds.
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";

/// The root of the repository.
pub(crate) fn repo_root() -> PathBuf {
    // Cargo sets the variable for `cargo run`, and unlike the compiled-in value
    // it is right after the checkout was moved.
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest_dir
        .ancestors()
        .find(|dir| dir.join("ci/xtask/Cargo.toml").is_file())
        .map_or_else(|| manifest_dir.join("../.."), Path::to_path_buf)
}

/// The folder that holds everything `setup` installs for this repository alone.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` says where caches go.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    cache_dir_from(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
        .context("neither XDG_CACHE_HOME nor HOME is set: set one, tools are cached there")
}

fn cache_dir_from(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let set = |value: Option<OsString>| value.filter(|value| !value.is_empty());
    let base = match set(xdg_cache_home) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(set(home)?).join(".cache"),
    };
    Some(base.join("gauntlet"))
}

/// The folder of the bpf-linker for one rustc; the linker is `bin/bpf-linker` in it.
///
/// `probes/build.rs` computes the same path and shares no code with this crate,
/// so the rule must stay as simple as this, and change in both places:
///
/// ```text
/// ${XDG_CACHE_HOME:-$HOME/.cache}/gauntlet/bpf-linker-0.13.0-rustc-RELEASE
/// ```
///
/// where RELEASE is the second word of `rustc --version`, for example `1.95.0`.
/// The linker reads the bitcode that exactly this rustc writes and has the
/// folder baked in as its rpath: it can neither be shared nor moved.
pub(crate) fn bpf_linker_dir(cache: &Path, rustc_release: &str) -> PathBuf {
    cache.join(format!(
        "bpf-linker-{BPF_LINKER_VERSION}-rustc-{rustc_release}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_cache_home_wins_over_home() {
        let dir = cache_dir_from(Some("/x".into()), Some("/h".into()));
        assert_eq!(dir, Some(PathBuf::from("/x/gauntlet")));
    }

    #[test]
    fn empty_xdg_cache_home_counts_as_unset() {
        let dir = cache_dir_from(Some("".into()), Some("/h".into()));
        assert_eq!(dir, Some(PathBuf::from("/h/.cache/gauntlet")));
        assert_eq!(cache_dir_from(None, None), None);
    }

    #[test]
    fn linker_path_is_the_one_the_build_script_computes() {
        let dir = bpf_linker_dir(Path::new("/c/gauntlet"), "1.95.0");
        assert_eq!(dir, Path::new("/c/gauntlet/bpf-linker-0.13.0-rustc-1.95.0"));
    }

    #[test]
    fn repository_root_holds_the_workspace() {
        assert!(repo_root().join("ci/xtask/Cargo.toml").is_file());
    }
}
