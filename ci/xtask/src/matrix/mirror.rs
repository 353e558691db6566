//! The Debian mirror that this machine is configured with: its index of kernels, and packages.
//!
//! apt checks the index by the archive's keyring. The package's digest is checked here, by the
//! index: a package that differs is deleted and refused in one line.

use std::{
    fs,
    io::{IsTerminal, stderr},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use super::{
    package::{Package, read_index},
    say,
};
use crate::{apt::Apt, child};

/// How long an index counts as new: point releases come every week or two.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// An apt of our own with the suites of the matrix.
pub(crate) struct Mirror {
    apt: Apt,
    work: PathBuf,
}

impl Mirror {
    /// Makes sure of an index of `sources`, lines of a sources.list, that is not older than a day; with
    /// `refresh`, of a new one.
    ///
    /// # Errors
    /// When the mirror cannot be reached, or a signature is wrong.
    pub(crate) fn open(work: &Path, sources: &[String], refresh: bool) -> Result<Self> {
        let apt = Apt::in_folder(work)?;
        let mirror = Self {
            apt,
            work: work.into(),
        };
        let stamp = work.join("updated");
        let same = fs::read_to_string(&stamp).is_ok_and(|text| text == sources.join("\n"));
        let age = fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if same && !refresh && age.is_some_and(|age| age < FRESH) {
            return Ok(mirror);
        }
        say("fetching the mirror's index");
        mirror.apt.set_sources(sources)?;
        let mut update = mirror.apt.command("apt-get");
        // A suite that could not be had must not pass for one without kernels.
        update.args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        child::quiet(&mut update).context("the mirror's index cannot be had")?;
        fs::write(&stamp, sources.join("\n")).context("cannot write a file")?;
        Ok(mirror)
    }

    /// The kernel packages of the index.
    ///
    /// # Errors
    /// When apt cannot read its own lists.
    pub(crate) fn kernels(&self) -> Result<Vec<Package>> {
        let mut dump = self.apt.command("apt-cache");
        // Only names and patterns of kernels: the whole index is some 200 MB of text.
        let names = child::quiet(dump.args(["pkgnames", "linux-"]))?;
        let names: Vec<&str> = names
            .lines()
            .filter(|name| {
                ["linux-image-", "linux-binary-", "linux-modules-"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                    && name.ends_with("-amd64")
            })
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut show = self.apt.command("apt-cache");
        Ok(read_index(&child::quiet(show.arg("show").args(names))?))
    }

    /// Downloads a package into `folder`, or goes on with one that was interrupted.
    ///
    /// # Errors
    /// When it cannot be had, or is not what the index says.
    pub(crate) fn download(&self, package: &Package, folder: &Path) -> Result<PathBuf> {
        let megabytes = package.size / 1_000_000;
        say(format!(
            "downloading {} {} ({megabytes} MB)",
            package.name, package.version
        ));
        let mut download = self.apt.command("apt-get");
        download
            .args(["-q", "download"])
            .arg(format!("{}={}", package.name, package.version))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = download.spawn().context("cannot start apt-get")?;
        while stderr().is_terminal() && running.try_wait()?.is_none() {
            eprint!(
                "\r{:>4} of {megabytes} MB ",
                downloaded(folder, &self.work) / 1_000_000
            );
            thread::sleep(Duration::from_millis(500));
        }
        let output = running.wait_with_output()?;
        if stderr().is_terminal() {
            eprint!("\r");
        }
        let path = package_file(folder, package);
        match path {
            Some(path) if output.status.success() => {
                check(&path, &package.sha256)?;
                Ok(path)
            }
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                let why = said
                    .lines()
                    .find(|line| line.starts_with("E:"))
                    .unwrap_or("no reason");
                bail!("{} {} cannot be had: {why}", package.name, package.version)
            }
        }
    }
}

/// Bytes of packages that lie where apt writes them.
fn downloaded(folder: &Path, work: &Path) -> u64 {
    let lying = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
        sizes.sum::<u64>()
    };
    lying(folder) + lying(&work.join("cache/archives/partial"))
}

/// The file, by its version too: an older one may be left of an interrupted download.
fn package_file(folder: &Path, package: &Package) -> Option<PathBuf> {
    let start = format!("{}_{}_", package.name, package.version.replace(':', "%3a"));
    let entries = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    entries.into_iter().find(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&start) && file.ends_with(".deb")
    })
}

/// Whether a file is what the index says it is. One that is not is deleted, so that the next run
/// fetches it again.
///
/// # Errors
/// In one line, when it is not.
pub(crate) fn check(path: &Path, sha256: &str) -> Result<()> {
    let sum = child::quiet(child::command("sha256sum").arg("-b").arg(path))?;
    let found = sum
        .trim_start_matches('\\')
        .split_whitespace()
        .next()
        .unwrap_or_default();
    if found == sha256 {
        return Ok(());
    }
    fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    bail!(
        "{name} is not the package of the index: its SHA256 is {found}, expected {sha256}; deleted"
    )
}

/// Lines of a sources.list: the suites, from the mirror of Debian that apt is configured with.
///
/// # Errors
/// When there is no such mirror.
pub(crate) fn sources(suites: &[&str]) -> Result<Vec<String>> {
    let configured = child::quiet(child::command("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(SIGNED_BY)",
        "Created-By: Packages",
    ]))?;
    let Some(mirror) = debian_mirror(&configured) else {
        bail!(
            "no mirror of Debian among apt's sources: add one and, as root, run apt-get update, \
             or boot a kernel of your own with --kernel-image and --modules"
        );
    };
    Ok(suites
        .iter()
        .map(|suite| format!("deb [{}] {} {suite} main", options(mirror.1), mirror.0))
        .collect())
}

fn options(key: Option<&str>) -> String {
    let key = key
        .map(|key| format!(" signed-by={key}"))
        .unwrap_or_default();
    // Of an old suite, the index may no longer be signed anew; old is what is wanted of it.
    format!("arch=amd64 check-valid-until=no{key}")
}

/// The mirror's address and its keyring. Debian's security archive has other suites.
fn debian_mirror(configured: &str) -> Option<(&str, Option<&str>)> {
    configured.lines().find_map(|line| {
        let mut fields = line.split('|');
        let (Some("Debian"), Some("Debian"), Some(address)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return None;
        };
        // apt leaves the placeholder where a source names no key.
        Some((address, fields.next().filter(|key| key.starts_with('/'))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_itself_is_the_mirror() {
        let configured = "Other||http://other/|$(SIGNED_BY)\n\
            Debian|Debian-Security|http://mirror/security/|$(SIGNED_BY)\n\
            Debian|Debian|http://mirror/debian/|/keys/d.gpg\n";
        assert_eq!(
            debian_mirror(configured),
            Some(("http://mirror/debian/", Some("/keys/d.gpg")))
        );
        assert_eq!(
            debian_mirror("Ubuntu|Ubuntu|http://u/|$(SIGNED_BY)\n"),
            None
        );
    }

    #[test]
    fn a_corrupted_package_is_refused_in_one_line_and_deleted() {
        let path = std::env::temp_dir().join(format!("gauntlet-deb-{}.deb", std::process::id()));
        fs::write(&path, "abc").unwrap();
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(&path, right).unwrap();
        fs::write(&path, "abd").unwrap();
        let error = format!("{:#}", check(&path, right).unwrap_err());
        assert!(error.contains(right) && !error.contains('\n'), "{error}");
        assert!(!path.exists());
    }
}
