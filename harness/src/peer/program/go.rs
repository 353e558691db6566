//! Go's crypto/tls, by the program in `peer.go`, which is built here with the Go that is installed.
//!
//! Its last line is its outcome, and Go's own words: `remote error: tls: unknown certificate authority`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::{Means, on_path, ours};

const SOURCE: &str = include_str!("peer.go");

pub(super) const MEANS: Means = Means {
    ready: ours::ready,
    outcome: |_, ended| ours::outcome("Go", ended),
};

pub(super) fn lacks() -> Option<&'static str> {
    program().err()
}

/// The program, built once for this process. Go itself knows whether there is anything left to do.
pub(super) fn program() -> Result<&'static Path, &'static str> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let go = on_path("go").ok_or("there is no go here (Debian: golang-go)")?;
        build(&go).map_err(|why| format!("the Go peer cannot be built: {why}"))
    });
    match built {
        Ok(program) => Ok(program),
        Err(why) => Err(why),
    }
}

/// Builds beside this program. Others may do the same at the same time, so each builds its own and the last
/// one stays.
fn build(go: &Path) -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = here.parent().unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new()
        .prefix("gauntlet-go-")
        .tempdir_in(folder)
        // Not with the name that it would have had: the reason is the same every time.
        .map_err(|error| format!("{}: {}", folder.display(), error.kind()))?;
    let source = draft.path().join("peer.go");
    fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
    let made = draft.path().join("peer");
    let output = Command::new(go)
        .args(["build", "-o"])
        .args([&made, &source])
        .current_dir(draft.path())
        // Nothing is fetched: it needs no module but Go's own.
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().collect::<Vec<_>>().join("; "));
    }
    let program = folder.join("gauntlet-go-peer");
    fs::rename(&made, &program).map_err(|error| error.to_string())?;
    Ok(program)
}
