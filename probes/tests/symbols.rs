//! Places to probe in programs that a TLS library is linked into, made here by the compiler that links every Rust
//! program. No library is needed: a file is known by the names in it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use gauntlet_probes::library::symbols::{Depth, points};

/// A program with functions of these names.
fn program_with(functions: &[&str], options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, program) = (folder.path().join("main.c"), folder.path().join("main"));
    let mut text = String::from("int main(void) { return 0; }\n");
    for name in functions {
        text += &format!("void {name}(void) {{}}\n");
    }
    fs::write(&source, text).expect("room");
    let mut compiler = Command::new("cc");
    compiler.args(options).arg("-o").args([&program, &source]);
    assert!(compiler.status().expect("a C compiler").success());
    fs::read(&program).expect("a program")
}

#[test]
fn a_program_with_its_symbols_is_as_good_as_the_library_linked_into_it() {
    const NAMES: [&str; 4] = [
        "SSL_do_handshake",
        "SSL_get_error",
        "ERR_put_error",
        "X509_STORE_CTX_get_error",
    ];
    let probed = |functions: &[&str], options: &[&str]| {
        let program = program_with(functions, options);
        let points = points(&program, Depth::Handshakes).expect("ELF");
        let places: BTreeSet<u64> = points.iter().map(|point| point.offset).collect();
        assert!(places.iter().all(|place| *place < program.len() as u64));
        let programs: BTreeSet<&str> = points.iter().map(|point| point.program).collect();
        (programs, places.len())
    };
    let handshake_raise_and_verify = |handshake, raise| {
        let names = [handshake, "openssl_return", raise, "x509_get_error_return"];
        (BTreeSet::from(names), 3)
    };
    assert_eq!(
        probed(&NAMES, &[]),
        handshake_raise_and_verify("openssl_handshake", "openssl1_raise")
    );
    // A name in BoringSSL's namespace.
    let boring = [&NAMES[..], &["_ZN4bssl14ssl_send_alertEv"]].concat();
    assert_eq!(
        probed(&boring, &[]),
        handshake_raise_and_verify("boringssl_handshake", "boringssl_raise")
    );
    assert_eq!(probed(&boring, &["-s"]), (BTreeSet::new(), 0));
}
