//! What the types of [`super::model`] cannot say: that a scenario agrees with itself, with the class
//! table of the wire crate, and with the id its cases will have.

use gauntlet_wire::alert;
use gauntlet_wire::class::{Class, Confidence};

use super::matrix::{Beside, NEAR_MISS};
use super::model::{Encoding, Expect, Peer, Scenario, Stack, Tls};
use super::parse::Wrong;

/// `candidates` may hold this beside class names: a handshake that succeeded looks the same.
pub(crate) const NO_FAILURE: &str = "none";

/// How far a handshake had come, as `handshake.stage` says it.
const STAGES: [&str; 8] = [
    "connected",
    "client_hello",
    "hello_retry_request",
    "server_hello",
    "server_certificate",
    "server_flight",
    "client_certificate",
    "client_flight",
];

/// Names of `groups` that a peer can be configured with.
const GROUPS: [&str; 3] = ["x25519", "secp256r1", "secp384r1"];

/// The first segment of a case id, for a class.
#[must_use]
pub fn id_segment(class: Class) -> String {
    let name = class.name();
    match class {
        Class::Ssl => "ssl_error".into(),
        _ => ["SSL_R_TLSV1_ALERT_", "SSL_R_", "SSL_ERROR_"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name)
            .to_lowercase(),
    }
}

/// Everything that is wrong with a scenario at one TLS version.
pub(super) fn scenario(scenario: &Scenario, tls: Tls, beside: Beside) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (field, text) in [
        ("claim", &scenario.claim),
        ("cause", &scenario.cause),
        ("why", &scenario.why),
    ] {
        if text.trim().is_empty() {
            wrong.push(Wrong::new(field, "empty; allowed: a sentence"));
        }
    }
    let variant = scenario.variant.as_ref();
    for (field, text) in [("side", Some(&scenario.side)), ("variant", variant)] {
        if let Some(text) = text
            && !is_segment(text)
        {
            wrong.push(Wrong::new(
                field,
                "allowed: lower-case letters, digits and `_`",
            ));
        }
    }
    let endings = Beside::MORE.into_iter().filter_map(Beside::key);
    let endings = endings.map(|key| (key, "cases with more than the wire"));
    for (taken, by) in endings.chain([(NEAR_MISS, "siblings")]) {
        if variant.is_some_and(|name| name == taken) {
            wrong.push(Wrong::new(
                "variant",
                format!("`{taken}` is what {by} are called"),
            ));
        }
    }
    if scenario.family.is_empty() {
        wrong.push(Wrong::new("family", "empty; allowed: \"ipv4\", \"ipv6\""));
    }
    for (field, text) in [
        ("witness.client", &scenario.witness.client),
        ("witness.server", &scenario.witness.server),
    ] {
        if text.is_empty() {
            wrong.push(Wrong::new(
                field,
                "empty; allowed: `ok` or part of the endpoint's error",
            ));
        }
    }
    let offers = |peer: &Peer| {
        peer.versions
            .as_ref()
            .is_none_or(|versions| versions.contains(&tls))
    };
    if tls != Tls::Any && !offers(&scenario.client) {
        wrong.push(Wrong::new(
            "client.versions",
            format!(
                "the case id says {}, and the client does not offer it",
                tls.segment()
            ),
        ));
    }
    peer("client", &scenario.client, &mut wrong);
    peer("server", &scenario.server, &mut wrong);
    openssl(scenario, &mut wrong);
    program("client", &scenario.client, scenario, &mut wrong);
    program("server", &scenario.server, scenario, &mut wrong);
    let known = class(scenario, &mut wrong);
    if let Some(expect) = &scenario.expect
        && known
    {
        self::expect(expect, scenario, (tls, beside), &mut wrong);
    }
    wrong
}

fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn peer(role: &str, peer: &Peer, wrong: &mut Vec<Wrong>) {
    for suite in peer.suites.iter().flatten() {
        if tls_parser::TlsCipherSuite::from_name(suite).is_none() {
            wrong.push(Wrong::new(
                &format!("{role}.suites"),
                format!("{suite:?} is no IANA cipher suite, such as TLS_AES_128_GCM_SHA256"),
            ));
        }
    }
    for group in peer.groups.iter().flatten() {
        if !GROUPS.contains(&group.as_str()) {
            wrong.push(Wrong::new(
                &format!("{role}.groups"),
                format!("{group:?} is not known; allowed: {}", GROUPS.join(", ")),
            ));
        }
    }
    if peer.script.is_empty() {
        wrong.push(Wrong::new(
            &format!("{role}.script"),
            "empty; allowed: at least one step",
        ));
    }
}

