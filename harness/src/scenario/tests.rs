//! What a scenario file becomes, and laws that hold for every one of them. What is refused, and with
//! which line, is in `tests/self_check.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::model::{Family, Issuer, Stack, Tls};
use super::*;

const BOTH: &str = r#"
claim = "c"
cause = "c"
why = "w"
class = "unknown_ca"
side = "client_rejects"
tls = ["1.2", "1.3"]
server.certificate.issuer = "other"
witness = { client = "a", server = "b", wire = [] }

[expect]
class = "SSL_R_TLSV1_ALERT_UNKNOWN_CA"
confidence = "certain"
ended_by = "client"

[at."1.3".expect]
class = "SSL_ERROR_SSL"
confidence = "ambiguous"
encrypted = true
candidates = ["SSL_R_TLSV1_ALERT_UNKNOWN_CA"]

[near_miss.server.certificate]
issuer = "trusted"
"#;

#[test]
fn a_scenario_expands_to_every_version_family_and_near_miss() {
    let ids: Vec<String> = cases(BOTH).into_iter().map(|case| case.id).collect();
    assert_eq!(
        ids,
        [
            "unknown_ca::tls1_2::client_rejects::rustls::ipv4",
            "unknown_ca::tls1_2::client_rejects::rustls::ipv6",
            "unknown_ca::tls1_2::client_rejects::rustls::ipv4::near_miss",
            "unknown_ca::tls1_2::client_rejects::rustls::ipv6::near_miss",
            "unknown_ca::tls1_3::client_rejects::rustls::ipv4",
            "unknown_ca::tls1_3::client_rejects::rustls::ipv6",
            "unknown_ca::tls1_3::client_rejects::rustls::ipv4::near_miss",
            "unknown_ca::tls1_3::client_rejects::rustls::ipv6::near_miss",
        ]
    );
}

#[test]
fn an_overlay_changes_its_version_only_and_goes_deep() {
    let cases = cases(BOTH);
    let expect = |tls| {
        let case = cases
            .iter()
            .find(|case| case.tls == tls && !case.near_miss)
            .unwrap();
        case.scenario.expect.clone().unwrap()
    };
    assert_eq!(expect(Tls::V1_2).class, "SSL_R_TLSV1_ALERT_UNKNOWN_CA");
    assert_eq!(expect(Tls::V1_2).encrypted, None);
    assert_eq!(expect(Tls::V1_3).class, "SSL_ERROR_SSL");
    assert_eq!(expect(Tls::V1_3).ended_by, "client");
}

#[test]
fn a_near_miss_is_one_knob_away_and_expects_success_and_silence() {
    let cases = cases(BOTH);
    let near = &cases.iter().find(|case| case.near_miss).unwrap().scenario;
    assert_eq!(near.expect, None);
    assert_eq!(
        (near.witness.client.as_str(), near.witness.server.as_str()),
        ("ok", "ok")
    );
    assert_eq!(
        near.server.certificate.as_ref().unwrap().issuer,
        Issuer::Trusted
    );
    let failing = &cases[0].scenario;
    assert_eq!(near.client, failing.client);
}

#[test]
fn a_key_log_adds_one_case_where_the_alert_is_hidden_and_names_it() {
    let told = r#"
[at."1.3".key_log]
class = "SSL_R_TLSV1_ALERT_UNKNOWN_CA"
confidence = "certain"
alert = 48
candidates = []
"#;
    let (without, with) = (cases(BOTH), cases(&format!("{BOTH}{told}")));
    assert_eq!(with.len(), without.len() + 1);
    let case = with
        .iter()
        .find(|case| case.beside == Beside::KeyLog)
        .unwrap();
    assert_eq!(
        case.id,
        "unknown_ca::tls1_3::client_rejects::rustls::ipv4::key_log"
    );
    let expect = case.scenario.expect.as_ref().unwrap();
    assert_eq!(expect.class, "SSL_R_TLSV1_ALERT_UNKNOWN_CA");
    assert_eq!((expect.alert, expect.encrypted), (Some(48), Some(true)));
    assert_eq!(expect.ended_by, "client");
    // The others say what the wire can show.
    let hidden = with.iter().find(|case| case.tls == Tls::V1_3).unwrap();
    assert_eq!(hidden.scenario.expect.as_ref().unwrap().alert, None);
}

