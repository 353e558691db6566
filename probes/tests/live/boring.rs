//! BoringSSL inside a program that is named: what it says is joined like a shared library's. The program is the
//! harness's peer, and OpenSSL, whom nobody asks, is at the other end.
//!
//! Ignored where that program was not built: `cargo xtask setup --boring`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::library::{Client, NAME, PORT, Server, VERIFY, beacon, certificates, quiet};
use crate::openssl::{await_line, compare};
use crate::stand::{SERVER, Stand, server_addresses};
use crate::watch::{PATIENCE, PROBE, Watch, lines};

const PROGRAM: &str = "gauntlet-boring-peer";

/// A certificate, and what BoringSSL makes of it.
#[derive(Clone, Copy)]
struct Case {
    certificate: &'static str,
    class: &'static str,
    alert: u8,
    number: u32,
    verify_error: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        certificate: "stranger",
        class: "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
        alert: 48,
        number: 20,
        verify_error: "unable to get local issuer certificate",
    },
    Case {
        certificate: "expired",
        class: "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED",
        alert: 45,
        number: 10,
        verify_error: "certificate has expired",
    },
    // OpenSSL would say bad_certificate.
    Case {
        certificate: "early",
        class: "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED",
        alert: 45,
        number: 9,
        verify_error: "certificate is not yet valid",
    },
];

pub(crate) fn trials() -> Vec<Trial> {
    [
        ("boring::its_server_rejects", server_rejects as fn() -> _),
        ("boring::its_client_rejects", client_rejects),
        ("boring::its_client_is_told", client_is_told),
        ("boring::good_handshakes_are_silence", good),
    ]
    .map(|(name, run)| {
        Trial::test(name, run)
            .with_kind(PROGRAM)
            .with_ignored_flag(!program().is_file())
    })
    .into()
}

/// Beside the probe.
fn program() -> PathBuf {
    Path::new(PROBE).with_file_name(PROGRAM)
}

/// A probe that asks this program alone.
fn watch(stand: &Stand) -> Result<Watch, Failed> {
    let program = program().display().to_string();
    Watch::start(&stand.server, &["-i", SERVER, "--library", &program])
}

fn server_rejects() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = watch(&stand)?;
    let address = server_addresses()[0];
    for case in CASES {
        let server = Peer::start(&stand, "server", "good")?;
        let client = Client::start(&stand, address, case.certificate, &["-tls1_3"], None)?;
        rejected(&mut watch, &case, "server", server)?;
        client.ended()?;
        beacon(&stand, &mut watch, address)?;
    }
    quiet(watch, 2 * CASES.len())
}

fn client_rejects() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = watch(&stand)?;
    let address = server_addresses()[0];
    for case in CASES {
        let _server = Server::start(&stand, case.certificate, &[], None)?;
        let client = Peer::start(&stand, "client", "good")?;
        rejected(&mut watch, &case, "client", client)?;
        beacon(&stand, &mut watch, address)?;
    }
    quiet(watch, 2 * CASES.len())
}

/// What the probe says of a rejection by BoringSSL is what BoringSSL says itself.
fn rejected(watch: &mut Watch, case: &Case, side: &str, peer: Peer) -> Result<(), Failed> {
    compare(
        &watch.event_of(NAME)?,
        &json!({
            "error.type": case.class, "confidence": "certain", "candidates": null,
            "tls.alert.code": case.alert, "tls.alert.encrypted": true, "tls.alert.sender": side,
            "handshake.ended_by": side, "tls.protocol.version": "1.3",
            "tls.library.name": "boringssl", "tls.library.side": side,
            "tls.library.error": "SSL_ERROR_SSL",
            "tls.library.reason": "CERTIFICATE_VERIFY_FAILED",
            "tls.library.x509.verify_error": case.verify_error,
            "process.pid": peer.child.id(), "process.executable.name": PROGRAM,
        }),
    )?;
    let number = case.number;
    peer.ended(&format!(
        "SSL_ERROR_SSL(1) 16:125(CERTIFICATE_VERIFY_FAILED) X509:{number}("
    ))
}

fn client_is_told() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = watch(&stand)?;
    let address = server_addresses()[0];
    let _server = Server::start(&stand, "good", VERIFY, None)?;
    let client = Peer::start(&stand, "client", "stranger")?;
    compare(
        &watch.event_of(NAME)?,
        &json!({
            "error.type": "SSL_R_TLSV1_ALERT_UNKNOWN_CA", "confidence": "certain",
            "tls.alert.code": 48, "tls.alert.encrypted": true, "handshake.ended_by": "server",
            "tls.library.name": "boringssl", "tls.library.side": "client",
            "tls.library.reason": "alert unknown ca", "process.pid": client.child.id(),
        }),
    )?;
    client.ended("SSL_ERROR_SSL(1) 16:1048(TLSV1_ALERT_UNKNOWN_CA)")?;
    beacon(&stand, &mut watch, address)?;
    quiet(watch, 2)
}

fn good() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = watch(&stand)?;
    for _ in 0..10 {
        let server = Peer::start(&stand, "server", "good")?;
        Peer::start(&stand, "client", "good")?.ended("ok")?;
        server.ended("ok")?;
    }
    beacon(&stand, &mut watch, server_addresses()[0])?;
    quiet(watch, 1)
}

/// BoringSSL at one end of one connection of TLS 1.3, killed when dropped.
struct Peer {
    child: Child,
    said: Receiver<String>,
}

impl Peer {
    /// A server is accepting when this returns.
    fn start(stand: &Stand, role: &str, certificate: &str) -> Result<Self, Failed> {
        let address = SocketAddr::new(server_addresses()[0], PORT);
        let mut command = Command::new(program());
        command
            .current_dir(certificates())
            .args(["--role", role, "--address", &address.to_string()])
            .args(["--name", NAME, "--ca", "ca.crt", "--min", "1.3"])
            .args(["--certificate", &format!("{certificate}.crt")])
            .args(["--key", &format!("{certificate}.key")])
            .args(["--client-auth", "required"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let end = match role {
            "server" => &stand.server,
            _ => &stand.client,
        };
        let mut child = end.run(|| command.spawn())??;
        let said = lines(child.stdout.take());
        let peer = Self { child, said };
        if role == "server" {
            await_line(&peer.said, "listening")?;
        }
        Ok(peer)
    }

    /// It ends by itself, and says this last, or more.
    fn ended(mut self, outcome: &str) -> Result<(), Failed> {
        let said = self.said.recv_timeout(PATIENCE)?;
        self.child.wait()?;
        let begins = format!("outcome: {outcome}");
        said.starts_with(&begins)
            .then_some(())
            .ok_or_else(|| format!("{begins:?} was expected, not {said:?}").into())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
