//! The programs in the kernel against the host build. Needs root.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: gauntlet_laws::load(), |input: &[u8]| gauntlet_laws::kernel(input));