/// What OpenSSL cannot be told, or is not told here.
fn openssl(scenario: &Scenario, wrong: &mut Vec<Wrong>) {
    let ends = [("client", &scenario.client), ("server", &scenario.server)];
    let rustls_only = "allowed with rustls at that end";
    for (role, peer) in ends {
        if peer.stack != Stack::OpenSsl {
            continue;
        }
        if scenario.client.early_data > 0 {
            wrong.push(Wrong::new(
                "client.early_data",
                format!("OpenSSL's {role} does none here; {rustls_only}"),
            ));
        }
        if peer.max_fragment_size.is_some() {
            wrong.push(Wrong::new(
                &format!("{role}.max_fragment_size"),
                format!("OpenSSL splits no record below 512 bytes; {rustls_only}"),
            ));
        }
        if let Some(certificate) = &peer.certificate
            && certificate.encoding == Encoding::Malformed
        {
            wrong.push(Wrong::new(
                &format!("{role}.certificate.encoding"),
                format!("OpenSSL presents no certificate that it cannot read; {rustls_only}"),
            ));
        }
    }
}

/// What a program of its own cannot be told: it makes one handshake, exchanges two words and ends.
fn program(role: &str, peer: &Peer, scenario: &Scenario, wrong: &mut Vec<Wrong>) {
    if !peer.stack.is_program() {
        return;
    }
    let plain = Peer::default();
    let certificate = |peer: &Peer| {
        let encoding = peer.certificate.as_ref().map(|own| own.encoding);
        encoding.is_none_or(|encoding| encoding == Encoding::Der)
    };
    let told = [
        ("script", peer.script != plain.script),
        ("verifier", peer.verifier != plain.verifier),
        ("tickets", peer.tickets != plain.tickets),
        ("groups", peer.groups.is_some()),
        ("alpn", !peer.alpn.is_empty()),
        ("max_fragment_size", peer.max_fragment_size.is_some()),
        ("patience_ms", peer.patience_ms != plain.patience_ms),
        ("lingers", !peer.lingers),
        ("certificate.encoding", !certificate(peer)),
    ];
    for (field, _) in told.iter().filter(|(_, differs)| *differs) {
        wrong.push(Wrong::new(
            &format!("{role}.{field}"),
            "a program of its own cannot be told; allowed: the default",
        ));
    }
    let other = match role {
        "client" => &scenario.server,
        _ => &scenario.client,
    };
    if !matches!(other.stack, Stack::Rustls | Stack::OpenSsl) {
        wrong.push(Wrong::new(
            &format!("{role}.stack"),
            "the other end of a program must be in this process; allowed there: rustls, openssl",
        ));
    }
    let client = &scenario.client;
    if scenario.known_tls_server || client.connections != 1 || client.early_data != 0 {
        wrong.push(Wrong::new(
            &format!("{role}.stack"),
            "a program makes one connection; allowed: no `known_tls_server`, `connections` or `early_data`",
        ));
    }
}

/// Whether the id's class is one.
fn class(scenario: &Scenario, wrong: &mut Vec<Wrong>) -> bool {
    let classes: Vec<String> = Class::ALL.into_iter().map(id_segment).collect();
    let known = scenario.class == NO_FAILURE || classes.contains(&scenario.class);
    if !known {
        wrong.push(Wrong::new(
            "class",
            format!(
                "{:?} is not known; allowed: {NO_FAILURE}, {}",
                scenario.class,
                classes.join(", ")
            ),
        ));
    }
    known
}

