//! Beginnings that many conversations share, and whole ones for laws about all of them.

use gauntlet_wire::Role::{Client, Server};

use crate::bytes::*;
use crate::play::Conversation;

/// A ClientHello.
pub(crate) fn hello() -> Conversation {
    Conversation::default().client([client_hello()])
}

/// TLS 1.2, to the end of the server's first flight, which asks for a client certificate.
pub(crate) fn tls12() -> Conversation {
    hello().server([
        server_hello_12(),
        certificate(700),
        server_key_exchange(),
        certificate_request(),
        server_hello_done(),
    ])
}

/// TLS 1.2, to the client's Finished.
pub(crate) fn tls12_answered() -> Conversation {
    tls12().client([
        certificate(600),
        client_key_exchange(),
        certificate_verify(),
        change_cipher_spec(),
        finished_12(),
    ])
}

/// TLS 1.3, to the end of the server's flight.
pub(crate) fn tls13() -> Conversation {
    hello().server([server_hello_13(AES_128), change_cipher_spec(), sealed(1200)])
}

/// TLS 1.3, to the end of the client's flight, with a certificate in it.
pub(crate) fn tls13_answered() -> Conversation {
    tls13().client([change_cipher_spec(), sealed(1000)])
}

/// An HTTP CONNECT, and an answer to it.
pub(crate) fn connect(answer: &str) -> Conversation {
    Conversation::default()
        .client([b"CONNECT api.internal:443 HTTP/1.1\r\n\r\n".to_vec()])
        .server([answer.as_bytes().to_vec()])
}

/// SMTP as far as the server's leave to begin TLS.
pub(crate) fn starttls() -> Conversation {
    let text = |line: &str| line.as_bytes().to_vec();
    Conversation::default()
        .server([text("220 mail ESMTP\r\n")])
        .client([text("EHLO client.internal\r\n")])
        .server([text("250-mail\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")])
        .client([text("STARTTLS\r\n")])
        .server([text("220 go ahead\r\n")])
}

/// PostgreSQL's SSLRequest, granted.
pub(crate) fn ssl_request() -> Conversation {
    Conversation::default()
        .client([b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()])
        .server([b"S".to_vec()])
}

/// The header of the PROXY protocol version 1.
pub(crate) fn proxy_line() -> Vec<u8> {
    b"PROXY TCP4 203.0.113.7 192.0.2.2 51000 443\r\n".to_vec()
}

/// The header of the PROXY protocol version 2, with addresses and a TLV.
pub(crate) fn proxy_header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x11".to_vec();
    header.extend([203, 0, 113, 7, 192, 0, 2, 2, 0xc7, 0x38, 0x01, 0xbb]);
    header.extend([0x04, 0, 2, 22, 3]);
    header
}

