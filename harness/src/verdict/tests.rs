//! Each way in which a case can end otherwise than meant, and the line it gives.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::*;
use crate::scenario::model::{Family, Quotes};
use crate::scenario::{self, Beside};
use crate::witness::{Chosen, Hello};

const PORT: u16 = 10_001;

/// A scenario with one case, and its near miss.
const REJECTED: &str = r#"
claim = "c"
cause = "c"
why = "w"
class = "unknown_ca"
side = "client_rejects"
tls = ["1.2"]
family = ["ipv4"]
server.certificate.issuer = "other"
witness = { client = "InvalidCertificate(UnknownIssuer)", server = "AlertReceived(UnknownCA)", wire = ["client: ClientHello", "client: alert fatal unknown_ca"] }
near_miss.server.certificate.issuer = "trusted"

[expect]
class = "SSL_R_TLSV1_ALERT_UNKNOWN_CA"
confidence = "certain"
ended_by = "client"
alert = 48
stage = "server_certificate"
"#;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn wire() -> Transcript {
    Transcript {
        client: address("192.0.2.1:40000"),
        server: address("192.0.2.2:10001"),
        lines: [
            "client: ClientHello",
            "server: ServerHello",
            "client: alert fatal unknown_ca",
        ]
        .map(String::from)
        .to_vec(),
        client_hello: Some(Hello {
            server_name: Some("api.internal".into()),
            alpn: vec!["h2".into()],
            suites: vec![0xc02b, 0x00ff],
            versions: vec![0x0303],
            ..Hello::default()
        }),
        server_hello: Some(Chosen {
            suite: 0xc02b,
            version: 0x0303,
            alpn: Some("h2".into()),
        }),
        client_certificate: None,
        server_certificate: Some("api.internal".into()),
    }
}

fn event() -> Event {
    Event::of(json!({
        "error.type": "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
        "confidence": "certain",
        "handshake.ended_by": "client",
        "tls.alert.code": 48,
        "tls.alert.description": "unknown_ca",
        "tls.alert.level": "fatal",
        "tls.alert.sender": "client",
        "tls.alert.encrypted": false,
        "handshake.stage": "server_certificate",
        "root_cause.layer": "certificate",
        "retryable": false,
        "tls.protocol.version": "1.2",
        "server.address": "api.internal",
        "tls.client.alpn": ["h2"],
        "tls.next_protocol": "h2",
        "tls.client.supported_ciphers": [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
        ],
        "tls.cipher": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "tls.server.x509.subject.common_name": "api.internal",
        "client.address": "192.0.2.1",
        "client.port": 40000,
        "server.ip": "192.0.2.2",
        "server.port": PORT,
        "network.local.address": "192.0.2.2",
        "network.type": "ipv4",
    }))
}

fn failing() -> Case {
    scenario::cases(REJECTED)
        .into_iter()
        .find(|case| !case.near_miss)
        .unwrap()
}

fn near_miss() -> Case {
    scenario::cases(REJECTED)
        .into_iter()
        .find(|case| case.near_miss)
        .unwrap()
}

fn seen<'a>(wire: &'a Transcript, reported: &'a [Event]) -> Observation<'a> {
    Observation {
        hung: false,
        client: "InvalidCertificate(UnknownIssuer)",
        server: "AlertReceived(UnknownCA)",
        wire: Ok(wire),
        reported: Ok(reported),
        port: PORT,
    }
}

fn fails_with(reported: &[Event], reason: &str) {
    let wire = wire();
    let judged = judge(&failing(), &seen(&wire, reported));
    assert_eq!(judged, Judgement::new(Verdict::Fail, reason));
}

#[test]
fn the_right_event_passes() {
    let wire = wire();
    let judged = judge(&failing(), &seen(&wire, &[event()]));
    assert_eq!(
        judged,
        Judgement {
            verdict: Verdict::Pass,
            reason: None
        }
    );
}

#[test]
fn silence_fails_where_there_was_a_failure() {
    fails_with(
        &[],
        "the probe said nothing; true was SSL_R_TLSV1_ALERT_UNKNOWN_CA (certain) by the client",
    );
}

