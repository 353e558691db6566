//! Can this machine load BPF programs and make network namespaces? Reads what
//! the kernel says and tries nothing, so the answer costs nothing.

use std::{env, fs};

/// Capabilities the harness and the loader need, by their bit in `CapEff`.
/// PERFMON is what lets the verifier accept pointer arithmetic; SYS_ADMIN is
/// for network namespaces.
const NEEDED: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// The oldest kernel supported.
const OLDEST: (u32, u32) = (5, 10);

/// Why BPF cannot be loaded here, as half a sentence; `None` when it should work.
pub(crate) fn cannot_load_bpf() -> Option<String> {
    if env::consts::OS != "linux" {
        return Some(format!("this is {}, not Linux", env::consts::OS));
    }
    let release = read("/proc/sys/kernel/osrelease");
    match kernel_version(&release) {
        None => {
            return Some(format!(
                "the kernel's version `{}` is unreadable",
                release.trim()
            ));
        }
        Some(version) if version < OLDEST => {
            return Some(format!("kernel {} is older than 5.10", release.trim()));
        }
        Some(_) => {}
    }
    let missing = missing_capabilities(&read("/proc/self/status"))?;
    (!missing.is_empty())
        .then(|| format!("this process lacks {} (root has them)", missing.join(", ")))
}

/// Whether the effective user is root, who may install packages.
pub(crate) fn is_root() -> bool {
    effective_uid(&read("/proc/self/status")) == Some(0)
}

fn read(path: &str) -> String {
    // No /proc gives the same answer as no such line in it.
    fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn effective_uid(status: &str) -> Option<u32> {
    field(status, "Uid")?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// `None` when the kernel does not say, and then a load has to show.
fn missing_capabilities(status: &str) -> Option<Vec<&'static str>> {
    let effective = u64::from_str_radix(field(status, "CapEff")?, 16).ok()?;
    Some(
        NEEDED
            .iter()
            .filter(|(bit, _)| effective >> bit & 1 == 0)
            .map(|(_, name)| *name)
            .collect(),
    )
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert!(kernel_version("5.9.1").unwrap() < OLDEST);
        assert!(kernel_version("5.10.0-32-amd64\n").unwrap() >= OLDEST);
        assert!(kernel_version("6.1-rc3").unwrap() >= OLDEST);
        assert_eq!(kernel_version("plan9"), None);
    }

    #[test]
    fn capabilities_that_lack_are_named() {
        let status = "Name:\tx\nCapEff:\t0000000000001000\n";
        assert_eq!(
            missing_capabilities(status).unwrap(),
            ["CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF"]
        );
        assert!(
            missing_capabilities("CapEff:\t000001fffeffffff\n")
                .unwrap()
                .is_empty()
        );
        assert_eq!(missing_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn effective_user_is_the_second_number() {
        assert_eq!(effective_uid("Uid:\t1000\t0\t0\t0\n"), Some(0));
        assert_eq!(effective_uid("Uid:\t0\t65534\t0\t0\n"), Some(65534));
    }
}
