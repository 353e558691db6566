//! Debian's `openssl s_server` and `s_client` at both ends of a veth, the probe at the server's.
//! What happens, and nothing else, is named: every case ends with a beacon, a failure of a known
//! name, so that an event too many would come before it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::raw::{UNKNOWN_CA, fail};
use crate::stand::{SERVER, Stand, server_addresses};
use crate::watch::{PATIENCE, Watch, lines};

const PORT: u16 = 443;
/// The name in the server's certificate, and in the client's ClientHello.
pub(crate) const NAME: &str = "api.internal";
pub(crate) const BEACON: &str = "beacon.internal";

/// What both ends are told, and what must be said about it. `null`: the key must be absent.
struct Case {
    name: &'static str,
    server: &'static [&'static str],
    client: &'static [&'static str],
    event: fn(u8) -> Value,
}

/// What a server with a certificate of ours is told.
pub(crate) const AUTHENTICATE: &[&str] =
    &["-Verify", "1", "-verify_return_error", "-CAfile", "ca.crt"];
pub(crate) const TRUST: &[&str] = &["-CAfile", "ca.crt"];

/// Both versions, each in its own trial; `event` gets the minor version.
const CASES: [Case; 4] = [
    Case {
        name: "client_does_not_know_the_ca",
        server: &[],
        client: &["-CAfile", "other.crt"],
        // OpenSSL sends this alert in the clear even in TLS 1.3.
        event: |minor| {
            json!({
                "error.type": "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
                "confidence": "certain", "candidates": null,
                "handshake.ended_by": "client",
                "handshake.stage": if minor == 2 { "server_certificate" } else { "server_flight" },
                "tls.alert.code": 48, "tls.alert.description": "unknown_ca",
                "tls.alert.level": "fatal", "tls.alert.sender": "client", "tls.alert.encrypted": false,
                "root_cause.layer": "certificate", "retryable": false,
                "tls.protocol.version": format!("1.{minor}"),
                "tls.server.x509.subject.common_name": if minor == 2 { json!(NAME) } else { Value::Null },
                "tls.client.x509.subject.common_name": null,
                "tls.cipher": if minor == 2 { "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" } else { "TLS_AES_256_GCM_SHA384" },
                "tls.next_protocol": if minor == 2 { json!("h2") } else { Value::Null },
            })
        },
    },
    Case {
        name: "server_does_not_know_the_client_s_ca",
        server: AUTHENTICATE,
        client: &[
            "-CAfile",
            "ca.crt",
            "-cert",
            "stranger.crt",
            "-key",
            "stranger.key",
        ],
        event: |minor| {
            let mut event = rejected_by_server(minor);
            if minor == 2 {
                event["error.type"] = json!("SSL_R_TLSV1_ALERT_UNKNOWN_CA");
                event["tls.alert.code"] = json!(48);
                event["tls.client.x509.subject.common_name"] = json!("stranger");
            }
            event
        },
    },
    Case {
        name: "client_certificate_is_missing",
        server: AUTHENTICATE,
        client: TRUST,
        event: |minor| {
            let mut event = rejected_by_server(minor);
            if minor == 2 {
                // OpenSSL's choice, which is no cipher's fault after the ClientHello.
                event["error.type"] = json!("SSL_ERROR_SSL");
                event["tls.alert.code"] = json!(40);
            }
            event
        },
    },
    Case {
        name: "no_cipher_is_shared",
        server: &[
            "-cipher",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "-ciphersuites",
            "TLS_AES_256_GCM_SHA384",
        ],
        client: &[
            "-CAfile",
            "ca.crt",
            "-cipher",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "-ciphersuites",
            "TLS_AES_128_GCM_SHA256",
        ],
        event: |_| {
            json!({
                "error.type": "SSL_R_NO_SHARED_CIPHER",
                "confidence": "ambiguous", "candidates": ["SSL_R_NO_SHARED_CIPHER", "SSL_ERROR_SSL"],
                "handshake.ended_by": "server", "handshake.stage": "client_hello",
                "tls.alert.code": 40, "tls.alert.sender": "server", "tls.alert.encrypted": false,
                "tls.protocol.version": null, "tls.cipher": null,
            })
        },
    },
];