/// Conversations whose handshakes succeed, to the end of their connections.
pub(crate) fn good() -> Vec<(&'static str, Conversation)> {
    let close_12 = |talk: Conversation| {
        talk.client([sealed(300)])
            .server([sealed(800)])
            .server([sealed_alert()])
            .fin(Server)
            .client([sealed_alert()])
            .reset(Client)
    };
    let close_13 = |talk: Conversation| {
        talk.client([sealed(300)])
            .server([sealed(800)])
            .server([sealed(19)])
            .fin(Server)
            .client([sealed(19)])
            .fin(Client)
    };
    let full = tls12_answered().server([ticket_12(), change_cipher_spec(), finished_12()]);
    let resumed = hello()
        .server([server_hello_12(), change_cipher_spec(), finished_12()])
        .client([change_cipher_spec(), finished_12()]);
    let pieces = hello()
        .server([server_hello_12()])
        .server([certificate(900)])
        .server([server_key_exchange(), server_hello_done()])
        .client([client_key_exchange()])
        .client([change_cipher_spec()])
        .client([finished_12()])
        .server([ticket_12()])
        .server([change_cipher_spec()])
        .server([finished_12()]);
    let in_13_pieces = hello()
        .server([server_hello_13(AES_128)])
        .server([change_cipher_spec(), sealed(36)])
        .server([sealed(900)])
        .client([change_cipher_spec()])
        .client([sealed(400)])
        .client([sealed(96), sealed(53)])
        .server([sealed(250)]);
    let retried = hello()
        .server([hello_retry_request(), change_cipher_spec()])
        .client([change_cipher_spec(), client_hello()])
        .server([server_hello_13(AES_128), sealed(1200)])
        .client([sealed(1000)])
        .server([sealed(250)]);
    let tunnelled = connect("HTTP/1.1 200 OK\r\n\r\n")
        .client([client_hello()])
        .server([server_hello_13(AES_128), sealed(1200)])
        .client([sealed(1000)])
        .server([sealed(250)]);
    let after = |preamble: Conversation| {
        preamble
            .client([client_hello()])
            .server([server_hello_13(AES_128), sealed(1200)])
            .client([sealed(1000)])
            .server([sealed(250)])
    };
    let behind = |header: Vec<u8>| {
        Conversation::default()
            .client([header, client_hello()])
            .server([server_hello_13(AES_128), sealed(1200)])
            .client([sealed(1000)])
            .server([sealed(250)])
    };
    let early = Conversation::default()
        .client([early_client_hello(), change_cipher_spec(), sealed(19)])
        .server([server_hello_13(AES_128), change_cipher_spec(), sealed(75)])
        .client([sealed(21), sealed(53)])
        .server([sealed(250)]);
    vec![
        ("tls 1.2", close_12(full)),
        ("tls 1.2, resumed", close_12(resumed)),
        ("tls 1.2, a message a segment", close_12(pieces)),
        ("tls 1.3", close_13(tls13_answered().server([sealed(250)]))),
        ("tls 1.3, a record a segment", close_13(in_13_pieces)),
        ("tls 1.3 after a retry", close_13(retried)),
        ("tls 1.3 in a tunnel", close_13(tunnelled)),
        ("tls 1.3 after STARTTLS", close_13(after(starttls()))),
        ("tls 1.3 after SSLRequest", close_13(after(ssl_request()))),
        ("tls 1.3 behind PROXY 1", close_13(behind(proxy_line()))),
        ("tls 1.3 behind PROXY 2", close_13(behind(proxy_header()))),
        ("tls 1.3 with early data", close_13(early)),
    ]
}

/// Conversations whose handshakes fail, or are none.
pub(crate) fn bad() -> Vec<(&'static str, Conversation)> {
    let two_messages = [&message(14, &[])[..], &message(99, &[1; 20])].concat();
    vec![
        (
            "refused at once",
            hello().server([alert(2, 40)]).fin(Server),
        ),
        (
            "refused by the client",
            tls12().client([alert(2, 48)]).reset(Server),
        ),
        (
            "refused by the server",
            tls12_answered().server([alert(2, 42)]),
        ),
        ("refused by openssl", tls13().client([alert(2, 45)])),
        (
            "hidden by the client",
            tls13().client([change_cipher_spec(), sealed(19)]),
        ),
        (
            "hidden by the server",
            tls13_answered().server([sealed(19)]).reset(Server),
        ),
        (
            "refused after STARTTLS",
            starttls()
                .client([client_hello()])
                .server([server_hello_12(), certificate(300), server_hello_done()])
                .client([alert(2, 48)]),
        ),
        (
            "refused after SSLRequest",
            ssl_request()
                .client([client_hello()])
                .server([alert(2, 40)]),
        ),
        (
            "refused behind PROXY",
            Conversation::default()
                .client([proxy_header(), proxy_line(), client_hello()])
                .server([alert(2, 70)]),
        ),
        ("closed", tls12().fin(Client)),
        ("reset", tls12().reset(Client)),
        ("stalled", tls12()),
        (
            "no tls",
            hello().server([b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]),
        ),
        (
            "not meant for tls",
            Conversation::default().client([b"SSH-2.0-x\r\n".to_vec()]),
        ),
        (
            "a tunnel refused",
            connect("HTTP/1.1 403 Forbidden\r\n\r\n").known(),
        ),
        (
            "a hello in many records",
            Conversation::default()
                .client([ClientHello::default().fragmented(50)])
                .server([server_hello_12(), record(22, &two_messages)])
                .fin(Server),
        ),
        (
            "garbage after a hello",
            hello().server([server_hello_12(), vec![0; 90]]).fin(Server),
        ),
    ]
}