#[test]
fn a_key_log_is_refused_where_nothing_is_hidden() {
    for (told, message) in [
        (
            "[key_log]\nconfidence = \"certain\"\n",
            "nothing is hidden here",
        ),
        ("[at.\"1.3\"]\nkey_log = 1\n", "not a table"),
        (
            "[at.\"1.3\".key_log]\nclass = \"SSL_ERROR_SYSCALL\"\n",
            "is not what the id says",
        ),
    ] {
        let faults = parse::read("x.toml", &format!("{BOTH}{told}")).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.message.contains(message)),
            "{told}: {faults:?}"
        );
    }
}

#[test]
fn a_library_adds_one_case_for_each_pair_that_has_one() {
    let told = r#"
[at."1.2 server:openssl".library]
quotes = { library = "openssl", side = "server", reason = "alert unknown ca" }
[at."1.3 rustls-openssl".library_deep]
"#;
    let (without, with) = (cases(PAIRS), cases(&format!("{PAIRS}{told}")));
    let ids: Vec<&str> = with
        .iter()
        .filter(|case| case.beside.hears_libraries())
        .map(|case| case.id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "unknown_ca::tls1_2::client_rejects::openssl::ipv4::library",
            "unknown_ca::tls1_2::client_rejects::rustls-openssl::ipv4::library",
            "unknown_ca::tls1_3::client_rejects::rustls-openssl::ipv6::library_deep",
        ]
    );
    assert_eq!(with.len(), without.len() + ids.len());
    let quoted = |case: &&Case| case.scenario.expect.as_ref().unwrap().quotes.is_some();
    assert_eq!(
        with.iter()
            .filter(|case| !case.near_miss)
            .filter(quoted)
            .count(),
        2
    );
}

#[test]
fn a_library_is_refused_where_there_is_none_or_nothing_is_meant_to_be_said() {
    for (told, message) in [
        ("[library]\n", "no library can be asked here"),
        ("[at.\"1.3 openssl\"]\nlibrary = 1\n", "not a table"),
        (
            "[at.\"openssl\".library]\nsilent = true\nalert = 48\n",
            "stands alone",
        ),
        (
            "[at.\"openssl\".library]\nsilent = true\n",
            "only a good handshake",
        ),
        (
            "[at.\"openssl\".expect]\nquotes = { library = \"openssl\", side = \"server\" }\n",
            "no library is asked here",
        ),
    ] {
        let faults = parse::read("x.toml", &format!("{PAIRS}{told}")).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.message.contains(message)),
            "{told}: {faults:?}"
        );
    }
}

const PAIRS: &str = r#"
claim = "c"
cause = "c"
why = "w"
class = "unknown_ca"
side = "client_rejects"
tls = ["1.2", "1.3"]
stacks = ["rustls", "openssl", "rustls-openssl"]
server.certificate.issuer = "other"
witness = { client = "rustls", server = "rustls", wire = [] }

[at."client:openssl".witness]
client = "openssl"
[at."server:openssl".witness]
server = "openssl"
[at."1.3 openssl".witness]
server = "both, 1.3"
[at."1.3".witness]
server = "any, 1.3"

[expect]
class = "SSL_R_TLSV1_ALERT_UNKNOWN_CA"
confidence = "certain"
ended_by = "client"

[near_miss.server.certificate]
issuer = "trusted"

[at."rustls-openssl".near_miss.server.certificate]
issuer = "self_signed"
"#;

/// rustls keeps its ids and both families; pairs with OpenSSL come on top, over one.
#[test]
fn a_scenario_expands_to_every_pair_of_stacks() {
    let ids: Vec<String> = cases(PAIRS)
        .into_iter()
        .filter(|case| !case.near_miss)
        .map(|case| case.id)
        .collect();
    assert_eq!(
        ids,
        [
            "unknown_ca::tls1_2::client_rejects::rustls::ipv4",
            "unknown_ca::tls1_2::client_rejects::rustls::ipv6",
            "unknown_ca::tls1_2::client_rejects::openssl::ipv4",
            "unknown_ca::tls1_2::client_rejects::rustls-openssl::ipv4",
            "unknown_ca::tls1_3::client_rejects::rustls::ipv4",
            "unknown_ca::tls1_3::client_rejects::rustls::ipv6",
            "unknown_ca::tls1_3::client_rejects::openssl::ipv6",
            "unknown_ca::tls1_3::client_rejects::rustls-openssl::ipv6",
        ]
    );
}