fn expect(
    expect: &Expect,
    scenario: &Scenario,
    (tls, beside): (Tls, Beside),
    wrong: &mut Vec<Wrong>,
) {
    let classes = || Class::ALL.map(Class::name).join(", ");
    let Some(class) = Class::from_name(&expect.class) else {
        wrong.push(Wrong::new(
            "expect.class",
            format!("{:?} is not known; allowed: {}", expect.class, classes()),
        ));
        return;
    };
    for candidate in &expect.candidates {
        if candidate != NO_FAILURE && Class::from_name(candidate).is_none() {
            wrong.push(Wrong::new(
                "expect.candidates",
                format!(
                    "{candidate:?} is not known; allowed: {NO_FAILURE}, {}",
                    classes()
                ),
            ));
        }
    }
    let confidence = [
        Confidence::Certain,
        Confidence::Inferred,
        Confidence::Ambiguous,
    ]
    .into_iter()
    .find(|confidence| confidence.name() == expect.confidence);
    match confidence {
        None => wrong.push(Wrong::new(
            "expect.confidence",
            format!("{:?} is not known; allowed: certain, inferred, ambiguous", expect.confidence),
        )),
        Some(Confidence::Ambiguous) if expect.candidates.is_empty() => wrong.push(Wrong::new(
            "expect.candidates",
            "empty; `ambiguous` means that several causes look alike: list those that must be named",
        )),
        Some(_) => {}
    }
    if !["client", "server"].contains(&expect.ended_by.as_str()) {
        wrong.push(Wrong::new(
            "expect.ended_by",
            format!(
                "{:?} is not known; allowed: client, server",
                expect.ended_by
            ),
        ));
    } else if scenario.class != NO_FAILURE && !scenario.side.starts_with(&expect.ended_by) {
        wrong.push(Wrong::new(
            "side",
            format!(
                "{:?} and expect.ended_by {:?} disagree; a failure's side begins with who ended it",
                scenario.side, expect.ended_by
            ),
        ));
    }
    if let Some(stage) = &expect.stage
        && !STAGES.contains(&stage.as_str())
    {
        wrong.push(Wrong::new(
            "expect.stage",
            format!("{stage:?} is not known; allowed: {}", STAGES.join(", ")),
        ));
    }
    let hidden = expect.encrypted == Some(true);
    if hidden && tls != Tls::V1_3 {
        wrong.push(Wrong::new(
            "expect.encrypted",
            format!(
                "alerts of a handshake are in the clear before TLS 1.3, and this is {}",
                tls.as_str()
            ),
        ));
    }
    alert(expect, class, hidden && beside == Beside::Nothing, wrong);
    if expect.quotes.is_some() && !beside.hears_libraries() {
        wrong.push(Wrong::new(
            "expect.quotes",
            "no library is asked here; allowed: in [library] and [library_deep]",
        ));
    }
    truth(expect, class, scenario, hidden, wrong);
}

/// The alert number and the class must be a row of the class table.
fn alert(expect: &Expect, class: Class, unread: bool, wrong: &mut Vec<Wrong>) {
    let Some(code) = expect.alert else { return };
    if unread {
        wrong.push(Wrong::new(
            "expect.alert",
            "nobody can read an encrypted alert on the wire: leave it out",
        ));
    }
    if alert::name(code).is_none() {
        wrong.push(Wrong::new(
            "expect.alert",
            format!("{code} is no alert of any RFC"),
        ));
        return;
    }
    // The contract's numbers, written out on purpose: were they the wire crate's own, a wrong number
    // there would change the expectation with the probe.
    let meant = match code {
        0 => &[Class::ZeroReturn][..],
        // 40 is NO_SHARED_CIPHER from the server in answer to the ClientHello, else it is any failure.
        40 => &[Class::NoSharedCipher, Class::Ssl],
        42 => &[Class::BadCertificate],
        45 => &[Class::CertificateExpired],
        48 => &[Class::UnknownCa],
        49 => &[Class::AccessDenied],
        70 => &[Class::UnknownProtocol],
        // Alert 50 is also how some stacks answer bytes that are no TLS; the bytes name the class then.
        _ => &[Class::Ssl],
    };
    if !meant.contains(&class) {
        wrong.push(Wrong::new(
            "expect.alert",
            format!(
                "alert {code} is not {}; allowed: the alert of that class, or class {}",
                class.name(),
                meant
                    .iter()
                    .map(|class| class.name())
                    .collect::<Vec<_>>()
                    .join(" or ")
            ),
        ));
    }
}

/// What the id says is true must be what is expected, or hidden behind it.
fn truth(expect: &Expect, class: Class, scenario: &Scenario, hidden: bool, wrong: &mut Vec<Wrong>) {
    let ambiguous = expect.confidence == Confidence::Ambiguous.name();
    if scenario.class == NO_FAILURE {
        if !ambiguous || !expect.candidates.iter().any(|name| name == NO_FAILURE) {
            wrong.push(Wrong::new(
                "expect",
                "a handshake that succeeds may be reported only as `ambiguous`, with `none` among the candidates",
            ));
        }
        return;
    }
    if id_segment(class) == scenario.class {
        return;
    }
    let named = expect
        .candidates
        .iter()
        .filter_map(|name| Class::from_name(name))
        .any(|class| id_segment(class) == scenario.class);
    if !(hidden && ambiguous && class == Class::Ssl && named) {
        wrong.push(Wrong::new(
            "expect.class",
            format!(
                "{} is not what the id says ({}); allowed: that class, or SSL_ERROR_SSL, encrypted and ambiguous, with it among the candidates",
                class.name(),
                scenario.class
            ),
        ));
    }
}
