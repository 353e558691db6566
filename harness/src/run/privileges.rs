//! What a run needs that not everybody has: said before anything is started, in one line.

use std::fs;

/// Capabilities by their bit (include/uapi/linux/capability.h), and what each is for.
const NEEDED: [(u32, &str, &str); 5] = [
    (12, "CAP_NET_ADMIN", "veth pairs, attaching the probe"),
    (13, "CAP_NET_RAW", "the capture that is the wire's witness"),
    (21, "CAP_SYS_ADMIN", "network namespaces"),
    (38, "CAP_PERFMON", "the probe"),
    (39, "CAP_BPF", "the probe"),
];

/// Capabilities that this process lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("missing {}: run as root (sudo), or in a VM: `cargo xtask matrix`", .0.join(", "))]
pub struct Missing(Vec<String>);

/// Checks that a run can work here.
///
/// # Errors
/// When the process has not all capabilities that namespaces, capture and probe take.
pub fn check() -> Result<(), Missing> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing(&status)
}

fn missing(status: &str) -> Result<(), Missing> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    let lacking: Vec<String> = NEEDED
        .into_iter()
        .filter(|(bit, ..)| effective & (1 << bit) == 0)
        .map(|(_, name, purpose)| format!("{name} ({purpose})"))
        .collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(Missing(lacking))
    }
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn root_lacks_nothing_and_nobody_lacks_all() {
        assert_eq!(missing("Name:\tx\nCapEff:\t000001ffffffffff\n"), Ok(()));
        let error = missing("CapEff:\t0000000000000000\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("missing CAP_NET_ADMIN"), "{error}");
        assert!(error.contains("CAP_BPF"), "{error}");
    }

    #[test]
    fn each_missing_capability_is_named() {
        let error = missing("CapEff:\t0000017fffffffff\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CAP_BPF") && !error.contains("CAP_PERFMON"),
            "{error}"
        );
    }
}