#[test]
fn another_class_fails_with_both() {
    fails_with(
        &[event().with("error.type", json!("SSL_ERROR_SYSCALL"))],
        "the probe said SSL_ERROR_SYSCALL (certain) by the client; true was SSL_R_TLSV1_ALERT_UNKNOWN_CA (certain) by the client",
    );
}

#[test]
fn two_events_fail_even_if_both_are_right() {
    fails_with(
        &[event(), event()],
        "the probe said SSL_R_TLSV1_ALERT_UNKNOWN_CA (certain) by the client and 1 more; true was one SSL_R_TLSV1_ALERT_UNKNOWN_CA (certain) by the client",
    );
}

#[test]
fn an_event_of_another_port_fails() {
    fails_with(
        &[event(), event().with("server.port", json!(9))],
        "the probe reported SSL_R_TLSV1_ALERT_UNKNOWN_CA (certain) by the client for a connection to port 9, which is not this case's (10001)",
    );
}

#[test]
fn every_field_that_is_wrong_or_missing_is_named() {
    for (field, wrong) in [
        ("confidence", json!("ambiguous")),
        ("handshake.ended_by", json!("server")),
        ("handshake.stage", json!("client_hello")),
        ("tls.alert.code", json!(42)),
        ("tls.alert.description", json!("bad_certificate")),
        ("tls.alert.sender", json!("server")),
        ("tls.alert.encrypted", json!(true)),
        ("root_cause.layer", json!("network")),
        ("retryable", json!(true)),
        ("tls.protocol.version", json!("1.3")),
        ("server.address", json!("other.internal")),
        ("tls.client.alpn", json!(["http/1.1"])),
        ("tls.next_protocol", json!("http/1.1")),
        (
            "tls.client.supported_ciphers",
            json!(["TLS_AES_128_GCM_SHA256"]),
        ),
        ("tls.cipher", json!("TLS_AES_128_GCM_SHA256")),
        (
            "tls.server.x509.subject.common_name",
            json!("other.internal"),
        ),
        ("client.address", json!("192.0.2.3")),
        ("client.port", json!(40001)),
        ("network.type", json!("ipv6")),
    ] {
        let wire = wire();
        for value in [wrong, Value::Null] {
            // Alerts that can be read need not say so; the field is not asked for.
            if field == "tls.alert.encrypted" && value.is_null() {
                continue;
            }
            let judged = judge(&failing(), &seen(&wire, &[event().with(field, value)]));
            assert_eq!(judged.verdict, Verdict::Fail, "{field}");
            let reason = judged.reason.unwrap();
            assert!(
                reason.contains(&format!("{field} was said to be")),
                "{field}: {reason}"
            );
        }
    }
}

#[test]
fn fields_that_only_some_probes_know_are_compared_where_they_are_said() {
    let wire = wire();
    for field in ["server.ip", "network.local.address"] {
        let judged = judge(
            &failing(),
            &seen(&wire, &[event().with(field, Value::Null)]),
        );
        assert_eq!(judged.verdict, Verdict::Pass, "{field}");
        let judged = judge(
            &failing(),
            &seen(&wire, &[event().with(field, json!("192.0.2.9"))]),
        );
        assert_eq!(judged.verdict, Verdict::Fail, "{field}");
    }
}

#[test]
fn what_the_wire_does_not_show_must_not_be_said() {
    let (mut wire, event) = (wire(), event());
    wire.server_certificate = None;
    let judged = judge(&failing(), &seen(&wire, &[event]));
    assert_eq!(
        judged.reason.unwrap(),
        "SSL_R_TLSV1_ALERT_UNKNOWN_CA: tls.server.x509.subject.common_name was said to be \"api.internal\", true was nothing"
    );
}

#[test]
fn an_alert_level_that_was_not_on_the_wire_fails() {
    let wire = wire();
    let judged = judge(
        &failing(),
        &seen(&wire, &[event().with("tls.alert.level", json!("warning"))]),
    );
    assert!(
        judged
            .reason
            .unwrap()
            .contains("\"client: alert warning unknown_ca\"")
    );
}

