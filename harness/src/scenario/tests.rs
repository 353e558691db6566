//! What a scenario file becomes, and laws that hold for every one of them. What is refused, and with
//! which line, is in `tests/self_check.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::model::{Family, Issuer, Tls};
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
