//! `mtls-probe watch --keylog` beside OpenSSL, which writes the log as it goes: every suite of TLS 1.3, two of
//! which only OpenSSL has here.

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use crate::openssl::{AUTHENTICATE, BEACON, Client, NAME, Server, TRUST, compare};
use crate::raw::{UNKNOWN_CA, fail};
use crate::stand::{SERVER, Stand, server_addresses};
use crate::watch::Watch;

const SUITES: [&str; 5] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
];

/// A client certificate of a CA that the server does not know.
const STRANGER: &[&str] = &[
    "-CAfile",
    "ca.crt",
    "-cert",
    "stranger.crt",
    "-key",
    "stranger.key",
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = SUITES
        .into_iter()
        .map(|suite| Trial::test(format!("keylog::names_alerts::{suite}"), || named(suite)))
        .collect();
    trials.push(Trial::test("keylog::of_somebody_else", of_somebody_else));
    trials
}

/// The log does not exist when the watch begins.
fn named(suite: &str) -> Result<(), Failed> {
    let stand = Stand::new()?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("keys.log").display().to_string();
    let mut watch = Watch::start(
        &stand.server,
        &["-i", SERVER, "--keylog", &log, "--library", "off"],
    )?;
    let arguments = ["-tls1_3", "-ciphersuites", suite, "-keylogfile", &log];
    let _server = Server::start(&stand, &[AUTHENTICATE, &arguments].concat())?;
    for address in server_addresses() {
        for (client, code, description, class) in [
            (STRANGER, 48, "unknown_ca", "SSL_R_TLSV1_ALERT_UNKNOWN_CA"),
            (TRUST, 116, "certificate_required", "SSL_ERROR_SSL"),
        ] {
            let arguments = ["-tls1_3", "-ciphersuites", suite];
            let client = Client::start(&stand, address, &[client, &arguments].concat())?;
            let event = watch.event()?;
            compare(
                &event,
                &json!({
                    "error.type": class, "confidence": "certain", "candidates": null,
                    "tls.alert.code": code, "tls.alert.description": description,
                    "tls.alert.level": "fatal", "tls.alert.sender": "server",
                    "tls.alert.encrypted": true, "handshake.stage": "client_flight",
                    "tls.cipher": suite, "tls.protocol.version": "1.3",
                    "server.address": NAME, "server.ip": address,
                }),
            )?;
            client.failed()?;
        }
        fail(&stand, address, BEACON, UNKNOWN_CA)?;
        watch.event_of(BEACON)?;
    }
    let ended = watch.finish()?;
    let counts = [
        "hidden_alert_named",
        "key_log_missing",
        "key_log_does_not_fit",
    ];
    let counts = counts.map(|name| ended.count(name));
    if counts != [4, 0, 0] || ended.lost() != 0 {
        return Err(format!("{counts:?}: {}", ended.counters).into());
    }
    Ok(())
}

/// The event waits for keys that never come, then it is told as the wire had it, and in order.
fn of_somebody_else() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let log = tempfile::NamedTempFile::new()?;
    let path = log.path().display().to_string();
    let mut watch = Watch::start(
        &stand.server,
        &["-i", SERVER, "--keylog", &path, "--library", "off"],
    )?;
    let _server = Server::start(&stand, &[AUTHENTICATE, &["-tls1_3"]].concat())?;
    let address = server_addresses()[0];
    let client = Client::start(&stand, address, &[STRANGER, &["-tls1_3"]].concat())?;
    client.failed()?;
    fail(&stand, address, BEACON, UNKNOWN_CA)?;
    let event = watch.event_of(NAME)?;
    compare(
        &event,
        &json!({
            "error.type": "SSL_ERROR_SSL", "confidence": "ambiguous",
            "tls.alert.encrypted": true, "tls.alert.code": null,
        }),
    )?;
    watch.event_of(BEACON)?;
    let ended = watch.finish()?;
    if ended.count("key_log_missing") != 1 || ended.count("hidden_alert_named") != 0 {
        return Err(format!("{}", ended.counters).into());
    }
    Ok(())
}
