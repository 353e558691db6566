//! The sources of `core`, from which every BPF program is built.
//!
//! rustup's component comes first. Where rustup cannot reach its server, Debian
//! has the same sources as a package; this module takes only the package of
//! exactly rustc's version, since `core` and compiler must match. It unpacks
//! the package into our cache and does not install it, because installing it
//! would bring a second rustc.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Step, say};
use crate::{apt::Apt, child, toolchain::Toolchain};

/// Suites beyond the configured ones that may have the version wanted. A mirror
/// keeps all suites, whichever of them apt is configured to use.
const SUITES: [&str; 5] = [
    "stable-backports",
    "testing",
    "unstable",
    "stable",
    "oldstable-backports",
];

pub(super) fn ensure(toolchain: &Toolchain, cache: &Path) -> Result<Step> {
    if complete(&toolchain.source_dir()) {
        return Ok(Step::Present);
    }
    say("adding rust-src to the toolchain");
    let refused =
        match child::quiet(child::command("rustup").args(["component", "add", "rust-src"])) {
            Ok(_) if complete(&toolchain.source_dir()) => return Ok(Step::Installed),
            Ok(_) => "rustup added it, and it is not there".to_owned(),
            Err(error) => reason(&format!("{error:#}")).to_owned(),
        };
    say(format!(
        "rustup refused ({refused}); taking Debian's package of the same version"
    ));
    let sources = cache.join(format!("rust-src-{}", toolchain.release));
    if !complete(&sources) {
        from_debian(&toolchain.release, cache, &sources)?;
    }
    link(&sources, &toolchain.source_dir())?;
    Ok(Step::Installed)
}

/// Both are what `-Z build-std` opens first; a link into nothing has neither.
fn complete(source_dir: &Path) -> bool {
    ["library/Cargo.lock", "library/core/src/lib.rs"]
        .iter()
        .all(|file| source_dir.join(file).is_file())
}

fn link(sources: &Path, source_dir: &Path) -> Result<()> {
    let parent = source_dir.parent().context("the sysroot has no parent")?;
    let place = || -> std::io::Result<()> {
        fs::create_dir_all(parent)?;
        // Incomplete, as found above: an old link, or what rustup left of a
        // broken download.
        match fs::symlink_metadata(source_dir) {
            Ok(entry) if entry.is_dir() => fs::remove_dir_all(source_dir)?,
            Ok(_) => fs::remove_file(source_dir)?,
            Err(_) => {}
        }
        symlink(sources, source_dir)
    };
    place().with_context(|| {
        format!(
            "cannot put the sources at {}; as the owner of the toolchain, run: rustup component add rust-src",
            source_dir.display()
        )
    })
}

/// Leaves the sources at `sources`, or nothing.
///
/// apt checks the signature of the suite and with it the SHA256 of the package.
fn from_debian(release: &str, cache: &Path, sources: &Path) -> Result<()> {
    let work = cache.join("rust-src.partial");
    remove(&work)?;
    fs::create_dir_all(work.join("unpacked")).context("cannot create a work folder")?;
    let deb = download(release, &work)?;
    child::quiet(
        child::command("dpkg-deb")
            .arg("-x")
            .arg(&deb)
            .arg(work.join("unpacked")),
    )?;
    let unpacked = work.join(format!("unpacked/usr/src/rustc-{release}"));
    if !complete(&unpacked) {
        bail!("{} does not hold the sources of core", deb.display());
    }
    // A rename is all or nothing, so an interrupted run leaves no half.
    remove(sources)?;
    fs::rename(&unpacked, sources).context("cannot move the sources into place")?;
    remove(&work)
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn download(release: &str, work: &Path) -> Result<PathBuf> {
    let configured = child::quiet(child::command("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)",
        "Created-By: Packages",
    ]))?;
    let sources = candidate_sources(&configured);
    if sources.is_empty() {
        bail!("apt has no package lists: as root, run apt-get update, then this again");
    }
    let apt = Apt::in_folder(work)?;
    for source in sources {
        apt.set_sources(&[source])?;
        // A suite that this mirror does not have is the normal case.
        if child::quiet(apt.command("apt-get").args(["-q", "update"])).is_err() {
            continue;
        }
        let table = child::quiet(apt.command("apt-cache").args(["madison", "rust-src"]))?;
        let Some(version) = package_version(&table, release) else {
            continue;
        };
        say(format!("downloading Debian's rust-src {version}"));
        child::quiet(
            apt.command("apt-get")
                .args(["-q", "download"])
                .arg(format!("rust-src={version}"))
                .current_dir(work),
        )?;
        let mut files = fs::read_dir(work)?.flatten().map(|entry| entry.path());
        return files
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get download left no package");
    }
    bail!(
        "no suite of the configured mirrors has rust-src {release}; run where rustup can: rustup component add rust-src"
    )
}

