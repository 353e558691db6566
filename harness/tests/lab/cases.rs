//! One trial for each way to end, TLS version and address family.

use gauntlet_harness::scenario::model::{
    Certificate, ClientAuth, Encoding, Family, Issuer, Peer, Scenario, Stack, Step, Tls, Usage,
    Validity, Verifier, Witness,
};
use gauntlet_harness::witness::Transcript;
use libtest_mimic::{Failed, Trial};

use super::Stand;

const BOTH: &[Tls] = &[Tls::V1_2, Tls::V1_3];

/// What a TLS 1.2 server says before it hears from the client again.
const FLIGHT_1_2: [&str; 4] = [
    "server: ServerHello",
    "server: Certificate",
    "server: ServerKeyExchange",
    "server: ServerHelloDone",
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in all() {
        for &tls in case.tls {
            for family in [Family::Ipv4, Family::Ipv6] {
                let name = format!("{}::{tls:?}::{family:?}", case.name).to_lowercase();
                let case = case.clone();
                trials.push(Trial::test(name, move || case.check(tls, family)));
            }
        }
    }
    trials
}

/// One way to end, and what it must look like.
#[derive(Clone)]
struct Case {
    name: &'static str,
    tls: &'static [Tls],
    client: Peer,
    server: Peer,
    /// `ok`, or part of the error: of the client, of the server.
    ends: [&'static str; 2],
    /// Lines of the wire in TLS 1.2, or where no version matters.
    wire_1_2: Vec<&'static str>,
    /// Lines of the wire in TLS 1.3.
    wire_1_3: Vec<&'static str>,
}

impl Case {
    fn new(name: &'static str, client: Peer, server: Peer) -> Self {
        let ends = ["ok", "ok"];
        Self {
            name,
            tls: BOTH,
            client,
            server,
            ends,
            wire_1_2: vec![],
            wire_1_3: vec![],
        }
    }

    fn only(self, tls: &'static [Tls]) -> Self {
        Self { tls, ..self }
    }

    fn ends(self, client: &'static str, server: &'static str) -> Self {
        Self {
            ends: [client, server],
            ..self
        }
    }

    /// The client says `alert` about the server's certificate.
    fn client_rejects(mut self, why: &'static str, alert: [&'static str; 2]) -> Self {
        self.wire_1_2 = [&["client: ClientHello"], &FLIGHT_1_2[..], &[alert[1]]].concat();
        self.wire_1_3 = vec!["server: ServerHello", "client: application data 19"];
        self.ends(why, alert[0])
    }

    /// The server says `alert` about the client's certificate.
    fn server_rejects(mut self, why: &'static str, alert: [&'static str; 2]) -> Self {
        let ask = "server: CertificateRequest";
        self.wire_1_2 = vec![
            ask,
            "client: Certificate",
            "client: encrypted handshake",
            alert[1],
        ];
        self.wire_1_3 = vec!["server: ServerHello", "client: application data ..", LATE];
        self.ends(alert[0], why)
    }

    /// The wire shows this in both versions.
    fn wire(mut self, lines: &[&'static str]) -> Self {
        self.wire_1_2 = lines.to_vec();
        self.wire_1_3 = lines.to_vec();
        self
    }

    /// The wire of a good handshake and exchange.
    fn wire_good(mut self) -> Self {
        self.wire_1_2 = vec![
            "server: ServerHello",
            "client: encrypted handshake",
            "client: application data 28",
            "server: application data 28",
        ];
        self.wire_1_3 = vec![
            "server: ServerHello",
            "client: ChangeCipherSpec",
            "client: application data 21",
            "server: application data 21",
        ];
        self
    }

    fn check(&self, tls: Tls, family: Family) -> Result<(), Failed> {
        let stand = Stand::new()?;
        let (ends, captured) = stand.run(&scenario(&self.client, &self.server), tls, family)?;
        let seen = Transcript::read(&captured, &ends.flows, stand.port.get())?;
        let shown = format!("{ends:#?}\n{seen:#?}");
        for (outcome, wanted) in [&ends.client, &ends.server].into_iter().zip(self.ends) {
            let fits = if wanted == "ok" {
                outcome.text == "ok"
            } else {
                outcome.text.contains(wanted)
            };
            if !fits {
                return Err(format!("{wanted} was wanted, not {}\n{shown}", outcome.text).into());
            }
        }
        if seen.family() != family || ends.hung {
            return Err(format!("another family, or hung\n{shown}").into());
        }
        let lines = if tls == Tls::V1_3 {
            &self.wire_1_3
        } else {
            &self.wire_1_2
        };
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        seen.shows(&lines)
            .map_err(|line| format!("the wire lacks {line:?}\n{shown}").into())
    }
}

