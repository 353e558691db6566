//! One failed handshake, as the outside contract writes it: an [`Event`] with numbers turned into
//! the field's own names. What is not known is absent.
//!
//! Attribute names are OpenTelemetry's semantic conventions where they have one, ECS's for
//! certificates, and otherwise ours (`tls.alert.*`, `handshake.*`, `root_cause.layer`).

use std::net::{IpAddr, Ipv6Addr};

use gauntlet_wire::capture::{Hello, certificate};
use gauntlet_wire::class::Confidence;
use gauntlet_wire::event::Event;
use gauntlet_wire::flow::Flow;
use gauntlet_wire::rules::Cause;
use gauntlet_wire::{Role, alert, record};
use serde::Serialize;
use tls_parser::TlsCipherSuite;

use crate::certificate::common_name;
use crate::hidden::{Alert, Look};
use crate::interfaces::Interface;
use crate::library::ruling::{Revealed, Said};
use crate::workload::Workload;

/// A failed handshake. Field documentation names the contract's key where it is not the obvious one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When it failed, Unix time, nanoseconds.
    pub time_unix_nano: u64,
    /// The class.
    #[serde(rename = "error.type")]
    pub class: &'static str,
    /// How sure the class is.
    pub confidence: &'static str,
    /// What else it may have been; `none`: no failure at all. Empty where the class is certain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<&'static str>,
    /// The side whose act (alert, RST, FIN, silence, bytes that are not TLS) was the first abnormal event.
    #[serde(rename = "handshake.ended_by")]
    pub ended_by: &'static str,
    /// Alert description, the number.
    #[serde(rename = "tls.alert.code", skip_serializing_if = "Option::is_none")]
    pub alert_code: Option<u8>,
    /// Alert description, the RFC's name.
    #[serde(
        rename = "tls.alert.description",
        skip_serializing_if = "Option::is_none"
    )]
    pub alert_description: Option<&'static str>,
    /// `warning` or `fatal`.
    #[serde(rename = "tls.alert.level", skip_serializing_if = "Option::is_none")]
    pub alert_level: Option<&'static str>,
    /// Who sent the alert.
    #[serde(rename = "tls.alert.sender", skip_serializing_if = "Option::is_none")]
    pub alert_sender: Option<&'static str>,
    /// Whether the alert was hidden. If it could be read all the same, its code is there too.
    #[serde(
        rename = "tls.alert.encrypted",
        skip_serializing_if = "Option::is_none"
    )]
    pub alert_encrypted: Option<bool>,
    /// How far the handshake had come.
    #[serde(rename = "handshake.stage")]
    pub stage: &'static str,
    /// Every message seen, a letter each as in Zeek's `ssl_history`; the client's in upper case.
    #[serde(rename = "handshake.history")]
    pub history: String,
    /// Where the root of the failure lies.
    #[serde(rename = "root_cause.layer")]
    pub layer: &'static str,
    /// Whether the same handshake may succeed when it is tried again.
    pub retryable: bool,
    /// The negotiated version.
    #[serde(
        rename = "tls.protocol.version",
        skip_serializing_if = "Option::is_none"
    )]
    pub version: Option<&'static str>,
    /// The name the client asked for (SNI).
    #[serde(rename = "server.address", skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Application protocols offered.
    #[serde(rename = "tls.client.alpn", skip_serializing_if = "Vec::is_empty")]
    pub client_alpn: Vec<String>,
    /// The application protocol chosen, where that was in the clear (TLS 1.2).
    #[serde(rename = "tls.next_protocol", skip_serializing_if = "Option::is_none")]
    pub next_protocol: Option<String>,
    /// Cipher suites offered, IANA names; numbers (`0x1a2b`) where IANA has none.
    #[serde(
        rename = "tls.client.supported_ciphers",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_ciphers: Vec<String>,
    /// The cipher suite chosen.
    #[serde(rename = "tls.cipher", skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The server certificate's common name, where it was in the clear (TLS 1.2).
    #[serde(
        rename = "tls.server.x509.subject.common_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub server_common_name: Option<String>,
    /// The client certificate's common name, where it was in the clear (TLS 1.2).
    #[serde(
        rename = "tls.client.x509.subject.common_name",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_common_name: Option<String>,
    /// Who sent the SYN.
    #[serde(rename = "client.address")]
    pub client_address: IpAddr,
    /// From which port.
    #[serde(rename = "client.port")]
    pub client_port: u16,
    /// The port it was sent to.
    #[serde(rename = "server.port")]
    pub server_port: u16,
    /// The IP address it was sent to (ECS); `server.address` is the name that was asked for.
    #[serde(rename = "server.ip")]
    pub server_ip: IpAddr,
    /// Which of both addresses is the watched interface's own.
    #[serde(
        rename = "network.local.address",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_address: Option<IpAddr>,
    /// `ipv4` or `ipv6`.
    #[serde(rename = "network.type")]
    pub network_type: &'static str,
    /// The interface whose packet decided.
    #[serde(
        rename = "network.interface.name",
        skip_serializing_if = "Option::is_none"
    )]
    pub interface: Option<String>,
    /// The cgroup v2 of the client's socket, where it is on this machine, as in `/proc/PID/cgroup`.
    #[serde(
        rename = "client.linux.cgroup",
        skip_serializing_if = "Option::is_none"
    )]
    pub client_cgroup: Option<String>,
    /// The same of the server's.
    #[serde(
        rename = "server.linux.cgroup",
        skip_serializing_if = "Option::is_none"
    )]
    pub server_cgroup: Option<String>,
    /// The client's pod, where it is on this machine.
    #[serde(rename = "k8s.src.namespace", skip_serializing_if = "Option::is_none")]
    pub client_pod_namespace: Option<String>,
    /// Its name.
    #[serde(rename = "k8s.src.name", skip_serializing_if = "Option::is_none")]
    pub client_pod_name: Option<String>,
    /// Its UID.
    #[serde(rename = "k8s.src.uid", skip_serializing_if = "Option::is_none")]
    pub client_pod_uid: Option<String>,
    /// The server's pod, where it is on this machine.
    #[serde(rename = "k8s.dst.namespace", skip_serializing_if = "Option::is_none")]
    pub server_pod_namespace: Option<String>,
    /// Its name.
    #[serde(rename = "k8s.dst.name", skip_serializing_if = "Option::is_none")]
    pub server_pod_name: Option<String>,
    /// Its UID.
    #[serde(rename = "k8s.dst.uid", skip_serializing_if = "Option::is_none")]
    pub server_pod_uid: Option<String>,
    /// What a TLS library said, where one was probed.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub library: Option<Said>,
}

