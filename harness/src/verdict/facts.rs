//! The event against the wire, field by field: whatever the witness read, the probe must have read
//! too, and what was not there to read must be absent.

use std::fmt::{Debug, Write as _};

use gauntlet_wire::alert;
use serde_json::Value;
use tls_parser::TlsCipherSuite;

use crate::probe::Event;
use crate::scenario::model::Family;
use crate::witness::Transcript;

/// The first field of the event that is not as the wire shows it.
pub(super) fn mismatch(event: &Event, wire: &Transcript, family: Family) -> Option<String> {
    addresses(event, wire, family)
        .or_else(|| hellos(event, wire))
        .or_else(|| names(event, wire))
        .or_else(|| plain_alert(event, wire))
}

/// Says how a field differs, if it does.
pub(super) fn differs<T: Debug + PartialEq + ?Sized>(
    field: &str,
    said: Option<&T>,
    was: Option<&T>,
) -> Option<String> {
    if said == was {
        return None;
    }
    let mut text = format!("{field} was said to be ");
    let _ = match said {
        Some(said) => write!(text, "{said:?}"),
        None => write!(text, "nothing"),
    };
    let _ = match was {
        Some(was) => write!(text, ", true was {was:?}"),
        None => write!(text, ", true was nothing"),
    };
    Some(text)
}

fn addresses(event: &Event, wire: &Transcript, family: Family) -> Option<String> {
    let client = wire.client.ip().to_string();
    let server = wire.server.ip().to_string();
    let optional = |field: &str, was: &str| {
        let said = event.text(field)?;
        differs(field, Some(said), Some(was))
    };
    differs(
        "client.address",
        event.text("client.address"),
        Some(&client),
    )
    .or_else(|| {
        let was = wire.client.port();
        differs("client.port", event.port("client").as_ref(), Some(&was))
    })
    .or_else(|| {
        let was = wire.server.port();
        differs("server.port", event.port("server").as_ref(), Some(&was))
    })
    .or_else(|| {
        differs(
            "network.type",
            event.text("network.type"),
            Some(family.as_str()),
        )
    })
    .or_else(|| optional("server.ip", &server))
    // The probe sits at the server's end of the cable.
    .or_else(|| optional("network.local.address", &server))
    .or_else(|| optional("network.peer.address", &client))
}

fn hellos(event: &Event, wire: &Transcript) -> Option<String> {
    let hello = wire.client_hello.as_ref();
    let chosen = wire.server_hello.as_ref();
    let version = chosen.map(|chosen| version(chosen.version));
    let suites = hello.map(|hello| hello.suites.iter().map(|suite| cipher(*suite)).collect());
    let alpn = hello
        .map(|hello| hello.alpn.clone())
        .filter(|alpn| !alpn.is_empty());
    let suite = chosen.map(|chosen| cipher(chosen.suite));
    text("tls.protocol.version", event, version.as_deref())
        .or_else(|| {
            text(
                "server.address",
                event,
                hello.and_then(|hello| hello.server_name.as_deref()),
            )
        })
        .or_else(|| list("tls.client.supported_ciphers", event, suites))
        .or_else(|| list("tls.client.alpn", event, alpn))
        .or_else(|| text("tls.cipher", event, suite.as_deref()))
        .or_else(|| {
            text(
                "tls.next_protocol",
                event,
                chosen.and_then(|chosen| chosen.alpn.as_deref()),
            )
        })
}

fn names(event: &Event, wire: &Transcript) -> Option<String> {
    let (client, server) = (
        wire.client_certificate.as_deref(),
        wire.server_certificate.as_deref(),
    );
    text("tls.server.x509.subject.common_name", event, server)
        .or_else(|| text("tls.client.x509.subject.common_name", event, client))
}

/// An alert that the event names must stand in the transcript, from whom and as what it says. One that
/// nobody can read still has a sender; where there was none, nobody sent it.
fn plain_alert(event: &Event, wire: &Transcript) -> Option<String> {
    let level = event.text("tls.alert.level");
    let description = event.text("tls.alert.description");
    let sender = event.text("tls.alert.sender");
    let Some(code) = event.field("tls.alert.code").and_then(Value::as_u64) else {
        let hidden = event.field("tls.alert.encrypted").is_some();
        let from = event.text("handshake.ended_by").filter(|_| hidden);
        return differs("tls.alert.level", level, None)
            .or_else(|| differs("tls.alert.description", description, None))
            .or_else(|| differs("tls.alert.sender", sender, from));
    };
    let name = u8::try_from(code).ok().and_then(alert::name);
    differs("tls.alert.description", description, name)
        .or_else(|| differs("tls.alert.sender", sender, event.text("handshake.ended_by")))
        .or_else(|| {
            let (sender, level, name) = (sender?, level.unwrap_or("(no level)"), name?);
            if event.field("tls.alert.encrypted") == Some(&Value::Bool(true)) {
                // Read with a key log. The wire shows a record that may be it; what it said, the endpoints
                // tell, and the scenario holds them to it.
                let record = format!("{sender}: application data ");
                let shown = wire.lines.iter().any(|line| line.starts_with(&record));
                return (!shown).then(|| {
                    format!("an encrypted alert was said to come from the {sender}, and the wire shows no record that could be it")
                });
            }
            let line = format!("{sender}: alert {level} {name}");
            let shown = wire.lines.contains(&line);
            (!shown).then(|| format!("an alert was said to be {line:?}, and the wire shows none"))
        })
}

fn text(field: &str, event: &Event, was: Option<&str>) -> Option<String> {
    differs(field, event.text(field), was)
}

fn list(field: &str, event: &Event, was: Option<Vec<String>>) -> Option<String> {
    let was = was
        .as_ref()
        .map(|was| was.iter().map(String::as_str).collect::<Vec<_>>());
    differs(field, event.texts(field).as_ref(), was.as_ref())
}

fn version(number: u16) -> String {
    match number {
        0x0301 => "1.0".into(),
        0x0302 => "1.1".into(),
        0x0303 => "1.2".into(),
        0x0304 => "1.3".into(),
        other => format!("{other:#06x}"),
    }
}

/// The IANA name; GREASE (RFC 8701) by its name, numbers without one as they are.
fn cipher(number: u16) -> String {
    match TlsCipherSuite::from_id(number) {
        Some(suite) => suite.name.into(),
        None if number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff => "GREASE".into(),
        None => format!("{number:#06x}"),
    }
}
