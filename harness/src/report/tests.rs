//! The three forms of one run, whole, as snapshots: a change of any byte is seen in review.

use serde_json::json;

use super::human::Human;
use super::junit;
use super::*;

/// One case of each verdict that a run can have.
fn records() -> Vec<Record> {
    let event = Event::of(json!({
        "time_unix_nano": 1_795_324_881_000_000_000_u64,
        "error.type": "SSL_R_TLSV1_ALERT_UNKNOWN_CA",
        "confidence": "certain",
        "client.address": "192.0.2.1",
        "client.port": 41234,
        "server.port": 10001,
    }));
    let wrong = event.clone().with("error.type", json!("SSL_ERROR_SYSCALL"));
    let class = || {
        Some(Expected {
            class: "SSL_R_TLSV1_ALERT_UNKNOWN_CA".into(),
            confidence: "certain".into(),
        })
    };
    let rejected = "unknown_ca::tls1_2::client_rejects::rustls";
    let cases = [
        (
            format!("{rejected}::ipv4"),
            class(),
            vec![event],
            Verdict::Pass,
            None,
        ),
        (
            format!("{rejected}::ipv4::near_miss"),
            None,
            vec![],
            Verdict::Pass,
            None,
        ),
        (
            format!("{rejected}::ipv6"),
            class(),
            vec![wrong],
            Verdict::Fail,
            Some(
                "the probe said SSL_ERROR_SYSCALL (certain) by the client; true was SSL_R_TLSV1_ALERT_UNKNOWN_CA (certain) by the client",
            ),
        ),
        (
            "unknown_ca::tls1_3::a".into(),
            class(),
            vec![],
            Verdict::Xfail,
            Some("known (#7): the probe said nothing"),
        ),
        (
            "unknown_ca::tls1_3::b".into(),
            None,
            vec![],
            Verdict::Xpass,
            Some("passes, though known to deviate (#7)"),
        ),
        (
            "unknown_ca::tls1_3::c".into(),
            class(),
            vec![],
            Verdict::Skip,
            Some("missing CAP_BPF"),
        ),
        (
            "unknown_ca::tls1_3::d".into(),
            class(),
            vec![],
            Verdict::Hang,
            Some("deadline passed: client: deadline; server: ok"),
        ),
        (
            "unknown_ca::tls1_3::e".into(),
            class(),
            vec![],
            Verdict::Infra,
            Some("the client was meant to end with \"ok\" & ended with <\"timeout\">"),
        ),
    ];
    let mut summary = Summary {
        lost_events: 3,
        ..Summary::default()
    };
    let mut records = vec![Record::Start(Start {
        schema: SCHEMA,
        kernel: "6.18.44".into(),
        probe: "shipped".into(),
        seed: 1234,
        cases: cases.len(),
    })];
    for (id, expected, reported, verdict, reason) in cases {
        let failed = !verdict.is_green();
        let report = CaseReport {
            repro: crate::run::repro(&id, 1234, &crate::probe::Spec::Shipped, None),
            artifacts: failed.then(|| format!("target/gauntlet/{}", id.replace("::", ".")).into()),
            lacks: None,
            first_attempt: None,
            id,
            expected,
            reported,
            verdict,
            reason: reason.map(String::from),
            witnesses: Witnesses {
                client: "InvalidCertificate(UnknownIssuer)".into(),
                server: "AlertReceived(UnknownCA)".into(),
                wire: "client: ClientHello; client: alert fatal unknown_ca".into(),
            },
            duration_ms: 41,
        };
        summary.add(&report);
        records.push(Record::Case(Box::new(report)));
    }
    records.push(Record::Summary(summary));
    records
}

fn human(colour: bool) -> String {
    let mut out = Vec::new();
    let mut human = Human::new(&mut out, colour, false);
    for record in records() {
        human.record(&record).unwrap();
    }
    drop(human);
    String::from_utf8(out).unwrap()
}

fn printed() -> String {
    let mut out = Vec::new();
    for record in records() {
        ndjson::write(&mut out, &record).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn human_form() {
    insta::assert_snapshot!("human", human(false));
}

#[test]
fn human_form_has_colour_only_when_asked() {
    assert!(!human(false).contains('\x1b'));
    let coloured = human(true);
    assert!(coloured.contains("\x1b[31mfail "));
    assert!(coloured.contains("\x1b[32mpass "));
}

#[test]
fn ndjson_form() {
    insta::assert_snapshot!("ndjson", printed());
}

#[test]
fn ndjson_reads_back_as_it_was_written() {
    assert_eq!(ndjson::read(printed().as_bytes()).unwrap(), records());
}

#[test]
fn ndjson_that_is_none_is_refused_with_the_line() {
    let broken = printed().lines().take(2).collect::<Vec<_>>().join("\n") + "\nnonsense\n";
    let error = ndjson::read(broken.as_bytes()).unwrap_err().to_string();
    assert!(
        error.starts_with("line 3: not a record of a run: "),
        "{error}"
    );
    assert_eq!(
        ndjson::read(&b""[..]).unwrap_err().to_string(),
        "line 1: empty: not the NDJSON of a run"
    );
}

#[test]
fn junit_form() {
    let xml = junit::render(&records()).unwrap();
    insta::assert_snapshot!("junit", xml);
}

#[test]
fn exit_codes_are_the_contract_s() {
    let code = |change: fn(&mut Summary)| {
        let mut summary = Summary {
            pass: 9,
            xfail: 1,
            skip: 1,
            ..Summary::default()
        };
        change(&mut summary);
        summary.exit_code()
    };
    assert_eq!(code(|_| {}), 0);
    assert_eq!(code(|summary| summary.fail = 1), 1);
    assert_eq!(code(|summary| summary.xpass = 1), 1);
    assert_eq!(code(|summary| summary.lost_events = 1), 1);
    assert_eq!(code(|summary| summary.late_events = 1), 1);
    assert_eq!(code(|summary| summary.infra = 1), 2);
    assert_eq!(code(|summary| summary.hang = 1), 2);
    assert_eq!(
        code(|summary| {
            summary.fail = 1;
            summary.infra = 1;
        }),
        2
    );
}

#[test]
fn a_junit_file_appears_whole_or_not_at_all() {
    let folder = std::env::temp_dir().join(format!("gauntlet-junit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let place = folder.join("junit.xml");
    drop(junit::JunitFile::create(&place).unwrap());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    junit::JunitFile::create(&place)
        .unwrap()
        .finish(&records())
        .unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    assert!(
        std::fs::read_to_string(&place)
            .unwrap()
            .ends_with("</testsuites>\n")
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_case_that_was_run_again_is_told() {
    let Record::Case(mut case) = records().remove(1) else {
        unreachable!("the first is the start");
    };
    case.first_attempt = Some("deadline passed: client: deadline; server: ok".into());
    let mut summary = Summary::default();
    summary.add(&case);
    assert_eq!(summary.run_again, 1);
    let records = [Record::Case(case), Record::Summary(summary)];
    let mut out = Vec::new();
    let mut human = Human::new(&mut out, false, false);
    for record in &records {
        human.record(record).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("run again; at first: deadline passed: client: deadline; server: ok"),
        "{text}"
    );
    assert!(text.trim_end().ends_with("; 1 run again"), "{text}");
}
