//! What people and programs read: every cause and class once, from bytes on the wire through the
//! flow machine to the line. And names from certificates, whatever stands in them.

use gauntlet_probes::certificate::common_name;
use gauntlet_probes::failure::Failure;
use gauntlet_probes::hidden::{Alert, Look};
use gauntlet_probes::interfaces::Interface;
use gauntlet_probes::library::ruling::{Revealed, Said};
use gauntlet_probes::probe::{Correction, Counts};
use gauntlet_probes::report::{human, ndjson};
use gauntlet_wire::Role;
use gauntlet_wire::bytes::Bytes;
use gauntlet_wire::class::Class;
use gauntlet_wire::counters::{ClassCount, Counter};
use gauntlet_wire::event::{ABI, Event, Verdict};
use gauntlet_wire::flow::Flow;
use gauntlet_wire::packet::FlowKey;
use gauntlet_wire::rules::{Cause, Outcome};
use gauntlet_wire::segment::Segment;
use gauntlet_wire::walk::Walked;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, string};
use zerocopy::FromZeros as _;

/// 2026-01-02 03:04:05.678901
const TIME: u64 = 1_767_323_045_678_901_000;

/// Bytes that a side sends, or how the connection ends.
enum Act {
    Says(Role, Vec<u8>),
    Closes(Role),
    Resets(Role),
    Stalls,
}
use Act::{Closes, Resets, Says, Stalls};
use Role::{Client, Server};

/// Plays a connection until it fails.
fn play(known: bool, v6: bool, acts: &[Act]) -> Event {
    let mut flow = Flow::new_zeroed();
    flow.open(1, 3, known, false);
    let mut sequence = [1000, 2000];
    for role in Role::BOTH {
        let mut syn = Segment::new_zeroed();
        syn.role = role as u8;
        syn.sequence = sequence[role as usize] - 1;
        flow.synchronize(&syn);
    }
    for act in acts {
        let (role, bytes, flags): (_, &[u8], _) = match act {
            Says(role, bytes) => (*role, bytes, Segment::ACK),
            Closes(role) => (*role, &[], Segment::ACK | Segment::FIN),
            Resets(role) => (*role, &[], Segment::RST),
            Stalls => return event(flow, flow.silent(), v6),
        };
        let mut segment = Segment::new_zeroed();
        segment.time = 1;
        segment.end = bytes.len() as u32;
        segment.role = role as u8;
        segment.flags = flags;
        segment.sequence = sequence[role as usize];
        segment.acknowledged = sequence[role as usize ^ 1];
        sequence[role as usize] += segment.end;
        flow.place(&mut segment);
        match flow.walk::<1000>(&Bytes::new(bytes), &mut segment) {
            Walked::On => {}
            Walked::Over(outcome) => return event(flow, outcome, v6),
            other => panic!("{other:?}"),
        }
    }
    panic!("it did not end");
}

fn event(flow: Flow, outcome: Outcome, v6: bool) -> Event {
    let Outcome::Failed(failure) = outcome else {
        panic!("{outcome:?}");
    };
    let address = |last: u8| {
        let mut bytes = [0; 16];
        if v6 {
            bytes[..2].copy_from_slice(&[0xfd, 0x77]);
        } else {
            bytes[10..15].copy_from_slice(&[0xff, 0xff, 10, 0, 0]);
        }
        bytes[15] = last;
        bytes
    };
    Event {
        flow,
        time: 1,
        abi: ABI,
        ifindex: 3,
        key: FlowKey {
            addresses: [address(2), address(1)],
            ports: [443, 41_234],
        },
        verdict: Verdict::from(failure),
        undecided: 0,
        reserved: [0; 5],
    }
}

fn failure(event: &Event) -> Failure {
    let interface = Interface {
        name: "veth0".into(),
        addresses: vec![
            "10.0.0.2".parse().expect("an address"),
            "fd77::2".parse().expect("an address"),
        ],
    };
    Failure::new(event, TIME, Some(&interface)).expect("a known event")
}

/// Both lines, colour codes spelt out.
fn lines(name: &str, event: &Event) -> String {
    let failure = failure(event);
    let human = human::failure(&failure);
    let json = ndjson::failure(&failure);
    for line in [&human, &json] {
        let plain = anstream::adapter::strip_str(line).to_string();
        assert!(!plain.chars().any(char::is_control), "{plain:?}");
    }
    let parsed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(parsed["error.type"], failure.class);
    format!(
        "{name}\n  {}\n  {json}\n",
        anstream::adapter::strip_str(&human)
    )
}

