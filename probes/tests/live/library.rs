//! What TLS libraries say of a failed handshake is joined to what the wire shows of it, by connection, and
//! nothing else is: OpenSSL's programs, Python as another application of the same library, and GnuTLS's client
//! where it is installed.
//!
//! Every case ends with a beacon, a failure of a known name, so that an event too many would come before it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::Receiver;

use gauntlet_probes::netns::NetNs;
use libtest_mimic::{Failed, Trial};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket,
    sockopt::Linger,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use serde_json::json;

use crate::openssl::{await_line, compare};
use crate::raw::{UNKNOWN_CA, client_hello, fail};
use crate::stand::{SERVER, SERVER_V4, Stand, server_addresses};
use crate::watch::{PATIENCE, Watch, lines};

pub(crate) const PORT: u16 = 443;
pub(crate) const NAME: &str = "api.internal";
const BEACON: &str = "beacon.internal";

/// A rejection: by whom, what is wrong with the other's certificate, and what everybody calls that.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// The server rejects the client; else the client the server.
    by_server: bool,
    /// Of the side that is rejected.
    certificate: &'static str,
    /// What else the rejecting side is told.
    arguments: &'static [&'static str],
    class: &'static str,
    alert: (u8, &'static str),
    verify_error: &'static str,
}

const CASES: [Case; 6] = [
    Case {
        name: "server_does_not_know_the_ca",
        by_server: true,
        certificate: "stranger",
        arguments: &[],
        class: "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
        alert: (48, "unknown_ca"),
        verify_error: "unable to get local issuer certificate",
    },
    Case {
        name: "server_finds_the_certificate_expired",
        by_server: true,
        certificate: "expired",
        arguments: &[],
        class: "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED",
        alert: (45, "certificate_expired"),
        verify_error: "certificate has expired",
    },
    Case {
        name: "server_finds_the_certificate_not_yet_valid",
        by_server: true,
        certificate: "early",
        arguments: &[],
        class: "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE",
        alert: (42, "bad_certificate"),
        verify_error: "certificate is not yet valid",
    },
    Case {
        name: "client_does_not_know_the_ca",
        by_server: false,
        certificate: "stranger",
        arguments: &[],
        class: "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
        alert: (48, "unknown_ca"),
        verify_error: "unable to get local issuer certificate",
    },
    Case {
        name: "client_finds_the_certificate_expired",
        by_server: false,
        certificate: "expired",
        arguments: &[],
        class: "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED",
        alert: (45, "certificate_expired"),
        verify_error: "certificate has expired",
    },
    Case {
        name: "client_finds_another_name",
        by_server: false,
        certificate: "good",
        arguments: &["-verify_hostname", "other.internal"],
        class: "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE",
        alert: (42, "bad_certificate"),
        verify_error: "hostname mismatch",
    },
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in CASES {
        for minor in [2, 3] {
            let name = format!("library::{}::tls1_{minor}", case.name);
            trials.push(Trial::test(name, move || rejection(&case, minor)));
        }
    }
    trials.extend([
        Trial::test("library::by_itself", by_itself),
        Trial::test(
            "library::a_missing_certificate_is_named",
            missing_certificate,
        ),
        Trial::test("library::the_receiver_s_library_is_enough", || {
            one_end(false)
        }),
        Trial::test("library::the_rejecting_library_is_enough", || one_end(true)),
        Trial::test("library::a_library_that_nobody_used_before", new_library),
        Trial::test("library::good_handshakes_are_silence", good),
        Trial::test("library::a_reset_is_joined", reset),
        Trial::test("library::a_namesake_elsewhere_has_no_say", namesakes),
        Trial::test("library::no_cipher_is_shared_for_certain", no_shared_cipher),
        Trial::test("library::without_it_the_wire_s_ceiling_stands", without),
        python("library::another_application_rejects", python_rejects),
        python("library::another_application_is_told", python_is_told),
        python("library::a_good_server_that_says_goodbye_at_once", goodbye),
        python("library::who_waits_says_so", stall),
        gnutls("library::gnutls_rejects", gnutls_rejects),
        gnutls("library::gnutls_is_told", gnutls_is_told),
    ]);
    trials
}

