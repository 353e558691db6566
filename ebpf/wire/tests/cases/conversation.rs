//! Conversations as they were seen on the wire, and what is said about each: the class, whose act it
//! was, how far the handshake had come, why, and its history.
//!
//! Expectations are the facts of measured handshakes: one test for each class and rule, and for each
//! conversation that succeeds and must not be reported.

use gauntlet_wire::Role::{self, Client, Server};
use gauntlet_wire::capture::{Hello, certificate as captured_certificate};
use gauntlet_wire::event::Event;
use gauntlet_wire::record::{TLS1_2, TLS1_3};
use gauntlet_wire::segment::Segment;
use gauntlet_wire::side::Side;
use zerocopy::FromZeros as _;

use crate::bytes::*;
use crate::play::{Conversation, Piece, Player};
use crate::stories::*;

fn text(said: &str) -> Vec<u8> {
    said.as_bytes().to_vec()
}

// Plaintext alerts.

const CERTIFICATE_ALERTS: [(u8, &str); 9] = [
    (42, "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE"),
    (43, "SSL_ERROR_SSL"),
    (44, "SSL_ERROR_SSL"),
    (45, "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED"),
    (46, "SSL_ERROR_SSL"),
    (48, "SSL_R_TLSV1_ALERT_UNKNOWN_CA"),
    (49, "SSL_R_TLSV1_ALERT_ACCESS_DENIED"),
    (51, "SSL_ERROR_SSL"),
    (116, "SSL_ERROR_SSL"),
];

#[test]
fn tls_1_2_client_refuses_the_server_certificate() {
    for (code, class) in CERTIFICATE_ALERTS {
        let said = tls12().client([alert(2, code)]).verdict();
        let expected = format!("{class} by client at server_certificate: Alert 2,{code}; CsxkrnL");
        assert_eq!(said, expected);
    }
}

#[test]
fn tls_1_2_server_refuses_the_client_certificate() {
    for (code, class) in CERTIFICATE_ALERTS {
        let said = tls12_answered().server([alert(2, code)]).verdict();
        assert_eq!(
            said,
            format!("{class} by server at client_certificate: Alert 2,{code}; CsxkrnXGYIFl")
        );
    }
}

#[test]
fn openssl_client_refuses_the_server_certificate_in_plaintext_in_tls_1_3() {
    for (code, class) in CERTIFICATE_ALERTS {
        let said = tls13().client([alert(2, code)]).verdict();
        let expected = format!("{class} by client at server_flight: Alert 2,{code}; CsidL");
        assert_eq!(said, expected);
    }
}

#[test]
fn alert_40_in_answer_to_the_client_hello_is_no_shared_cipher_or_looks_like_it() {
    assert_eq!(
        hello().server([alert(2, 40)]).verdict(),
        "SSL_R_NO_SHARED_CIPHER (ambiguous) by server at client_hello: Alert 2,40; Cl"
    );
}

#[test]
fn alert_40_after_a_hello_retry_request_is_no_shared_cipher_too() {
    let retried = hello()
        .server([hello_retry_request()])
        .client([client_hello()]);
    assert_eq!(
        retried.server([alert(2, 40)]).verdict(),
        "SSL_R_NO_SHARED_CIPHER (ambiguous) by server at hello_retry_request: Alert 2,40; CjCl"
    );
}

#[test]
fn alert_40_after_the_server_hello_is_no_shared_cipher_no_more() {
    assert_eq!(
        tls12_answered().server([alert(2, 40)]).verdict(),
        "SSL_ERROR_SSL by server at client_certificate: Alert 2,40; CsxkrnXGYIFl"
    );
    assert_eq!(
        tls12().client([alert(2, 40)]).verdict(),
        "SSL_ERROR_SSL by client at server_certificate: Alert 2,40; CsxkrnL"
    );
}

#[test]
fn alert_70_is_an_unknown_protocol() {
    assert_eq!(
        hello().server([alert(2, 70)]).verdict(),
        "SSL_R_UNKNOWN_PROTOCOL by server at client_hello: Alert 2,70; Cl"
    );
}

#[test]
fn alert_49_instead_of_a_server_hello_is_access_denied() {
    assert_eq!(
        hello().server([alert(2, 49)]).verdict(),
        "SSL_R_TLSV1_ALERT_ACCESS_DENIED by server at client_hello: Alert 2,49; Cl"
    );
}

#[test]
fn alert_120_instead_of_a_server_hello_is_a_generic_failure() {
    assert_eq!(
        hello().server([alert(2, 120)]).verdict(),
        "SSL_ERROR_SSL by server at client_hello: Alert 2,120; Cl"
    );
}

#[test]
fn close_notify_before_the_handshake_is_done_is_zero_return() {
    assert_eq!(
        hello().server([alert(1, 0)]).fin(Server).verdict(),
        "SSL_ERROR_ZERO_RETURN by server at client_hello: Alert 1,0; Cl"
    );
    assert_eq!(
        tls12().client([alert(1, 0)]).verdict(),
        "SSL_ERROR_ZERO_RETURN by client at server_certificate: Alert 1,0; CsxkrnL"
    );
    assert_eq!(
        hello()
            .server([server_hello_13(AES_128), alert(1, 0)])
            .verdict(),
        "SSL_ERROR_ZERO_RETURN by server at server_hello: Alert 1,0; Csl"
    );
}

#[test]
fn the_first_of_two_fatal_alerts_decides() {
    // gnutls-serv.
    let twice = tls12_answered().server([alert(2, 49), alert(2, 42)]);
    assert_eq!(
        twice.verdict(),
        "SSL_R_TLSV1_ALERT_ACCESS_DENIED by server at client_certificate: Alert 2,49; CsxkrnXGYIFl"
    );
}

#[test]
fn an_alert_after_the_peers_fin_is_an_answer_to_the_fin() {
    // OpenSSL 3.0.
    assert_eq!(
        hello().fin(Server).client([alert(2, 50)]).verdict(),
        "SSL_ERROR_SYSCALL by server at client_hello: Fin; C"
    );
    assert_eq!(
        tls12().fin(Client).server([alert(2, 50)]).verdict(),
        "SSL_ERROR_SYSCALL by client at server_certificate: Fin; Csxkrn"
    );
}