#[test]
fn candidates_that_must_be_named_are_asked_for() {
    let text = REJECTED.replace(
        "confidence = \"certain\"",
        "confidence = \"ambiguous\"\ncandidates = [\"SSL_ERROR_SSL\"]",
    );
    let case = scenario::cases(&text)
        .into_iter()
        .find(|case| !case.near_miss)
        .unwrap();
    let ambiguous = event().with("confidence", json!("ambiguous"));
    let wire = wire();
    let judged = judge(&case, &seen(&wire, std::slice::from_ref(&ambiguous)));
    assert!(
        judged
            .reason
            .unwrap()
            .contains("SSL_ERROR_SSL must be among them")
    );
    let named = ambiguous.with("candidates", json!(["SSL_ERROR_SYSCALL", "SSL_ERROR_SSL"]));
    assert_eq!(judge(&case, &seen(&wire, &[named])).verdict, Verdict::Pass);
}

#[test]
fn candidates_that_tell_nothing_fail() {
    let all: Vec<&str> = contract::ROWS.iter().map(|row| row.class).collect();
    let with_none = [&all[..], &["none"]].concat();
    let but_one = &all[1..];
    let ssl = "SSL_ERROR_SSL";
    for (listed, said, reason) in [
        (vec![ssl], json!(but_one), None),
        (vec![ssl], json!(all), Some("every class is among them")),
        (
            vec![ssl, "none"],
            json!(with_none),
            Some("every class is among them"),
        ),
        (
            vec![ssl],
            json!([ssl, ssl]),
            Some("SSL_ERROR_SSL is among them twice"),
        ),
        (
            vec![ssl],
            json!([ssl, "none"]),
            Some("none must not be among them"),
        ),
        (vec![ssl, "none"], json!([ssl, "none"]), None),
        (
            vec![ssl, "none"],
            json!([ssl]),
            Some("none must be among them"),
        ),
        (vec![ssl], json!([ssl, "x"]), Some("x is no class")),
        (
            vec![ssl],
            json!([ssl, 7]),
            Some("SSL_ERROR_SSL must be among them"),
        ),
    ] {
        let expect = Expect {
            class: ssl.into(),
            confidence: "ambiguous".into(),
            ended_by: "client".into(),
            alert: None,
            encrypted: None,
            stage: None,
            candidates: listed.into_iter().map(String::from).collect(),
            quotes: None,
        };
        let wrong = candidates(&expect, &event().with("candidates", said.clone()));
        match (wrong, reason) {
            (None, None) => {}
            (Some(wrong), Some(reason)) => assert!(wrong.contains(reason), "{said}: {wrong}"),
            (wrong, _) => panic!("{said}: {wrong:?}"),
        }
    }
}

#[test]
fn a_certain_event_has_no_candidates() {
    for said in [json!(["SSL_R_TLSV1_ALERT_UNKNOWN_CA"]), json!([]), json!(7)] {
        let wire = wire();
        let judged = judge(
            &failing(),
            &seen(&wire, &[event().with("candidates", said.clone())]),
        );
        assert_eq!(judged.verdict, Verdict::Fail, "{said}");
        assert!(
            judged.reason.unwrap().contains("candidates was said to be"),
            "{said}"
        );
    }
}

#[test]
fn an_alert_that_nobody_can_read_has_the_sender_who_ended_it() {
    let hidden = ["tls.alert.code", "tls.alert.description", "tls.alert.level"]
        .into_iter()
        .fold(event(), |event, field| event.with(field, Value::Null))
        .with("tls.alert.encrypted", json!(true));
    let wrong = |event: &Event| facts::mismatch(event, &wire(), failing().family);
    assert_eq!(wrong(&hidden), None);
    for sender in [json!("server"), Value::Null] {
        let reason = wrong(&hidden.clone().with("tls.alert.sender", sender)).unwrap();
        assert!(
            reason.contains("tls.alert.sender was said to be"),
            "{reason}"
        );
    }
    // Without an alert there is no sender.
    let none = hidden.with("tls.alert.encrypted", Value::Null);
    assert!(wrong(&none).unwrap().contains("true was nothing"));
    assert_eq!(wrong(&none.with("tls.alert.sender", Value::Null)), None);
}