/// A trial that needs Python with OpenSSL as a shared library.
fn python(name: &str, run: fn() -> Result<(), Failed>) -> Trial {
    let script = "import ssl, _ssl; print(_ssl.__file__)";
    let found = Command::new("python3").args(["-c", script]).output();
    let there = found.is_ok_and(|output| output.status.success());
    Trial::test(name, run)
        .with_kind("python3")
        .with_ignored_flag(!there)
}

/// A trial that needs GnuTLS's client.
fn gnutls(name: &str, run: fn() -> Result<(), Failed>) -> Trial {
    let found = Command::new("gnutls-cli").arg("--version").output();
    let there = found.is_ok_and(|output| output.status.success());
    Trial::test(name, run)
        .with_kind("gnutls-bin")
        .with_ignored_flag(!there)
}

fn version(minor: u8) -> &'static str {
    if minor == 2 { "-tls1_2" } else { "-tls1_3" }
}

/// All that a library says, also while it reads and writes: that is where `s_client` does its handshake,
/// and where a client is told that it was rejected.
const DEEP: &[&str] = &["-i", SERVER, "--library", "deep"];

pub(crate) const VERIFY: &[&str] = &["-Verify", "1", "-verify_return_error", "-CAfile", "ca.crt"];

/// One case, over IPv4 and IPv6: the alert, the class and the rejecting side's own reason.
fn rejection(case: &Case, minor: u8) -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let (server_certificate, client_certificate) = if case.by_server {
        ("good", case.certificate)
    } else {
        (case.certificate, "good")
    };
    let (mut server_options, mut client_options) = (VERIFY.to_vec(), vec![version(minor)]);
    if case.by_server {
        server_options.extend(case.arguments);
    } else {
        client_options.extend(case.arguments);
    }
    let server = Server::start(&stand, server_certificate, &server_options, None)?;
    for address in server_addresses() {
        let client = Client::start(&stand, address, client_certificate, &client_options, None)?;
        let (side, process) = if case.by_server {
            ("server", server.child.id())
        } else {
            ("client", client.child.id())
        };
        let event = watch.event_of(NAME)?;
        compare(
            &event,
            &json!({
                "error.type": case.class, "confidence": "certain", "candidates": null,
                "tls.alert.code": case.alert.0, "tls.alert.description": case.alert.1,
                "tls.alert.level": "fatal", "tls.alert.sender": side,
                // OpenSSL's clients send theirs in the clear even in TLS 1.3.
                "tls.alert.encrypted": case.by_server && minor == 3,
                "handshake.ended_by": side, "tls.protocol.version": format!("1.{minor}"),
                "root_cause.layer": "certificate", "retryable": false,
                "tls.library.name": "openssl", "tls.library.side": side,
                "tls.library.error": "SSL_ERROR_SSL",
                "tls.library.reason": "certificate verify failed",
                "tls.library.x509.verify_error": case.verify_error,
                "process.pid": process, "process.executable.name": "openssl",
            }),
        )?;
        client.ended()?;
        beacon(&stand, &mut watch, address)?;
    }
    quiet(watch, 4)
}

/// Nothing but what was expected. (Words that found no event may be another trial's: libraries are
/// probed on the whole machine.)
pub(crate) fn quiet(watch: Watch, events: usize) -> Result<(), Failed> {
    let ended = watch.finish()?;
    let sound = ended.events.len() == events
        && ended.lost() == 0
        && [
            "library_ring_full",
            "library_full",
            "library_refused",
            "library_late",
        ]
        .iter()
        .all(|counter| ended.count(counter) == 0);
    sound
        .then_some(())
        .ok_or_else(|| format!("{events} events were expected: {ended:?}").into())
}

pub(crate) fn beacon(stand: &Stand, watch: &mut Watch, address: IpAddr) -> Result<(), Failed> {
    fail(stand, address, BEACON, UNKNOWN_CA)?;
    let event = watch.event_of(BEACON)?;
    // No library had a part in it.
    compare(
        &event,
        &json!({"tls.library.name": null, "process.pid": null}),
    )
}

