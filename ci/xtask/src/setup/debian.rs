//! Debian packages: asks dpkg what is missing and installs exactly that. On
//! other systems it leaves packages alone, since it knows no names for them.

use std::path::Path;

use anyhow::Result;

use super::{Scope, Step, say};
use crate::{child, machine};

/// What building, running and testing needs.
const BUILD: [&str; 8] = [
    "ca-certificates", // crates come over TLS
    "gcc",             // links every Rust program, compiles C in crates
    "iproute2",        // `ip` and `tc`, for the tests and the left-behind gate
    "libc6-dev",       // gcc only recommends it
    "libpcap-dev",     // packet captures: live, pcap and pcapng
    "libssl-dev",      // OpenSSL, a TLS stack under test in the harness itself
    "openssl",         // a TLS stack under test, as a process of its own
    "pkg-config",      // finds libpcap and libssl
];

/// What only fuzzing needs.
const FUZZ: [&str; 1] = ["g++"]; // libFuzzer is C++

/// What only building BoringSSL needs.
const BORING: [&str; 5] = [
    "cmake",
    "g++",
    "git",          // patches BoringSSL
    "libclang-dev", // reads its headers
    "make",
];

/// What only virtual machines need.
const VM: [&str; 3] = [
    "qemu-guest-agent", // vmtest talks to it in the guest, which has the host's root
    "qemu-system-x86",
    "xz-utils", // newer kernels compress their modules
];

pub(super) fn ensure(scope: Scope) -> Result<Step> {
    let mut wanted = BUILD.to_vec();
    if matches!(scope, Scope::Fuzz | Scope::All) {
        wanted.extend(FUZZ);
    }
    if scope == Scope::Boring {
        wanted.extend(BORING);
    }
    if matches!(scope, Scope::Vm | Scope::Boot | Scope::All) {
        wanted.extend(VM);
    }
    if !Path::new("/var/lib/dpkg/status").exists() {
        say(format!(
            "not a Debian system: make sure these are there: {}",
            wanted.join(" ")
        ));
        return Ok(Step::Present);
    }
    let status = child::quiet(child::command("dpkg-query").args([
        "-W",
        "-f",
        "${db:Status-Status} ${Package} ${Provides}\n",
    ]))?;
    let missing = missing_packages(&status, &wanted);
    if missing.is_empty() {
        return Ok(Step::Present);
    }
    install(&missing)
}

/// Installs packages, or says the line to run.
pub(super) fn install(missing: &[&str]) -> Result<Step> {
    let names = missing.join(" ");
    if !machine::is_root() {
        return Ok(Step::ByHand(format!(
            "root is needed for Debian packages, run: sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
        )));
    }
    say(format!("installing Debian packages: {names}"));
    let apt = |args: &[&str]| {
        let mut apt = child::command("apt-get");
        // A stale or foreign lock should be waited for, not reported.
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-o", "DPkg::Lock::Timeout=300", "-y"]);
        apt.args(args);
        child::quiet(&mut apt)
    };
    // One unreachable third-party source fails an update without mattering
    // here; if it does matter, the installation fails and says so.
    let update = apt(&["update"]);
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(missing);
    match (apt(&install), update) {
        (Ok(_), _) => Ok(Step::Installed),
        (Err(install), Ok(_)) => Err(install),
        (Err(install), Err(update)) => {
            Err(install.context(format!("after a failed update: {update}")))
        }
    }
}

/// The packages of `wanted` that no installed package is or provides, given one
/// line for each package dpkg knows: its status, its name, what it provides.
fn missing_packages<'a>(status: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let installed: Vec<&str> = status
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .collect();
    let has = |wanted: &str| {
        installed.iter().any(|line| {
            let (name, provides) = line.split_once(' ').unwrap_or((line, ""));
            // Provides reads `pkg-config (= 1.8.1-1), other`.
            let mut provided = provides
                .split(',')
                .filter_map(|item| item.split_whitespace().next());
            name == wanted || provided.any(|provided| provided == wanted)
        })
    };
    wanted
        .iter()
        .copied()
        .filter(|wanted| !has(wanted))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
installed gcc c-compiler, gcc-x86-64-linux-gnu (= 4:12.2.0-3)
installed pkgconf libother, pkg-config (= 1.8.1-1)
config-files libpcap-dev \n\
not-installed openssl \n\
installed iproute2-doc \n";

    #[test]
    fn only_installed_or_provided_packages_count() {
        let wanted = ["gcc", "pkg-config", "libpcap-dev", "openssl", "iproute2"];
        assert_eq!(
            missing_packages(STATUS, &wanted),
            ["libpcap-dev", "openssl", "iproute2"]
        );
    }

    #[test]
    fn nothing_known_means_all_missing() {
        assert_eq!(missing_packages("", &["gcc"]), ["gcc"]);
    }
}
