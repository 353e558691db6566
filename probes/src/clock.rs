//! The kernel stamps events with CLOCK_MONOTONIC, which no step of the wall clock disturbs; reports
//! are in Unix time.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC, as `bpf_ktime_get_ns` counts them.
#[must_use]
pub fn monotonic() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// The Unix time of a monotonic stamp, nanoseconds: as far before now as the stamp is.
#[must_use]
pub fn unix(stamp: u64) -> u64 {
    let now = nanoseconds(ClockId::CLOCK_REALTIME);
    now.saturating_sub(monotonic().saturating_sub(stamp))
}

fn nanoseconds(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux; the call fails for unknown ones only.
    clock_gettime(clock).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