#[test]
fn a_reset_after_an_alert_changes_nothing() {
    let refused = tls12().client([alert(2, 48)]);
    assert_eq!(refused.clone().reset(Server).verdict(), refused.verdict());
    assert_eq!(refused.clone().fin(Client).verdict(), refused.verdict());
}

#[test]
fn warnings_change_nothing() {
    for warned in [
        hello().server([alert(1, 112)]),
        hello().server([alert(1, 90)]),
        hello().client([alert(1, 90)]),
        tls12().client([alert(1, 90)]),
        tls12().client([alert(1, 41)]),
        tls13().client([alert(1, 90)]),
        tls13().client([alert(2, 90)]),
    ] {
        assert_eq!(warned.verdict(), "open");
    }
    let good = hello()
        .server([
            alert(1, 112),
            server_hello_12(),
            certificate(300),
            server_hello_done(),
        ])
        .client([client_key_exchange(), change_cipher_spec(), finished_12()])
        .server([change_cipher_spec(), finished_12()]);
    assert_eq!(good.verdict(), "done");
}

#[test]
fn every_other_plaintext_alert_is_fatal_in_tls_1_3_whatever_its_level() {
    assert_eq!(
        tls13().client([alert(1, 48)]).verdict(),
        "SSL_R_TLSV1_ALERT_UNKNOWN_CA by client at server_flight: Alert 1,48; CsidL"
    );
    assert_eq!(tls12().client([alert(1, 48)]).verdict(), "open");
}

#[test]
fn an_alert_cut_into_single_bytes_is_one_alert() {
    let mut talk = tls12();
    for byte in alert(2, 45) {
        assert_eq!(talk.verdict(), "open");
        talk = talk.client([vec![byte]]);
    }
    assert_eq!(
        talk.verdict(),
        "SSL_R_TLSV1_ALERT_CERTIFICATE_EXPIRED by client at server_certificate: Alert 2,45; CsxkrnL"
    );
}

// First bytes that are not TLS.

#[test]
fn an_http_connect_to_a_tls_server_is_a_proxy_request() {
    let asked = || Conversation::default().client([text("CONNECT a:1 HTTP/1.1\r\n\r\n")]);
    let expected = |cause| format!("SSL_R_HTTPS_PROXY_REQUEST by client at connected: {cause}");
    // The server shows by its alert that it speaks TLS: rustls, GnuTLS.
    for code in [50, 10] {
        assert_eq!(
            asked().server([alert(2, code)]).verdict(),
            expected("Connect; l")
        );
    }
    // Its port is known: OpenSSL resets, Go closes, others stay silent or answer with an error.
    assert_eq!(
        asked().known().reset(Server).verdict(),
        expected("Connect; ")
    );
    assert_eq!(asked().known().fin(Server).verdict(), expected("Connect; "));
    assert_eq!(asked().known().silence(), expected("Connect; "));
    let refused = connect("HTTP/1.1 400 Bad Request\r\n\r\n").known();
    assert_eq!(refused.verdict(), expected("Connect; "));
    let banner = asked().known().server([text("220 smtp\r\n")]);
    assert_eq!(banner.verdict(), expected("Connect; "));
}

#[test]
fn an_http_connect_elsewhere_is_no_business_of_ours() {
    let asked = || Conversation::default().client([text("CONNECT a:1 HTTP/1.1\r\n\r\n")]);
    assert_eq!(asked().verdict(), "open");
    assert_eq!(asked().silence(), "ignore");
    assert_eq!(asked().reset(Server).verdict(), "ignore");
    assert_eq!(asked().fin(Server).verdict(), "ignore");
    assert_eq!(asked().fin(Client).verdict(), "open");
    assert_eq!(asked().server([text("220 smtp\r\n")]).verdict(), "ignore");
    assert_eq!(connect("HTTP/1.1 407 Proxy\r\n\r\n").verdict(), "ignore");
}

#[test]
fn tls_after_a_preamble_is_judged_as_without_it() {
    let refused = |preamble: Conversation| {
        preamble
            .client([client_hello()])
            .server([server_hello_12(), certificate(300), server_hello_done()])
            .client([alert(2, 48)])
            .verdict()
    };
    let due = "SSL_R_TLSV1_ALERT_UNKNOWN_CA by client at server_certificate: Alert 2,48; CsxnL";
    assert_eq!(refused(starttls()), due);
    assert_eq!(refused(ssl_request()), due);
    // Direct TLS on a port where PostgreSQL speaks it, too.
    assert_eq!(refused(ssl_request().known()), due);
    for header in [proxy_line(), proxy_header()] {
        let behind = Conversation::default()
            .client([header, client_hello()])
            .server([server_hello_12(), certificate(300), server_hello_done()])
            .client([alert(2, 48)]);
        assert_eq!(behind.verdict(), due);
    }
}

#[test]
fn a_preamble_without_tls_is_silence_and_is_forgotten() {
    let line = |text: &str| text.as_bytes().to_vec();
    let mut talk = starttls();
    for _ in 0..5 {
        talk = talk.client([line("NOOP\r\n")]).server([line("250 OK\r\n")]);
    }
    assert_eq!(talk.verdict(), "open");
    for _ in 0..3 {
        talk = talk.client([line("NOOP\r\n")]).server([line("250 OK\r\n")]);
    }
    assert_eq!(talk.verdict(), "ignore", "turns have an end");
    // Eight after a side's first.
    let mut turns = 0;
    let mut talk = Conversation::default();
    while talk.verdict() == "open" {
        turns += 1;
        talk = talk
            .server([line("220 still\r\n")])
            .client([line("NOOP\r\n")]);
    }
    assert_eq!(turns, 10);
    let endless = starttls()
        .client([vec![b'x'; 9_000]])
        .server([line("354\r\n")]);
    assert_eq!(endless.clone().verdict(), "open");
    let endless = endless.client([vec![b'x'; 9_000]]);
    assert_eq!(endless.verdict(), "ignore", "bytes have an end");
    for gone in [starttls().fin(Client), ssl_request().reset(Server)] {
        assert_eq!(gone.verdict(), "ignore");
    }
    // A TLS client at a server that greets: the banner was not meant for TLS.
    let banner = Conversation::default()
        .server([line("220 mail ESMTP\r\n")])
        .client([client_hello()]);
    assert_eq!(
        banner.verdict(),
        "SSL_R_UNKNOWN_PROTOCOL by server at client_hello: NotTls; C"
    );
    // A line without an end, and a header of another version, are no PROXY protocol.
    for no_header in [[b"PROXY ".to_vec(), vec![b'x'; 200]].concat(), {
        let mut header = proxy_header();
        header[12] = 0x31;
        header
    }] {
        let talk = Conversation::default().known().client([no_header]);
        assert_eq!(
            talk.verdict(),
            "SSL_R_UNKNOWN_PROTOCOL by client at connected: NotTls; "
        );
    }
}