/// Connections with the same addresses and ports that begin at once, in two namespaces: the kernel gives both
/// the same sequence numbers, but for some that pass with each microsecond. Both servers refuse, for different
/// reasons, and the other one first.
fn namesakes() -> Result<(), Failed> {
    let [ours, theirs] = [Stand::new()?, Stand::new()?];
    let mut watch = Watch::start(&ours.server, DEEP)?;
    let server = Server::start(&ours, "good", &["-tls1_3"], None)?;
    let cipher = ["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"];
    let _other = Server::start(&theirs, "good", &cipher, None)?;
    let IpAddr::V4(address) = server_addresses()[0] else {
        return Err("the first address is IPv6".into());
    };
    for port in 5_000..5_010 {
        let connect = |stand: &Stand| stand.client.run(|| connect_from(port, address));
        let connections = [connect(&theirs)??, connect(&ours)??];
        for mut connection in connections {
            connection.set_read_timeout(Some(PATIENCE))?;
            connection.write_all(&client_hello(NAME))?;
            connection.read_exact(&mut [0; 7])?;
        }
        compare(
            &watch.event_of(NAME)?,
            &json!({
                "client.port": port, "tls.alert.code": 70, "tls.library.side": "server",
                "tls.library.reason": "unsupported protocol", "process.pid": server.child.id(),
            }),
        )?;
    }
    crate::clsact::same(watch.finish()?.events.len(), 10)
}

/// A connection to a server's port of TLS, from a port of our choice.
fn connect_from(port: u16, server: Ipv4Addr) -> Result<TcpStream, Failed> {
    let kind = (
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
    );
    let socket = socket(kind.0, kind.1, kind.2, None)?;
    bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)),
    )?;
    let server = SocketAddrV4::new(server, PORT);
    connect(socket.as_raw_fd(), &SockaddrIn::from(server))?;
    Ok(socket.into())
}

fn missing_certificate() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let _server = Server::start(&stand, "good", VERIFY, None)?;
    let client = Client::start(&stand, server_addresses()[0], "", &["-tls1_3"], None)?;
    compare(
        &watch.event_of(NAME)?,
        &json!({
            "error.type": "SSL_ERROR_SSL", "confidence": "certain", "candidates": null,
            "tls.alert.code": 116, "tls.alert.description": "certificate_required",
            "tls.alert.encrypted": true, "handshake.ended_by": "server",
            "tls.library.side": "server",
            "tls.library.reason": "peer did not return a certificate",
            "tls.library.x509.verify_error": null,
        }),
    )?;
    client.ended()?;
    beacon(&stand, &mut watch, server_addresses()[0])?;
    quiet(watch, 2)
}

/// A copy of the system's OpenSSL, which only those processes use that are told to.
pub(crate) struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let linked = Command::new("ldd").arg(which("openssl")?).output()?;
        let linked = String::from_utf8(linked.stdout)?;
        for path in linked
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let name = Path::new(path).file_name().unwrap_or_default();
            let wanted = name.to_string_lossy();
            if wanted.starts_with("libssl") || wanted.starts_with("libcrypto") {
                std::fs::copy(path, folder.path().join(name))?;
            }
        }
        Ok(Self(folder))
    }

    fn files(&self) -> Result<Vec<String>, Failed> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.0.path())? {
            files.push(entry?.path().display().to_string());
        }
        (files.len() == 2)
            .then_some(files)
            .ok_or_else(|| "openssl is not linked to a shared libssl and libcrypto".into())
    }
}

fn which(program: &str) -> Result<PathBuf, Failed> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{program} is nowhere on PATH").into())
}

/// What costs handshakes only is on by itself, and names what a server rejects.
fn by_itself() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER])?;
    let server = Server::start(&stand, "good", VERIFY, None)?;
    for address in server_addresses() {
        let client = Client::start(&stand, address, "expired", &["-tls1_3"], None)?;
        compare(
            &watch.event_of(NAME)?,
            &json!({
                "error.type": "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED", "confidence": "certain",
                "tls.alert.code": 45, "tls.alert.encrypted": true, "tls.library.side": "server",
                "tls.library.x509.verify_error": "certificate has expired",
                "process.pid": server.child.id(),
            }),
        )?;
        client.ended()?;
        beacon(&stand, &mut watch, address)?;
    }
    quiet(watch, 4)
}