/// The alert of a TLS 1.3 peer, once there are keys.
const LATE: &str = "server: application data 19";

const UNKNOWN_CA: [&str; 2] = ["AlertReceived(UnknownCA)", "client: alert fatal unknown_ca"];

pub(crate) fn scenario(client: &Peer, server: &Peer) -> Scenario {
    let text = String::new;
    Scenario {
        claim: text(),
        cause: text(),
        why: text(),
        class: text(),
        side: text(),
        variant: None,
        tls: BOTH.to_vec(),
        family: vec![Family::Ipv4, Family::Ipv6],
        network: Vec::new(),
        known_tls_server: false,
        client: client.clone(),
        server: server.clone(),
        witness: Witness {
            client: text(),
            server: text(),
            wire: vec![],
        },
        expect: None,
    }
}

pub(crate) fn peer() -> Peer {
    Peer::default()
}

/// A peer with a certificate.
pub(crate) fn with(certificate: Certificate) -> Peer {
    Peer {
        certificate: Some(certificate),
        ..peer()
    }
}

pub(crate) fn good() -> Certificate {
    Certificate::default()
}

pub(crate) fn other_ca() -> Certificate {
    Certificate {
        issuer: Issuer::Other,
        ..good()
    }
}

/// A server that wants a client certificate.
pub(crate) fn strict() -> Peer {
    Peer {
        client_auth: ClientAuth::Required,
        ..peer()
    }
}

pub(crate) fn raw(script: &[Step]) -> Peer {
    Peer {
        stack: Stack::Raw,
        script: script.to_vec(),
        ..peer()
    }
}

pub(crate) fn scripted(script: &[Step]) -> Peer {
    Peer {
        script: script.to_vec(),
        ..peer()
    }
}

/// A peer of a stack.
pub(crate) fn of(stack: Stack) -> Peer {
    Peer { stack, ..peer() }
}

fn openssl(script: &[Step]) -> Peer {
    Peer {
        script: script.to_vec(),
        ..of(Stack::OpenSsl)
    }
}

fn suite(name: &str) -> Peer {
    Peer {
        suites: Some(vec![name.into()]),
        ..peer()
    }
}

fn groups(names: &[&str]) -> Peer {
    Peer {
        groups: Some(names.iter().map(ToString::to_string).collect()),
        ..peer()
    }
}

fn alpn(name: &str) -> Peer {
    Peer {
        alpn: vec![name.into()],
        ..peer()
    }
}

fn version(tls: Tls) -> Peer {
    Peer {
        versions: Some(vec![tls]),
        ..peer()
    }
}

fn all() -> Vec<Case> {
    [
        successes(),
        certificates(),
        negotiation(),
        transport(),
        not_tls(),
        openssl_by_hand(),
    ]
    .concat()
}