/// An event that this version cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of another version: class {class}, cause {cause}")]
pub struct UnknownEvent {
    class: u8,
    cause: u8,
}

impl Failure {
    /// Names everything in an event. `unix` is its time (nanoseconds), `interface` the one with the
    /// event's index.
    ///
    /// # Errors
    /// [`UnknownEvent`] for numbers that this version has no name for.
    pub fn new(
        event: &Event,
        unix: u64,
        interface: Option<&Interface>,
    ) -> Result<Self, UnknownEvent> {
        let verdict = event.verdict;
        let failure = verdict
            .failure()
            .filter(|failure| failure.class() as u8 == verdict.class)
            .ok_or(UnknownEvent {
                class: verdict.class,
                cause: verdict.cause,
            })?;
        let class = failure.class();
        let plaintext = failure.cause == Cause::Alert;
        let hidden = failure.cause.hidden_alert();
        let alert = plaintext || hidden;
        let (flow, server) = (&event.flow, event.flow.server());
        let [client_ip, server_ip] = Role::BOTH.map(|role| address(event.endpoint(role).address));
        let [client_port, server_port] = Role::BOTH.map(|role| event.endpoint(role).port);
        let local = interface.and_then(|interface| {
            [server_ip, client_ip]
                .into_iter()
                .find(|ip| interface.addresses.contains(ip))
        });
        let (ours, theirs) = (Hello::of(flow, Role::Client), Hello::of(flow, Role::Server));
        let negotiated = server.version != 0;
        let certain = failure.confidence() == Confidence::Certain;
        Ok(Self {
            time_unix_nano: unix,
            class: class.name(),
            confidence: failure.confidence().name(),
            candidates: if certain {
                Vec::new()
            } else {
                let name = |class: &Option<gauntlet_wire::class::Class>| {
                    class.map_or("none", gauntlet_wire::class::Class::name)
                };
                failure.candidates().iter().map(name).collect()
            },
            ended_by: failure.by.name(),
            alert_code: plaintext.then_some(failure.description),
            alert_description: plaintext
                .then(|| alert::name(failure.description))
                .flatten(),
            alert_level: plaintext
                .then(|| alert::level_name(failure.level))
                .flatten(),
            alert_sender: alert.then(|| failure.by.name()),
            alert_encrypted: alert.then_some(hidden),
            stage: event.stage().name(),
            history: event.history().collect(),
            layer: class.layer().name(),
            retryable: class.retryable(),
            version: record::version_name(server.version),
            server_name: ours.server_name().map(text),
            client_alpn: ours.alpn().map(text).collect(),
            next_protocol: theirs.alpn().next().map(text),
            client_ciphers: ours.suites().map(cipher_name).collect(),
            cipher: negotiated.then(|| cipher_name(server.suite)),
            server_common_name: subject(flow, Role::Server),
            client_common_name: subject(flow, Role::Client),
            client_address: client_ip,
            client_port,
            server_port,
            server_ip,
            local_address: local,
            network_type: if client_ip.is_ipv4() { "ipv4" } else { "ipv6" },
            interface: interface.map(|interface| interface.name.clone()),
            client_cgroup: None,
            server_cgroup: None,
            client_pod_namespace: None,
            client_pod_name: None,
            client_pod_uid: None,
            server_pod_namespace: None,
            server_pod_name: None,
            server_pod_uid: None,
            library: None,
        })
    }

