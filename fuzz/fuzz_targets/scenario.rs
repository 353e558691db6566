//! Any text as a scenario file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| gauntlet_laws::scenario(input));