/// Only one end's library is probed: the server's, which rejects, or the client's, which is told.
fn one_end(rejecting: bool) -> Result<(), Failed> {
    let stand = Stand::new()?;
    let copy = Copy::new()?;
    let files = copy.files()?;
    let mut arguments = DEEP.to_vec();
    arguments.truncate(2); // these files alone
    for file in &files {
        arguments.extend(["--library", file]);
    }
    let mut watch = Watch::start(&stand.server, &arguments)?;
    let theirs = Some(&copy);
    let (server, client) = if rejecting {
        (theirs, None)
    } else {
        (None, theirs)
    };
    for (certificate, class, alert) in [
        ("stranger", "SSL_R_TLSV1_ALERT_UNKNOWN_CA", 48),
        ("expired", "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED", 45),
        ("early", "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE", 42),
    ] {
        let _server = Server::start(&stand, "good", VERIFY, server)?;
        let address = server_addresses()[0];
        let client = Client::start(&stand, address, certificate, &["-tls1_3"], client)?;
        let event = watch.event_of(NAME)?;
        compare(
            &event,
            &json!({
                "error.type": class, "confidence": "certain", "candidates": null,
                "tls.alert.code": alert, "tls.alert.encrypted": true, "tls.alert.sender": "server",
                "handshake.ended_by": "server",
                "tls.library.side": if rejecting { "server" } else { "client" },
            }),
        )?;
        let reason = event["tls.library.reason"].as_str().unwrap_or_default();
        let expected = if rejecting {
            "certificate verify failed"
        } else {
            "alert "
        };
        if !reason.starts_with(expected) {
            return Err(format!("{expected:?} was expected: {event}").into());
        }
        client.ended()?;
        beacon(&stand, &mut watch, address)?;
    }
    quiet(watch, 6)
}

/// A container starts, with a library of its own, long after the probe did.
fn new_library() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--library", "auto"])?;
    let (ours, theirs) = (Copy::new()?, Copy::new()?);
    let _server = Server::start(&stand, "good", VERIFY, Some(&ours))?;
    // Its library is probed some moment after it was mapped, and says nothing before.
    for round in 1.. {
        let address = server_addresses()[round % 2];
        let client = Client::start(&stand, address, "stranger", &["-tls1_3"], Some(&theirs))?;
        let event = watch.event_of(NAME)?;
        client.ended()?;
        let quoted = event["tls.library.side"] == "server";
        compare(
            &event,
            &json!({"tls.alert.encrypted": true, "handshake.ended_by": "server"}),
        )?;
        if quoted {
            compare(
                &event,
                &json!({
                    "error.type": "SSL_R_TLSV1_ALERT_UNKNOWN_CA", "confidence": "certain",
                    "tls.library.reason": "certificate verify failed",
                }),
            )?;
            beacon(&stand, &mut watch, address)?;
            let ended = watch.finish()?;
            // One event for each handshake, whatever was known.
            return crate::clsact::same(ended.events.len(), round + 1);
        }
        if round == 100 {
            return Err(format!("its library is not probed: {event}").into());
        }
    }
    Ok(())
}

/// Hundreds of handshakes, and not a word.
fn good() -> Result<(), Failed> {
    const WANTED: u64 = 200;
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let mut done = 0;
    for minor in [2, 3] {
        let _server = Server::start(&stand, "good", &[&["-www"], VERIFY].concat(), None)?;
        let mut here = 0;
        while here < WANTED {
            here += rush(&stand, minor)?;
        }
        done += here;
    }
    let address = server_addresses()[0];
    beacon(&stand, &mut watch, address)?;
    let ended = watch.finish()?;
    let judged = ended.count("handshake_done") + ended.count("handshake_undecided");
    if ended.events.len() != 1 || ended.lost() != 0 || judged < done {
        return Err(format!("{done} handshakes: {ended:?}").into());
    }
    Ok(())
}

