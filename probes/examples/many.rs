//! Writes a capture of many mixed handshakes at once, made of the recorded cases:
//! `cargo run --example many -- 15 > many.pcap` has some ten thousand.

#[expect(dead_code, reason = "the tests read more of a case")]
#[path = "../tests/recorded/mod.rs"]
mod recorded;

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let copies = std::env::args()
        .nth(1)
        .and_then(|number| number.parse().ok());
    let Some(copies @ 1..=4_095) = copies else {
        return Err(io::Error::other("how many times each case: 1 to 4095"));
    };
    let (file, connections, events) = recorded::many(copies);
    eprintln!("{connections} connections, {} events due", events.len());
    io::stdout().lock().write_all(&file)
}