#[test]
fn a_library_is_quoted_where_libraries_are_asked_and_with_what_it_said() {
    let said = [
        ("tls.library.name", "openssl"),
        ("tls.library.side", "server"),
        ("tls.library.reason", "certificate verify failed"),
        ("tls.library.x509.verify_error", "certificate has expired"),
    ];
    let quoting = said.into_iter().fold(event(), |event, (field, text)| {
        event.with(field, json!(text))
    });
    let mut asked = failing();
    asked.beside = Beside::Library;
    let verdict = |case: &Case, event: &Event| {
        let wire = wire();
        judge(case, &seen(&wire, std::slice::from_ref(event))).reason
    };
    // Nobody was meant to be asked, or nothing was meant to be said.
    assert_eq!(verdict(&failing(), &quoting), None);
    assert_eq!(verdict(&asked, &event()), None);
    let reason = verdict(&asked, &quoting).unwrap();
    assert!(reason.contains("tls.library.name was said"), "{reason}");

    let mut scenario = (*asked.scenario).clone();
    if let Some(expect) = &mut scenario.expect {
        expect.quotes = Some(Quotes {
            library: "openssl".into(),
            side: "server".into(),
            reason: Some("certificate verify failed".into()),
            verify_error: Some("certificate has expired".into()),
        });
    }
    asked.scenario = scenario.into();
    assert_eq!(verdict(&asked, &quoting), None);
    for (field, _) in said {
        for other in [json!("another"), Value::Null] {
            let reason = verdict(&asked, &quoting.clone().with(field, other)).unwrap();
            assert!(reason.contains(&format!("{field} was said")), "{reason}");
        }
    }
}

#[test]
fn layer_and_retryability_are_the_contract_s() {
    for row in contract::ROWS {
        let expect = Expect {
            class: row.class.into(),
            confidence: "certain".into(),
            ended_by: "client".into(),
            alert: None,
            encrypted: None,
            stage: None,
            candidates: Vec::new(),
            quotes: None,
        };
        let right = event()
            .with("root_cause.layer", json!(row.layer))
            .with("retryable", json!(row.retryable));
        assert_eq!(derived(&expect, &right), None, "{}", row.class);
        for wrong in [
            right.clone().with("root_cause.layer", json!("nowhere")),
            right.clone().with("retryable", json!(!row.retryable)),
            right.with("retryable", Value::Null),
        ] {
            assert!(derived(&expect, &wrong).is_some(), "{}", row.class);
        }
    }
}

#[test]
fn a_near_miss_must_be_silence() {
    let mut wire = wire();
    wire.lines = vec!["client: ClientHello".into(), "server: ServerHello".into()];
    let silent = Observation {
        client: "ok",
        server: "ok",
        ..seen(&wire, &[])
    };
    assert_eq!(judge(&near_miss(), &silent).verdict, Verdict::Pass);
    let events = [event()];
    let loud = Observation {
        reported: Ok(&events),
        ..silent
    };
    assert_eq!(
        judge(&near_miss(), &loud),
        Judgement::new(
            Verdict::Fail,
            "the probe said SSL_R_TLSV1_ALERT_UNKNOWN_CA (certain) by the client; the handshake was good"
        )
    );
}