fn record(content_type: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content_type, 3, 3];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn message(message_type: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    record(22, &[&[message_type], &length[1..], body].concat())
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(number: u16, body: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &vector(body)].concat()
}

fn hello_of(name: &[u8], alpn: &[&[u8]]) -> Vec<u8> {
    let sni = extension(0, &vector(&[&[0][..], &vector(name)].concat()));
    let mut list = Vec::new();
    for protocol in alpn {
        list.push(protocol.len() as u8);
        list.extend(*protocol);
    }
    let alpn = extension(16, &vector(&list));
    // GREASE, two suites of IANA's, and one of nobody's.
    let suites = vector(&[0x1a, 0x1a, 0x13, 0x01, 0xc0, 0x2b, 0xee, 0xee]);
    let extensions = vector(&[sni, alpn].concat());
    message(
        1,
        &[&[3, 3][..], &[7; 32], &[0], &suites, &[1, 0], &extensions].concat(),
    )
}

fn hello() -> Act {
    Says(Client, hello_of(b"api.internal", &[b"h2", b"http/1.1"]))
}

fn server_hello(minor: u8) -> Act {
    let (suite, extensions) = if minor == 3 {
        ([0x13, 0x01], extension(43, &[3, 4]))
    } else {
        ([0xc0, 0x2b], extension(16, &[0, 3, 2, b'h', b'2']))
    };
    let body = [
        &[3, 3][..],
        &[8; 32],
        &[0],
        &suite,
        &[0],
        &vector(&extensions),
    ]
    .concat();
    Says(Server, message(2, &body))
}

fn certificate(role: Role, names: &[(DnType, DnValue)]) -> Act {
    let der = der(names);
    let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes()[1..].to_vec();
    let entry = [length(&der), der].concat();
    Says(role, message(11, &[length(&entry), entry].concat()))
}

