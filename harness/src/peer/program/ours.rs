//! What programs of ours have in common, whatever library they are over: the command line of one handshake, a line
//! once they listen, and the library's own words in the last line.

use std::net::SocketAddr;
use std::path::Path;

use super::Files;
use super::running::Ended;
use crate::lab::Role;
use crate::peer::tls::{Setting, versions};
use crate::scenario::model::{ClientAuth, Peer, Tls};

pub(super) fn command(
    program: &Path,
    setting: &Setting<'_>,
    role: Role,
    peer: &Peer,
    server: SocketAddr,
    files: &Files,
) -> Vec<String> {
    let mut command = vec![program.display().to_string()];
    let mut add = |option: &str, value: String| command.push(format!("--{option}={value}"));
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
    command
}

pub(super) fn ready(line: &str) -> bool {
    line == "listening"
}

/// `ok`, or what the library of this name said.
pub(super) fn outcome(library: &str, ended: &Ended) -> String {
    match ended.after("outcome: ") {
        Some("ok") if ended.succeeded() => "ok".into(),
        Some("ok") | None => ended.unknown(),
        Some(error) => format!("{library}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn the_outcome_is_the_library_s_own_and_good_only_with_a_good_exit() {
        let said = |line: &str, code: i32| {
            let ended = Ended::of(&["listening", line], Some(ExitStatus::from_raw(code << 8)));
            outcome("Go", &ended)
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
