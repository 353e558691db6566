//! BoringSSL, by the program in `harness/boring`, which is optional to build: found beside this one or in PATH.
//!
//! Its last line is its outcome, and BoringSSL's own words: `SSL_ERROR_SSL(1) 16:1048(TLSV1_ALERT_UNKNOWN_CA)`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Means, found, on_path, ours};
use crate::built;

const PROGRAM: &str = "gauntlet-boring-peer";

pub(super) const MEANS: Means = Means {
    ready: ours::ready,
    outcome: |_, ended| ours::outcome("BoringSSL", ended),
};

pub(super) fn lacks() -> Option<&'static str> {
    program().err()
}

pub(super) fn program() -> Result<&'static Path, &'static str> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| found(PROGRAM, built::folders()).or_else(|| on_path(PROGRAM)))
        .as_deref()
        .ok_or("there is no gauntlet-boring-peer here (`cargo xtask setup --boring` builds it)")
}