/// As many handshakes as OpenSSL's own benchmark does in a second; how many it says it did.
fn rush(stand: &Stand, minor: u8) -> Result<u64, Failed> {
    let mut command = Command::new("openssl");
    command
        .current_dir(certificates())
        .args(["s_time", "-new", "-time", "1", version(minor)])
        .args(["-connect", &format!("{SERVER_V4}:{PORT}")])
        .args(["-cert", "good.crt", "-key", "good.key", "-CAfile", "ca.crt"])
        .stdin(Stdio::null());
    let output = stand.client.run(|| command.output())??;
    let said = String::from_utf8_lossy(&output.stdout);
    // `218 connections in 0.49s; 444.90 connections/user sec, bytes read 0`
    let count = said
        .lines()
        .find_map(|line| line.split_once(" connections in ")?.0.parse().ok());
    count.ok_or_else(|| format!("{output:?}").into())
}

/// A server that resets after the ClientHello: certain on the wire, and the client's library agrees.
fn reset() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let address = server_addresses()[0];
    let listener = stand.server.run(|| TcpListener::bind((address, PORT)))??;
    let client = Client::start(&stand, address, "", &["-tls1_3"], None)?;
    let (mut connection, _) = listener.accept()?;
    connection.read_exact(&mut [0; 5])?;
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&connection.as_fd(), Linger, &at_once)?;
    drop(connection);
    let mut expected = json!({
        "error.type": "SSL_ERROR_SYSCALL", "confidence": "certain", "handshake.ended_by": "server",
    });
    if sees_writes() {
        expected["tls.library.side"] = json!("client");
        expected["tls.library.error"] = json!("SSL_ERROR_SYSCALL");
        expected["process.pid"] = json!(client.child.id());
    }
    compare(&watch.event_of(NAME)?, &expected)?;
    client.ended()?;
    drop(listener);
    beacon(&stand, &mut watch, address)?;
    quiet(watch, 2)
}

/// Whether this kernel shows a connection before anything was received: 6.3.
fn sees_writes() -> bool {
    let release = nix::sys::utsname::uname().expect("uname");
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

fn no_shared_cipher() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let address = server_addresses()[0];
    for (server, client, class, reason) in [
        (
            ["-ciphersuites", "TLS_AES_256_GCM_SHA384"],
            ["-ciphersuites", "TLS_AES_128_GCM_SHA256"],
            "SSL_R_NO_SHARED_CIPHER",
            "no shared cipher",
        ),
        (
            ["-groups", "P-256"],
            ["-groups", "X25519"],
            "SSL_ERROR_SSL",
            "no suitable key share",
        ),
    ] {
        let _server = Server::start(&stand, "good", &server, None)?;
        let options = [&client[..], &["-tls1_3"]].concat();
        let client = Client::start(&stand, address, "", &options, None)?;
        compare(
            &watch.event_of(NAME)?,
            &json!({
                "error.type": class, "confidence": "certain", "candidates": null,
                "tls.alert.code": 40, "tls.alert.encrypted": false,
                "tls.library.side": "server", "tls.library.reason": reason,
            }),
        )?;
        client.ended()?;
    }
    beacon(&stand, &mut watch, address)?;
    quiet(watch, 3)
}

/// The same rejection, and nobody asks the library.
fn without() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--library", "off"])?;
    let _server = Server::start(&stand, "good", VERIFY, None)?;
    let address = server_addresses()[0];
    let client = Client::start(&stand, address, "stranger", &["-tls1_3"], None)?;
    let event = watch.event_of(NAME)?;
    compare(
        &event,
        &json!({
            "error.type": "SSL_ERROR_SSL", "confidence": "ambiguous",
            "tls.alert.encrypted": true, "tls.alert.code": null,
            "tls.library.name": null, "process.pid": null,
        }),
    )?;
    let candidates = event["candidates"].as_array().cloned().unwrap_or_default();
    for candidate in ["SSL_R_TLSV1_ALERT_UNKNOWN_CA", "none"] {
        if !candidates.contains(&json!(candidate)) {
            return Err(format!("{candidate} is not among the candidates: {event}").into());
        }
    }
    client.ended()?;
    let ended = watch.finish()?;
    crate::clsact::same(ended.events.len(), 1)
}

