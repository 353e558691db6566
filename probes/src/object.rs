//! The BPF object that `build.rs` compiled, and what is called what in it.

/// The ELF object. Aligned, since it is parsed in place.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GAUNTLET_OBJECT"));

/// The ELF object of what measurements compare with: nothing but benchmarks loads it, and a program that does
/// not name it does not contain it.
pub static BENCH: &[u8] = aya::include_bytes_aligned!(env!("GAUNTLET_BENCH_OBJECT"));

/// The program that is attached.
pub const WATCH: &str = "gauntlet_watch";
/// The programs that it goes on in by tail call, in the order of their places in [`NEXT`].
pub const GO_ON: [&str; 3] = ["gauntlet_more", "gauntlet_keep", "gauntlet_replay"];

/// Connections under way.
pub const FLOWS: &str = "FLOWS";
/// Which connections may be in [`FLOWS`].
pub const HELD: &str = "HELD";
/// Segments that came early.
pub const WINDOWS: &str = "WINDOWS";
/// The ring buffer of events.
pub const EVENTS: &str = "EVENTS";
/// What the reader of events says of itself.
pub const READER: &str = "READER";
/// The array of counters.
pub const COUNTS: &str = "COUNTS";
/// Failures by class and version.
pub const CLASSES: &str = "CLASSES";
/// Ports that speak TLS because the user says so.
pub const TLS_PORTS: &str = "TLS_PORTS";
/// Whether packets come with the time of a capture file: a constant.
pub const CAPTURE_TIME: &str = "CAPTURE_TIME";
/// Whether packets that cannot matter leave at once: a constant.
pub const GLANCE: &str = "GLANCE";
/// The tail call's table.
pub const NEXT: &str = "NEXT";
