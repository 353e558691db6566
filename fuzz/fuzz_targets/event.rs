//! Any bytes as an event: reading names and histories back must not panic.
#![no_main]

use gauntlet_wire::Role;
use gauntlet_wire::capture::{Hello, certificate};
use gauntlet_wire::event::Event;
use libfuzzer_sys::fuzz_target;
use zerocopy::FromBytes;

fuzz_target!(|input: &[u8]| {
    let mut bytes = [0; size_of::<Event>()];
    let length = input.len().min(bytes.len());
    bytes[..length].copy_from_slice(&input[..length]);
    let event = Event::read_from_bytes(&bytes).expect("the size of an event");
    let _ = (
        event.stage(),
        event.history().count(),
        event.verdict.failure(),
    );
    for role in Role::BOTH {
        let hello = Hello::of(&event.flow, role);
        let _ = (hello.suites().count(), hello.supported_versions().count());
        let _ = (hello.alpn().count(), hello.server_name());
        let _ = (certificate(&event.flow, role), event.endpoint(role));
    }
});
