//! Measures the probe against budgets, and against what it is compared with in the same run.
//!
//! | module | does |
//! |---|---|
//! | [`program`] | what the shipped program costs a packet, in empty programs |
//! | `stand` | how a packet of a kind is measured |
//! | [`compare`] | two builds of the probe against each other |
//! | [`parser`] | what our parser costs on the host, in other parsers |
//! | [`delivery`] | how long an event takes to a reader, how many arrive, what the reader costs |
//! | [`quota`] | a cgroup that holds a reader back |
//! | [`overhead`] | what handshakes and streams cost under observers |
//! | `pair`, `work`, `packet_socket` | two namespaces, the observers, and what goes on between them |
//! | [`growth`] | how costs grow with connections and interfaces |
//! | [`memory`] | what the maps and the process take |
//! | [`frames`], [`processor`] | the packets that are measured, and where a thread runs |
//! | [`statistics`], [`measurement`] | rounds -> a median and its interval |
//! | [`budget`] | measurement and budget -> verdict; no I/O |
//! | [`progress`] | how far a run is, and its end before its time |
//! | [`machine`], [`report`], [`page`], [`chart`] | on what, and how it is shown |
//!
//! Start at [`budget::Budget::judge`]: it is the point of the rest.

pub mod budget;
pub mod chart;
pub mod compare;
pub mod delivery;
pub mod frames;
pub mod growth;
pub mod machine;
pub mod measurement;
pub mod memory;
pub mod overhead;
mod packet_socket;
pub mod page;
mod pair;
pub mod parser;
pub mod processor;
pub mod program;
pub mod progress;
pub mod quota;
pub mod report;
mod stand;
pub mod statistics;
mod work;
