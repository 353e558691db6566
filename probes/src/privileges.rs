//! Which capabilities the probe needs, and which of them the process lacks.

use caps::{CapSet, Capability};

/// What loading and attaching take. CAP_BPF and CAP_PERFMON are Linux 5.8's.
const NEEDED: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// What entering another network namespace takes on top.
const FOR_NAMESPACES: Capability = Capability::CAP_SYS_ADMIN;

/// The capabilities that are missing. The message is one line and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("missing {}: run as root, or grant it (setcap, systemd AmbientCapabilities=, the pod's securityContext)", .0.join(", "))]
pub struct Missing(Vec<String>);

/// Checks the process's effective capabilities.
///
/// # Errors
/// [`Missing`] names those it lacks.
pub fn check(namespaces: bool) -> Result<(), Missing> {
    let wanted = NEEDED
        .into_iter()
        .chain(namespaces.then_some(FOR_NAMESPACES));
    let missing: Vec<String> = wanted
        .filter(|capability| !caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false))
        .map(|capability| capability.to_string())
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Missing(missing))
    }
}