#[test]
fn a_tunnel_that_was_granted_begins_anew() {
    let granted = || connect("HTTP/1.1 200 OK\r\nX: y\r\n\r\n").client([client_hello()]);
    let good = granted()
        .server([server_hello_13(AES_128), sealed(900)])
        .client([change_cipher_spec(), sealed(53)]);
    assert_eq!(good.verdict(), "done");
    assert_eq!(
        granted().server([alert(2, 40)]).verdict(),
        "SSL_R_NO_SHARED_CIPHER (ambiguous) by server at client_hello: Alert 2,40; Cl"
    );
    let refused = granted()
        .server([server_hello_12(), certificate(300), server_hello_done()])
        .client([alert(2, 48)]);
    assert_eq!(
        refused.verdict(),
        "SSL_R_TLSV1_ALERT_UNKNOWN_CA by client at server_certificate: Alert 2,48; CsxnL"
    );
    let split = connect("HTTP/1.1 ").server([text("204 No Content\r\n")]);
    let resumed = split
        .server([text("X: y\r\n\r\n")])
        .client([client_hello()]);
    assert_eq!(
        resumed.reset(Server).verdict(),
        "SSL_ERROR_SYSCALL by server at client_hello: Reset; C"
    );
}

#[test]
fn first_bytes_that_are_no_tls_are_an_unknown_protocol_where_the_server_speaks_tls() {
    let sslv2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec();
    for said in [
        text("GET / HTTP/1.1\r\n\r\n"),
        text("SSH-2.0-OpenSSH\r\n"),
        sslv2,
    ] {
        let asked = || Conversation::default().client([said.clone()]);
        let expected = "SSL_R_UNKNOWN_PROTOCOL by client at connected: NotTls; ";
        assert_eq!(asked().verdict(), "open");
        assert_eq!(
            asked().server([alert(2, 50)]).verdict(),
            expected.to_owned() + "l"
        );
        assert_eq!(
            asked().server([alert(2, 70)]).verdict(),
            expected.to_owned() + "l"
        );
        assert_eq!(asked().known().verdict(), expected);
    }
}

#[test]
fn an_answer_to_a_client_hello_that_is_no_tls_is_an_unknown_protocol() {
    for answer in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "CONNECT a",
    ] {
        assert_eq!(
            hello().server([text(answer)]).verdict(),
            "SSL_R_UNKNOWN_PROTOCOL by server at client_hello: NotTls; C"
        );
    }
}

#[test]
fn a_banner_before_the_client_hello_is_an_unknown_protocol() {
    let banner = || Conversation::default().server([text("SSH-2.0-OpenSSH\r\n")]);
    let expected =
        |at, history| format!("SSL_R_UNKNOWN_PROTOCOL by server at {at}: NotTls; {history}");
    assert_eq!(banner().verdict(), "open");
    let asked = || banner().client([client_hello()]);
    assert_eq!(asked().verdict(), expected("client_hello", "C"));
    assert_eq!(banner().known().verdict(), expected("connected", ""));
}

#[test]
fn what_is_not_tls_is_silence() {
    let http = || Conversation::default().client([text("GET / HTTP/1.1\r\n\r\n")]);
    assert_eq!(
        http().server([text("HTTP/1.1 200 OK\r\n\r\n")]).verdict(),
        "ignore"
    );
    assert_eq!(http().reset(Server).verdict(), "ignore");
    assert_eq!(http().fin(Server).verdict(), "ignore");
    assert_eq!(http().fin(Client).verdict(), "open");
    assert_eq!(http().silence(), "ignore");
    let ssh = text("SSH-2.0-OpenSSH\r\n");
    let greeted = Conversation::default().server([ssh.clone()]);
    assert_eq!(greeted.client([ssh.clone()]).verdict(), "ignore");
    let greets = Conversation::default().client([ssh.clone()]);
    assert_eq!(greets.server([ssh]).verdict(), "ignore");
}

// Closing and silence.

#[test]
fn closing_before_a_client_hello_is_silence() {
    for known in [false, true] {
        for role in Role::BOTH {
            let mut talk = Conversation {
                known,
                ..Conversation::default()
            };
            assert_eq!(talk.clone().fin(role).verdict(), "ignore");
            assert_eq!(talk.clone().reset(role).verdict(), "ignore");
            assert_eq!(talk.silence(), "ignore");
            // A record header, nothing of the ClientHello yet.
            talk = talk.client([client_hello()[..5].to_vec()]);
            assert_eq!(talk.reset(role).verdict(), "ignore");
        }
    }
}

#[test]
fn closing_after_a_client_hello_is_a_syscall_error_of_who_closed() {
    let expected = |role: Role, stage, cause, history| {
        let who = role.name();
        format!("SSL_ERROR_SYSCALL by {who} at {stage}: {cause}; {history}")
    };
    for role in Role::BOTH {
        for (talk, stage, history) in [
            (hello(), "client_hello", "C"),
            (
                hello().server([server_hello_13(AES_128)]),
                "server_hello",
                "Cs",
            ),
            (tls12(), "server_certificate", "Csxkrn"),
            (tls13(), "server_flight", "Csid"),
            (tls12_answered(), "client_certificate", "CsxkrnXGYIF"),
            (
                hello().server([hello_retry_request()]),
                "hello_retry_request",
                "Cj",
            ),
        ] {
            let fin = expected(role, stage, "Fin", history);
            assert_eq!(talk.clone().fin(role).verdict(), fin);
            let reset = expected(role, stage, "Reset", history);
            assert_eq!(talk.reset(role).verdict(), reset);
        }
    }
}

