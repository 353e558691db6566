//! Go's crypto/tls, by the program in `peer.go`, which is built here with the Go that is installed.
//!
//! Its last line is its outcome, and Go's own words: `remote error: tls: unknown certificate authority`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::running::Ended;
use super::{Files, Means, on_path};
use crate::lab::Role;
use crate::peer::tls::{ConfigFailure, Setting, versions};
use crate::scenario::model::{ClientAuth, Peer, Tls};

const SOURCE: &str = include_str!("peer.go");

pub(super) const MEANS: Means = Means {
    ready: |line| line == "listening",
    outcome,
};

pub(super) fn lacks() -> Option<&'static str> {
    program().err()
}

/// The program, built once for this process. Go itself knows whether there is anything left to do.
fn program() -> Result<&'static Path, &'static str> {
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

pub(super) fn command(
    setting: &Setting<'_>,
    role: Role,
    peer: &Peer,
    server: SocketAddr,
    files: &Files,
) -> Result<Vec<String>, ConfigFailure> {
    let program = program().map_err(ConfigFailure::Program)?;
    let mut command = vec![program.display().to_string()];
    let mut add = |option: &str, value: String| command.push(format!("-{option}={value}"));
    add(
        "role",
        match role {
            Role::Client => "client".into(),
            Role::Server => "server".into(),
        },
    );
    add("address", server.to_string());
    add("name", setting.client.server_name.clone());
    add("ca", files.authority.display().to_string());
    if let Some((certificate, key)) = &files.own {
        add("certificate", certificate.display().to_string());
        add("key", key.display().to_string());
    }
    let number = |tls: &Tls| match tls {
        Tls::V1_2 => "1.2".to_owned(),
        Tls::V1_3 | Tls::Any => "1.3".to_owned(),
    };
    let versions = versions(peer, setting.tls);
    if let (Some(min), Some(max)) = (versions.iter().min(), versions.iter().max()) {
        add("min", number(min));
        add("max", number(max));
    }
    if let Some(suites) = &peer.suites {
        add("suites", suites.join(","));
    }
    add(
        "client-auth",
        match peer.client_auth {
            ClientAuth::None => "none".into(),
            ClientAuth::Optional => "optional".into(),
            ClientAuth::Required => "required".into(),
        },
    );
    Ok(command)
}

fn outcome(_: Role, ended: &Ended) -> String {
    match ended.after("outcome: ") {
        Some("ok") if ended.succeeded() => "ok".into(),
        Some("ok") | None => ended.unknown(),
        Some(error) => format!("Go: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn the_outcome_is_go_s_own_and_good_only_with_a_good_exit() {
        let said = |line: &str, code: i32| {
            let ended = Ended::of(&["listening", line], Some(ExitStatus::from_raw(code << 8)));
            outcome(Role::Server, &ended)
        };
        assert_eq!(said("outcome: ok", 0), "ok");
        assert!(said("outcome: ok", 2).starts_with("unknown: exit status: 2"));
        assert!(said("panic: x", 2).starts_with("unknown: exit status: 2"));
        assert_eq!(
            said("outcome: remote error: tls: access denied", 1),
            "Go: remote error: tls: access denied"
        );
    }
}