#[test]
fn overlays_fit_where_all_their_words_do_and_more_words_win() {
    let cases = cases(PAIRS);
    let server = |part: &str| {
        let case = cases.iter().find(|case| case.id.contains(part)).unwrap();
        let witness = &case.scenario.witness;
        (witness.client.as_str(), witness.server.as_str())
    };
    assert_eq!(
        server("tls1_2::client_rejects::rustls::"),
        ("rustls", "rustls")
    );
    assert_eq!(
        server("tls1_2::client_rejects::openssl::"),
        ("openssl", "openssl")
    );
    assert_eq!(
        server("tls1_2::client_rejects::rustls-openssl::"),
        ("rustls", "openssl")
    );
    // As many words, so the alphabet decides: `server:openssl` comes after `1.3`.
    assert_eq!(
        server("tls1_3::client_rejects::rustls-openssl::"),
        ("rustls", "openssl")
    );
    assert_eq!(
        server("tls1_3::client_rejects::rustls::"),
        ("rustls", "any, 1.3")
    );
    assert_eq!(
        server("tls1_3::client_rejects::openssl::"),
        ("openssl", "both, 1.3")
    );
}

#[test]
fn a_near_miss_may_differ_by_stack() {
    for case in cases(PAIRS).iter().filter(|case| case.near_miss) {
        let issuer = case.scenario.server.certificate.as_ref().unwrap().issuer;
        let wanted = match case.id.contains("rustls-openssl") {
            true => Issuer::SelfSigned,
            false => Issuer::Trusted,
        };
        assert_eq!(issuer, wanted, "{}", case.id);
    }
}

/// The folder of this repository.
fn shipped() -> Suite {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    load(&folder).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_shipped_scenarios_cover_every_class_on_every_version_and_family_where_it_occurs() {
    let suite = shipped();
    for class in gauntlet_wire::class::Class::ALL {
        let class = id_segment(class);
        for family in [Family::Ipv4, Family::Ipv6] {
            for tls in [Tls::V1_2, Tls::V1_3] {
                let found = suite.cases.iter().any(|case| {
                    case.scenario.class == class
                        && case.family == family
                        && case.tls == tls
                        && !case.near_miss
                });
                assert!(found, "{class} {tls:?} {family:?}");
            }
        }
    }
}

#[test]
fn every_class_of_the_shipped_scenarios_is_certain_at_least_once_but_no_shared_cipher() {
    let suite = shipped();
    for class in gauntlet_wire::class::Class::ALL {
        let certain = suite
            .cases
            .iter()
            .filter_map(|case| case.scenario.expect.as_ref())
            .any(|expect| expect.class == class.name() && expect.confidence == "certain");
        let ambiguous = class == gauntlet_wire::class::Class::NoSharedCipher;
        assert_eq!(certain, !ambiguous, "{}", class.name());
    }
}

#[test]
fn certificates_are_rejected_by_both_sides() {
    let suite = shipped();
    for class in [
        "unknown_ca",
        "certificate_expired",
        "bad_certificate",
        "access_denied",
    ] {
        for side in ["client_rejects", "server_rejects"] {
            let found = suite
                .cases
                .iter()
                .any(|case| case.scenario.class == class && case.scenario.side == side);
            assert!(found, "{class} {side}");
        }
    }
}

#[test]
fn a_filter_is_a_part_and_an_exact_one_the_whole_of_an_id() {
    let suite = shipped();
    let id = &suite.cases[0].id;
    assert_eq!(suite.select(&[], false).len(), suite.cases.len());
    assert_eq!(suite.select(std::slice::from_ref(id), true).len(), 1);
    assert!(
        suite
            .select(&["::ipv4".into(), "::ipv6".into()], false)
            .len()
            == suite.cases.len()
    );
    assert!(suite.select(&["::ipv4".into()], true).is_empty());
}

proptest! {
    /// An id says everything that tells two cases apart: no two of any matrix share one, and each
    /// segment stands in its place.
    #[test]
    fn ids_are_unique_and_say_what_the_case_is(
        class in "[a-z][a-z0-9_]{0,8}",
        variant in proptest::option::of("[a-m][a-z0-9_]{0,8}"),
        tls in proptest::sample::subsequence(vec!["1.2", "1.3", "any"], 1..=3),
        family in proptest::sample::subsequence(vec!["ipv4", "ipv6"], 1..=2),
    ) {
        let variant_line =
            variant.as_ref().map(|name| format!("variant = {name:?}")).unwrap_or_default();
        let text = format!(
            "claim = \"c\"\ncause = \"c\"\nwhy = \"w\"\nclass = \"none\"\nside = {class:?}\n{variant_line}\ntls = {tls:?}\nfamily = {family:?}\nwitness = {{ client = \"ok\", server = \"ok\", wire = [] }}\n"
        );
        let cases = cases(&text);
        prop_assert_eq!(cases.len(), tls.len() * family.len());
        let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
        prop_assert_eq!(ids.len(), cases.len());
        for case in &cases {
            let segments: Vec<&str> = case.id.split("::").collect();
            let (tls, family) = (case.tls.segment(), case.family.as_str());
            let mut meant = vec!["none", tls, class.as_str(), "rustls", family];
            meant.extend(variant.as_deref());
            prop_assert_eq!(segments, meant);
        }
    }

    /// No text makes the reader panic: it is a scenario, or there is a fault with a line.
    #[test]
    fn any_text_is_read_or_refused_with_a_line(text in "([a-z_]{1,8}( = |\\.)?(\"[a-z]*\"|\\[\\]|\\{\\}|[0-9])?\n?){0,12}") {
        if let Err(faults) = parse::read("x.toml", &text) {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.iter().all(|fault| fault.line >= 1));
        }
    }
}