#[test]
fn silence_after_a_client_hello_is_laid_to_whose_turn_it_is() {
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let server_part = || hello().server([server_hello_12(), certificate(700)]);
    for (talk, expected) in [
        (hello(), "by server at client_hello: Stall; C"),
        (
            Conversation::default().client([half(client_hello())]),
            "by client at client_hello: Stall; C",
        ),
        (server_part(), "by server at server_certificate: Stall; Csx"),
        (
            hello().server([half(server_hello_12())]),
            "by server at client_hello: Stall; C",
        ),
        (tls12(), "by client at server_certificate: Stall; Csxkrn"),
        (
            tls12_answered(),
            "by server at client_certificate: Stall; CsxkrnXGYIF",
        ),
        (
            tls12_answered().server([change_cipher_spec()]),
            "by server at client_certificate: Stall; CsxkrnXGYIFi",
        ),
        (tls13(), "by client at server_flight: Stall; Csid"),
        (
            hello().server([server_hello_13(AES_128)]),
            "by server at server_hello: Stall; Cs",
        ),
        (
            hello().server([hello_retry_request()]),
            "by client at hello_retry_request: Stall; Cj",
        ),
        (
            hello()
                .server([hello_retry_request()])
                .client([client_hello()]),
            "by server at hello_retry_request: Stall; CjC",
        ),
        (
            hello().server([server_hello_12(), change_cipher_spec(), finished_12()]),
            "by client at server_flight: Stall; Csif",
        ),
    ] {
        assert_eq!(talk.silence(), format!("SSL_ERROR_WANT_READ {expected}"));
    }
}

// TLS 1.3: alerts that nobody can read.

#[test]
fn a_first_client_record_as_long_as_an_alert_is_a_hidden_alert() {
    let expected =
        "SSL_ERROR_SSL (ambiguous) by client at server_flight: ClientHiddenAlert; CsidID";
    let one_segment = tls13().client([change_cipher_spec(), sealed(19)]);
    assert_eq!(one_segment.verdict(), expected);
    // GnuTLS.
    let two = tls13().client([change_cipher_spec()]).client([sealed(19)]);
    assert_eq!(two.verdict(), expected);
}

#[test]
fn a_first_server_record_as_long_as_an_alert_is_a_hidden_alert() {
    let refused = hello().server([server_hello_13(AES_128), change_cipher_spec(), sealed(19)]);
    assert_eq!(
        refused.verdict(),
        "SSL_ERROR_SSL (ambiguous) by server at server_hello: ServerHiddenAlert; Csid"
    );
}

#[test]
fn how_long_an_alert_is_depends_on_the_cipher_suite() {
    let flight = || hello().server([server_hello_13(CCM_8), change_cipher_spec(), sealed(1200)]);
    assert_eq!(
        flight().client([sealed(11)]).verdict(),
        "SSL_ERROR_SSL (ambiguous) by client at server_flight: ClientHiddenAlert; CsidD"
    );
    assert_eq!(flight().client([sealed(19)]).verdict(), "open");
    assert_eq!(tls13().client([sealed(11)]).verdict(), "open");
}

const LATE: &str = "SSL_ERROR_SSL (ambiguous) by server at client_flight: LateHiddenAlert; ";

#[test]
fn one_alert_sized_record_after_the_clients_flight_and_then_the_end_is_a_late_hidden_alert() {
    let rejected = || tls13_answered().server([sealed(19)]);
    assert_eq!(rejected().verdict(), "open");
    assert_eq!(
        rejected().reset(Server).verdict(),
        LATE.to_owned() + "CsidIDd"
    );
    assert_eq!(
        rejected().fin(Server).fin(Client).verdict(),
        LATE.to_owned() + "CsidIDd"
    );
    assert_eq!(
        rejected().fin(Server).reset(Client).verdict(),
        LATE.to_owned() + "CsidIDd"
    );
    assert_eq!(
        rejected().fin(Client).verdict(),
        LATE.to_owned() + "CsidIDd"
    );
    assert_eq!(rejected().silence(), LATE.to_owned() + "CsidIDd");
    assert_eq!(
        rejected().fin(Server).silence(),
        LATE.to_owned() + "CsidIDd"
    );
}

#[test]
fn a_late_hidden_alert_that_crosses_with_the_clients_data_is_one() {
    let crossed = tls13_answered()
        .client([sealed(300)])
        .server([sealed(19)])
        .crossing()
        .reset(Server);
    assert_eq!(crossed.verdict(), LATE.to_owned() + "CsidIDd");
}

#[test]
fn the_two_hidden_alerts_of_gnutls_are_a_late_hidden_alert() {
    let rejected = tls13_answered().server([sealed(19), sealed(19)]);
    assert_eq!(
        rejected.reset(Server).verdict(),
        LATE.to_owned() + "CsidIDd"
    );
}

#[test]
fn tickets_sent_early_do_not_hide_a_late_hidden_alert() {
    // GnuTLS and Go send tickets before the client's Finished.
    let rejected = tls13()
        .server([sealed(268), sealed(268)])
        .client([change_cipher_spec(), sealed(1000)])
        .server([sealed(19)])
        .reset(Server);
    assert_eq!(rejected.verdict(), LATE.to_owned() + "CsidIDd");
}

#[test]
fn a_client_that_closes_in_the_segment_of_its_finished_can_still_be_rejected() {
    let closing = || {
        tls13().client([
            change_cipher_spec(),
            sealed(396),
            sealed(96),
            sealed(69),
            sealed(19),
        ])
    };
    let rejected = closing().server([sealed(19)]).reset(Server);
    assert_eq!(rejected.verdict(), LATE.to_owned() + "CsidIDd");
    // It succeeded where tickets follow.
    assert_eq!(closing().server([sealed(179)]).verdict(), "done");
}

#[test]
fn a_server_without_tickets_that_closes_at_once_looks_like_a_rejection_until_the_client_closes_too()
{
    let closed = || tls13_answered().server([sealed(19)]).fin(Server);
    assert_eq!(closed().fin(Client).verdict(), LATE.to_owned() + "CsidIDd");
    let answered = || closed().client([sealed(19)]);
    assert_eq!(answered().verdict(), "open");
    assert_eq!(answered().fin(Client).verdict(), "open");
    assert_eq!(answered().fin(Client).silence(), "undecided");
    assert_eq!(answered().reset(Client).silence(), "undecided");
}