/// A Python program with `argument` and the certificates' folder around it. It says when it listens.
fn run_python(namespace: &NetNs, script: &str) -> Result<(Child, Receiver<String>), Failed> {
    let mut command = Command::new("python3");
    command
        .current_dir(certificates())
        .args(["-u", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = namespace.run(|| command.spawn())??;
    let said = lines(child.stdout.take());
    Ok((child, said))
}

/// A server in Python that wants a certificate, for one connection.
const PYTHON_SERVER: &str = r#"
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("good.crt", "good.key")
context.load_verify_locations("ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
context.minimum_version = ssl.TLSVersion.TLSv1_3
if "num_tickets" in dir(context):
    context.num_tickets = 0
listener = socket.create_server(("10.77.0.2", 443))
print("listening")
connection, _ = listener.accept()
try:
    tls = context.wrap_socket(connection, server_side=True)
    print("done")
    tls.settimeout(1)
    try:
        tls.unwrap()
    except OSError:
        pass
    tls.close()
except ssl.SSLError as error:
    print("rejected", error.reason)
"#;

fn python_rejects() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let address = server_addresses()[0];
    let (mut server, said) = run_python(&stand.server, PYTHON_SERVER)?;
    await_line(&said, "listening")?;
    let client = Client::start(&stand, address, "expired", &["-tls1_3"], None)?;
    let event = watch.event_of(NAME)?;
    await_line(&said, "rejected CERTIFICATE_VERIFY_FAILED")?;
    compare(
        &event,
        &json!({
            "error.type": "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED", "confidence": "certain",
            "tls.alert.code": 45, "tls.alert.encrypted": true, "handshake.ended_by": "server",
            "tls.library.side": "server", "tls.library.reason": "certificate verify failed",
            "tls.library.x509.verify_error": "certificate has expired",
            "process.pid": server.id(),
        }),
    )?;
    let name = event["process.executable.name"]
        .as_str()
        .unwrap_or_default();
    if !name.starts_with("python") {
        return Err(format!("not Python: {event}").into());
    }
    client.ended()?;
    server.wait()?;
    beacon(&stand, &mut watch, address)?;
    quiet(watch, 2)
}

/// A client in Python that is told late, when it reads, that its certificate is not wanted. Only its own
/// library is asked.
fn python_is_told() -> Result<(), Failed> {
    const CLIENT: &str = r#"
import socket, ssl
context = ssl.create_default_context(cafile="ca.crt")
context.check_hostname = False
context.load_cert_chain("stranger.crt", "stranger.key")
tls = context.wrap_socket(socket.create_connection(("10.77.0.2", 443)), server_hostname="api.internal")
print("done")
try:
    tls.recv(1)
except ssl.SSLError as error:
    print("told", error.reason)
"#;
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let copy = Copy::new()?; // so that it is the other one which is probed
    let _server = Server::start(&stand, "good", VERIFY, Some(&copy))?;
    let (mut client, said) = run_python(&stand.client, CLIENT)?;
    let event = watch.event_of(NAME)?;
    await_line(&said, "done")?;
    await_line(&said, "told TLSV1_ALERT_UNKNOWN_CA")?;
    compare(
        &event,
        &json!({
            "error.type": "SSL_R_TLSV1_ALERT_UNKNOWN_CA", "confidence": "certain",
            "tls.alert.code": 48, "tls.alert.encrypted": true, "handshake.ended_by": "server",
        }),
    )?;
    client.wait()?;
    beacon(&stand, &mut watch, server_addresses()[0])?;
    watch.finish().map(drop)
}

/// A server without tickets that closes right after a good handshake: on the wire it may have rejected the
/// client; its library says that it did not.
fn goodbye() -> Result<(), Failed> {
    // It never says goodbye itself.
    const CLIENT: &str = r#"
import os, socket, ssl
context = ssl.create_default_context(cafile="ca.crt")
context.check_hostname = False
context.load_cert_chain("good.crt", "good.key")
tls = context.wrap_socket(socket.create_connection(("10.77.0.2", 443)), server_hostname="api.internal")
print("done", len(tls.recv(1)))
os._exit(0)
"#;
    for (library, events) in [("auto", 1), ("off", 2)] {
        let stand = Stand::new()?;
        let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--library", library])?;
        let (mut server, said) = run_python(&stand.server, PYTHON_SERVER)?;
        await_line(&said, "listening")?;
        let (mut client, heard) = run_python(&stand.client, CLIENT)?;
        await_line(&heard, "done 0")?;
        await_line(&said, "done")?;
        client.wait()?;
        server.wait()?;
        if library == "off" {
            let event = watch.event_of(NAME)?;
            compare(
                &event,
                &json!({"confidence": "ambiguous", "error.type": "SSL_ERROR_SSL"}),
            )?;
        }
        fail(&stand, server_addresses()[0], BEACON, UNKNOWN_CA)?;
        watch.event_of(BEACON)?;
        let ended = watch.finish()?;
        crate::clsact::same(ended.events.len(), events)?;
        if library == "auto" {
            let good = (ended.count("library_good"), ended.count("handshake_done"));
            crate::clsact::same(good, (1, 1))?;
        }
    }
    Ok(())
}

/// A client that waits, in the way that most programs do, for a server that says nothing.
fn stall() -> Result<(), Failed> {
    const CLIENT: &str = r#"
import socket, ssl
context = ssl.create_default_context(cafile="ca.crt")
plain = socket.create_connection(("10.77.0.2", 443), timeout=20)
try:
    context.wrap_socket(plain, server_hostname="api.internal")
except OSError as error:
    print("gave up")
"#;
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, &[DEEP, &["--stall-after", "300ms"]].concat())?;
    let address = server_addresses()[0];
    let listener = stand.server.run(|| TcpListener::bind((address, PORT)))??;
    let (mut client, said) = run_python(&stand.client, CLIENT)?;
    let (connection, _) = listener.accept()?;
    let mut expected = json!({
        "error.type": "SSL_ERROR_WANT_READ", "confidence": "certain", "handshake.ended_by": "server",
    });
    if sees_writes() {
        expected["tls.library.side"] = json!("client");
        expected["tls.library.error"] = json!("SSL_ERROR_WANT_READ");
        expected["process.pid"] = json!(client.id());
    }
    compare(&watch.event_of(NAME)?, &expected)?;
    drop((connection, listener));
    await_line(&said, "gave up")?;
    client.wait()?;
    beacon(&stand, &mut watch, address)?;
    let ended = watch.finish()?;
    crate::clsact::same(ended.events.len(), 2)
}

/// GnuTLS's client does not like what OpenSSL's server has, and hides that, as its own choice of alert.
fn gnutls_rejects() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let mut watch = Watch::start(&stand.server, DEEP)?;
    let _server = Server::start(&stand, "stranger", &[], None)?;
    let client = Client::gnutls(&stand, "good")?;
    let process = client.child.id();
    compare(
        &watch.event_of(NAME)?,
        &json!({
            "error.type": "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE", "confidence": "certain",
            "candidates": null, "tls.alert.code": 42, "tls.alert.encrypted": true,
            "handshake.ended_by": "client", "tls.library.name": "gnutls",
            "tls.library.side": "client", "tls.library.error": null,
            "process.pid": process, "process.executable.name": "gnutls-cli",
        }),
    )?;
    client.ended()?;
    beacon(&stand, &mut watch, server_addresses()[0])?;
    quiet(watch, 2)
}

