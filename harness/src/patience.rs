//! How much longer everything may take here than on an ordinary machine: `GAUNTLET_PATIENCE`, a factor. An
//! emulated processor beside a busy host needs it.
//!
//! Only limits after which something counts as stuck are stretched. Refuses to touch times that are part of
//! what a case means.

use std::sync::OnceLock;
use std::time::Duration;

/// The environment variable.
pub const VARIABLE: &str = "GAUNTLET_PATIENCE";

/// A limit, stretched.
#[must_use]
pub fn limit(ordinary: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| {
        let said = std::env::var(VARIABLE).ok();
        said.and_then(|text| text.parse().ok())
            .filter(|factor| (1..=100).contains(factor))
            .unwrap_or(1)
    });
    ordinary * *factor
}
