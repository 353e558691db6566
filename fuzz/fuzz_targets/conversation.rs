//! The flow machine on a whole conversation.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| gauntlet_laws::conversation(input));
