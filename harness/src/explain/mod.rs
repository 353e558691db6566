//! `gauntlet explain`: what a class, an alert or a case means, what to check, how to fix it. Written
//! for someone in front of a cluster that does not work; knows nothing of a run.

mod alerts;
mod openssl;

use std::fmt::Write as _;

use gauntlet_wire::alert;
use gauntlet_wire::class::Class;

use crate::scenario::{Case, id_segment};

/// The page for a class name (`SSL_R_…` or `unknown_ca`), an alert (`48` or `certificate_required`)
/// or a case id; `None` when it is none of these.
#[must_use]
pub fn explain(topic: &str, cases: &[Case]) -> Option<String> {
    if let Some(case) = cases.iter().find(|case| case.id == topic) {
        return Some(of_case(case));
    }
    let lower = topic.to_lowercase();
    let class = Class::ALL
        .into_iter()
        .find(|class| class.name().eq_ignore_ascii_case(topic) || id_segment(*class) == lower);
    if let Some(class) = class {
        return Some(page(class).into());
    }
    of_alert(code(&lower)?)
}

/// What can be explained beside case ids, for those who asked for something else.
#[must_use]
pub fn topics() -> String {
    Class::ALL.map(id_segment).join(", ")
}

fn code(topic: &str) -> Option<u8> {
    match topic.parse() {
        Ok(code) => Some(code),
        // OpenSSL's names of received alerts end in the RFC's.
        Err(_) => (0..=u8::MAX).find(|code| {
            alert::name(*code).is_some_and(|name| {
                topic == name
                    || topic.strip_suffix(name).is_some_and(|start| {
                        start.starts_with("ssl_r_") && start.ends_with("_alert_")
                    })
            })
        }),
    }
}

fn of_alert(code: u8) -> Option<String> {
    let name = alert::name(code)?;
    let class = alerts::class(code);
    let mut text = format!("# Alert {code}, {name}\n\n");
    if let Some(note) = alerts::note(code) {
        let _ = writeln!(text, "{note}\n");
    }
    let _ = writeln!(text, "Reported as {}.", class.name());
    if let Some((reason, number)) = openssl::reason(code) {
        let _ = writeln!(
            text,
            "OpenSSL tells who receives it: {reason}, reason {number}."
        );
    }
    // The page of "any other failure" lists the alerts; this is one of them already.
    if class != Class::Ssl {
        let _ = write!(text, "\n{}", page(class));
    }
    Some(text)
}

fn of_case(case: &Case) -> String {
    let scenario = &case.scenario;
    let mut text = format!(
        "# {}\n\nclaim: {}\ncause: {}\nwhy:   {}\nfile:  {}\n",
        case.id, scenario.claim, scenario.cause, scenario.why, case.file
    );
    let _ = match &scenario.expect {
        None => writeln!(text, "\nThe probe must report nothing."),
        Some(expect) => writeln!(
            text,
            "\nThe probe must report {} ({}), ended by the {}.",
            expect.class, expect.confidence, expect.ended_by
        ),
    };
    let _ = writeln!(
        text,
        "The client must end with {:?}, the server with {:?}; the wire must show:",
        scenario.witness.client, scenario.witness.server
    );
    for line in &scenario.witness.wire {
        let _ = writeln!(text, "  {line}");
    }
    let class = Class::ALL
        .into_iter()
        .find(|class| id_segment(*class) == scenario.class);
    if let Some(class) = class {
        let _ = write!(text, "\n{}", page(class));
    }
    text
}

fn page(class: Class) -> &'static str {
    match class {
        Class::Ssl => include_str!("ssl_error.md"),
        Class::WantRead => include_str!("want_read.md"),
        Class::Syscall => include_str!("syscall.md"),
        Class::ZeroReturn => include_str!("zero_return.md"),
        Class::UnknownProtocol => include_str!("unknown_protocol.md"),
        Class::NoSharedCipher => include_str!("no_shared_cipher.md"),
        Class::UnknownCa => include_str!("unknown_ca.md"),
        Class::CertificateExpired => include_str!("certificate_expired.md"),
        Class::BadCertificate => include_str!("bad_certificate.md"),
        Class::AccessDenied => include_str!("access_denied.md"),
        Class::HttpsProxyRequest => include_str!("https_proxy_request.md"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_page_under_both_names_that_says_what_to_check() {
        for class in Class::ALL {
            let page = explain(class.name(), &[]).unwrap();
            assert!(page.starts_with(&format!("# {}", class.name())), "{page}");
            assert!(page.contains("\n## Check"), "{}", class.name());
            assert_eq!(explain(&id_segment(class), &[]).unwrap(), page);
        }
    }

    #[test]
    fn every_alert_of_the_wire_crate_is_explained_by_number_and_name() {
        for code in 0..=u8::MAX {
            let Some(name) = alert::name(code) else {
                assert_eq!(explain(&code.to_string(), &[]), None);
                continue;
            };
            let page = explain(&code.to_string(), &[]).unwrap();
            assert!(
                page.contains(name) && page.contains("Reported as "),
                "{page}"
            );
            assert!(alerts::note(code).is_some(), "no note for {code}");
        }
        assert!(
            explain("certificate_required", &[])
                .unwrap()
                .starts_with("# Alert 116")
        );
        assert!(
            explain("SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED", &[])
                .unwrap()
                .contains("116")
        );
        assert!(
            explain("SSL_R_SSLV3_ALERT_BAD_CERTIFICATE", &[])
                .unwrap()
                .contains("# Alert 42")
        );
    }

    #[test]
    fn nonsense_is_not_explained() {
        for topic in ["", "256", "unknown", "_alert_", "ssl_r_"] {
            assert_eq!(explain(topic, &[]), None, "{topic:?}");
        }
    }
}