/// GnuTLS's client is told what OpenSSL's server, whose library nobody asks, did not like.
fn gnutls_is_told() -> Result<(), Failed> {
    let stand = Stand::new()?;
    let library = Command::new("ldd").arg(which("gnutls-cli")?).output()?;
    let library = String::from_utf8(library.stdout)?;
    let library = library
        .split_whitespace()
        .find(|word| word.starts_with('/') && word.contains("libgnutls.so"));
    let library = library.ok_or("gnutls-cli is not linked to a shared libgnutls")?;
    let mut watch = Watch::start(&stand.server, &["-i", SERVER, "--library", library])?;
    let _server = Server::start(&stand, "good", VERIFY, None)?;
    let client = Client::gnutls(&stand, "expired")?;
    compare(
        &watch.event_of(NAME)?,
        &json!({
            "error.type": "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED", "confidence": "certain",
            "tls.alert.code": 45, "tls.alert.encrypted": true, "handshake.ended_by": "server",
            "tls.library.name": "gnutls", "tls.library.side": "client",
        }),
    )?;
    client.ended()?;
    beacon(&stand, &mut watch, server_addresses()[0])?;
    quiet(watch, 2)
}

/// A folder of certificates and keys, as PEM: `ca`, `other` (CAs), and `good`, `expired`, `early` by `ca`,
/// `stranger` by `other`.
pub(crate) fn certificates() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, suffix: &str, pem: String| {
            let mut file = std::fs::File::create(folder.path().join(format!("{name}.{suffix}")))
                .expect("a file");
            file.write_all(pem.as_bytes()).expect("room");
        };
        let params = |subject: &str, from, to| {
            let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, subject);
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
            params.use_authority_key_identifier_extension = true;
            params
        };
        let issuer = |name: &str| {
            let mut params = params(name, 2020, 2090);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
            write(name, "crt", issuer.pem());
            issuer
        };
        let (ca, other) = (issuer("ca"), issuer("other"));
        for (name, from, to, issuer) in [
            ("good", 2020, 2090, &ca),
            ("expired", 2010, 2011, &ca),
            ("early", 2080, 2090, &ca),
            ("stranger", 2020, 2090, &other),
        ] {
            let key = KeyPair::generate().expect("a key");
            let certificate = params(name, from, to)
                .signed_by(&key, issuer)
                .expect("a certificate");
            write(name, "crt", certificate.pem());
            write(name, "key", key.serialize_pem());
        }
        folder
    });
    folder.path()
}