fn successes() -> Vec<Case> {
    let fragments = || Peer {
        max_fragment_size: Some(64),
        ..peer()
    };
    let by_hand = [
        Step::Flight,
        Step::Handshake,
        Step::Exchange,
        Step::CloseNotify,
    ];
    let say = |word: &str| [Step::Handshake, Step::Send(word.into()), Step::CloseNotify];
    let tail = [Step::ReadToEnd];
    let mut early = Case::new(
        "early_data",
        Peer {
            connections: 2,
            early_data: 2,
            ..peer()
        },
        peer(),
    )
    .only(&[Tls::V1_3]);
    early.wire_1_3 = vec![
        "client: FIN", // of the first connection
        "client: ClientHello",
        "client: ChangeCipherSpec",
        "client: application data 19",
        "server: ServerHello",
    ];
    let mut resumed = Case::new(
        "resumption",
        Peer {
            connections: 2,
            ..peer()
        },
        peer(),
    );
    resumed.wire_1_2 = vec![
        "client: FIN", // of the first connection
        "server: ServerHello",
        "server: ChangeCipherSpec",
        "server: encrypted handshake",
        "client: ChangeCipherSpec",
        "client: encrypted handshake",
    ];
    resumed.wire_1_3 = vec![
        "client: FIN",
        "server: ServerHello",
        "server: application data 75",
    ];
    vec![
        Case::new("good", peer(), peer()).wire_good(),
        Case::new("good_mtls", with(good()), strict()).wire_good(),
        Case::new("optional_client_certificate", peer(), {
            Peer {
                client_auth: ClientAuth::Optional,
                ..peer()
            }
        })
        .wire_good(),
        Case::new("nearly_expired", peer(), {
            with(Certificate {
                validity: Validity::NearlyExpired,
                ..good()
            })
        })
        .wire_good(),
        Case::new("alpn_match", alpn("h2"), alpn("h2")).wire_good(),
        Case::new("fragmented", fragments(), fragments()).wire(&["server: ServerHello"]),
        Case::new(
            "handshake_by_hand_at_the_client",
            scripted(&by_hand),
            peer(),
        )
        .wire_good(),
        Case::new(
            "handshake_by_hand_at_the_server",
            peer(),
            scripted(&by_hand),
        )
        .wire_good(),
        Case::new("warning_alert_then_success", peer(), {
            let steps = [
                Step::Alert([1, 112]),
                Step::Handshake,
                Step::Exchange,
                Step::CloseNotify,
            ];
            scripted(&steps)
        })
        .wire(&[
            "server: alert warning unrecognized_name",
            "server: ServerHello",
        ]),
        Case::new(
            "reset_after_success",
            scripted(&[Step::Handshake, Step::Exchange, Step::Reset]),
            scripted(&[Step::Handshake, Step::Exchange, Step::ReadToEnd]),
        )
        .wire(&[
            "client: application data ..",
            "server: application data ..",
            "client: RST",
        ])
        .ends("ok", "ConnectionReset"),
        Case::new(
            "two_byte_messages_without_tickets",
            scripted(&[&say("hi")[..], &tail].concat()),
            Peer {
                tickets: 0,
                ..scripted(&[&say("ok")[..], &tail].concat())
            },
        )
        .wire(&["server: ServerHello", "server: FIN"]),
        Case::new(
            "hello_retry_request",
            groups(&["x25519", "secp384r1"]),
            groups(&["secp384r1"]),
        )
        .only(&[Tls::V1_3])
        .wire(&[
            "client: ClientHello",
            "server: HelloRetryRequest",
            "client: ClientHello",
            "server: ServerHello",
            "client: application data 21",
        ]),
        resumed,
        early,
        // A session that cannot be resumed is not taken for one that was.
        Case::new(
            "tickets_withheld",
            Peer {
                connections: 2,
                ..peer()
            },
            {
                Peer {
                    tickets: 0,
                    ..peer()
                }
            },
        )
        .only(&[Tls::V1_3])
        .ends("NotResumed", "NotResumed"),
    ]
}

