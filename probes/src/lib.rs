//! The shipped probe: loads the BPF programs, attaches them, and turns their events into reports.
//!
//! Data flows one way: kernel -> [`probe`] (events, flow table) -> [`failure`] (names and
//! numbers of the outside contract) -> [`report`] (lines).
//!
//! | module | does |
//! |---|---|
//! | [`privileges`] | says which capability is missing, before the kernel says EPERM |
//! | [`object`] | the BPF object, built with this crate, and its map and program names |
//! | [`load`] | object -> programs and maps in the kernel; keeps a verifier's refusal whole |
//! | [`attach`] | programs -> both directions of an interface; leaves nothing behind |
//! | [`cgroup`] | programs -> both directions of a cgroup |
//! | [`interfaces`] | which interfaces of a namespace are attached to, while they come and go |
//! | [`probe`] | one network namespace being watched: events, stalls, counters |
//! | `held`, `shared` | what programs and collector both change, in memory of both |
//! | [`transport`] | by what events come: a ring buffer, or a perf event array |
//! | [`delivery`] | when to look for events, and when to sleep until there are some |
//! | [`host`] | the same machine with tables in ordinary memory, for packets from elsewhere |
//! | `bpf` | the system call, where aya does not reach |
//! | [`cost`] | what loading the programs costs a kernel |
//! | [`source`] | where in the source a verifier stopped |
//! | [`clock`] | the kernel's monotonic time -> Unix time |
//! | [`certificate`] | the common name in the beginning of a certificate |
//! | [`capture_file`] | a pcap or pcapng file, packet by packet, each as an Ethernet frame |
//! | [`replay_engine`] | a capture's packets -> events, in the kernel or on the host |
//! | [`keylog`], [`keylog_follow`] | the secrets that an application writes down, and goes on writing |
//! | [`hidden`], [`hidden_count`] | what they show of alerts that the wire hides |
//! | [`failure`] | an event -> one failed handshake, as the contract writes it |
//! | [`report`] | a failed handshake -> a line for people, or for programs |
//! | [`library`] | what TLS libraries themselves say, joined to what the wire showed |
//! | [`workload`] | whose cgroup and pod an end of a connection is |
//! | [`netns`] | network namespaces |
//!
//! Nothing here parses TLS: `gauntlet_wire` does, in the kernel.

pub mod attach;
mod bpf;
pub mod capture_file;
pub mod certificate;
pub mod cgroup;
pub mod clock;
pub mod cost;
pub mod delivery;
pub mod failure;
mod held;
pub mod hidden;
pub mod hidden_count;
pub mod host;
pub mod interfaces;
pub mod keylog;
pub mod keylog_follow;
pub mod library;
pub mod load;
pub mod netns;
pub mod object;
pub mod privileges;
pub mod probe;
pub mod replay_engine;
pub mod report;
mod shared;
pub mod source;
pub mod transport;
pub mod workload;