/// What OpenSSL says at the end that a failure of a class reaches, as the contract defines the class: an
/// alert's receiver, or whoever read what was no TLS, found the connection closed, or waited. A class may
/// have several causes with a value each.
const TOLD: [(&str, &[&str]); 11] = [
    ("unknown_ca", &["SSL_ERROR_SSL(1) 20:1048("]),
    ("certificate_expired", &["SSL_ERROR_SSL(1) 20:1045("]),
    ("bad_certificate", &["SSL_ERROR_SSL(1) 20:1042("]),
    ("access_denied", &["SSL_ERROR_SSL(1) 20:1049("]),
    ("no_shared_cipher", &["SSL_ERROR_SSL(1) 20:1040("]),
    (
        "unknown_protocol",
        &[
            "SSL_ERROR_SSL(1) 20:1070(",                     // alert 70
            "SSL_ERROR_SSL(1) 20:252(unknown protocol)",     // an SSLv2 hello
            "SSL_ERROR_SSL(1) 20:156(http request)",         // a GET
            "SSL_ERROR_SSL(1) 20:267(wrong version number)", // an answer that is no TLS
        ],
    ),
    (
        "https_proxy_request",
        &["SSL_ERROR_SSL(1) 20:155(https proxy request)"],
    ),
    ("zero_return", &["SSL_ERROR_ZERO_RETURN(6)"]),
    (
        "syscall",
        &[
            "SSL_ERROR_SYSCALL(5) ConnectionReset",
            "SSL_ERROR_SSL(1) 20:294(unexpected eof while reading)", // FIN; OpenSSL 1.1.1: 5, errno 0
        ],
    ),
    ("want_read", &["timeout SSL_ERROR_WANT_READ(2)"]),
    (
        "ssl_error",
        &[
            "SSL_ERROR_SSL(1) 20:1040(", // handshake_failure where no hello was answered
            "SSL_ERROR_SSL(1) 20:1043(", // unsupported_certificate
            "SSL_ERROR_SSL(1) 20:1080(", // internal_error
            "SSL_ERROR_SSL(1) 20:1116(", // certificate_required
            "SSL_ERROR_SSL(1) 20:1120(", // no_application_protocol
        ],
    ),
];

/// What the scenario says OpenSSL says at the end that the failure reaches, which no run lets pass
/// unless OpenSSL really does; none where another stack is there, or nothing fails.
fn told(case: &Case) -> Option<&str> {
    let scenario = &case.scenario;
    let (receiver, said) = match scenario.expect.as_ref()?.ended_by.as_str() {
        "client" => (&scenario.server, &scenario.witness.server),
        _ => (&scenario.client, &scenario.witness.client),
    };
    let fails = scenario.class != NO_FAILURE;
    (fails && receiver.stack == Stack::OpenSsl).then_some(said)
}

