//! The exit codes that `gauntlet`, `mtls-probe` and xtask share. A code is only
//! ever added here together with its meaning for all three.

/// All as expected.
pub(crate) const OK: u8 = 0;
/// The thing under test gave an unexpected result.
pub(crate) const UNEXPECTED: u8 = 1;
/// No verdict could be reached: environment, harness or infrastructure.
pub(crate) const NO_VERDICT: u8 = 2;
/// The selection matched nothing.
pub(crate) const NOTHING: u8 = 3;
/// Bad usage.
pub(crate) const USAGE: u8 = 64;
