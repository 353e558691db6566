//! GnuTLS by its own programs, `gnutls-cli` and `gnutls-serv --echo`, and what they print.
//!
//! Which alert was sent or received only GnuTLS's debug lines say (`--debug 5`); the first fatal one is what
//! the connection ended with, also where `gnutls-serv` sends a second. Without one it is the program's own error.

use std::net::SocketAddr;
use std::sync::OnceLock;

use super::running::Ended;
use super::{Files, Means, on_path};
use crate::lab::Role;
use crate::peer::tls::{ConfigFailure, Setting, versions};
use crate::scenario::model::{ClientAuth, Peer, Tls};

/// A line: `gnutls-cli` sends what it reads by lines, and `gnutls-serv` echoes lines.
pub(super) const INPUT: &str = "ping\n";

pub(super) const MEANS: Means = Means {
    // Both families are bound, IPv6 last.
    ready: |line| line.contains("listening on IPv6") && line.ends_with("...done"),
    outcome,
};

pub(super) fn lacks() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| {
        ["gnutls-cli", "gnutls-serv"]
            .into_iter()
            .find(|name| on_path(name).is_none())
            .map(|name| format!("there is no {name} here (Debian: gnutls-bin)"))
    })
    .as_deref()
}

pub(super) fn command(
    setting: &Setting<'_>,
    role: Role,
    peer: &Peer,
    server: SocketAddr,
    files: &Files,
) -> Result<Vec<String>, ConfigFailure> {
    let mut command = match role {
        Role::Client => vec![
            "gnutls-cli".into(),
            server.ip().to_string(),
            "--sni-hostname".into(),
            peer.server_name.clone(),
            "--verify-hostname".into(),
            peer.server_name.clone(),
        ],
        Role::Server => {
            let mut command = vec!["gnutls-serv".into(), "--echo".into(), "--nodb".into()];
            let asks: &[&str] = match peer.client_auth {
                ClientAuth::None => &["--disable-client-cert"],
                ClientAuth::Optional => &["--verify-client-cert"],
                ClientAuth::Required => &["--require-client-cert", "--verify-client-cert"],
            };
            command.extend(asks.iter().map(ToString::to_string));
            command
        }
    };
    let mut add = |option: &str, value: String| command.extend([option.into(), value]);
    add("--debug", "5".into());
    add("--port", server.port().to_string());
    add("--priority", priority(peer, setting.tls)?);
    add("--x509cafile", files.authority.display().to_string());
    if let Some((certificate, key)) = &files.own {
        add("--x509certfile", certificate.display().to_string());
        add("--x509keyfile", key.display().to_string());
    }
    Ok(command)
}

/// Versions and suites as GnuTLS has them; a suite is told by its cipher.
fn priority(peer: &Peer, tls: Tls) -> Result<String, ConfigFailure> {
    let mut text = String::from("NORMAL:-VERS-ALL");
    for version in versions(peer, tls) {
        text += match version {
            Tls::V1_2 => ":+VERS-TLS1.2",
            Tls::V1_3 | Tls::Any => ":+VERS-TLS1.3",
        };
    }
    if let Some(suites) = &peer.suites {
        text += ":-CIPHER-ALL";
        for suite in suites {
            text += match suite {
                name if name.contains("_AES_128_GCM_") => ":+AES-128-GCM",
                name if name.contains("_AES_256_GCM_") => ":+AES-256-GCM",
                name if name.contains("_CHACHA20_POLY1305_") => ":+CHACHA20-POLY1305",
                name => return Err(ConfigFailure::unknown("GnuTLS", "cipher suite", name)),
            };
        }
    }
    Ok(text)
}

fn outcome(role: Role, ended: &Ended) -> String {
    let error = match role {
        Role::Client => ended.after("*** Fatal error: "),
        Role::Server => ended.after("Error in handshake: "),
    };
    match (ended.lines().find_map(fatal), error) {
        (Some(alert), Some(error)) => format!("GnuTLS {alert}: {error}"),
        (Some(alert), None) => format!("GnuTLS {alert}"),
        (None, Some(error)) => format!("GnuTLS failed: {error}"),
        (None, None) => {
            let good = match role {
                Role::Client => {
                    ended.succeeded()
                        && ended
                            .lines()
                            .any(|line| line == "- Handshake was completed")
                        && ended.lines().any(|line| line.contains("pong"))
                }
                Role::Server => ended
                    .lines()
                    .any(|line| line == "*** Processing 5 bytes command: ping"),
            };
            if good { "ok".into() } else { ended.unknown() }
        }
    }
}

/// What a debug line says of a fatal alert: `sent alert 42 (Certificate is bad)`.
fn fatal(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Alert[2|")?;
    let (number, text) = rest.split_once("] - ")?;
    let (done, text) = match text.strip_suffix(" - was received") {
        Some(text) => ("received", text),
        None if line.contains("REC: Sending Alert[") => ("sent", text),
        None => return None,
    };
    Some(format!("{done} alert {number} ({text})"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn client(said: &[&str], code: i32) -> String {
        outcome(
            Role::Client,
            &Ended::of(said, Some(ExitStatus::from_raw(code << 8))),
        )
    }

    fn server(said: &[&str]) -> String {
        outcome(Role::Server, &Ended::of(said, None))
    }

    #[test]
    fn the_first_fatal_alert_is_the_outcome_with_the_program_s_error() {
        let twice = [
            "|<5>| REC: Sending Alert[2|49] - Access was denied",
            "Error in handshake: Error in the certificate.",
            "|<5>| REC: Sending Alert[2|42] - Certificate is bad",
        ];
        assert_eq!(
            server(&twice),
            "GnuTLS sent alert 49 (Access was denied): Error in the certificate."
        );
        let told = [
            "|<5>| REC: Sending Alert[1|0] - Close notify",
            "|<5>| REC[0x55ac]: Alert[2|49] - Access was denied - was received",
            "*** Fatal error: A TLS fatal alert has been received.",
        ];
        assert_eq!(
            client(&told, 1),
            "GnuTLS received alert 49 (Access was denied): A TLS fatal alert has been received."
        );
        assert_eq!(
            client(&["*** Fatal error: Error in the pull function."], 1),
            "GnuTLS failed: Error in the pull function."
        );
    }

    #[test]
    fn good_is_only_what_was_said_and_ended_so() {
        let good = ["- Handshake was completed", "", "pong- Peer has closed"];
        assert_eq!(client(&good, 0), "ok");
        assert!(client(&good, 1).starts_with("unknown: exit status: 1"));
        assert!(client(&good[..2], 0).starts_with("unknown: "));
        assert!(client(&good[1..], 0).starts_with("unknown: "));
        assert_eq!(server(&["*** Processing 5 bytes command: ping"]), "ok");
        assert!(server(&["Exiting via signal 15"]).starts_with("unknown: no status"));
    }
}