fn certificates() -> Vec<Case> {
    let expired = || Certificate {
        validity: Validity::Expired,
        ..good()
    };
    let malformed = || Certificate {
        encoding: Encoding::Malformed,
        ..good()
    };
    let denies = Verifier::ApplicationDenies;
    vec![
        Case::new("unknown_ca_client_rejects", peer(), with(other_ca()))
            .client_rejects("InvalidCertificate(UnknownIssuer)", UNKNOWN_CA),
        Case::new("self_signed_client_rejects", peer(), {
            with(Certificate {
                issuer: Issuer::SelfSigned,
                ..good()
            })
        })
        .client_rejects("InvalidCertificate(UnknownIssuer)", UNKNOWN_CA),
        Case::new("unknown_ca_server_rejects", with(other_ca()), strict()).server_rejects(
            "InvalidCertificate(UnknownIssuer)",
            ["AlertReceived(UnknownCA)", "server: alert fatal unknown_ca"],
        ),
        Case::new("expired_client_rejects", peer(), with(expired())).client_rejects(
            "InvalidCertificate(ExpiredContext",
            [
                "AlertReceived(CertificateExpired)",
                "client: alert fatal certificate_expired",
            ],
        ),
        Case::new("expired_server_rejects", with(expired()), strict()).server_rejects(
            "InvalidCertificate(ExpiredContext",
            [
                "AlertReceived(CertificateExpired)",
                "server: alert fatal certificate_expired",
            ],
        ),
        Case::new("not_yet_valid_client_rejects", peer(), {
            with(Certificate {
                validity: Validity::NotYetValid,
                ..good()
            })
        })
        .client_rejects(
            "InvalidCertificate(NotValidYetContext",
            [
                "AlertReceived(CertificateExpired)",
                "client: alert fatal certificate_expired",
            ],
        ),
        Case::new(
            "access_denied_client_rejects",
            Peer {
                verifier: denies,
                ..peer()
            },
            peer(),
        )
        .client_rejects(
            "InvalidCertificate(ApplicationVerificationFailure)",
            [
                "AlertReceived(AccessDenied)",
                "client: alert fatal access_denied",
            ],
        ),
        Case::new("access_denied_server_rejects", with(good()), {
            Peer {
                verifier: denies,
                ..strict()
            }
        })
        .server_rejects(
            "InvalidCertificate(ApplicationVerificationFailure)",
            [
                "AlertReceived(AccessDenied)",
                "server: alert fatal access_denied",
            ],
        ),
        Case::new("no_certificate_for_the_name", peer(), {
            with(Certificate {
                encoding: Encoding::Absent,
                ..good()
            })
        })
        .wire(&["client: ClientHello", "server: alert fatal access_denied"])
        .ends(
            "AlertReceived(AccessDenied)",
            "no server certificate chain resolved",
        ),
        Case::new("another_name_client_rejects", peer(), {
            with(Certificate {
                name: Some("other.internal".into()),
                ..good()
            })
        })
        .client_rejects(
            "InvalidCertificate(NotValidForNameContext",
            [
                "AlertReceived(BadCertificate)",
                "client: alert fatal bad_certificate",
            ],
        ),
        Case::new("malformed_client_rejects", peer(), with(malformed())).client_rejects(
            "InvalidCertificate(BadEncoding)",
            [
                "AlertReceived(BadCertificate)",
                "client: alert fatal bad_certificate",
            ],
        ),
        Case::new("malformed_server_rejects", with(malformed()), strict()).server_rejects(
            "InvalidCertificate(BadEncoding)",
            [
                "AlertReceived(BadCertificate)",
                "server: alert fatal bad_certificate",
            ],
        ),
        Case::new("revoked_server_rejects", with(good()), {
            Peer {
                verifier: Verifier::Revoked,
                ..strict()
            }
        })
        .server_rejects(
            "InvalidCertificate(Revoked)",
            [
                "AlertReceived(CertificateRevoked)",
                "server: alert fatal certificate_revoked",
            ],
        ),
        Case::new("wrong_usage_client_rejects", peer(), {
            with(Certificate {
                usage: Some(Usage::ClientAuth),
                ..good()
            })
        })
        .client_rejects(
            "InvalidCertificate(InvalidPurposeContext",
            [
                "AlertReceived(UnsupportedCertificate)",
                "client: alert fatal unsupported_certificate",
            ],
        ),
        Case::new("missing_client_certificate", peer(), strict()).server_rejects(
            "NoCertificatesPresented",
            [
                "AlertReceived(CertificateRequired)",
                "server: alert fatal certificate_required",
            ],
        ),
    ]
}