#[test]
fn the_probe_is_not_judged_when_a_witness_disagrees() {
    let (wire, events) = (wire(), [event()]);
    let right = seen(&wire, &events);
    let mut bare = wire.clone();
    bare.lines.pop();
    let cases = [
        (
            Observation {
                hung: true,
                ..right
            },
            Verdict::Hang,
            "deadline passed: client: InvalidCertificate(UnknownIssuer); server: AlertReceived(UnknownCA)",
        ),
        (
            Observation {
                client: "ok",
                ..right
            },
            Verdict::Infra,
            "the client was meant to end with \"InvalidCertificate(UnknownIssuer)\" and ended with \"ok\"",
        ),
        (
            Observation {
                server: "UnexpectedEof",
                ..right
            },
            Verdict::Infra,
            "the server was meant to end with \"AlertReceived(UnknownCA)\" and ended with \"UnexpectedEof\"",
        ),
        (
            Observation {
                wire: Ok(&bare),
                ..right
            },
            Verdict::Infra,
            "the wire was meant to show \"client: alert fatal unknown_ca\"",
        ),
        (
            Observation {
                wire: Err("no packets"),
                ..right
            },
            Verdict::Infra,
            "no packets",
        ),
        (
            Observation {
                reported: Err("the probe ended"),
                ..right
            },
            Verdict::Infra,
            "the probe ended",
        ),
    ];
    for (observation, verdict, reason) in cases {
        assert_eq!(
            judge(&failing(), &observation),
            Judgement::new(verdict, reason)
        );
    }
}

#[test]
fn ok_is_the_whole_outcome_not_a_part_of_one() {
    assert!(outcome_fits("ok", "ok"));
    assert!(!outcome_fits("ok", "BrokenPipe"));
    assert!(!outcome_fits("ok", "broken"));
    assert!(outcome_fits(
        "Expired",
        "InvalidCertificate(ExpiredContext { .. })"
    ));
}

#[test]
fn known_deviations_turn_fail_into_xfail_and_pass_into_xpass_and_touch_nothing_else() {
    let failed = Judgement::new(Verdict::Fail, "said nothing");
    let passed = Judgement {
        verdict: Verdict::Pass,
        reason: None,
    };
    let infra = Judgement::new(Verdict::Infra, "no lane");
    assert_eq!(
        failed.clone().knowing(Some("old kernel")),
        Judgement::new(Verdict::Xfail, "known (old kernel): said nothing")
    );
    assert_eq!(
        passed.clone().knowing(Some("old kernel")).verdict,
        Verdict::Xpass
    );
    assert_eq!(infra.clone().knowing(Some("old kernel")), infra);
    assert_eq!(failed.clone().knowing(None), failed);
    assert!(!Verdict::Xpass.is_green());
}

#[test]
fn a_verdict_has_the_contracts_name_and_only_two_are_green() {
    use Verdict::{Fail, Hang, Infra, Pass, Skip, Xfail, Xpass};
    let as_told = |verdict: Verdict| {
        let written = serde_json::to_value(verdict).unwrap();
        assert_eq!(written, verdict.name());
        (verdict.name(), verdict.is_green(), verdict.was_judged())
    };
    let (green, judged) = (true, true);
    assert_eq!(
        [Pass, Fail, Xfail, Xpass, Skip, Hang, Infra].map(as_told),
        [
            ("pass", green, judged),
            ("fail", !green, judged),
            ("xfail", green, judged),
            ("xpass", !green, judged),
            ("skip", !green, !judged),
            ("hang", !green, !judged),
            ("infra", !green, !judged),
        ]
    );
}

#[test]
fn suites_without_a_name_are_numbers_and_only_equal_bytes_that_end_in_a_are_grease() {
    let mut wire = wire();
    wire.client_hello.as_mut().unwrap().suites = vec![0x0a0a, 0xfafa, 0x0a1a, 0x1b1b];
    let said = json!(["GREASE", "GREASE", "0x0a1a", "0x1b1b"]);
    let event = event().with("tls.client.supported_ciphers", said);
    assert_eq!(facts::mismatch(&event, &wire, Family::Ipv4), None);
}

#[test]
fn an_alert_that_was_opened_needs_a_record_of_its_sender_that_may_be_it() {
    let event = event().with("tls.alert.encrypted", json!(true));
    let mut wire = wire();
    let shows = |wire: &Transcript| facts::mismatch(&event, wire, Family::Ipv4);
    let none = "an encrypted alert was said to come from the client, and the wire shows no record that could be it";
    assert_eq!(shows(&wire).as_deref(), Some(none));
    wire.lines.push("server: application data 19".into());
    assert_eq!(shows(&wire).as_deref(), Some(none));
    wire.lines.push("client: application data 19".into());
    assert_eq!(shows(&wire), None);
}