#[test]
fn a_reset_after_the_same_sides_fin_is_no_hole_in_its_bytes() {
    // It has the number after the FIN's. The server's system answers so what came after its FIN.
    let rejected = || {
        let sent = tls13_answered().server([sealed(19)]).fin(Server);
        sent.client([sealed(300)]).reset(Server)
    };
    assert!(!rejected().play().flow.server().is(Side::GAP));
    let expected = LATE.to_owned() + "CsidIDdD";
    assert_eq!(rejected().fin(Client).verdict(), expected);
    assert_eq!(rejected().silence(), expected);
    let closed = tls13_answered().server([sealed(19)]).fin(Server);
    let answered = closed.client([sealed(19)]).fin(Client).reset(Server);
    assert_eq!(answered.silence(), "undecided");
}

// TLS 1.2: encrypted alerts.

#[test]
fn an_encrypted_alert_instead_of_a_finished_is_a_failure() {
    let instead = tls12_answered().server([change_cipher_spec(), sealed_alert()]);
    assert_eq!(
        instead.verdict(),
        "SSL_ERROR_SSL (ambiguous) by server at client_certificate: SealedAlert; CsxkrnXGYIFil"
    );
}

#[test]
fn an_encrypted_alert_after_ones_own_finished_waits_for_the_peers() {
    let early = || tls12_answered().client([sealed_alert()]);
    assert_eq!(early().verdict(), "open");
    let expected =
        "SSL_ERROR_SSL (ambiguous) by client at client_certificate: SealedAlert; CsxkrnXGYIFL";
    assert_eq!(early().fin(Client).verdict(), expected);
    assert_eq!(early().reset(Server).verdict(), expected);
    assert_eq!(early().silence(), expected);
    let finished = early().server([change_cipher_spec(), finished_12()]);
    assert_eq!(finished.verdict(), "done");
}

// Handshakes that succeed.

#[test]
fn tls_1_2_is_done_with_both_finished() {
    let answered = tls12_answered().server([ticket_12(), change_cipher_spec()]);
    assert_eq!(answered.verdict(), "open");
    let done = answered.server([finished_12()]);
    assert_eq!(done.verdict(), "done");
    // Closing is none of a handshake's: close_notify, RST.
    assert_eq!(
        done.server([sealed_alert()]).reset(Client).verdict(),
        "done"
    );
}

#[test]
fn tls_1_2_resumption_is_done_with_both_finished() {
    let server = hello().server([server_hello_12(), change_cipher_spec(), finished_12()]);
    assert_eq!(server.verdict(), "open");
    let done = server.client([change_cipher_spec(), finished_12()]);
    assert_eq!(done.verdict(), "done");
}

#[test]
fn tls_1_2_with_data_before_the_servers_finished_succeeds() {
    // False start (RFC 7918).
    let eager = tls12_answered().client([sealed(100)]);
    assert_eq!(eager.verdict(), "open");
    assert_eq!(
        eager
            .server([change_cipher_spec(), finished_12()])
            .verdict(),
        "done"
    );
}

#[test]
fn tls_1_2_with_an_optional_client_certificate_withheld_succeeds() {
    let withheld = tls12()
        .client([
            empty_certificate(),
            client_key_exchange(),
            change_cipher_spec(),
            finished_12(),
        ])
        .server([change_cipher_spec(), finished_12()]);
    assert_eq!(withheld.verdict(), "done");
}

#[test]
fn tls_1_3_is_done_when_the_server_answers_the_clients_flight() {
    for answer in [82, 268, 668, 21, 22] {
        assert_eq!(tls13_answered().server([sealed(answer)]).verdict(), "done");
    }
    assert_eq!(
        tls13_answered().server([sealed(268)]).crossing().verdict(),
        "open"
    );
}

#[test]
fn tls_1_3_is_done_with_a_finished_without_a_certificate() {
    assert_eq!(
        tls13().client([change_cipher_spec(), sealed(53)]).verdict(),
        "done"
    );
    let sha384 = hello().server([server_hello_13(0x1302), sealed(1200)]);
    assert_eq!(sha384.clone().client([sealed(69)]).verdict(), "done");
    assert_eq!(sha384.client([sealed(53)]).verdict(), "open");
}

#[test]
fn tls_1_3_that_ends_after_the_clients_flight_without_a_word_succeeded() {
    for role in Role::BOTH {
        assert_eq!(tls13_answered().fin(role).verdict(), "done");
        assert_eq!(tls13_answered().reset(role).verdict(), "done");
    }
    assert_eq!(tls13_answered().silence(), "done");
}

#[test]
fn tls_1_3_resumption_succeeds() {
    for flight in [&[sealed(75)].concat(), &[sealed(23), sealed(69)].concat()] {
        let resumed = hello()
            .server([
                server_hello_13(AES_128),
                change_cipher_spec(),
                flight.clone(),
            ])
            .client([change_cipher_spec(), sealed(53)]);
        assert_eq!(resumed.verdict(), "done");
    }
}

#[test]
fn a_hello_retry_request_is_an_ordinary_round() {
    let retried = hello()
        .server([hello_retry_request(), change_cipher_spec()])
        .client([change_cipher_spec(), client_hello()]);
    assert_eq!(retried.verdict(), "open");
    let good = retried
        .clone()
        .server([server_hello_13(AES_128), sealed(1200)])
        .client([sealed(53)]);
    assert_eq!(good.verdict(), "done");
    let refused = retried
        .server([server_hello_13(AES_128), sealed(1200)])
        .client([sealed(19)]);
    assert_eq!(
        refused.verdict(),
        "SSL_ERROR_SSL (ambiguous) by client at server_flight: ClientHiddenAlert; CjiICsdD"
    );
}

#[test]
fn early_data_of_any_size_succeeds() {
    for size in [19, 21, 53, 500] {
        let asked = Conversation::default().client([
            early_client_hello(),
            change_cipher_spec(),
            sealed(size),
        ]);
        assert_eq!(asked.verdict(), "open");
        let answered = asked
            .server([server_hello_13(AES_128), change_cipher_spec(), sealed(75)])
            .client([sealed(size)])
            .client([sealed(21), sealed(53)]);
        assert_eq!(answered.verdict(), "done");
    }
    let late = Conversation::default()
        .client([early_client_hello(), change_cipher_spec()])
        .server([server_hello_13(AES_128), change_cipher_spec(), sealed(75)])
        .client([sealed(19)]);
    assert_eq!(late.verdict(), "open");
    // A resumption asks for no certificate: an answer, however short, is no rejection.
    assert_eq!(late.server([sealed(19)]).verdict(), "done");
}

