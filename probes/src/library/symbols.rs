//! From a library's file to the places in it that are probed: which TLS library it is, by the functions
//! that it exports, and at which offset each of these begins. A program that a library is linked into is as good,
//! as long as nobody has stripped it of its symbols.
//!
//! Refuses to know a library by its name, its version or its code: where a symbol is missing, so is its
//! probe.

use std::collections::HashMap;

use object::{File, Object as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind};

use super::object::FREE;

/// How much of what a library does is looked at. A probe costs whoever runs into it a trap into the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Handshakes and errors: nothing once a connection stands.
    #[default]
    Handshakes,
    /// Reading and writing too: where a TLS 1.3 client is told that it was rejected, and where some
    /// programs do their handshakes; and what SSL_get_error says.
    Calls,
}

/// A program and the place it is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Name of the program.
    pub program: &'static str,
    /// The function.
    pub function: &'static str,
    /// Offset of the function's first instruction in the file, bytes.
    pub offset: u64,
}

/// What a library must have to be probed so, and what is attached to what.
struct Table {
    /// All of these are there,
    has: &'static [&'static str],
    /// and none of these.
    lacks: &'static [&'static str],
    /// Whose code it is, where others have functions of the same names.
    family: Option<Family>,
    points: &'static [(&'static str, &'static [&'static str])],
    /// For [`Depth::Calls`] on top.
    deep: &'static [(&'static str, &'static [&'static str])],
}

const HANDSHAKES: &[&str] = &["SSL_do_handshake", "SSL_connect", "SSL_accept"];
const READS: &[&str] = &["SSL_read", "SSL_read_ex", "SSL_peek", "SSL_peek_ex"];
const WRITES: &[&str] = &["SSL_write", "SSL_write_ex"];

/// Whose functions of OpenSSL's names they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    BoringSsl,
    OpenSsl,
}

/// Exported by BoringSSL's libssl and libcrypto only.
const BORINGSSL: [&str; 2] = ["SSL_CTX_set_custom_verify", "BORINGSSL_self_test"];
/// How the names of BoringSSL's own namespace begin: what is linked into a program may have neither of the above.
const BORINGSSL_NAMESPACE: &str = "_ZN4bssl";

const TABLES: [Table; 6] = [
    // libssl of OpenSSL
    Table {
        has: &["SSL_do_handshake", "SSL_get_error"],
        lacks: &[],
        family: Some(Family::OpenSsl),
        points: &[
            ("openssl_handshake", HANDSHAKES),
            ("openssl_return", HANDSHAKES),
            (FREE, &["SSL_free"]),
        ],
        deep: &[
            ("openssl_read", READS),
            ("openssl_write", WRITES),
            ("openssl_return", READS),
            ("openssl_return", WRITES),
            ("openssl_get_error", &["SSL_get_error"]),
            ("openssl_get_error_return", &["SSL_get_error"]),
        ],
    },
    // libssl of BoringSSL
    Table {
        has: &["SSL_do_handshake", "SSL_get_error"],
        lacks: &[],
        family: Some(Family::BoringSsl),
        points: &[
            ("boringssl_handshake", HANDSHAKES),
            ("openssl_return", HANDSHAKES),
            (FREE, &["SSL_free"]),
        ],
        deep: &[
            ("boringssl_read", READS),
            ("boringssl_write", WRITES),
            ("openssl_return", READS),
            ("openssl_return", WRITES),
            ("openssl_get_error", &["SSL_get_error"]),
            ("openssl_get_error_return", &["SSL_get_error"]),
        ],
    },
    // libcrypto of OpenSSL 3
    Table {
        has: &["ERR_vset_error"],
        lacks: &[],
        family: Some(Family::OpenSsl),
        points: &[
            ("openssl3_raise", &["ERR_vset_error"]),
            ("x509_get_error_return", &["X509_STORE_CTX_get_error"]),
        ],
        deep: &[],
    },
    // libcrypto of OpenSSL 1.1
    Table {
        has: &["ERR_put_error"],
        lacks: &["ERR_vset_error"],
        family: Some(Family::OpenSsl),
        points: &[
            ("openssl1_raise", &["ERR_put_error"]),
            ("x509_get_error_return", &["X509_STORE_CTX_get_error"]),
        ],
        deep: &[],
    },
    // libcrypto of BoringSSL
    Table {
        has: &["ERR_put_error"],
        lacks: &[],
        family: Some(Family::BoringSsl),
        points: &[
            ("boringssl_raise", &["ERR_put_error"]),
            ("x509_get_error_return", &["X509_STORE_CTX_get_error"]),
        ],
        deep: &[],
    },
    // GnuTLS
    Table {
        has: &["gnutls_handshake"],
        lacks: &[],
        family: None,
        points: &[
            ("gnutls_handshake", &["gnutls_handshake"]),
            ("gnutls_return", &["gnutls_handshake"]),
            ("gnutls_alert_send", &["gnutls_alert_send"]),
            ("gnutls_alert_get", &["gnutls_alert_get"]),
            ("gnutls_alert_get_return", &["gnutls_alert_get"]),
            (FREE, &["gnutls_deinit"]),
        ],
        deep: &[
            ("gnutls_read", &["gnutls_record_recv"]),
            ("gnutls_write", &["gnutls_record_send"]),
            (
                "gnutls_return",
                &["gnutls_record_recv", "gnutls_record_send"],
            ),
        ],
    },
];

