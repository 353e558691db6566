//! Laws of bytes that come from elsewhere: the ring buffer, and files.

use gauntlet_harness::scenario;
use gauntlet_probes::capture_file::{CaptureFile, Item};
use gauntlet_probes::failure::Failure;
use gauntlet_probes::keylog::KeyLog;
use gauntlet_probes::report::ndjson;
use gauntlet_wire::Role;
use gauntlet_wire::capture::{Hello, certificate};
use gauntlet_wire::event::Event;
use zerocopy::FromBytes as _;

/// Any bytes of the ring buffer are read, named and printed as one line, or refused.
pub fn event(input: &[u8]) {
    let mut bytes = [0; size_of::<Event>()];
    let length = input.len().min(bytes.len());
    bytes[..length].copy_from_slice(&input[..length]);
    let event = Event::read_from_bytes(&bytes).expect("the size of an event");
    for role in Role::BOTH {
        let hello = Hello::of(&event.flow, role);
        assert!(hello.suites().count() <= 256);
        assert!(hello.supported_versions().count() <= 256);
        assert!(hello.alpn().count() <= 512);
        let _ = (hello.server_name(), certificate(&event.flow, role));
        let _ = (event.endpoint(role), event.sealed(role));
    }
    let _ = (
        event.stage(),
        event.history().count(),
        event.client_random(),
    );
    if let Ok(failure) = Failure::new(&event, 0, None) {
        let line = ndjson::failure(&failure);
        assert!(!line.contains('\n'), "one event is one line");
    }
}

/// A scenario file is read, or every fault names a place in it.
pub fn scenario(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match scenario::read("fuzz/case.toml", text) {
        Ok(cases) => assert!(!cases.is_empty(), "a scenario is at least one case"),
        Err(faults) => {
            assert!(!faults.is_empty(), "refused for no reason");
            let lines = text.split('\n').count();
            for fault in faults {
                assert!(
                    (1..=lines).contains(&fault.line),
                    "{fault} of {lines} lines"
                );
                assert!(!fault.to_string().contains('\n'), "a fault is one line");
            }
        }
    }
}

/// A capture file is read to its end, or refused in one line; no packet is longer than the file allows.
pub fn capture(input: &[u8]) {
    let mut file = match CaptureFile::read(input) {
        Ok(file) => file,
        Err(error) => return one_line(&error),
    };
    // A compressed file may be large; a law need not wait for its end.
    for _ in 0..10_000 {
        match file.next() {
            Ok(Item::End) => return,
            Ok(Item::Packet(packet)) => assert!(packet.frame.len() <= packet.length),
            Ok(_) => {}
            Err(error) => return one_line(&error),
        }
    }
}

fn one_line(error: &impl ToString) {
    let said = error.to_string();
    assert!(!said.contains('\n'), "{said}");
}

/// How a key log comes in pieces makes no difference.
pub fn keylog(input: &[u8]) {
    let read = |piece: usize| {
        let mut log = KeyLog::new(64);
        input.chunks(piece).for_each(|bytes| log.add(bytes));
        log.finish();
        (log.lines(), log.malformed())
    };
    let whole = read(usize::MAX);
    for piece in [1, 7, 64] {
        assert_eq!(read(piece), whole, "in pieces of {piece}");
    }
}