#[test]
fn two_bytes_of_data_are_no_alert() {
    // From a client: tickets had said that it was accepted; here they have not come yet.
    let client = tls13_answered().client([sealed(19)]);
    assert_eq!(client.verdict(), "open");
    assert_eq!(client.server([sealed(250)]).verdict(), "done");
    // From a server without tickets, more follows.
    let server = tls13_answered().client([sealed(40)]).server([sealed(19)]);
    assert_eq!(server.verdict(), "open");
    assert_eq!(server.clone().server([sealed(30)]).verdict(), "done");
    assert_eq!(
        server.client([sealed(30)]).server([sealed(500)]).verdict(),
        "done"
    );
}

#[test]
fn tickets_before_the_clients_finished_are_no_answer_to_it() {
    // GnuTLS two, Go one.
    let gnutls = tls13().server([sealed(268), sealed(268)]);
    assert_eq!(gnutls.verdict(), "open");
    assert_eq!(
        gnutls.client([change_cipher_spec(), sealed(53)]).verdict(),
        "done"
    );
    let go = tls13().server([sealed(147)]).client([sealed(1000)]);
    assert_eq!(go.verdict(), "open");
    assert_eq!(go.server([sealed(21)]).verdict(), "done");
}

#[test]
fn tls_1_3_without_change_cipher_spec_succeeds() {
    let plain = hello()
        .server([server_hello_13(AES_128), sealed(1200)])
        .client([sealed(1000)])
        .server([sealed(250)]);
    assert_eq!(plain.verdict(), "done");
}

#[test]
fn tls_1_3_with_an_optional_client_certificate_withheld_succeeds() {
    // rustls: Certificate and Finished in one record; others in two.
    for flight in [[sealed(77), vec![]], [sealed(25), sealed(53)]] {
        let [first, second] = flight;
        let withheld = tls13().client([change_cipher_spec(), first, second]);
        assert_eq!(withheld.verdict(), "open");
        assert_eq!(withheld.server([sealed(103)]).verdict(), "done");
    }
}

#[test]
fn a_finished_cut_to_fit_small_fragments_is_no_alert() {
    // rustls, max_fragment_size 55.
    let cut = tls13().client([change_cipher_spec(), sealed(67), sealed(19)]);
    assert_eq!(cut.verdict(), "open");
    assert_eq!(
        cut.clone().server([sealed(67), sealed(67)]).verdict(),
        "done"
    );
    assert_eq!(cut.fin(Client).verdict(), "done");
}

#[test]
fn a_client_hello_in_many_records_succeeds() {
    let fragmented = Conversation::default().client([ClientHello::default().fragmented(50)]);
    let good = fragmented
        .clone()
        .server([server_hello_13(AES_128), sealed(1200)])
        .client([sealed(53)]);
    assert_eq!(good.verdict(), "done");
    let player = fragmented.play();
    let captured = Hello::of(&player.flow, Client);
    assert_eq!(captured.server_name(), Some(&b"api.internal"[..]));
}

#[test]
fn many_messages_in_one_record_are_each_read() {
    let flight = [
        message(11, &[0, 0, 6, 0, 0, 3, 1, 2, 3]),
        message(12, &[1; 40]),
        message(14, &[]),
    ];
    let talk = hello().server([server_hello_12(), record(22, &flight.concat())]);
    assert_eq!(
        talk.client([alert(2, 42)]).verdict(),
        "SSL_R_TLSV1_ALERT_BAD_CERTIFICATE by client at server_certificate: Alert 2,42; CsxknL"
    );
}

// What is kept for the report.

#[test]
fn names_suites_and_versions_are_kept() {
    let player = tls12_answered().play();
    let (asked, chosen) = (
        Hello::of(&player.flow, Client),
        Hello::of(&player.flow, Server),
    );
    assert_eq!(asked.server_name(), Some(&b"api.internal"[..]));
    assert_eq!(asked.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_eq!(asked.suites().collect::<Vec<_>>(), [AES_128, CCM_8, ECDSA]);
    assert_eq!(
        asked.supported_versions().collect::<Vec<_>>(),
        [TLS1_3, TLS1_2]
    );
    assert_eq!(chosen.alpn().collect::<Vec<_>>(), [&b"h2"[..]]);
    assert_eq!(chosen.server_name(), None);
    assert_eq!(
        (player.flow.server().version, player.flow.server().suite),
        (TLS1_2, ECDSA)
    );
    assert_eq!(
        captured_certificate(&player.flow, Server),
        &leaf(700)[..640]
    );
    assert_eq!(captured_certificate(&player.flow, Client), &leaf(600)[..]);
    assert!(!player.flow.client().is(Side::TRUNCATED));
}

#[test]
fn the_version_is_that_of_supported_versions() {
    let player = tls13().play();
    assert_eq!(
        (player.flow.server().version, player.flow.server().suite),
        (TLS1_3, AES_128)
    );
    let retried = hello().server([hello_retry_request()]).play();
    assert_eq!(
        retried.flow.server().version,
        0,
        "a retry negotiates no version"
    );
}

#[test]
fn the_second_client_hello_replaces_the_first() {
    let second = ClientHello {
        server_name: "other.internal",
        ..ClientHello::default()
    };
    let player = hello()
        .server([hello_retry_request()])
        .client([second.bytes()])
        .play();
    assert_eq!(
        Hello::of(&player.flow, Client).server_name(),
        Some(&b"other.internal"[..])
    );
}

#[test]
fn a_client_hello_that_is_too_long_is_kept_in_part_and_marked() {
    let long = ClientHello {
        suites: (0..400).collect(),
        ..ClientHello::default()
    };
    let player = Conversation::default().client([long.bytes()]).play();
    let side = player.flow.client();
    assert!(side.is(Side::TRUNCATED) && !side.is(Side::MALFORMED));
    let kept: Vec<u16> = Hello::of(&player.flow, Client).suites().collect();
    assert_eq!(kept, (0..254).collect::<Vec<_>>());
    let good = Conversation::default()
        .client([long.bytes()])
        .server([server_hello_13(AES_128), sealed(1200)])
        .client([sealed(53)]);
    assert_eq!(good.verdict(), "done");
}

#[test]
fn a_client_hello_without_extensions_is_whole() {
    let bare = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x2f, 0, 1, 0]].concat();
    let player = Conversation::default().client([handshake(1, &bare)]).play();
    assert!(!player.flow.client().is(Side::MALFORMED));
    assert!(!player.flow.client().unfinished());
}

