//! Measures the probe against budgets, and against what it is compared with in the same run.
//!
//! | module | does |
//! |---|---|
//! | [`program`] | what the shipped program costs a packet, in empty programs |
//! | [`parser`] | what our parser costs on the host, in other parsers |
//! | [`delivery`] | how long an event takes to a reader, how many arrive, what the reader costs |
//! | [`overhead`] | what handshakes cost under observers |
//! | [`frames`], [`processor`] | the packets that are measured, and where a thread runs |
//! | [`statistics`], [`measurement`] | rounds -> a median and its interval |
//! | [`budget`] | measurement and budget -> verdict; no I/O |
//! | [`machine`], [`report`], [`page`], [`chart`] | on what, and how it is shown |
//!
//! Start at [`budget::Budget::judge`]: it is the point of the rest.

pub mod budget;
pub mod chart;
pub mod delivery;
pub mod frames;
pub mod machine;
pub mod measurement;
pub mod overhead;
pub mod page;
pub mod parser;
pub mod processor;
pub mod program;
pub mod report;
pub mod statistics;
