//! How much longer everything may take here than on an ordinary machine: `GAUNTLET_PATIENCE`, a factor. An
//! emulated processor beside a busy host needs it.
//!
//! Limits after which something counts as stuck are stretched by it. Times that are part of what a case means
//! (how long a peer waits, what a probe calls a stall) are stretched alike, at most twofold, so that they
//! keep meaning the same beside each other, and a suite its length.

use std::sync::OnceLock;
use std::time::Duration;

/// The environment variable.
pub const VARIABLE: &str = "GAUNTLET_PATIENCE";

/// A limit, stretched.
#[must_use]
pub fn limit(ordinary: Duration) -> Duration {
    ordinary * factor()
}

/// A time that is part of what a case means, stretched.
#[must_use]
pub fn pace(ordinary: Duration) -> Duration {
    ordinary * factor().min(2)
}

fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        let said = std::env::var(VARIABLE).ok();
        said.and_then(|text| text.parse().ok())
            .filter(|factor| (1..=100).contains(factor))
            .unwrap_or(1)
    })
}