#[test]
fn a_hello_that_contradicts_its_lengths_is_marked_and_passed_over() {
    let mut hello = client_hello();
    // The session id's length: beyond the message.
    hello[5 + 4 + 2 + 32] = 255;
    hello.truncate(5 + 4 + 60);
    hello[3..5].copy_from_slice(&64_u16.to_be_bytes());
    hello[6..9].copy_from_slice(&[0, 0, 60]);
    let talk = Conversation::default().client([hello]);
    assert!(talk.play().flow.client().is(Side::MALFORMED));
    assert_eq!(
        talk.server([alert(2, 50)]).verdict(),
        "SSL_ERROR_SSL by server at client_hello: Alert 2,50; Cl"
    );
}

#[test]
fn an_empty_server_hello_does_not_swallow_what_follows() {
    let talk = hello().server([handshake(2, &[]), certificate(300), server_hello_done()]);
    let player = talk.play();
    assert_eq!(player.flow.server().version, 0);
    assert_eq!(captured_certificate(&player.flow, Server), &leaf(300)[..]);
}

#[test]
fn bytes_that_are_no_record_after_a_hello_prove_nothing_but_an_alert_still_does() {
    let broken = || hello().server([server_hello_12(), vec![0; 90]]);
    assert!(broken().play().flow.server().is(Side::BROKEN));
    assert_eq!(broken().fin(Server).verdict(), "ignore");
    assert_eq!(broken().reset(Client).verdict(), "ignore");
    assert_eq!(broken().silence(), "ignore");
    assert_eq!(
        broken().client([alert(2, 48)]).verdict(),
        "SSL_R_TLSV1_ALERT_UNKNOWN_CA by client at server_hello: Alert 2,48; CsL"
    );
}

#[test]
fn every_conversation_that_succeeds_is_done() {
    for (name, talk) in good() {
        assert_eq!(talk.verdict(), "done", "{name}");
    }
}

#[test]
fn no_conversation_that_fails_is_done() {
    for (name, talk) in bad() {
        assert_ne!(talk.verdict(), "done", "{name}");
    }
}

#[test]
fn a_fatal_close_notify_is_a_generic_failure() {
    // OpenSSL takes any fatal alert for an error.
    assert_eq!(
        hello().server([alert(2, 0)]).verdict(),
        "SSL_ERROR_SSL by server at client_hello: Alert 2,0; Cl"
    );
}

#[test]
fn a_banner_amid_the_client_hello_is_told_once_the_hello_is_read() {
    let whole = client_hello();
    let (first, rest) = whole.split_at(60);
    let begun = Conversation::default()
        .client([first.to_vec()])
        .server([text("SSH-2.0-OpenSSH\r\n")]);
    let expected = "SSL_R_UNKNOWN_PROTOCOL by server at client_hello: NotTls; C";
    assert_eq!(begun.verdict(), "open");
    assert_eq!(begun.clone().client([rest.to_vec()]).verdict(), expected);
    assert_eq!(begun.clone().reset(Server).verdict(), expected);
    assert_eq!(begun.silence(), expected);
}

#[test]
fn closing_after_an_acknowledgement_of_bytes_not_seen_proves_nothing() {
    let done = tls12_answered().server([change_cipher_spec(), finished_12()]);
    let pieces = done.pieces([1_000, 2_000_000]);
    let (last, before) = pieces.split_last().expect("the server's Finished");
    let closing = |acknowledged| {
        let mut player = Player::new(false, [1_000, 2_000_000]);
        for piece in before {
            player.take(piece);
        }
        player.take(&Piece {
            from: Client,
            sequence: last.acknowledged,
            acknowledged,
            flags: Segment::FIN | Segment::ACK,
            bytes: Vec::new(),
        });
        player.verdict()
    };
    let seen = last.sequence;
    let told = seen + u32::try_from(last.bytes.len()).expect("a record");
    assert!(closing(seen).starts_with("SSL_ERROR_SYSCALL by client"));
    assert_eq!(closing(told), "ignore");
}

// Messages of the wrong side, and those that come where others have more to say.

#[test]
fn a_hello_of_the_wrong_side_is_a_message_and_no_hello() {
    let player = hello().server([client_hello()]).play();
    let server = player.flow.server();
    assert_eq!((server.hello_len, server.suite, server.version), (0, 0, 0));
    assert_eq!(server.pending_version, 0);
    let name = Hello::of(&player.flow, Client).server_name();
    assert_eq!(name, Some(&b"api.internal"[..]));
    assert_eq!(
        hello().server([client_hello(), alert(2, 80)]).verdict(),
        "SSL_ERROR_SSL by server at client_hello: Alert 2,80; Ccl"
    );

    let player = hello().client([server_hello_12()]).play();
    assert_eq!(player.flow.client().version, 0);
    assert_eq!(player.flow.client().suite, 0);
    // Told of once, though the server speaks between its beginning and its end.
    let (begin, end) = (
        server_hello_12()[..40].to_vec(),
        server_hello_12()[40..].to_vec(),
    );
    let crossed = hello()
        .client([begin])
        .server([server_hello_12()])
        .client([end, alert(2, 80)]);
    assert_eq!(
        crossed.verdict(),
        "SSL_ERROR_SSL by client at server_hello: Alert 2,80; CSsL"
    );
}

#[test]
fn history_has_what_a_side_said_after_what_its_peer_had_said_and_once() {
    assert_eq!(
        tls12_answered()
            .server([ticket_12(), ticket_12(), alert(2, 80)])
            .verdict(),
        "SSL_ERROR_SSL by server at client_certificate: Alert 2,80; CsxkrnXGYIFtl"
    );
    let retried = hello()
        .server([hello_retry_request()])
        .client([client_hello()]);
    assert_eq!(
        hello()
            .server([hello_retry_request(), hello_retry_request(), alert(2, 80)])
            .verdict(),
        "SSL_ERROR_SSL by server at hello_retry_request: Alert 2,80; Cjl"
    );
    assert_eq!(
        retried.server([server_hello_12(), alert(2, 80)]).verdict(),
        "SSL_ERROR_SSL by server at server_hello: Alert 2,80; CjCsl"
    );
}