/// The server rejects the client's certificate: in TLS 1.3 nobody outside can see why.
fn rejected_by_server(minor: u8) -> Value {
    if minor == 2 {
        json!({
            "confidence": "certain",
            "handshake.ended_by": "server", "handshake.stage": "client_certificate",
            "tls.alert.sender": "server", "tls.alert.level": "fatal", "tls.alert.encrypted": false,
            "tls.protocol.version": "1.2", "tls.server.x509.subject.common_name": NAME,
        })
    } else {
        json!({
            "error.type": "SSL_ERROR_SSL", "confidence": "ambiguous",
            "handshake.ended_by": "server", "handshake.stage": "client_flight",
            "tls.alert.sender": "server", "tls.alert.encrypted": true,
            "tls.alert.code": null, "tls.alert.description": null, "tls.alert.level": null,
            "tls.protocol.version": "1.3", "tls.client.x509.subject.common_name": null,
        })
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in CASES {
        for minor in [2, 3] {
            let name = format!("openssl::{}::tls1_{minor}", case.name);
            let event = (case.event)(minor);
            let version = version(minor);
            trials.push(Trial::test(name, move || {
                judge(
                    &[case.server, &[version]].concat(),
                    &[case.client, &[version]].concat(),
                    &event,
                )
            }));
        }
    }
    for (server, client) in [(2, 3), (3, 2)] {
        let name =
            format!("openssl::server_of_tls1_{server}_only_meets_client_of_tls1_{client}_only");
        trials.push(Trial::test(name, move || {
            let event = json!({
                "error.type": "SSL_R_UNKNOWN_PROTOCOL", "confidence": "certain",
                "handshake.ended_by": "server", "handshake.stage": "client_hello",
                "tls.alert.code": 70, "tls.alert.description": "protocol_version",
                "tls.protocol.version": null,
            });
            judge(
                &[version(server)],
                &[TRUST, &[version(client)]].concat(),
                &event,
            )
        }));
    }
    for minor in [2, 3] {
        trials.push(Trial::test(
            format!("openssl::good_handshakes_are_silence::tls1_{minor}"),
            move || good(minor),
        ));
    }
    trials.push(Trial::test("openssl::http_where_tls_is_meant", http));
    trials
}

const fn version(minor: u8) -> &'static str {
    if minor == 2 { "-tls1_2" } else { "-tls1_3" }
}

/// One case, over IPv4 and IPv6.
fn judge(server: &[&str], client: &[&str], expected: &Value) -> Result<(), Failed> {
    let stand = Stand::new()?;
    // The wire alone.
    let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--library", "off"])?;
    let _server = Server::start(&stand, server)?;
    for address in server_addresses() {
        let client = Client::start(&stand, address, client)?;
        let event = watch.event()?;
        compare(&event, expected)?;
        compare(
            &event,
            &json!({
                "server.address": NAME,
                "tls.client.alpn": ["h2", "http/1.1"],
                "client.address": if address.is_ipv4() { "10.77.0.1" } else { "fd77::1" },
                "server.ip": address, "server.port": PORT,
                "network.local.address": address,
                "network.type": if address.is_ipv4() { "ipv4" } else { "ipv6" },
                "network.interface.name": SERVER,
            }),
        )?;
        client.failed()?;
        fail(&stand, address, BEACON, UNKNOWN_CA)?;
        watch.event_of(BEACON)?;
    }
    let ended = watch.finish()?;
    (ended.lost() == 0)
        .then_some(())
        .ok_or_else(|| format!("{}", ended.counters).into())
}

/// With and without client authentication, new and resumed.
fn good(minor: u8) -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER])?;
    let session = tempfile::NamedTempFile::new()?;
    let session = session.path().display().to_string();
    let me = [
        "-CAfile",
        "ca.crt",
        "-cert",
        "client.crt",
        "-key",
        "client.key",
    ];
    let mut handshakes = 0;
    for server in [&[][..], AUTHENTICATE] {
        let _server = Server::start(&stand, &[server, &[version(minor)]].concat())?;
        for address in server_addresses() {
            std::fs::write(&session, "")?;
            for reuse in [&["-sess_out", &session][..], &["-sess_in", &session]] {
                let client = Client::start(
                    &stand,
                    address,
                    &[&me[..], &[version(minor)], reuse].concat(),
                )?;
                // TLS 1.3 has a session only with the first ticket, which comes after the handshake.
                session_kept(&session)?;
                client.greeted()?;
                handshakes += 1;
            }
        }
    }
    fail(&stand, server_addresses()[0], BEACON, UNKNOWN_CA)?;
    watch.event_of(BEACON)?;
    let ended = watch.finish()?;
    let judged = ended.count("handshake_done") + ended.count("handshake_undecided");
    if ended.events.len() != 1 || judged != handshakes || ended.lost() != 0 {
        return Err(format!("{handshakes} handshakes: {ended:?}").into());
    }
    Ok(())
}