fn der(names: &[(DnType, DnValue)]) -> Vec<u8> {
    let mut params = CertificateParams::new(["api.internal".to_owned()]).expect("a name");
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in names {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    let key = KeyPair::generate().expect("a key");
    params
        .self_signed(&key)
        .expect("a certificate")
        .der()
        .to_vec()
}

fn cn(name: &str) -> [(DnType, DnValue); 1] {
    [(DnType::CommonName, DnValue::Utf8String(name.into()))]
}

fn alert(role: Role, level: u8, description: u8) -> Act {
    Says(role, record(21, &[level, description]))
}

fn sealed(role: Role, length: usize) -> Act {
    Says(role, record(23, &vec![0; length]))
}

fn flight12() -> [Act; 4] {
    [
        hello(),
        server_hello(2),
        certificate(Server, &cn("api.internal")),
        Says(Server, message(14, &[])),
    ]
}

#[test]
fn every_cause_and_class() {
    let with = |mut acts: Vec<Act>, more: Vec<Act>| {
        acts.extend(more);
        acts
    };
    let flight13 = || vec![hello(), server_hello(3), sealed(Server, 900)];
    let get = || Says(Client, b"GET / HTTP/1.1\r\n\r\n".to_vec());
    let cases: Vec<(&str, bool, Vec<Act>)> = vec![
        (
            "unknown_ca",
            false,
            with(flight12().into(), vec![alert(Client, 2, 48)]),
        ),
        (
            "certificate_expired",
            false,
            with(
                flight12().into(),
                vec![certificate(Client, &cn("a client")), alert(Server, 2, 45)],
            ),
        ),
        (
            "bad_certificate",
            false,
            with(flight12().into(), vec![alert(Client, 2, 42)]),
        ),
        ("access_denied", false, vec![hello(), alert(Server, 2, 49)]),
        (
            "no shared cipher",
            false,
            vec![hello(), alert(Server, 2, 40)],
        ),
        (
            "protocol_version",
            false,
            vec![hello(), alert(Server, 2, 70)],
        ),
        (
            "another alert",
            false,
            vec![hello(), server_hello(2), alert(Client, 2, 47)],
        ),
        (
            "an alert without a name",
            false,
            vec![hello(), server_hello(2), alert(Client, 2, 200)],
        ),
        ("close_notify", false, vec![hello(), alert(Server, 1, 0)]),
        (
            "client's hidden alert",
            false,
            with(flight13(), vec![sealed(Client, 19)]),
        ),
        (
            "server's hidden alert",
            false,
            vec![hello(), server_hello(3), sealed(Server, 19)],
        ),
        (
            "late hidden alert",
            false,
            with(
                flight13(),
                vec![sealed(Client, 900), sealed(Server, 19), Resets(Server)],
            ),
        ),
        (
            "sealed alert",
            false,
            with(
                flight12().into(),
                vec![
                    Says(Client, record(20, &[1])),
                    Says(Client, record(21, &[0; 26])),
                ],
            ),
        ),
        ("not TLS, by the client", true, vec![get()]),
        (
            "not TLS, by the server",
            false,
            vec![
                hello(),
                Says(Server, b"HTTP/1.1 400 Bad Request\r\n".to_vec()),
            ],
        ),
        (
            "CONNECT",
            true,
            vec![
                Says(Client, b"CONNECT a:443 HTTP/1.1\r\n\r\n".to_vec()),
                Resets(Server),
            ],
        ),
        ("RST", false, with(flight12().into(), vec![Resets(Server)])),
        ("FIN", false, vec![hello(), Closes(Client)]),
        ("stall", false, with(flight12().into(), vec![Stalls])),
    ];
    let (mut text, mut causes, mut classes) = (String::new(), Vec::new(), Vec::new());
    for (number, (name, known, acts)) in cases.iter().enumerate() {
        let event = play(*known, number % 2 == 1, acts);
        causes.extend(Cause::from_number(event.verdict.cause));
        classes.extend(Class::from_number(event.verdict.class));
        text += &lines(name, &event);
    }
    assert!(
        Cause::ALL.iter().all(|cause| causes.contains(cause)),
        "{causes:?}"
    );
    assert!(
        Class::ALL.iter().all(|class| classes.contains(class)),
        "{classes:?}"
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_hidden_alert_that_somebody_could_read_has_its_name_and_stays_hidden() {
    let event = play(
        false,
        false,
        &[
            hello(),
            server_hello(3),
            sealed(Server, 900),
            sealed(Client, 19),
        ],
    );
    let hidden = failure(&event);
    assert_eq!(hidden.clone().after(Look::Plain), Some(hidden.clone()));
    assert_eq!(hidden.clone().after(Look::NoKeys), Some(hidden.clone()));
    assert_eq!(hidden.clone().after(Look::NoFailure), None);
    assert_eq!(hidden.clone().after(Look::Undecided), None);
    let alert = Alert {
        class: Class::ZeroReturn,
        level: 1,
        description: 0,
    };
    for (alert, act, class, layer) in [
        (
            Alert {
                class: Class::UnknownCa,
                level: 2,
                description: 48,
            },
            "client rejected server with alert unknown_ca(48), encrypted at server_flight",
            "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
            "certificate; a retry will not help",
        ),
        (
            alert,
            "client closed with close_notify, encrypted at server_flight",
            "SSL_ERROR_ZERO_RETURN",
            "network; a retry may help",
        ),
    ] {
        let named = hidden.clone().after(Look::Named(alert)).expect("a failure");
        let line = human::failure(&named);
        let line = anstream::adapter::strip_str(&line).to_string();
        assert!(line.contains(act) && line.contains(layer), "{line}");
        assert!(
            !line.contains("could be") && !line.contains("(ambiguous)"),
            "{line}"
        );
        let event: serde_json::Value =
            serde_json::from_str(&ndjson::failure(&named)).expect("JSON");
        assert_eq!(event["error.type"], class);
        assert_eq!(event["confidence"], "certain");
        assert_eq!(event["tls.alert.encrypted"], true);
        assert_eq!(event["tls.alert.code"], alert.description);
        assert_eq!(event["tls.alert.sender"], "client");
        assert_eq!(event.get("candidates"), None);
    }
}

#[test]
fn a_library_s_word_is_shown_and_names_what_was_hidden() {
    let acts = [
        hello(),
        server_hello(3),
        sealed(Server, 900),
        sealed(Client, 900),
        sealed(Server, 19),
        Resets(Server),
    ];
    let mut failure = failure(&play(false, false, &acts));
    let before = ndjson::failure(&failure);
    failure.reveal(Revealed::default());
    assert_eq!(ndjson::failure(&failure), before, "nothing was revealed");
    failure.reveal(Revealed {
        class: Some(Class::CertificateExpired),
        alert: Some(45),
        said: Some(Said {
            library: "openssl",
            side: "server",
            reason: Some("certificate verify failed".into()),
            error: Some("SSL_ERROR_SSL"),
            verify_error: Some("certificate has expired".into()),
            process: 4711,
            executable: "nginx".into(),
        }),
    });
    let line: serde_json::Value = serde_json::from_str(&ndjson::failure(&failure)).expect("JSON");
    for (key, value) in [
        ("error.type", "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED"),
        ("confidence", "certain"),
        ("tls.alert.description", "certificate_expired"),
        ("tls.alert.level", "fatal"),
        ("tls.alert.sender", "server"),
        ("root_cause.layer", "certificate"),
        ("tls.library.name", "openssl"),
        ("tls.library.side", "server"),
        ("tls.library.reason", "certificate verify failed"),
        ("tls.library.error", "SSL_ERROR_SSL"),
        ("tls.library.x509.verify_error", "certificate has expired"),
        ("process.executable.name", "nginx"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!(line["tls.alert.code"], 45);
    assert_eq!(line["process.pid"], 4711);
    assert_eq!(line["tls.alert.encrypted"], true, "it still was");
    assert!(line.get("candidates").is_none() && line.get("library").is_none());
    let human = human::failure(&failure);
    let human = anstream::adapter::strip_str(&human).to_string();
    for part in [
        "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED  10.0.0.1:41234 -> 10.0.0.2:443 api.internal: server \
         rejected client with alert certificate_expired(45)",
        "openssl of server (nginx 4711): certificate verify failed: certificate has expired",
    ] {
        assert!(human.contains(part), "{human}");
    }
}

#[test]

fn corrections_move_counts_and_lose_none() {
    let mut counts = Counts::default();
    let count = ClassCount {
        count: 3,
        last_seen: 7,
    };
    counts.classes.insert((Class::Ssl, 0x0304), count);
    counts.counters.insert(Counter::HandshakeFailed, 3);
    counts.counters.insert(Counter::Undecided, 2);
    let version = 0x0304;
    for (counted, told) in [
        (Some(Class::Ssl), Some(Class::UnknownCa)), // named
        (Some(Class::Ssl), None),                   // good after all
        (None, Some(Class::UnknownCa)),             // undecided, and failed
    ] {
        counts.correct(
            &Correction {
                counted,
                told,
                version,
            },
            1,
        );
    }
    let class = |class| {
        counts
            .classes
            .get(&(class, version))
            .map(|count| count.count)
    };
    assert_eq!(
        (class(Class::Ssl), class(Class::UnknownCa)),
        (Some(1), Some(2))
    );
    let counter = |counter| counts.counters.get(&counter).copied();
    assert_eq!(counter(Counter::HandshakeFailed), Some(3));
    assert_eq!(counter(Counter::HandshakeDone), Some(1));
    assert_eq!(counter(Counter::Undecided), Some(1));
}

#[test]
fn names_from_the_network_neither_break_a_line_nor_steer_a_terminal() {
    let hostile: [&[u8]; 6] = [
        b"a\nb\r\0c",
        b"\x1b[2J\x1b]0;owned\x07",
        b"quote\"brace}\\",
        b"\xff\xfe\x80 invalid",
        "gr\u{fc}n \u{9b}31m \u{202e}".as_bytes(),
        b"",
    ];
    let mut text = String::new();
    for bytes in hostile {
        let name = String::from_utf8_lossy(bytes);
        let event = play(
            false,
            false,
            &[
                Says(Client, hello_of(bytes, &[bytes, b"h2"])),
                server_hello(2),
                certificate(Server, &cn(&name)),
                alert(Client, 2, 48),
            ],
        );
        text += &lines(&format!("{bytes:?}"), &event);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn counters_of_both_formats() {
    let mut counts = Counts::default();
    let none = format!(
        "{}{}\n",
        anstream::adapter::strip_str(&human::counters(&counts)),
        ndjson::counters(&counts)
    );
    for counter in Counter::ALL {
        counts.counters.insert(
            counter,
            if counter == Counter::Fragment {
                0
            } else {
                counter as u64 + 1
            },
        );
    }
    for (number, class) in (1..).zip(Class::ALL) {
        for version in [0, 0x0303, 0x0304, 0x7f1c] {
            let count = ClassCount {
                count: number,
                last_seen: 1,
            };
            counts.classes.insert((class, version), count);
        }
    }
    counts.add("packet_cut_short", 21, true);
    counts.add("key_log_missing", 22, false);
    counts.add("key_log_does_not_fit", 0, false);
    let all = human::counters(&counts);
    let all = anstream::adapter::strip_str(&all);
    insta::assert_snapshot!(format!("{none}\n{all}{}", ndjson::counters(&counts)));
}

#[test]
fn common_names_of_every_string_type() {
    use DnType::{CommonName, OrganizationName};
    let bmp = string::BmpString::try_from("gr\u{fc}n \u{20ac}").expect("BMP");
    let universal = string::UniversalString::try_from("\u{1f512} key").expect("universal");
    let teletex = string::TeletexString::try_from("teletex").expect("T.61");
    let printable = string::PrintableString::try_from("printable").expect("printable");
    let cases = [
        (DnValue::BmpString(bmp), "gr\u{fc}n \u{20ac}"),
        (DnValue::UniversalString(universal), "\u{1f512} key"),
        (DnValue::TeletexString(teletex), "teletex"),
        (DnValue::PrintableString(printable), "printable"),
        (DnValue::Utf8String("\u{1f512}".into()), "\u{1f512}"),
        (DnValue::Utf8String(String::new()), ""),
    ];
    for (value, expected) in cases {
        let organization = DnValue::Utf8String("an organization".into());
        let names = [(OrganizationName, organization), (CommonName, value)];
        assert_eq!(common_name(&der(&names)).as_deref(), Some(expected));
    }
    let unit = DnValue::Utf8String("unit".into());
    assert_eq!(common_name(&der(&[(OrganizationName, unit)])), None);
    assert_eq!(common_name(&der(&[])), None);
}

/// A certificate as far as its subject, by hand: what rcgen will not write.
fn subject(names: &[u8]) -> Vec<u8> {
    let element = |tag: u8, body: &[u8]| {
        let length = (body.len() as u16).to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], body].concat()
    };
    let empty = element(0x30, &[]);
    let fields = [
        &element(0x02, &[1])[..],
        &empty,
        &empty,
        &empty,
        &element(0x30, names),
    ]
    .concat();
    element(0x30, &element(0x30, &fields))
}

#[test]
fn common_names_of_odd_subjects() {
    let pair = |tag: u8, text: &[u8]| {
        let value = [&[0x06, 3, 0x55, 4, 3, tag, text.len() as u8], text].concat();
        [&[0x30, value.len() as u8][..], &value].concat()
    };
    let set = |pairs: &[u8]| [&[0x31, pairs.len() as u8][..], pairs].concat();
    let name = |names: &[u8]| common_name(&subject(names));
    // v1, which has no version field, and several names: the last counts (RFC 6125 section 6.4.4).
    let two = [set(&pair(12, b"first")), set(&pair(12, b"second"))].concat();
    assert_eq!(name(&two).as_deref(), Some("second"));
    // Two attributes in one set, the other one first.
    let other = [0x30, 8, 0x06, 3, 0x55, 4, 10, 12, 1, b'o'];
    assert_eq!(
        name(&set(&[&other[..], &pair(12, b"after")].concat())).as_deref(),
        Some("after")
    );
    assert_eq!(
        name(&set(&[&pair(12, b"before")[..], &other].concat())).as_deref(),
        Some("before")
    );
    // T.61 in Latin-1, a BMPString cut in a character, a lone surrogate, UTF-8 that is none.
    assert_eq!(
        name(&set(&pair(20, b"gr\xfcn"))).as_deref(),
        Some("gr\u{fc}n")
    );
    assert_eq!(name(&set(&pair(30, &[0, b'a', 0]))).as_deref(), Some("a"));
    assert_eq!(
        name(&set(&pair(30, &[0xd8, 0]))).as_deref(),
        Some("\u{fffd}")
    );
    assert_eq!(
        name(&set(&pair(28, &[0, 0x11, 0, 0]))).as_deref(),
        Some("\u{fffd}")
    );
    assert_eq!(name(&set(&pair(12, b"\xff"))).as_deref(), Some("\u{fffd}"));
    // Lengths that promise more than there is, and the indefinite one.
    assert_eq!(
        name(&[0x31, 0x7f, 0x30, 0x7f, 0x06, 3, 0x55, 4, 3, 12, 0x7f, b'x']),
        None
    );
    assert_eq!(name(&[0x31, 0x80, 0, 0]), None);
    assert_eq!(
        name(&[0x31, 0x88, 255, 255, 255, 255, 255, 255, 255, 255]),
        None
    );
}

#[test]
fn no_certificate_however_cut_or_changed_is_a_panic() {
    let whole = der(&cn("api.internal"));
    let mut known = false;
    for length in 0..=whole.len() {
        let found = common_name(&whole[..length]);
        // Cut after the name it is there; before, it is not; a part of it never.
        assert!(
            found.is_none() || found.as_deref() == Some("api.internal"),
            "{length}: {found:?}"
        );
        assert!(found.is_some() || !known, "{length}");
        known = found.is_some();
    }
    assert!(known);
    for at in 0..whole.len() {
        for byte in 0..=255 {
            let mut changed = whole.clone();
            changed[at] = byte;
            let _ = common_name(&changed);
            let _ = common_name(&changed[..whole.len() / 2]);
        }
    }
}