#[test]
fn a_certificate_is_one_only_where_it_can_be_read() {
    let player = hello()
        .server([server_hello_13(AES_128), certificate(300)])
        .play();
    assert_eq!(player.flow.server().certificate_len, 0);
    assert!(!player.flow.server().is(Side::SENT_CERTIFICATE));
}

#[test]
fn a_server_of_tls_1_2_is_waited_for_until_its_flight_is_done() {
    let flight = [server_hello_12(), certificate(700), server_key_exchange()];
    assert_eq!(
        hello().server(flight.clone()).silence(),
        "SSL_ERROR_WANT_READ by server at server_certificate: Stall; Csxk"
    );
    let done = hello().server(flight).server([server_hello_done()]);
    assert_eq!(
        done.silence(),
        "SSL_ERROR_WANT_READ by client at server_certificate: Stall; Csxkn"
    );
}

#[test]
fn a_version_that_is_no_version_is_none() {
    for (body, of_client) in [(&[3, 4, 9][..], false), (&[1, 3], true)] {
        let mut hello = [&[3, 3][..], &[7; 32], &[0]].concat();
        hello.extend(if of_client {
            &[0, 2, 0x13, 1, 1, 0][..]
        } else {
            &[0x13, 1, 0]
        });
        hello.extend((4 + body.len() as u16).to_be_bytes());
        hello.extend([0, 43, 0, body.len() as u8]);
        hello.extend(body);
        let talk = if of_client {
            Conversation::default().client([handshake(1, &hello)])
        } else {
            Conversation::default()
                .client([client_hello()])
                .server([handshake(2, &hello)])
        };
        let flow = talk.play().flow;
        let side = if of_client {
            flow.client()
        } else {
            flow.server()
        };
        assert!(
            !side.is(Side::MALFORMED) && !side.unfinished(),
            "{of_client}"
        );
        assert_eq!(flow.server().version, if of_client { 0 } else { TLS1_2 });
        assert_eq!(flow.client().pending_version, 0);
    }
}

/// The record of a side that is kept because it may be an alert.
fn kept_sealed(talk: &Conversation, role: Role) -> Option<Vec<u8>> {
    let mut event = Event::new_zeroed();
    event.flow = talk.play().flow;
    event.sealed(role).map(<[u8]>::to_vec)
}

#[test]
fn a_record_as_long_as_an_alert_is_kept_where_its_side_has_its_place() {
    let body: Vec<u8> = (1..=19).collect();
    let alert = record(gauntlet_wire::record::APPLICATION_DATA, &body);
    let all = tls13().client([alert.clone()]);
    let mut pieces = tls13();
    for piece in alert.chunks(7) {
        pieces = pieces.client([piece.to_vec()]);
    }
    for (talk, what) in [(all, "at once"), (pieces, "in pieces")] {
        assert_eq!(kept_sealed(&talk, Client), Some(body.clone()), "{what}");
        assert_eq!(kept_sealed(&talk, Server), None, "{what}");
    }
}

#[test]
fn the_first_record_of_tls_1_3_that_may_be_an_alert_is_kept_and_the_next_where_it_was_none() {
    let sealed_as = |byte| record(gauntlet_wire::record::APPLICATION_DATA, &[byte; 19]);
    // GnuTLS sends two.
    let two = tls13().server([sealed_as(1), sealed_as(2)]);
    assert_eq!(kept_sealed(&two, Server), Some(vec![1; 19]));
    let later = tls13().server([sealed_as(1), sealed(300), sealed_as(2)]);
    assert_eq!(kept_sealed(&later, Server), Some(vec![2; 19]));
    // Before TLS 1.3 an alert has a type of its own.
    let data = tls12().client([sealed_as(1)]);
    assert_eq!(kept_sealed(&data, Client), None);
}

#[test]
fn openings_of_one_side_are_nothing_from_the_other() {
    let other = "SSL_R_UNKNOWN_PROTOCOL by server at connected: NotTls; ";
    for opening in [proxy_line(), proxy_header()] {
        let said = Conversation::default().known().server([opening]);
        assert_eq!(said.verdict(), other);
    }
    let asked = Conversation::default().server([b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()]);
    let answered = asked.clone().client([text("hello\r\n")]);
    assert_eq!(answered.verdict(), "ignore");
    assert_eq!(
        asked.client([client_hello()]).verdict(),
        "SSL_R_UNKNOWN_PROTOCOL by server at client_hello: NotTls; C"
    );
    let greeted = Conversation::default()
        .known()
        .client([text("220 mail ESMTP\r\n")]);
    assert_eq!(
        greeted.verdict(),
        "SSL_R_UNKNOWN_PROTOCOL by client at connected: NotTls; "
    );
}

/// Turns in the order in which they are seen, of which the last was sent before the `missing` one had come: nothing is
/// over before all of them are seen.
fn late<const N: usize>(talk: &Conversation, missing: usize, order: [usize; N]) -> String {
    let first = [1_000, 2_000_000];
    let mut pieces = talk.pieces(first);
    let sequence = pieces[missing].sequence;
    pieces.last_mut().expect("an end").acknowledged = sequence;
    let mut player = Player::new(false, first);
    for at in order {
        assert_eq!(player.verdict(), "open", "before {at}");
        player.take(&pieces[at]);
    }
    player.verdict()
}

#[test]
fn an_end_waits_until_nothing_is_missing_of_what_its_peer_had_said() {
    let talk = hello()
        .server([server_hello_12()])
        .server([certificate(300)])
        .server([server_hello_done()])
        .fin(Client);
    // The certificate is seen last.
    assert_eq!(
        late(&talk, 2, [0, 1, 3, 4, 2, 3]),
        "SSL_ERROR_SYSCALL by client at server_certificate: Fin; Csxn"
    );
}

#[test]
fn an_end_that_waited_is_taken_once() {
    // It ends nothing: the server may still answer a client that says no more.
    let talk = Conversation::default()
        .client([text("hello\r\n")])
        .server([text("a")])
        .server([text("b")])
        .fin(Client);
    assert_eq!(late(&talk, 1, [0, 2, 3, 1, 2]), "open");
}
