//! Lines for people: who did what to whom, where, and what it is called.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use anstyle::{AnsiColor, Style};
use gauntlet_wire::class::Class;
use gauntlet_wire::record;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::library::ruling::Said;
use crate::probe::Counts;

const CLASS: Style = AnsiColor::Red.on_default().bold();
const NAME: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// One line, without its end. Styled; who prints it removes the style where nobody sees it.
#[must_use]
pub fn failure(failure: &Failure) -> String {
    let mut line = String::new();
    let time = Timestamp::from_nanosecond(i128::from(failure.time_unix_nano)).unwrap_or_default();
    let _ = write!(
        line,
        "{FAINT}{time:.6}{FAINT:#} {CLASS}{}{CLASS:#}",
        failure.class
    );
    if failure.confidence != "certain" {
        let _ = write!(line, " ({})", failure.confidence);
    }
    let client = SocketAddr::new(failure.client_address, failure.client_port);
    let server = SocketAddr::new(failure.server_ip, failure.server_port);
    let _ = write!(line, "  {client} -> {server}");
    if let Some(name) = &failure.server_name {
        let _ = write!(line, " {NAME}{name}{NAME:#}");
    }
    let _ = write!(line, ": {}", act(failure));
    let _ = write!(line, "{FAINT} at {}", failure.stage);
    if let Some(version) = failure.version {
        let _ = write!(line, ", TLS {version}");
    }
    if let Some(name) = &failure.server_common_name {
        let _ = write!(line, ", server CN={name}");
    }
    if let Some(name) = &failure.client_common_name {
        let _ = write!(line, ", client CN={name}");
    }
    let pods = [
        (
            "client",
            &failure.client_pod_namespace,
            &failure.client_pod_name,
            &failure.client_cgroup,
        ),
        (
            "server",
            &failure.server_pod_namespace,
            &failure.server_pod_name,
            &failure.server_cgroup,
        ),
    ];
    for (end, namespace, name, cgroup) in pods {
        if let (Some(namespace), Some(name)) = (namespace, name) {
            let _ = write!(line, ", {end} pod {namespace}/{name}");
        } else if let Some(cgroup) = cgroup {
            let _ = write!(line, ", {end} in {cgroup}");
        }
    }
    if let Some(said) = &failure.library {
        let _ = write!(line, ", {}", quoted(said));
    }
    let retry = if failure.retryable {
        "a retry may help"
    } else {
        "a retry will not help"
    };
    let _ = write!(
        line,
        " [{}; {}; {retry}]{FAINT:#}",
        failure.history, failure.layer
    );
    if !failure.candidates.is_empty() {
        let _ = write!(
            line,
            " {FAINT}could be: {}{FAINT:#}",
            failure.candidates.join(", ")
        );
    }
    line
}

/// The first abnormal event, as a sentence.
fn act(failure: &Failure) -> String {
    let (who, other) = match failure.ended_by {
        "client" => ("client", "server"),
        _ => ("server", "client"),
    };
    match (failure.alert_encrypted, failure.alert_code) {
        (Some(true), None) => format!("{who} rejected {other} with an encrypted alert"),
        (encrypted, Some(code)) => {
            let hidden = if encrypted == Some(true) {
                ", encrypted"
            } else {
                ""
            };
            let name = failure.alert_description.unwrap_or("unknown alert");
            match code {
                0 => format!("{who} closed with close_notify{hidden}"),
                _ => format!("{who} rejected {other} with alert {name}({code}){hidden}"),
            }
        }
        _ => match Class::from_name(failure.class) {
            Some(Class::WantRead) => format!("{who} is silent"),
            Some(Class::Syscall) => format!("{who} closed the connection without a word"),
            Some(Class::HttpsProxyRequest) => format!("{who} sent an HTTP CONNECT"),
            Some(Class::UnknownProtocol) => format!("{who} does not speak TLS"),
            _ => format!("{who} ended it"),
        },
    }
}

/// What a library said, and in which process.
fn quoted(said: &Said) -> String {
    let mut text = format!(
        "{} of {} ({} {})",
        said.library, said.side, said.executable, said.process
    );
    let words = [said.reason.as_deref(), said.verify_error.as_deref()];
    let mut words: Vec<&str> = words.into_iter().flatten().collect();
    if words.is_empty() {
        words.extend(said.error);
    }
    if !words.is_empty() {
        let _ = write!(text, ": {}", words.join(": "));
    }
    text
}

/// What was counted, a line each; zeros are left out, but for failures as a whole.
#[must_use]
pub fn counters(counts: &Counts) -> String {
    let mut text = String::new();
    let failed: u64 = counts.classes.values().map(|count| count.count).sum();
    let _ = writeln!(
        text,
        "{NAME}{failed} failed handshakes, {} possibly unseen{NAME:#}",
        counts.lost()
    );
    // Whatever number a server made up is no version that is known.
    let mut rows: BTreeMap<_, u64> = BTreeMap::new();
    for ((class, version), count) in &counts.classes {
        let version = record::version_name(*version);
        *rows.entry((*class, version)).or_default() += count.count;
    }
    for ((class, version), count) in rows {
        let version = version.map_or_else(
            || "version unknown".to_owned(),
            |version| format!("TLS {version}"),
        );
        let _ = writeln!(text, "{count:>10} {} {version}", class.name());
    }
    let counters = counts
        .counters
        .iter()
        .map(|(counter, count)| (counter.name(), *count, counter.is_loss()));
    let others = counts
        .others
        .iter()
        .map(|(name, other)| (*name, other.count, other.is_loss));
    for (name, count, is_loss) in counters.chain(others).filter(|(_, count, _)| *count > 0) {
        let mark = if is_loss { " (lost)" } else { "" };
        let _ = writeln!(text, "{count:>10} {name}{mark}");
    }
    text
}