/// Waits until a client has written its session, which it says only when it ends.
fn session_kept(file: &str) -> Result<(), Failed> {
    let began = Instant::now();
    while !std::fs::read_to_string(file)?.contains("-----END SSL SESSION PARAMETERS-----") {
        if began.elapsed() > PATIENCE {
            return Err("there is no session".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A server that is known to speak TLS gets something else. OpenSSL resets without a word.
fn http() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER])?;
    let _server = Server::start(&stand, &[])?;
    for address in server_addresses() {
        Client::start(&stand, address, TRUST)?.greeted()?;
        let wrong = [
            (
                "GET / HTTP/1.1\r\nHost: api.internal\r\n\r\n",
                "SSL_R_UNKNOWN_PROTOCOL",
            ),
            (
                "CONNECT api.internal:443 HTTP/1.1\r\n\r\n",
                "SSL_R_HTTPS_PROXY_REQUEST",
            ),
        ];
        for (bytes, class) in wrong {
            let server = SocketAddr::new(address, PORT);
            let mut stream = stand
                .client
                .run(|| TcpStream::connect_timeout(&server, PATIENCE))??;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(bytes.as_bytes())?;
            let event = watch.event()?;
            compare(
                &event,
                &json!({
                    "error.type": class, "confidence": "certain", "handshake.ended_by": "client",
                    "handshake.stage": "connected", "handshake.history": "",
                    "tls.alert.code": null, "tls.protocol.version": null, "server.address": null,
                    "server.ip": address, "client.port": stream.local_addr()?.port(),
                }),
            )?;
            let _ = stream.read_to_end(&mut Vec::new());
        }
        fail(&stand, address, BEACON, UNKNOWN_CA)?;
        watch.event_of(BEACON)?;
    }
    watch.finish().map(drop)
}

/// Every key of `expected` is as it says; `null`: absent.
pub(crate) fn compare(event: &Value, expected: &Value) -> Result<(), Failed> {
    for (key, value) in expected.as_object().into_iter().flatten() {
        let found = event.get(key).unwrap_or(&Value::Null);
        if found != value {
            return Err(format!("{key}: expected {value}, found {found} in {event}").into());
        }
    }
    Ok(())
}

/// A folder of certificates: `ca`, `other` (CAs), `server`, `client`, and `stranger` by `other`.
fn certificates() -> &'static tempfile::TempDir {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, subject, issuer) in [
            ("ca", "the CA", None),
            ("other", "another CA", None),
            ("server", NAME, Some("ca")),
            ("client", "a client", Some("ca")),
            ("stranger", "stranger", Some("other")),
        ] {
            let mut command = openssl(folder.path().into());
            command.args(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '),
            );
            command.args(["-subj", &format!("/O=gauntlet/CN={subject}")]);
            command.args([
                "-keyout",
                &format!("{name}.key"),
                "-out",
                &format!("{name}.crt"),
            ]);
            if let Some(issuer) = issuer {
                command.args([
                    "-CA",
                    &format!("{issuer}.crt"),
                    "-CAkey",
                    &format!("{issuer}.key"),
                ]);
            }
            let output = command.output().expect("openssl");
            assert!(output.status.success(), "{command:?}: {output:?}");
        }
        folder
    })
}

fn openssl(folder: PathBuf) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(folder).stdin(Stdio::piped());
    command
}

/// `openssl s_server`, accepting.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(stand: &Stand, arguments: &[&str]) -> Result<Self, Failed> {
        let mut command = openssl(certificates().path().into());
        command
            .args([
                "s_server",
                "-accept",
                "443",
                "-cert",
                "server.crt",
                "-key",
                "server.key",
            ])
            .args(["-alpn", "h2,http/1.1"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = stand.server.run(|| command.spawn())??;
        let said = lines(child.stdout.take());
        let server = Self(child);
        await_line(&said, "ACCEPT")?;
        // Somebody must go on reading, or it would block.
        std::thread::spawn(move || said.into_iter().for_each(drop));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `openssl s_client`, which says nothing of its own and waits for the server to.
pub(crate) struct Client {
    child: Child,
    said: Receiver<String>,
}

impl Client {
    pub(crate) fn start(
        stand: &Stand,
        address: IpAddr,
        arguments: &[&str],
    ) -> Result<Self, Failed> {
        let mut command = openssl(certificates().path().into());
        command
            .args([
                "s_client",
                "-connect",
                &SocketAddr::new(address, PORT).to_string(),
            ])
            .args([
                "-servername",
                NAME,
                "-alpn",
                "h2,http/1.1",
                "-verify_return_error",
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = stand.client.run(|| command.spawn())??;
        let said = lines(child.stdout.take());
        Ok(Self { child, said })
    }

    /// It gives up by itself.
    pub(crate) fn failed(mut self) -> Result<(), Failed> {
        while self.said.recv_timeout(PATIENCE).is_ok() {}
        let status = self.child.wait()?;
        (!status.success())
            .then_some(())
            .ok_or_else(|| "it succeeded".into())
    }

    /// Its handshake is done; then it closes.
    fn greeted(mut self) -> Result<(), Failed> {
        await_line(&self.said, "Verify return code: 0 (ok)")?;
        drop(self.child.stdin.take());
        while self.said.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn await_line(said: &Receiver<String>, wanted: &str) -> Result<(), Failed> {
    loop {
        match said.recv_timeout(PATIENCE) {
            Ok(line) if line.trim() == wanted => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("{wanted:?} never came: {error}").into()),
        }
    }
}