fn negotiation() -> Vec<Case> {
    let refused = [
        "client: ClientHello",
        "server: alert fatal handshake_failure",
    ];
    let no_cipher = |name, tls, client: &str, server: &str| {
        Case::new(name, suite(client), suite(server))
            .only(tls)
            .wire(&refused)
            .ends(
                "AlertReceived(HandshakeFailure)",
                "PeerIncompatible(NoCipherSuitesInCommon)",
            )
    };
    let no_version = |name, tls, client: Peer, server: Peer| {
        Case::new(name, client, server)
            .only(tls)
            .wire(&[
                "client: ClientHello",
                "server: alert fatal protocol_version",
            ])
            .ends(
                "AlertReceived(ProtocolVersion)",
                "PeerIncompatible(Tls12NotOfferedOrEnabled)",
            )
    };
    let ecdsa = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let other = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let mut no_alpn = Case::new("no_shared_alpn", alpn("h2"), alpn("http/1.1")).ends(
        "AlertReceived(NoApplicationProtocol)",
        "NoApplicationProtocol",
    );
    no_alpn.wire_1_2 = vec![
        "client: ClientHello",
        "server: alert fatal no_application_protocol",
    ];
    no_alpn.wire_1_3 = vec!["server: ServerHello", LATE, "server: FIN"];
    vec![
        no_cipher("no_shared_cipher", &[Tls::V1_2], ecdsa, other),
        no_cipher(
            "no_shared_cipher",
            &[Tls::V1_3],
            "TLS_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
        ),
        Case::new(
            "no_shared_group",
            groups(&["x25519"]),
            groups(&["secp384r1"]),
        )
        .wire(&refused)
        .ends(
            "AlertReceived(HandshakeFailure)",
            "PeerIncompatible(NoKxGroupsInCommon)",
        ),
        no_version(
            "no_shared_version",
            &[Tls::V1_2],
            peer(),
            version(Tls::V1_3),
        ),
        no_version(
            "no_shared_version",
            &[Tls::V1_3],
            peer(),
            version(Tls::V1_2),
        ),
        no_alpn,
    ]
}

/// OpenSSL moved by one flight at a time: against another OpenSSL, which answers at once, it must not go
/// further than it was told.
fn openssl_by_hand() -> Vec<Case> {
    let rest = [Step::Handshake, Step::Exchange, Step::CloseNotify];
    let by_hand = [&[Step::Flight], &rest[..]].concat();
    let whole = || openssl(&rest);
    let stops = |name, script: &[Step]| {
        let first = Case::new(name, openssl(script), whole());
        let mut stops = first.wire(&["client: ClientHello", "server: ServerHello", "client: FIN"]);
        stops.wire_1_2.insert(2, "server: ServerHelloDone");
        stops
    };
    vec![
        Case::new("openssl_by_hand_at_the_client", openssl(&by_hand), whole()).wire_good(),
        Case::new("openssl_by_hand_at_the_server", whole(), openssl(&by_hand)).wire_good(),
        Case::new(
            "openssl_by_hand_at_both",
            openssl(&by_hand),
            openssl(&by_hand),
        )
        .wire_good(),
        // The pause lets the server's whole flight come before the client goes on.
        Case::new(
            "openssl_by_two_flights",
            openssl(&[&[Step::Flight, Step::PauseMs(50), Step::Flight], &rest[..]].concat()),
            openssl(&rest),
        )
        .wire_good(),
        stops(
            "openssl_stops_after_its_hello",
            &[Step::Flight, Step::ReadRecord, Step::Fin],
        )
        .ends("ok", "SSL_ERROR_SSL(1) 20:294("),
        Case::new(
            "openssl_finds_the_end_in_a_flight",
            openssl(&[Step::Flight, Step::Flight]),
            raw(&[Step::ReadRecord, Step::Fin]),
        )
        .wire(&["client: ClientHello", "server: FIN"])
        .ends("SSL_ERROR_SSL(1) 20:294(", "ok"),
        Case::new(
            "openssl_says_how_it_was_closed",
            whole(),
            openssl(&[Step::Handshake, Step::CloseNotify]),
        )
        .wire(&["client: ClientHello", "server: ServerHello", "server: FIN"])
        .ends("SSL_ERROR_ZERO_RETURN(6)", "ok"),
        Case::new(
            "openssl_says_what_it_waits_for",
            Peer {
                patience_ms: 200,
                ..openssl(&[Step::Handshake])
            },
            raw(&[Step::ReadRecord, Step::Silence]),
        )
        .wire(&["client: ClientHello"])
        .ends("timeout SSL_ERROR_WANT_READ(2)", "ok"),
    ]
}

