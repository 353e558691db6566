//! One paragraph an alert: who sends it, why, and where to look first.

use gauntlet_wire::alert;
use gauntlet_wire::class::Class;

/// The class an alert is reported as. For 40: in answer to the ClientHello, else SSL_ERROR_SSL.
pub(super) fn class(code: u8) -> Class {
    match code {
        alert::CLOSE_NOTIFY => Class::ZeroReturn,
        alert::HANDSHAKE_FAILURE => Class::NoSharedCipher,
        alert::BAD_CERTIFICATE => Class::BadCertificate,
        alert::CERTIFICATE_EXPIRED => Class::CertificateExpired,
        alert::UNKNOWN_CA => Class::UnknownCa,
        alert::ACCESS_DENIED => Class::AccessDenied,
        alert::PROTOCOL_VERSION => Class::UnknownProtocol,
        _ => Class::Ssl,
    }
}

/// What to know about an alert.
pub(super) fn note(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => {
            "The sender is done. After the handshake it is the ordinary goodbye; before, it is an early one."
        }
        10 => {
            "A message came that has no place at this point: a bug or a mix-up of protocols (GnuTLS also answers plain HTTP with it). Look at what was sent just before."
        }
        20 => {
            "A record did not decrypt. A device on the way that changes bytes, broken offload (ethtool -K DEV tx off to test), or an OpenSSL client that rejected a Go or BoringSSL server in TLS 1.3: they misread its plaintext alert."
        }
        21 => "Historic (TLS 1.0): like 20. No current stack sends it.",
        22 => "A record was longer than allowed. Usually not TLS at all, read as a length.",
        30 => "Historic: compression failed. TLS compression is dead; who offers it?",
        40 => {
            "Nothing in common, or a general no. In answer to the ClientHello: suites, groups or signature algorithms, reported as SSL_R_NO_SHARED_CIPHER. After the client's flight (reported as SSL_ERROR_SSL): OpenSSL and BoringSSL servers in TLS 1.2 that want a client certificate and got none."
        }
        41 => "Historic (SSL 3.0): no certificate.",
        42 => {
            "The certificate is not acceptable: name, encoding, signature. Go and GnuTLS send it for every certificate failure."
        }
        43 => {
            "The certificate is of the wrong kind, nearly always its extended key usage: a client certificate without clientAuth, a server's without serverAuth. openssl x509 -noout -ext extendedKeyUsage"
        }
        44 => {
            "The certificate was revoked. Find out by whom and why before you re-issue it; check that the CRL is meant for this CA."
        }
        45 => "The certificate is over, or (rustls) not valid yet, by the sender's clock.",
        46 => {
            "Some other certificate trouble. Java sends it for nearly everything its trust manager throws; read that side's log."
        }
        47 => {
            "A field of a handshake message makes no sense. A bug of a stack, or a device that rewrites hellos."
        }
        48 => "No trusted CA was found for the chain that was sent.",
        49 => {
            "The certificate is good and policy says no; or (rustls, stage client_hello) there is no certificate for the name asked for."
        }
        50 => {
            "A message could not be parsed: rustls answers everything that is not TLS with it. OpenSSL 3 sends it after an unexpected end of the connection; then the closing is the cause."
        }
        51 => {
            "A signature or a Finished did not verify: a CA of the right name with another key (a CA re-created under its old name does this), or a private key that does not belong to the certificate."
        }
        60 => "Historic: export ciphers.",
        70 => "No TLS version in common.",
        71 => "The server wants stronger suites than the client offers; newer stacks send 40.",
        80 => {
            "The sender failed for a reason of its own: memory, a key it cannot use, a callback that returned an error. Its log knows."
        }
        86 => {
            "The client fell back to an older version although the server speaks a newer one (TLS_FALLBACK_SCSV): an earlier attempt was broken off, look for that one."
        }
        90 => "The user gave up; a close_notify follows. Not an error by itself.",
        100 => {
            "The peer asked to renegotiate and was refused (TLS 1.2). A warning; the connection goes on."
        }
        109 => {
            "TLS 1.3: a mandatory extension is missing, for example key_share or signature_algorithms."
        }
        110 => {
            "The server answered with an extension that was not offered: a bug, or a device on the way."
        }
        111 => "Historic: a certificate URL could not be fetched.",
        112 => {
            "The server has no such name (SNI). As a warning the handshake goes on with its default certificate. Compare server.address with the server's names."
        }
        113 => {
            "The stapled OCSP response was bad or too old: look at the server's stapling, and at its clock."
        }
        114 => "Historic: the hash of a certificate URL did not match.",
        115 => "The pre-shared key's identity is not known to the server.",
        116 => {
            "mTLS: the server wants a client certificate and got none. Is one configured; does the client find one issued by a CA of the server's CertificateRequest; is the connection really made by the client with the certificate (a proxy on the way ends TLS)?"
        }
        117 => "The sender does not want to say (RFC 9325 and drafts). Its log knows.",
        120 => {
            "ALPN: the client's protocols and the server's have none in common. tls.client.alpn shows the client's; gRPC needs h2."
        }
        121 => {
            "Encrypted ClientHello was rejected: the client's configuration (DNS HTTPS record) is out of date."
        }
        _ => return None,
    })
}
