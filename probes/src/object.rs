//! The BPF object that `build.rs` compiled, and what is called what in it.

/// The ELF object. Aligned, since it is parsed in place.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GAUNTLET_OBJECT"));

/// The program that is attached.
pub const WATCH: &str = "gauntlet_watch";
/// The program it goes on in by tail call.
pub const WATCH_MORE: &str = "gauntlet_more";

/// Connections under way.
pub const FLOWS: &str = "FLOWS";
/// The ring buffer of events.
pub const EVENTS: &str = "EVENTS";
/// The array of counters.
pub const COUNTS: &str = "COUNTS";
/// Failures by class and version.
pub const CLASSES: &str = "CLASSES";
/// Ports that speak TLS because the user says so.
pub const TLS_PORTS: &str = "TLS_PORTS";
/// The tail call's table.
pub const NEXT: &str = "NEXT";