fn transport() -> Vec<Case> {
    let hello = "client: ClientHello";
    let brief = || Peer {
        patience_ms: 200,
        ..peer()
    };
    vec![
        Case::new(
            "server_resets",
            peer(),
            raw(&[Step::ReadRecord, Step::Reset]),
        )
        .wire(&[hello, "server: RST"])
        .ends("ConnectionReset", "ok"),
        Case::new("server_closes", peer(), raw(&[Step::ReadRecord, Step::Fin]))
            .wire(&[hello, "server: FIN", "client: FIN"])
            .ends("UnexpectedEof", "ok"),
        Case::new(
            "server_resets_after_its_flight",
            peer(),
            scripted(&[Step::Flight, Step::Reset]),
        )
        .wire(&["server: ServerHello", "server: RST"])
        .ends("ConnectionReset", "ok"),
        Case::new(
            "client_resets_in_the_middle",
            scripted(&[Step::Flight, Step::ReadRecord, Step::Reset]),
            peer(),
        )
        .wire(&[hello, "server: ServerHello", "client: RST"])
        .ends("ok", "ConnectionReset"),
        Case::new("server_says_close_notify", peer(), {
            scripted(&[Step::ReadRecord, Step::CloseNotify])
        })
        .wire(&[hello, "server: alert warning close_notify", "server: FIN"])
        .ends("UnexpectedEof", "ok"),
        Case::new("server_says_internal_error", peer(), {
            raw(&[Step::ReadRecord, Step::Alert([2, 80])])
        })
        .wire(&[hello, "server: alert fatal internal_error"])
        .ends("AlertReceived(InternalError)", "ok"),
        Case::new(
            "server_is_silent",
            brief(),
            raw(&[Step::ReadRecord, Step::Silence]),
        )
        .wire(&[hello, "client: FIN", "server: FIN"])
        .ends("timeout", "ok"),
        Case::new("server_stalls_after_its_flight", brief(), {
            scripted(&[Step::Flight, Step::Silence])
        })
        .wire(&[hello, "server: ServerHello", "client: FIN"])
        .ends("timeout", "ok"),
    ]
}

fn not_tls() -> Vec<Case> {
    let any = &[Tls::Any];
    let connect = || Step::Send("CONNECT api.internal:443 HTTP/1.1\r\n\r\n".into());
    let head = || Step::Expect("\r\n\r\n".into());
    let rest = [Step::Handshake, Step::Exchange, Step::CloseNotify];
    let refused = "server: alert fatal decode_error";
    vec![
        Case::new(
            "connect_to_a_tls_server",
            raw(&[connect(), Step::ReadToEnd]),
            peer(),
        )
        .only(any)
        .wire(&[
            "client: not TLS \"CONNECT api.internal:443 HTTP/1.1\"",
            refused,
        ])
        .ends("ok", "InvalidMessage(InvalidContentType)"),
        Case::new(
            "connect_to_a_proxy",
            scripted(&[&[connect(), head()], &rest[..]].concat()),
            scripted(
                &[
                    &[head(), Step::Send("HTTP/1.1 200 OK\r\n\r\n".into())],
                    &rest[..],
                ]
                .concat(),
            ),
        )
        .wire(&[
            "client: not TLS \"CONNECT ..",
            "server: not TLS \"HTTP/1.1 200 OK\"",
            "client: ClientHello",
            "server: ServerHello",
        ]),
        Case::new("sslv2_hello", raw(&[sslv2(), Step::ReadToEnd]), peer())
            .only(any)
            .wire(&["client: not TLS \"\\x80.\\x01\\x00\\x02..", refused])
            .ends("ok", "InvalidMessage(InvalidContentType)"),
        Case::new("http_answer_to_a_hello", peer(), {
            raw(&[
                Step::ReadRecord,
                Step::Send("HTTP/1.1 400 Bad Request\r\n\r\n".into()),
            ])
        })
        .only(any)
        .wire(&[
            "client: ClientHello",
            "server: not TLS \"HTTP/1.1 400 Bad Request\"",
            "client: alert fatal decode_error",
        ])
        .ends("InvalidMessage(InvalidContentType)", "ok"),
        Case::new(
            "no_tls_at_all",
            raw(&[Step::Exchange]),
            raw(&[Step::Exchange]),
        )
        .only(any)
        .wire(&[
            "client: not TLS \"ping\"",
            "server: not TLS \"pong\"",
            "server: FIN",
        ]),
    ]
}

/// A whole SSL 2.0 CLIENT-HELLO: seven cipher kinds, no session, a challenge of 16 bytes.
fn sslv2() -> Step {
    let kinds = "01 00 80 02 00 80 03 00 80 04 00 80 05 00 80 06 00 40 07 00 c0";
    let challenge = "00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff";
    Step::SendHex(format!(
        "80 2e 01 00 02 00 15 00 00 00 10 {kinds} {challenge}"
    ))
}