/// Where a file is to be probed; nowhere if it is no TLS library.
///
/// # Errors
/// When it is no ELF file.
pub fn points(file: &[u8], depth: Depth) -> Result<Vec<Point>, object::Error> {
    let file = File::parse(file)?;
    let symbols: HashMap<&str, u64> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text)
        .filter_map(|symbol| Some((symbol.name().ok()?, symbol.address())))
        .collect();
    let offset = |address: u64| {
        file.segments().find_map(|segment| {
            let (begin, length) = segment.file_range();
            let within = address.checked_sub(segment.address())?;
            (within < length).then_some(begin + within)
        })
    };
    let has = |name: &&str| symbols.contains_key(*name);
    let named = |name: &&str| name.starts_with(BORINGSSL_NAMESPACE);
    let family = if BORINGSSL.iter().any(has) || symbols.keys().any(named) {
        Family::BoringSsl
    } else {
        Family::OpenSsl
    };
    let mut points = Vec::new();
    for table in TABLES {
        let another = table.family.is_some_and(|known| known != family);
        if another || !table.has.iter().all(has) || table.lacks.iter().any(has) {
            continue;
        }
        let deep = if depth == Depth::Calls {
            table.deep
        } else {
            &[]
        };
        for (program, functions) in table.points.iter().chain(deep) {
            for function in *functions {
                let at = symbols.get(function).copied().and_then(offset);
                points.extend(at.map(|offset| Point {
                    program,
                    function,
                    offset,
                }));
            }
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tls_library_has_no_points() {
        let this = std::fs::read("/proc/self/exe").expect("this test");
        assert_eq!(points(&this, Depth::Calls).expect("ELF"), []);
        assert!(points(b"#!/bin/sh\n", Depth::Calls).is_err());
        assert!(points(&[], Depth::Calls).is_err());
        for length in (0..4_096).step_by(64) {
            let _ = points(&this[..length], Depth::Calls);
        }
    }

    #[test]
    fn every_program_is_attached_somewhere_and_every_attachment_is_a_program() {
        let used: Vec<&str> = TABLES
            .iter()
            .flat_map(|table| table.points.iter().chain(table.deep))
            .map(|(program, _)| *program)
            .collect();
        for program in super::super::object::PROBES.into_iter().chain([FREE]) {
            assert!(used.contains(&program), "{program} is attached to nothing");
        }
        for program in used {
            let known = super::super::object::programs().any(|known| known == program);
            assert!(known, "{program} is no program");
        }
    }
}
