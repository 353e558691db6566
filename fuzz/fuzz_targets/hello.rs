//! A ClientHello, read by this project, `tls-parser` and rustls.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| gauntlet_laws::hello(input));
