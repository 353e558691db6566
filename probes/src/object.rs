//! The BPF object that `build.rs` compiled, and what is called what in it.

/// The ELF object. Aligned, since it is parsed in place.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GAUNTLET_OBJECT"));

/// The ELF object of what measurements compare with: nothing but benchmarks loads it, and a program that does
/// not name it does not contain it.
pub static BENCH: &[u8] = aya::include_bytes_aligned!(env!("GAUNTLET_BENCH_OBJECT"));

/// The programs of one kind of place to attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The program that is attached.
    pub watch: &'static str,
    /// The programs that it goes on in by tail call, in the order of their places in [`NEXT`].
    pub go_on: [&'static str; 3],
}

impl Family {
    /// All of them, in the order in which they are loaded.
    pub fn all(self) -> impl Iterator<Item = &'static str> {
        self.go_on.into_iter().chain([self.watch])
    }
}

/// Those for interfaces (tc).
pub const INTERFACE: Family = Family {
    watch: "gauntlet_watch",
    go_on: ["gauntlet_more", "gauntlet_keep", "gauntlet_replay"],
};

/// Those for a cgroup.
pub const CGROUP: Family = Family {
    watch: "cgroup_watch",
    go_on: ["cgroup_more", "cgroup_keep", "cgroup_replay"],
};

/// Connections under way.
pub const FLOWS: &str = "FLOWS";
/// Which connections may be in [`FLOWS`].
pub const HELD: &str = "HELD";
/// Segments that came early.
pub const WINDOWS: &str = "WINDOWS";
/// The ring buffer of events.
pub const EVENTS: &str = "EVENTS";
/// The perf event array of events.
pub const PERF_EVENTS: &str = "PERF_EVENTS";
/// Where an event is made that goes by perf event array.
pub const NEW_EVENT: &str = "NEW_EVENT";
/// Whether events go by perf event array: a constant.
pub const PERF: &str = "PERF";
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