/// Lines for a sources.list, the most likely first: the mirrors come from apt's
/// own configuration, one line each from `apt-get indextargets`.
fn candidate_sources(configured: &str) -> Vec<String> {
    let mut suites: Vec<(String, &str)> = Vec::new();
    let mut uris: Vec<String> = Vec::new();
    for line in configured.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some(suite), Some("main")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // apt leaves the placeholder where a source names no key.
        let key = words.next().filter(|key| key.starts_with('/'));
        let uri = key.map_or_else(|| uri.to_owned(), |key| format!("[signed-by={key}] {uri}"));
        if !uris.contains(&uri) {
            uris.push(uri.clone());
        }
        suites.push((uri, suite));
    }
    let elsewhere = SUITES
        .iter()
        .flat_map(|suite| uris.iter().map(move |uri| (uri.clone(), *suite)));
    let mut lines = Vec::new();
    for (uri, suite) in elsewhere.chain(suites.iter().cloned()) {
        let line = format!("deb {uri} {suite} main");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// The package version that holds exactly `release`, from `apt-cache madison`.
fn package_version<'a>(madison: &'a str, release: &str) -> Option<&'a str> {
    madison
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim)
        .find(|version| {
            // `1.95.0+dfsg1-2` or `1.95.0-1`, but not `1.95.01`.
            version
                .strip_prefix(release)
                .is_some_and(|rest| rest.starts_with(['+', '-', '~']))
        })
}

/// The one line of a long failure that says why.
fn reason(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().next().unwrap_or_default();
    lines
        .find_map(|line| line.strip_prefix("error: "))
        .unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | mirror stable-backports/main
  rust-src | 1.95.0+dfsg1-2~bpo13+1 | mirror stable-backports/main\n";

    #[test]
    fn only_the_exact_release_is_taken() {
        assert_eq!(
            package_version(MADISON, "1.95.0"),
            Some("1.95.0+dfsg1-2~bpo13+1")
        );
        assert_eq!(package_version(MADISON, "1.95"), None);
        assert_eq!(package_version(MADISON, "1.9"), None);
        assert_eq!(package_version("", "1.95.0"), None);
    }

    #[test]
    fn every_configured_mirror_is_tried_with_its_key() {
        let lines = candidate_sources(
            "http://mirror/debian/ bookworm main $(SIGNED_BY)\n\
             http://mirror/debian/ bookworm contrib $(SIGNED_BY)\n\
             http://other/ubuntu noble main /usr/share/keyrings/u.gpg\n",
        );
        assert_eq!(lines[0], "deb http://mirror/debian/ stable-backports main");
        assert!(lines.contains(&"deb http://mirror/debian/ bookworm main".to_owned()));
        assert!(lines.contains(
            &"deb [signed-by=/usr/share/keyrings/u.gpg] http://other/ubuntu noble main".to_owned()
        ));
    }

    #[test]
    fn reason_is_the_line_of_the_error() {
        assert_eq!(
            reason("rustup (exit status: 1)\ninfo: x\nerror: no server\n  0: trace\n"),
            "no server"
        );
        assert_eq!(reason("cannot start `rustup`"), "cannot start `rustup`");
        assert_eq!(reason(""), "");
    }

    #[test]
    fn no_package_lists_give_no_candidates() {
        assert!(candidate_sources("").is_empty());
    }
}
