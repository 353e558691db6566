//! rustfmt and clippy, which the gates need. Only adds components of the
//! toolchain in use; never installs or updates a toolchain.

use anyhow::Result;

use super::{Step, say};
use crate::{child, toolchain::Toolchain};

/// A component and the program that shows it is there.
const COMPONENTS: [(&str, &str); 2] =
    [("rustfmt", "bin/cargo-fmt"), ("clippy", "bin/cargo-clippy")];

pub(super) fn ensure(toolchain: &Toolchain) -> Result<Step> {
    let missing = COMPONENTS
        .iter()
        .filter(|(_, program)| !toolchain.sysroot.join(program).exists());
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(Step::Present);
    }
    say(format!("adding to the toolchain: {}", missing.join(" ")));
    child::quiet(
        child::command("rustup")
            .args(["component", "add"])
            .args(&missing),
    )?;
    Ok(Step::Installed)
}
