//! A law that is wrong on purpose: the gate wants it found out.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| gauntlet_laws::planted(input));