    /// Adds whose the ends are, the client's first.
    #[must_use]
    pub fn between(self, [client, server]: [Option<Workload>; 2]) -> Self {
        let parts = |workload: Option<Workload>| {
            let Some(Workload { cgroup, pod }) = workload else {
                return [const { None }; 4];
            };
            let (uid, name) = pod.map(|pod| (pod.uid, pod.name)).unzip();
            let [namespace, name] = name.flatten().map_or([None, None], |name| name.map(Some));
            [Some(cgroup), namespace, name, uid].map(|part| Some(readable(&part?)))
        };
        let [
            client_cgroup,
            client_pod_namespace,
            client_pod_name,
            client_pod_uid,
        ] = parts(client);
        let [
            server_cgroup,
            server_pod_namespace,
            server_pod_name,
            server_pod_uid,
        ] = parts(server);
        Self {
            client_cgroup,
            server_cgroup,
            client_pod_namespace,
            client_pod_name,
            client_pod_uid,
            server_pod_namespace,
            server_pod_name,
            server_pod_uid,
            ..self
        }
    }

    /// Adds what was revealed about it: the class that an alert hid, and why.
    pub fn reveal(&mut self, revealed: Revealed) {
        if let Some(class) = revealed.class {
            self.class = class.name();
            self.confidence = Confidence::Certain.name();
            self.candidates.clear();
            self.layer = class.layer().name();
            self.retryable = class.retryable();
        }
        if let Some(description) = revealed.alert {
            let level = if description == alert::CLOSE_NOTIFY {
                alert::WARNING
            } else {
                alert::FATAL
            };
            self.alert_code = Some(description);
            self.alert_description = alert::name(description);
            self.alert_level = alert::level_name(level);
        }
        self.library = revealed.said;
    }
}

impl Failure {
    /// What is to be told after a key log was asked; `None`: nothing.
    #[must_use]
    pub fn after(mut self, look: Look) -> Option<Self> {
        match look {
            Look::Named(alert) => self.name_alert(alert),
            Look::Plain | Look::NoKeys | Look::Locked => {}
            Look::NoFailure | Look::Undecided => return None,
        }
        Some(self)
    }

    /// Says what a hidden alert was, as somebody knows for certain who could read it.
    pub fn name_alert(&mut self, alert: Alert) {
        self.class = alert.class.name();
        self.confidence = Confidence::Certain.name();
        self.candidates.clear();
        self.alert_code = Some(alert.description);
        self.alert_description = alert::name(alert.description);
        self.alert_level = alert::level_name(alert.level);
        self.layer = alert.class.layer().name();
        self.retryable = alert.class.retryable();
    }
}

/// An address of the wire crate: IPv4-mapped where it is IPv4.
pub(crate) fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// A name from the network: shown as text, whatever it is.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The name in a side's certificate, if there is one and it says something.
fn subject(flow: &Flow, role: Role) -> Option<String> {
    let name = common_name(certificate(flow, role))?;
    (!name.is_empty()).then(|| readable(&name))
}

/// A text from the network: control and formatting characters as escapes, so that it cannot break a
/// line or steer a terminal; a backslash doubled, so that it cannot feign one.
pub(crate) fn readable(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    escaped.replace("\\'", "'").replace("\\\"", "\"")
}

/// The name of a cipher suite. GREASE (RFC 8701) means "none" and says so.
fn cipher_name(suite: u16) -> String {
    match TlsCipherSuite::from_id(suite) {
        Some(known) => known.name.to_owned(),
        None if suite & 0x0f0f == 0x0a0a && suite >> 8 == suite & 0xff => "GREASE".to_owned(),
        None => format!("0x{suite:04x}"),
    }
}