/// A server, killed when dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// `openssl s_server`, accepting; with this copy of the library, or the system's.
    pub(crate) fn start(
        stand: &Stand,
        certificate: &str,
        arguments: &[&str],
        copy: Option<&Copy>,
    ) -> Result<Self, Failed> {
        let mut command = openssl(copy);
        command
            .args(["s_server", "-accept", "443"])
            .args([
                "-cert",
                &format!("{certificate}.crt"),
                "-key",
                &format!("{certificate}.key"),
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = stand.server.run(|| command.spawn())??;
        let said = lines(child.stdout.take());
        let server = Self { child };
        await_line(&said, "ACCEPT")?;
        // Somebody must go on reading, or it would block.
        std::thread::spawn(move || said.into_iter().for_each(drop));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(copy: Option<&Copy>) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(certificates()).stdin(Stdio::piped());
    if let Some(Copy(folder)) = copy {
        command.env("LD_LIBRARY_PATH", folder.path());
    }
    command
}

/// A client that ends by itself, killed when dropped.
pub(crate) struct Client {
    child: Child,
    said: Receiver<String>,
}

impl Client {
    /// `openssl s_client`, which believes in `ca` and shows this certificate, if any.
    pub(crate) fn start(
        stand: &Stand,
        address: IpAddr,
        certificate: &str,
        arguments: &[&str],
        copy: Option<&Copy>,
    ) -> Result<Self, Failed> {
        let mut command = openssl(copy);
        command
            .args([
                "s_client",
                "-connect",
                &SocketAddr::new(address, PORT).to_string(),
            ])
            .args([
                "-servername",
                NAME,
                "-CAfile",
                "ca.crt",
                "-verify_return_error",
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if !certificate.is_empty() {
            command.args(["-cert", &format!("{certificate}.crt")]);
            command.args(["-key", &format!("{certificate}.key")]);
        }
        let mut child = stand.client.run(|| command.spawn())??;
        let said = lines(child.stdout.take());
        Ok(Self { child, said })
    }

    /// `gnutls-cli`, which believes in `ca` and shows this certificate.
    fn gnutls(stand: &Stand, certificate: &str) -> Result<Self, Failed> {
        let mut command = Command::new("gnutls-cli");
        command
            .current_dir(certificates())
            .args(["--port", "443", "--x509cafile", "ca.crt"])
            .args(["--sni-hostname", NAME, "--verify-hostname", NAME])
            .args(["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3"])
            .args(["--x509certfile", &format!("{certificate}.crt")])
            .args(["--x509keyfile", &format!("{certificate}.key"), SERVER_V4])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = stand.client.run(|| command.spawn())??;
        let said = lines(child.stdout.take());
        Ok(Self { child, said })
    }

    /// It gives up by itself.
    pub(crate) fn ended(mut self) -> Result<(), Failed> {
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