#[test]
fn openssl_is_told_the_value_of_the_class_and_no_other() {
    for case in &shipped().cases {
        let Some(said) = told(case) else { continue };
        // Where an RST may overtake the alert, either is what OpenSSL is told.
        if said == "SSL_ERROR_S" {
            continue;
        }
        let class = &case.scenario.class;
        let (_, values) = TOLD.iter().find(|(name, _)| name == class).unwrap();
        assert!(
            values.contains(&said),
            "{}: {said} is not {values:?}",
            case.id
        );
    }
}

#[test]
fn every_class_reaches_openssl_with_every_value_and_on_both_versions_where_one_is_negotiated() {
    let suite = shipped();
    for (class, values) in TOLD {
        let cases = || {
            suite
                .cases
                .iter()
                .filter(|case| case.scenario.class == class)
        };
        for value in values {
            let reached = cases().any(|case| told(case) == Some(value));
            assert!(reached, "{class}: nobody is told {value}");
        }
        for tls in [Tls::V1_2, Tls::V1_3] {
            let reached = cases().any(|case| case.tls == tls && told(case).is_some());
            assert!(reached, "{class} does not reach OpenSSL on {tls:?}");
        }
    }
}

/// Who ends a handshake with OpenSSL at that end says why in its own words.
#[test]
fn certificates_are_rejected_by_openssl_at_both_ends_and_on_both_versions() {
    let suite = shipped();
    for class in ["unknown_ca", "certificate_expired", "bad_certificate"] {
        for (end, side) in [("client", "client_rejects"), ("server", "server_rejects")] {
            for tls in [Tls::V1_2, Tls::V1_3] {
                let found = suite.cases.iter().any(|case| {
                    let scenario = &case.scenario;
                    let said = match end {
                        "client" => &scenario.witness.client,
                        _ => &scenario.witness.server,
                    };
                    (scenario.class == class && scenario.side == side && case.tls == tls)
                        && said
                            .starts_with("SSL_ERROR_SSL(1) 20:134(certificate verify failed) X509:")
                });
                assert!(found, "{class} {side} {tls:?}");
            }
        }
    }
}

/// What TLS 1.3 hides of a rejected certificate is named all the same: between any two of rustls and OpenSSL, by
/// whoever is asked, beside a twin that has the wire alone.
#[test]
fn every_hidden_rejection_is_named_by_a_key_log_and_by_openssl_where_it_is_at_an_end() {
    let suite = shipped();
    let stacks = [Stack::Rustls, Stack::OpenSsl];
    for class in [
        "unknown_ca",
        "certificate_expired",
        "bad_certificate",
        "access_denied",
    ] {
        for side in ["client_rejects", "server_rejects"] {
            for (client, server) in stacks
                .into_iter()
                .flat_map(|one| stacks.map(|two| (one, two)))
            {
                let rejects = if side == "client_rejects" {
                    client
                } else {
                    server
                };
                // OpenSSL has no verification error that it sends as access_denied.
                if class == "access_denied" && rejects == Stack::OpenSsl {
                    continue;
                }
                let named = |beside: &[Beside], hidden: bool| {
                    suite.cases.iter().any(|case| {
                        let scenario = &case.scenario;
                        let expect = scenario.expect.as_ref();
                        (scenario.class == class && scenario.side == side)
                            && (scenario.client.stack, scenario.server.stack) == (client, server)
                            && (case.tls == Tls::V1_3 && beside.contains(&case.beside))
                            && expect.is_some_and(|expect| {
                                (expect.confidence == "certain") != hidden
                                    && (expect.encrypted == Some(true)) >= hidden
                            })
                    })
                };
                let what = format!("{class} {side} {client:?}-{server:?}");
                let openssl = client == Stack::OpenSsl || server == Stack::OpenSsl;
                let libraries = [Beside::Library, Beside::LibraryDeep];
                assert!(
                    !openssl || named(&libraries, false),
                    "{what}: by no library"
                );
                // An OpenSSL client says it in the clear.
                if side == "client_rejects" && client == Stack::OpenSsl {
                    assert!(named(&[Beside::Nothing], false), "{what}: not on the wire");
                } else {
                    assert!(named(&[Beside::Nothing], true), "{what}: no twin");
                    assert!(named(&[Beside::KeyLog], false), "{what}: by no key log");
                }
            }
        }
    }
}
