//! Any bytes as a key log.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| gauntlet_laws::keylog(input));
